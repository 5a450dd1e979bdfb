//! One worker's sockets, as one: the next connection is that of whichever has one.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ekm_otp_tower::{Listen, Peer};
use tokio::net::{TcpListener, UnixListener};
use tokio_vsock::VsockListener;

use super::bind::Socket;
use super::stream::Stream;

/// All that a worker accepts from.
#[derive(Debug)]
pub(crate) struct Sockets {
    all: Vec<Listener>,
    /// Which is asked first: none keeps the others waiting.
    next: AtomicUsize,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Vsock(VsockListener),
}

impl Sockets {
    /// Inside the worker's runtime.
    pub(crate) fn new(sockets: Vec<Socket>) -> io::Result<Self> {
        let all = sockets.into_iter().map(|socket| {
            Ok(match socket {
                Socket::Tcp(tcp) => Listener::Tcp(TcpListener::from_std(tcp)?),
                Socket::Unix(unix) => Listener::Unix(UnixListener::from_std(unix)?),
                Socket::Vsock(fd) => Listener::Vsock(VsockListener::from(fd)),
            })
        });
        Ok(Self { all: all.collect::<io::Result<_>>()?, next: AtomicUsize::new(0) })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for at in 0..self.all.len() {
            if let Poll::Ready(accepted) = self.all[first.wrapping_add(at) % self.all.len()].poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

impl Listener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_accept(cx).map_ok(|(stream, peer)| {
                // Answers are small: none waits for more to send.
                let _ = stream.set_nodelay(true);
                (Stream::Tcp(stream), Peer::Ip(peer))
            }),
            Self::Unix(unix) => unix.poll_accept(cx).map_ok(|(stream, _)| {
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                (Stream::Unix(stream), Peer::Unix { uid })
            }),
            Self::Vsock(vsock) => {
                vsock.poll_accept(cx).map_ok(|(stream, peer)| (Stream::Vsock(stream), Peer::Vsock { cid: peer.cid(), port: peer.port() }))
            }
        }
    }
}

impl Listen for Sockets {
    type Io = Stream;

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }
}
