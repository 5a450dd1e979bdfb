//! tonic's own server on an [`EkmListener`]: trait implementations only.

use std::io;

use futures_util::stream::{Stream, unfold};
use tonic::transport::server::Connected;

use crate::{ConnectionAuthenticator, EkmListener, EkmStream, Listen};

/// tonic puts it into each request's extensions, where [`EkmOtpLayer`](crate::EkmOtpLayer) finds it.
impl<IO> Connected for EkmStream<IO> {
    type ConnectInfo = ConnectionAuthenticator;

    fn connect_info(&self) -> ConnectionAuthenticator {
        self.authenticator().clone()
    }
}

impl<L: Listen> EkmListener<L> {
    /// Its connections, for tonic's `serve_with_incoming`. That server does not close a connection gracefully when it is to end:
    /// [`EkmServer`](crate::EkmServer) does.
    pub fn incoming(self) -> impl Stream<Item = io::Result<EkmStream<L::Io>>> + Send {
        unfold(self, |mut listener| async move {
            let (stream, _) = listener.accept().await;
            Some((Ok(stream), listener))
        })
    }
}
