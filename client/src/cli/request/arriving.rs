//! An answer's body as it comes: counted, and given up where it stalls.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use ekm_otp_client::ResponseBody;
use http_body::Body as _;
use indicatif::ProgressBar;
use tokio::time::{Instant, Sleep, sleep};

use super::coding::Pieces;

/// The body of an answer.
pub(super) struct Arriving {
    body: ResponseBody,
    deadline: Duration,
    stalled: Pin<Box<Sleep>>,
    arrived: Arc<AtomicU64>,
    progress: ProgressBar,
}

impl Arriving {
    pub(super) fn new(body: ResponseBody, deadline: Duration, arrived: Arc<AtomicU64>, progress: ProgressBar) -> Self {
        Self { body, deadline, stalled: Box::pin(sleep(deadline)), arrived, progress }
    }

    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|context| self.poll_piece(context)).await
    }
}

impl Pieces for Arriving {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                ready!(self.stalled.as_mut().poll(context));
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("it stalled for {:?} (--timeout)", self.deadline),
                )));
            };
            self.stalled.as_mut().reset(Instant::now() + self.deadline);
            match frame {
                None => return Poll::Ready(Ok(None)),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error.to_string()))),
                Some(Ok(frame)) => {
                    // Trailers are nobody's here.
                    if let Ok(data) = frame.into_data() {
                        self.arrived.fetch_add(data.len() as u64, Ordering::Relaxed);
                        self.progress.inc(data.len() as u64);
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
            }
        }
    }
}
