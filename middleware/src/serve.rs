//! One connection under hyper, closed gracefully by whoever wants its end.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::{Builder, HttpServerConnExec};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_layer::Layer as _;

use crate::lifeline::Lifeline;
use crate::{EkmStream, ResponseFuture};

/// Serves one connection (HTTP/1.1 or HTTP/2, upgrades included) with `service` behind the authentication layer, until the peer
/// leaves, `shutdown` resolves, or the [authenticator wants its end](crate::ConnectionAuthenticator::closing). In the last two cases
/// what is under way is finished first.
///
/// A tower service (an axum router, say) is wrapped in hyper-util's `TowerToHyperService` first. Spawn the future as it is: an
/// `async move` block around it doubles the memory of an idle connection.
///
/// # Errors
/// When the connection breaks.
pub fn serve_connection<IO, S, B, E, F>(
    http: &Builder<E>,
    stream: EkmStream<IO>,
    service: S,
    shutdown: F,
) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + use<IO, S, B, E, F>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    E: HttpServerConnExec<ResponseFuture<S::Future, B>, B> + Clone + 'static,
    B: Body + Default + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = ()>,
{
    let lifeline = Arc::clone(stream.authenticator().lifeline());
    let service = stream.authenticator().layer().layer(service);
    let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    Serving { connection, shutdown, lifeline, is_ending: false, end: |connection| connection.graceful_shutdown() }
}

pin_project! {
    /// Written by hand: the compiler's own future keeps the connection twice.
    struct Serving<C, F> {
        #[pin]
        connection: C,
        #[pin]
        shutdown: F,
        lifeline: Arc<Lifeline>,
        is_ending: bool,
        end: fn(Pin<&mut C>),
    }
}

impl<C: Future, F: Future<Output = ()>> Future for Serving<C, F> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(result) = this.connection.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if *this.is_ending || (this.shutdown.as_mut().poll(cx).is_pending() && this.lifeline.poll_closing(cx).is_pending()) {
                return Poll::Pending;
            }
            *this.is_ending = true;
            (this.end)(this.connection.as_mut());
        }
    }
}
