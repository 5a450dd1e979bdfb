//! Where connections come from: TCP, Unix sockets, and whatever else hands out streams.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::peer::Peer;

/// Hands out connections to an [`EkmListener`](crate::EkmListener).
pub trait Listen: Send + Sync + 'static {
    /// A connection's bytes.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and the other end. Must be cancel-safe: no connection is lost when the future is dropped.
    ///
    /// # Errors
    /// When there is none: of kind `ConnectionAborted`, `ConnectionRefused` or `ConnectionReset` where only that one is gone; with any other,
    /// the process is taken to have no descriptor left, and is given some time.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are small: none waits for more to send.
        let _ = stream.set_nodelay(true);
        Ok((stream, Peer::Ip(peer)))
    }
}

impl Listen for UnixListener {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        Ok((stream, Peer::Unix { uid }))
    }
}
