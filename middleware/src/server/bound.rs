//! A server that listens: accept, serve, look at the files, and on a signal drain.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "axum")]
use super::axum_app::AxumApp;
use super::error::StartError;
use super::files::{Files, Reloader};
use super::fresh::keep_fresh;
use super::per_connection::{Hyper, PerConnection, Tower};
use crate::{Connections, EkmListener, Http, serve_connection};
use hyper_util::rt::TokioExecutor;

/// How long connections that were cut may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A server that listens and has read its files. It accepts connections once it serves.
#[must_use = "it serves nothing until it is told what"]
pub struct BoundServer {
    listener: EkmListener,
    address: SocketAddr,
    http: Http<TokioExecutor>,
    files: Arc<Files>,
    drain_within: Duration,
    look_every: Option<Duration>,
}

impl BoundServer {
    pub(super) fn new(
        listener: EkmListener,
        address: SocketAddr,
        http: Http<TokioExecutor>,
        files: Arc<Files>,
        drain_within: Duration,
        look_every: Option<Duration>,
    ) -> Self {
        Self { listener, address, http, files, drain_within, look_every }
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Its open connections.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        self.listener.connections()
    }

    /// What reads its files again.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::clone(&self.files))
    }

    /// Serves a hyper service, cloned for each connection.
    pub fn serve<S>(self, service: S) -> Serve<Hyper<S>> {
        Serve::of(self, Hyper(service))
    }

    /// Serves a tower service, such as tonic's `Routes` or a generated gRPC server, cloned for each request.
    pub fn serve_tower<S>(self, service: S) -> Serve<Tower<S>> {
        Serve::of(self, Tower(service))
    }

    /// Serves an axum router.
    #[cfg(feature = "axum")]
    pub fn serve_axum(self, router: axum::Router) -> Serve<AxumApp> {
        Serve::of(self, AxumApp::new(router))
    }

    async fn run<P: PerConnection>(self, service: P, shutdown: impl Future<Output = ()>) {
        let connections = self.listener.connections().clone();
        let mut fresh = pin!(keep_fresh(&self.files, self.look_every));
        tokio::select! {
            () = accept(self.listener, &self.http, &service) => {}
            () = &mut fresh => {}
            () = shutdown => {}
        }
        // The socket is closed by now. A key that is revoked or ends meanwhile still loses its connections.
        tokio::select! {
            () = drain(&connections, self.drain_within) => {}
            () = fresh => {}
        }
    }
}

async fn drain(connections: &Connections, within: Duration) {
    connections.drain();
    if tokio::time::timeout(within, connections.all_left()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections are cut: they did not finish in time");
        connections.cut();
        let _ = tokio::time::timeout(GONE_WITHIN, connections.all_left()).await;
    }
}

/// Accepts connections, for ever.
async fn accept<P: PerConnection>(listener: EkmListener, http: &Http<TokioExecutor>, service: &P) {
    loop {
        let (handshaking, peer) = listener.arrival().await;
        let serving = serve_connection(http, handshaking, service.service(peer));
        tokio::spawn(Logged { serving });
    }
}

pin_project_lite::pin_project! {
    // Not an `async` block: that would keep the connection twice.
    struct Logged<F> {
        #[pin]
        serving: F,
    }
}

impl<F: Future<Output = Result<(), E>>, E: fmt::Display> Future for Logged<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.project().serving.poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
            }
        })
    }
}

impl fmt::Debug for BoundServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundServer").field("listener", &self.listener).finish_non_exhaustive()
    }
}

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;
type Start = Pin<Box<dyn Future<Output = Result<BoundServer, StartError>> + Send>>;

/// A server and what it serves. Awaiting it starts it; it ends with the signal of [`with_graceful_shutdown`](Self::with_graceful_shutdown), or never.
///
/// When it is dropped before, no further connection is accepted; those that are open go on by themselves.
#[must_use = "it serves nothing until it is awaited"]
pub struct Serve<P> {
    start: Start,
    service: P,
    shutdown: Signal,
}

impl<P> Serve<P> {
    pub(super) fn starting(start: impl Future<Output = Result<BoundServer, StartError>> + Send + 'static, service: P) -> Self {
        Self { start: Box::pin(start), service, shutdown: Box::pin(std::future::pending()) }
    }

    fn of(server: BoundServer, service: P) -> Self {
        Self::starting(std::future::ready(Ok(server)), service)
    }

    /// Once `signal` resolves, no connection is accepted any more, and requests that are under way may finish within
    /// [`drain_within`](crate::EkmServer::drain_within); connections on which nobody was verified are cut. Then the server ends.
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Box::pin(signal);
        self
    }
}

impl<P: PerConnection + Sync> IntoFuture for Serve<P> {
    type Output = Result<(), StartError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.start.await?.run(self.service, self.shutdown).await;
            Ok(())
        })
    }
}

impl<P> fmt::Debug for Serve<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").finish_non_exhaustive()
    }
}
