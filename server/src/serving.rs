//! What a worker does with each connection: HTTP behind the authentication layer.

use std::error::Error;
use std::sync::Arc;

use ekm_otp_tower::{EkmListener, Handshaking, Http, serve_connection};
use futures_util::FutureExt as _;
use hyper_util::rt::TokioExecutor;

use crate::doors::{Sockets, Stream};
use crate::operations::{Access, Watch};
use crate::proxy::Proxy;

/// Accepts connections for one worker, for ever.
pub(crate) async fn accept(listener: EkmListener<Sockets>, proxy: Proxy, watch: Arc<Watch>, http: Http<TokioExecutor>, show_otp: bool) {
    loop {
        let (handshaking, _) = listener.arrival().await;
        let service = Access::new(proxy.clone(), Arc::clone(&watch));
        if show_otp {
            tokio::spawn(serve_and_show(handshaking, service, http.clone()));
        } else {
            tokio::spawn(serve_connection(&http, handshaking, service).map(tell_broken));
        }
    }
}

/// The same, with the credential in the log once it is worth nothing.
async fn serve_and_show(handshaking: Handshaking<Stream>, service: Access<Proxy>, http: Http<TokioExecutor>) {
    // The handshake has logged why.
    let Ok(stream) = handshaking.await else { return };
    let authenticator = stream.authenticator().clone();
    tell_broken(serve_connection(&http, stream, service).await);
    if let Some(otp) = authenticator.retired_otp() {
        tracing::warn!(peer = authenticator.origin().map(tracing::field::display), authorization = otp.reveal(), "closed");
    }
}

fn tell_broken(ended: Result<(), Box<dyn Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
