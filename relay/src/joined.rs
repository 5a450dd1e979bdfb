//! Two streams joined: what comes from one goes to the other, until both have ended or neither says anything.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::Instant;

/// How many bytes were handed on, also when the streams ended otherwise than well. Read it at any time.
#[derive(Debug, Default)]
pub struct Moved {
    /// From the first stream to the second.
    pub a_to_b: AtomicU64,
    /// From the second stream to the first.
    pub b_to_a: AtomicU64,
}

/// How joined streams ended.
#[derive(Debug)]
pub enum Ended {
    /// Both have said that they are done.
    Closed,
    /// One broke.
    Broken {
        /// Which.
        side: Side,
        /// How.
        error: io::Error,
    },
    /// Both were silent for as long as they may be.
    Idle,
}

/// One of two joined streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// Joins two streams until both have ended: the end of one is told to the other, which may go on. `idle`: how long both may be silent. What is under
/// way is dropped with the future.
pub async fn joined<A, B>(a: &mut A, b: &mut B, idle: Duration, moved: &Moved) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let last = LastMove(Mutex::new(Instant::now()));
    let (a_broke, b_broke) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut a = Watched { io: a, last: &last, written: &moved.b_to_a, broke: &a_broke };
    let mut b = Watched { io: b, last: &last, written: &moved.a_to_b, broke: &b_broke };
    tokio::select! {
        ended = copy_bidirectional(&mut a, &mut b) => match ended {
            Ok(_) => Ended::Closed,
            Err(error) => Ended::Broken { side: if a_broke.load(Ordering::Relaxed) { Side::A } else { Side::B }, error },
        },
        () = last.is_over(idle) => Ended::Idle,
    }
}

/// Joins two connections that are about to change their protocol, in a task of their own, once both have. `idle`: how long both may be silent; `held` is
/// dropped when they have ended.
pub fn join(client: OnUpgrade, upstream: OnUpgrade, idle: Duration, held: impl Send + 'static) {
    tokio::spawn(async move {
        let _held = held;
        let (client, upstream) = match futures_util::future::try_join(client, upstream).await {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a websocket did not begin"),
        };
        match joined(&mut TokioIo::new(client), &mut TokioIo::new(upstream), idle, &Moved::default()).await {
            Ended::Closed => {}
            Ended::Broken { error, .. } => tracing::debug!(%error, "a websocket broke"),
            Ended::Idle => tracing::debug!("a websocket was silent for too long"),
        }
    });
}

/// When anything last moved.
struct LastMove(Mutex<Instant>);

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

struct Watched<'a, IO> {
    io: &'a mut IO,
    last: &'a LastMove,
    written: &'a AtomicU64,
    broke: &'a AtomicBool,
}

impl<IO> Watched<'_, IO> {
    fn told<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(polled, Poll::Ready(Err(_))) {
            self.broke.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<'_, IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut *self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.last.is_now();
        }
        self.told(read)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<'_, IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(length @ 1..)) = written {
            self.last.is_now();
            self.written.fetch_add(length as u64, Ordering::Relaxed);
        }
        self.told(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut *self.io).poll_flush(cx);
        self.told(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut *self.io).poll_shutdown(cx);
        self.told(shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, mut a) = duplex(64);
        let (mut b, mut server) = duplex(64);
        let moved = Moved::default();
        let both = async {
            client.write_all(b"question").await.expect("writing");
            client.shutdown().await.expect("the end");
            let mut heard = String::new();
            server.read_to_string(&mut heard).await.expect("it, and its end");
            server.write_all(b"an answer, later").await.expect("writing");
            drop(server);
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("the answer");
            (heard, answer)
        };
        let (ended, (heard, answer)) = tokio::join!(joined(&mut a, &mut b, LONG, &moved), both);
        assert!(matches!(ended, Ended::Closed), "{ended:?}");
        assert_eq!((&*heard, &*answer), ("question", "an answer, later"));
        assert_eq!((moved.a_to_b.load(Ordering::Relaxed), moved.b_to_a.load(Ordering::Relaxed)), (8, 16));
    }

    #[tokio::test]
    async fn who_broke_is_told_and_silence_ends() {
        let (mut client, mut a) = duplex(64);
        let (mut b, server) = duplex(64);
        drop(server);
        client.write_all(b"to nobody").await.expect("writing");
        let ended = joined(&mut a, &mut b, LONG, &Moved::default()).await;
        assert!(matches!(ended, Ended::Broken { side: Side::B, .. }), "{ended:?}");
        let ((_client, mut a), (mut b, _server)) = (duplex(64), duplex(64));
        let ended = joined(&mut a, &mut b, Duration::from_millis(20), &Moved::default()).await;
        assert!(matches!(ended, Ended::Idle), "{ended:?}");
    }
}
