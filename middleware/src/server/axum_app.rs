//! An axum router, told where its connections come from.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::future::RouteFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use tower_service::Service as _;

use super::per_connection::PerConnection;
use crate::Peer;

/// Serves a router, cloned for each request. Its handlers may ask for the peer's address, if it has one: `ConnectInfo<SocketAddr>`.
#[derive(Clone, Debug)]
pub struct AxumApp(Router);

impl AxumApp {
    pub(super) fn new(router: Router) -> Self {
        // What `axum::serve` does, too: once, not for each request.
        Self(router.with_state(()))
    }
}

impl PerConnection for AxumApp {
    type Service = OfConnection;
    type Body = Body;

    fn service(&self, peer: Peer) -> OfConnection {
        OfConnection { router: self.0.clone(), peer }
    }
}

/// The router for one connection.
#[derive(Clone, Debug)]
pub struct OfConnection {
    router: Router,
    peer: Peer,
}

impl Service<Request<Incoming>> for OfConnection {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(address) = self.peer.address() {
            request.extensions_mut().insert(ConnectInfo(address));
        }
        // A router is always ready.
        self.router.clone().call(request)
    }
}
