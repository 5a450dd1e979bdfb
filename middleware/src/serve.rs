//! One connection under hyper, closed gracefully by whoever wants its end.

use std::error::Error;
use std::pin::pin;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::{Builder, HttpServerConnExec};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_layer::Layer as _;

use crate::{EkmStream, ResponseFuture};

/// Serves one connection (HTTP/1.1 or HTTP/2, upgrades included) with `service` behind the authentication layer, until the peer
/// leaves, `shutdown` resolves, or the [authenticator wants its end](crate::ConnectionAuthenticator::closing). In the last two cases
/// what is under way is finished first.
///
/// A tower service (an axum router, say) is wrapped in hyper-util's `TowerToHyperService` first.
///
/// # Errors
/// When the connection breaks.
pub async fn serve_connection<IO, S, B, E>(
    http: &Builder<E>,
    stream: EkmStream<IO>,
    service: S,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    E: HttpServerConnExec<ResponseFuture<S::Future, B>, B>,
    B: Body + Default + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let authenticator = stream.authenticator().clone();
    let service = authenticator.layer().layer(service);
    let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut end = pin!(async {
        tokio::select! {
            () = shutdown => {},
            () = authenticator.closing() => {},
        }
    });
    tokio::select! {
        result = connection.as_mut() => return result,
        () = end.as_mut() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
