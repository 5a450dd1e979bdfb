//! `axum::serve` on an [`EkmListener`]: trait implementations only.

use std::io;
use std::net::SocketAddr;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::TcpStream;

use crate::{ConnectionAuthenticator, EkmListener, EkmStream};

impl Listener for EkmListener {
    type Io = EkmStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        EkmListener::accept(self).await
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
