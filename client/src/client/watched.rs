//! A request's body that is watched while it is sent: as long as it moves, nobody is too slow to answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::RequestError;
use crate::connection::{Body, Lost};

/// When something of a body moved last.
#[derive(Clone)]
pub(super) struct Movement {
    begun: Instant,
    /// Milliseconds later.
    last: Arc<AtomicU64>,
}

struct Watched {
    body: Body,
    movement: Movement,
}

/// Watches the request's body, where it has one.
pub(super) fn watch(request: Request<Body>) -> (Request<Body>, Movement) {
    let movement = Movement { begun: Instant::now(), last: Arc::default() };
    if request.body().is_end_stream() {
        return (request, movement);
    }
    let watching = movement.clone();
    (request.map(|body| Watched { body, movement: watching }.boxed_unsync()), movement)
}

impl Movement {
    fn noticed(&self) {
        self.last.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn rest(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Waits for the answer, as long as nothing rests longer than the deadline.
    pub(super) async fn within<T>(&self, deadline: Option<Duration>, exchange: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
        let Some(deadline) = deadline else { return exchange.await };
        let mut exchange = std::pin::pin!(exchange);
        loop {
            let left = deadline.saturating_sub(self.rest());
            if left.is_zero() {
                return Err(RequestError::Deadline(deadline).into());
            }
            if let Ok(result) = tokio::time::timeout(left, &mut exchange).await {
                return result;
            }
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.movement.noticed();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
