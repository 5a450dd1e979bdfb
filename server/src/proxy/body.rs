//! Response bodies, as they arrive: a frame is asked for when there is room for it, so that a slow client slows down the upstream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::headers;
use super::pool::Lease;
use super::request_body::BodyError;

/// A response's body.
#[derive(Default)]
pub(crate) enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// A short text of this server's own.
    Text(Bytes),
    /// What the upstream sends.
    Upstream(Box<UpstreamBody>),
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Text(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Text(text) => {
                let text = std::mem::take(text);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Self::Upstream(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            Self::Upstream(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Upstream(body) => body.inner.size_hint(),
        }
    }
}

/// The upstream's response body, and the connection that it comes by.
pub(crate) struct UpstreamBody {
    inner: Incoming,
    /// Until the body has ended.
    lease: Option<Lease>,
    idle: Idle,
}

impl UpstreamBody {
    /// `idle`: how long the upstream may be silent.
    pub(super) fn new(inner: Incoming, lease: Lease, idle: Duration) -> Self {
        let mut body = Self { inner, lease: Some(lease), idle: Idle { limit: idle, timer: None, is_armed: false } };
        body.end_if_whole();
        body
    }

    fn end_if_whole(&mut self) {
        if self.inner.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.finish();
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.idle.is_armed = false;
                if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers(trailers, None);
                }
                self.end_if_whole();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(lease) = self.lease.take() {
                    lease.broke(&error);
                }
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                if let Some(lease) = self.lease.take() {
                    lease.finish();
                }
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.idle.poll(cx));
                let error = "the upstream was silent for too long";
                if let Some(lease) = self.lease.take() {
                    lease.broke(&error);
                }
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }
}

/// A timer that runs while something is waited for.
struct Idle {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_armed: bool,
}

impl Idle {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        if !self.is_armed {
            self.is_armed = true;
            timer.as_mut().reset(Instant::now() + self.limit);
        }
        timer.as_mut().poll(cx)
    }
}
