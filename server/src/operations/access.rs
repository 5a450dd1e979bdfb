//! Watches each request that is let in: how long it takes, how much it moves, how it ends. Around whatever answers.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ekm_otp_tower::{ConnectionAuthenticator, Unverified, VerifiedClient};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::body::{Counted, Watched};
use super::exchange::{Answered, End, Exchange, Head};
use super::in_flight::InFlight;
use super::lasting::Lasting;
use super::metrics::{ClientMetrics, SiteLabel};
use super::request_id::RequestId;
use super::watch::Watch;

/// The service of one connection, watched. It stands behind the authentication: what that refuses is told by its events.
#[derive(Debug)]
pub(crate) struct Access<S> {
    inner: S,
    watch: Arc<Watch>,
    requests: AtomicU64,
    /// Looked up with the first verified request: a connection belongs to one client.
    client: OnceLock<Arc<ClientMetrics>>,
}

impl<S> Access<S> {
    pub(crate) fn new(inner: S, watch: Arc<Watch>) -> Self {
        Self { inner, watch, requests: AtomicU64::new(0), client: OnceLock::new() }
    }
}

impl<S> Drop for Access<S> {
    fn drop(&mut self) {
        if let Some(client) = self.client.get() {
            self.watch.metrics().clients.left(client);
        }
    }
}

impl<S, B, R> Service<Request<B>> for Access<S>
where
    S: Service<Request<Counted<B>>, Response = Response<R>>,
    B: Body,
    R: Body,
{
    type Response = Response<Watched<R>>;
    type Error = S::Error;
    type Future = AccessFuture<S::Future>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let client = request.extensions().get::<VerifiedClient>().cloned();
        let open = request.extensions().get::<Unverified>().map(Unverified::connection);
        let peer = client.as_ref().map_or_else(|| open.and_then(ConnectionAuthenticator::origin), VerifiedClient::origin);
        let connection = client.as_ref().map_or_else(|| open.map_or(0, ConnectionAuthenticator::id), VerifiedClient::connection);
        let request_id = RequestId::new(connection, 1 + self.requests.fetch_add(1, Ordering::Relaxed));
        request.extensions_mut().insert(request_id);
        let client_metrics = client.as_ref().map(|client| {
            let of_client = || self.watch.metrics().clients.of(client.client());
            Arc::clone(self.client.get_or_init(of_client))
        });
        let bytes_in = (!request.body().is_end_stream()).then(Arc::default);
        let exchange = Exchange {
            started,
            request_id,
            peer,
            client,
            client_metrics,
            method: request.method().clone(),
            uri: request.uri().clone(),
            bytes_in: bytes_in.clone(),
            bytes_out: 0,
            head: None,
            end: End::Abandoned,
        };
        let request_in_flight = Box::new(InFlight { exchange, watch: Arc::clone(&self.watch) });
        let future = self.inner.call(request.map(|body| Counted::new(body, bytes_in)));
        AccessFuture { future, request: Some(request_in_flight) }
    }
}

pin_project! {
    /// The answer of [`Access`].
    pub(crate) struct AccessFuture<F> {
        #[pin]
        future: F,
        request: Option<Box<InFlight>>,
    }
}

impl<F, R, E> Future for AccessFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<Watched<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(cx))?;
        let Some(mut request) = this.request.take() else { return Poll::Pending };
        let extensions = response.extensions_mut();
        let (site, answered) = (extensions.remove::<SiteLabel>(), extensions.remove::<Answered>());
        let lasting = extensions.remove::<Lasting>();
        let exchange = &mut request.exchange;
        exchange.head = Some(Head { status: response.status(), after: exchange.started.elapsed(), site, answered });
        // Whoever sends it does not look at a body that is not there.
        let has_no_body = exchange.method == Method::HEAD
            || matches!(response.status(), StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || response.body().is_end_stream();
        exchange.end = if has_no_body { End::Whole } else { End::Cut };
        let request = match lasting {
            None => Some(request),
            Some(lasting) => {
                request.exchange.end = End::Cut;
                lasting.watch(request);
                None
            }
        };
        Poll::Ready(Ok(response.map(|body| Watched::new(body, request))))
    }
}
