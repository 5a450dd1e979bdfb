//! Accepts connections, as many at a time as are allowed, and hands each to whoever serves its socket: HTTP, or a tunnel.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::bind::Socket;
use super::running::Running;

/// How long accepting pauses when that fails, for want of descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the connections of one socket.
pub(crate) trait Serve: Clone + Send + 'static {
    /// Until the connection has ended. When [`Running::draining`] is reached, nothing new is to be begun.
    fn serve(&self, stream: Stream, caller: Caller, running: Running) -> impl Future<Output = ()> + Send;
}

/// Who connected, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody on this machine (or farther away, where that is allowed).
    Tcp {
        /// Its address.
        peer: SocketAddr,
        /// The address that it connected to.
        local: SocketAddr,
    },
    /// This user.
    Unix {
        /// Its user id. `None`: the kernel did not tell, so nobody who is known.
        uid: Option<u32>,
    },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { peer, .. } => peer.fmt(f),
            Self::Unix { uid: Some(uid) } => write!(f, "uid {uid}"),
            Self::Unix { uid: None } => f.write_str("an unknown user"),
        }
    }
}

/// Accepts from one socket until the process drains. Inside a runtime.
///
/// # Errors
/// When the socket cannot be registered with the runtime.
pub(crate) fn accept(socket: Socket, places: Arc<Semaphore>, running: &Running, server: impl Serve + Sync) -> io::Result<()> {
    let listener = match socket {
        Socket::Tcp(socket) => Listener::Tcp(TcpListener::from_std(socket)?),
        Socket::Unix(socket, file) => Listener::Unix(UnixListener::from_std(socket)?, file),
    };
    let running = running.clone();
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.next(&places) => accepted,
                () = running.draining() => return,
            };
            match accepted {
                Ok((stream, caller, place)) => {
                    let (server, inner) = (server.clone(), running.clone());
                    running.spawn(async move {
                        server.serve(stream, caller, inner).await;
                        drop(place);
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
    Ok(())
}

enum Listener {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "the file is removed with the listener")] Option<ekm_otp_relay::unix_socket::SocketFile>,
    ),
}

impl Listener {
    async fn next(&self, places: &Arc<Semaphore>) -> io::Result<(Stream, Caller, tokio::sync::OwnedSemaphorePermit)> {
        let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small: none waits for more to send.
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr()?;
                Ok((Stream::Tcp(stream), Caller::Tcp { peer, local }, place))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((Stream::Unix(stream), Caller::Unix { uid }, place))
            }
        }
    }
}

/// One connection of a local program.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($self:expr, $stream:ident => $result:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $result,
            Self::Unix($stream) => $result,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
