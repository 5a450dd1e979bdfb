//! A local program's connection, carried through a tunnel of its own.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use ekm_otp::tunnel::Target;
use ekm_otp_client::Client;
use ekm_otp_relay::joined::{Ended, Moved, joined};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::CLOSING;
use super::tunnel::{self, NoTunnel, how_it_ended};

/// A connection of a local program, that can be broken off so that the program cannot take it for an end.
pub(crate) trait Local: AsyncRead + AsyncWrite + Unpin + Send {
    /// Has it reset when it is dropped. A Unix socket has no such thing: there, it only ends.
    fn reset(&mut self);
}

/// What became of a tunnel that stood.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Bytes from the local program to the target.
    pub(crate) to_target: u64,
    /// Bytes from the target to the local program.
    pub(crate) from_target: u64,
    /// Why it did not end well, if it did not: for a log.
    pub(crate) fault: Option<String>,
}

/// Opens a tunnel for it and carries it to its end; `idle`: how long both sides may be silent. Whatever goes wrong, or drops this future, resets the local
/// connection: a program is not to take a part for the whole.
pub(crate) async fn serve(client: &Client, target: &Target, local: impl Local, idle: Duration) -> Result<Carried, NoTunnel> {
    let mut local = Guarded { stream: local, is_whole: false };
    let (mut tunnel, _) = tunnel::open(client, target).await?;
    let moved = Moved::default();
    let ended = joined(&mut local, &mut tunnel, idle, &moved).await;
    local.is_whole = matches!(ended, Ended::Closed);
    if local.is_whole {
        tunnel.left_by_the_other(CLOSING).await;
    }
    Ok(Carried {
        to_target: moved.a_to_b.load(Ordering::Relaxed),
        from_target: moved.b_to_a.load(Ordering::Relaxed),
        fault: (!local.is_whole).then(|| how_it_ended(&ended)),
    })
}

/// Resets the stream when it is dropped before its time.
struct Guarded<S: Local> {
    stream: S,
    is_whole: bool,
}

impl<S: Local> Drop for Guarded<S> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.stream.reset();
        }
    }
}

impl<S: Local> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Local> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
