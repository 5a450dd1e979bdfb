//! Bodies that count what passes through them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::exchange::End;
use super::in_flight::InFlight;

pin_project! {
    /// A request's body. What is counted is the content: no framing, no trailers.
    #[derive(Debug)]
    pub(crate) struct Counted<B> {
        #[pin]
        inner: B,
        // `None` where there is no body to come.
        bytes: Option<Arc<AtomicU64>>,
    }
}

impl<B> Counted<B> {
    pub(crate) fn new(inner: B, bytes: Option<Arc<AtomicU64>>) -> Self {
        Self { inner, bytes }
    }
}

impl<B: Body> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let (Some(bytes), Some(Ok(frame))) = (this.bytes, &frame) {
            bytes.fetch_add(content(frame), Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// A response's body, at whose end the request is recorded.
    #[derive(Default)]
    pub(crate) struct Watched<B> {
        #[pin]
        inner: B,
        // `None` where nobody watches: what is answered before a request is let in, and what a stream follows.
        request: Option<Box<InFlight>>,
    }
}

impl<B> Watched<B> {
    pub(crate) fn new(inner: B, request: Option<Box<InFlight>>) -> Self {
        Self { inner, request }
    }
}

impl<B: Body> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let is_end = match (&frame, this.request.as_mut()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(Ok(frame)), Some(request)) => {
                request.exchange.bytes_out += content(frame);
                this.inner.is_end_stream()
            }
            (Some(Err(_)), Some(_)) => false,
        };
        if is_end && let Some(mut request) = this.request.take() {
            request.exchange.end = End::Whole;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn content<D: bytes::Buf>(frame: &Frame<D>) -> u64 {
    frame.data_ref().map_or(0, |data| data.remaining() as u64)
}
