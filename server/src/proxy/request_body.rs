//! Request bodies, as they arrive: a frame is asked for when there is room for it, so that a slow upstream slows down the client.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;

use super::headers;
use super::identity::IdentityNames;
use super::progress::Progress;

/// What a body fails with. Its end then shows that it is not whole.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// How long a client that waits for a 100 is left waiting by an upstream that says nothing (RFC 9110 §10.1.1).
const PATIENCE: Duration = Duration::from_secs(1);

/// A request's body on its way to the upstream.
pub(super) enum RequestBody {
    Empty,
    Streaming(Box<Streaming>),
}

/// The client's body, without what it must not say in trailers.
pub(super) struct Streaming {
    /// Dropped once nobody wants the rest.
    inner: Option<Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>>,
    size: SizeHint,
    progress: Arc<Progress>,
    names: Arc<IdentityNames>,
    patience: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new<B>(body: B, progress: Arc<Progress>, names: &Arc<IdentityNames>) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let size = body.size_hint();
        let inner: Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>> = Box::pin(Boxed(Box::pin(body)));
        Self::Streaming(Box::new(Streaming { inner: Some(inner), size, progress, names: Arc::clone(names), patience: None }))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(body) => body.inner.as_ref().is_some_and(|inner| inner.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(body) => body.inner.as_ref().map_or_else(|| body.size, |inner| inner.size_hint()),
        }
    }
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.progress.may_send(cx.waker()) {
            Some(true) => {}
            Some(false) => {
                let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
                ready!(patience.as_mut().poll(cx));
                self.progress.want();
            }
            None => self.inner = None,
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Some(Err("the exchange ended before the request's body".into())));
        };
        match inner.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => {
                let frame = frame.map(|frame| {
                    frame.map(|mut frame| {
                        if let Some(trailers) = frame.trailers_mut() {
                            headers::trailers(trailers, Some(&self.names));
                        }
                        frame
                    })
                });
                self.progress.moved(frame.is_none() || inner.is_end_stream());
                Poll::Ready(frame)
            }
            Poll::Pending => {
                self.progress.starved();
                Poll::Pending
            }
        }
    }
}

/// Any body, with our error.
struct Boxed<B>(Pin<Box<B>>);

impl<B: HttpBody<Data = Bytes, Error: Into<BodyError>>> HttpBody for Boxed<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.as_mut().poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
