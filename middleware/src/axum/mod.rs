//! axum's traits: for handlers, and for `axum::serve` on an [`EkmListener`].

mod extract;

use std::io;
use std::net::SocketAddr;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::TcpStream;

pub use self::extract::NotVerified;
use crate::{ConnectionAuthenticator, EkmListener, EkmStream};

impl Listener for EkmListener {
    type Io = EkmStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, peer) = EkmListener::accept(self).await;
        // What a TCP listener accepts has an address, and so has whom a load balancer names.
        (stream, peer.address().unwrap_or_else(|| SocketAddr::from(([0; 4], 0))))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        EkmListener::local_addr(self)
    }
}

/// `router.into_make_service_with_connect_info::<ConnectionAuthenticator>()` tells [`EkmOtpLayer`](crate::EkmOtpLayer) the connection.
impl Connected<IncomingStream<'_, EkmListener>> for ConnectionAuthenticator {
    fn connect_info(stream: IncomingStream<'_, EkmListener>) -> Self {
        stream.io().authenticator().clone()
    }
}
