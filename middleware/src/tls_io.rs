//! The TLS streams that connections are made of, as one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// Who can reach the TLS session.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(crate) enum TlsIo<IO> {
    /// Nobody else: all that is exported of it was exported before.
    Owned(TlsStream<IO>),
    /// An exporter, too. Only where a profile needs one.
    Shared(Arc<Mutex<TlsStream<IO>>>),
    /// A stream of another TLS stack, which does TLS itself.
    Other(IO),
}

macro_rules! on {
    ($io:expr, $stream:ident => $does:expr) => {
        match $io.get_mut() {
            TlsIo::Owned(stream) => {
                let $stream = Pin::new(stream);
                $does
            }
            TlsIo::Shared(stream) => {
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                let $stream = Pin::new(&mut *stream);
                $does
            }
            TlsIo::Other(stream) => {
                let $stream = Pin::new(stream);
                $does
            }
        }
    };
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsIo<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(self, stream => stream.poll_read(cx, buf))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsIo<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        on!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        // rustls gathers the pieces into its own records.
        match self {
            Self::Owned(_) | Self::Shared(_) => true,
            Self::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, stream => stream.poll_shutdown(cx))
    }
}
