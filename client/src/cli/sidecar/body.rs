//! Bodies, both ways, as they come: a frame is asked for when there is room for it, so that whoever is slow slows the other side down. No clock runs: downloads,
//! uploads and event streams take as long as they take, and end when one of the two sides goes away.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use ekm_otp_client::ResponseBody;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::activity::UnderWay;
use super::{drained, fields};

type BodyError = Box<dyn StdError + Send + Sync>;

/// A local program's body on its way to the origin, without what must not be in trailers.
///
/// Where the origin answers before it has all, or breaks off, the rest is read and forgotten, within bounds.
#[derive(Debug)]
pub(super) struct Outgoing(Option<Incoming>);

impl Outgoing {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(drained::drain(body));
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            // It has ended, or broken: nothing is left to read.
            self.0 = None;
        }
        Poll::Ready(frame.map(|frame| {
            frame.map(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    fields::request_trailers(trailers);
                }
                frame
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// What a local program gets.
pub(super) struct LocalBody {
    content: Content,
    /// Until the body has been handed over, or nobody wants it.
    under_way: Option<UnderWay>,
}

enum Content {
    Nothing,
    Text(Bytes),
    Origin(ResponseBody),
}

impl LocalBody {
    pub(super) fn empty() -> Self {
        Self { content: Content::Nothing, under_way: None }
    }

    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self { content: Content::Text(text.into()), under_way: None }
    }

    pub(super) fn of_origin(body: ResponseBody) -> Self {
        Self { content: Content::Origin(body), under_way: None }
    }

    /// The request is under way for as long as this is.
    pub(super) fn holding(mut self, under_way: UnderWay) -> Self {
        self.under_way = Some(under_way);
        self
    }
}

impl Body for LocalBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.content {
            Content::Nothing => Poll::Ready(None),
            Content::Text(text) => {
                let text = std::mem::take(text);
                self.content = Content::Nothing;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Content::Origin(body) => Pin::new(body).poll_frame(context).map(|frame| {
                frame.map(|frame| {
                    frame.map_err(BodyError::from).map(|mut frame| {
                        if let Some(trailers) = frame.trailers_mut() {
                            fields::response_trailers(trailers);
                        }
                        frame
                    })
                })
            }),
        };
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.under_way = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Nothing => true,
            Content::Text(text) => text.is_empty(),
            Content::Origin(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Nothing => SizeHint::with_exact(0),
            Content::Text(text) => SizeHint::with_exact(text.len() as u64),
            Content::Origin(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for LocalBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
