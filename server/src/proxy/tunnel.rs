//! Two streams joined: what comes from one goes to the other, until both have ended or neither says anything.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::Instant;

/// Joins them in a task of their own, once both are there. `idle`: how long both may be silent; `held` is dropped when they have ended.
pub(super) fn join(client: OnUpgrade, upstream: OnUpgrade, idle: Duration, held: impl Send + 'static) {
    tokio::spawn(async move {
        let _held = held;
        let (client, upstream) = match futures_util::future::try_join(client, upstream).await {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a websocket did not begin"),
        };
        let last = LastMove(Arc::new(Mutex::new(Instant::now())));
        let mut client = Watched { io: TokioIo::new(client), last: last.clone() };
        let mut upstream = Watched { io: TokioIo::new(upstream), last: last.clone() };
        tokio::select! {
            ended = copy_bidirectional(&mut client, &mut upstream) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a websocket broke");
                }
            }
            () = last.is_over(idle) => tracing::debug!("a websocket was silent for too long"),
        }
    });
}

/// When anything last moved.
#[derive(Clone)]
struct LastMove(Arc<Mutex<Instant>>);

impl LastMove {
    fn is_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn is_over(&self, idle: Duration) {
        loop {
            let end = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + idle;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

struct Watched<IO> {
    io: IO,
    last: LastMove,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.last.is_now();
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.last.is_now();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
