//! From what an embedder hands over to the service of one connection.

use std::error::Error;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::Peer;

type BoxError = Box<dyn Error + Send + Sync>;

/// Makes the service that a connection's requests are put to. [`EkmServer`](crate::EkmServer) brings what does, for each kind of service.
pub trait PerConnection: Send + 'static {
    /// The service.
    type Service: Service<Request<Incoming>, Response = Response<Self::Body>, Future: Send + 'static, Error: Into<BoxError>>
        + Send
        + 'static;
    /// The body of its responses.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Default + Send + 'static;

    /// For the connection from there.
    fn service(&self, peer: Peer) -> Self::Service;
}

/// Clones a hyper service for each connection.
#[derive(Clone, Debug)]
pub struct Hyper<S>(pub(super) S);

impl<S, B> PerConnection for Hyper<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send + 'static, Error: Into<BoxError>> + Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Default + Send + 'static,
{
    type Service = S;
    type Body = B;

    fn service(&self, _: Peer) -> S {
        self.0.clone()
    }
}

/// Clones a tower service for each connection, and for each of its requests.
#[derive(Clone, Debug)]
pub struct Tower<S>(pub(super) S);

impl<S, B> PerConnection for Tower<S>
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>, Future: Send + 'static, Error: Into<BoxError>>
        + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Default + Send + 'static,
{
    type Service = TowerToHyperService<S>;
    type Body = B;

    fn service(&self, _: Peer) -> Self::Service {
        TowerToHyperService::new(self.0.clone())
    }
}
