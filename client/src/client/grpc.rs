//! The client as tonic's stubs want it: its errors are `tonic::Status`.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::{Code, Status};
use tower_service::Service;

use super::{Client, Error, ResponseBody};

/// What a stub is made of: `GreeterClient::new(api.grpc())`. Cheap to clone.
///
/// Errors are a [`Status`] whose source is the [`Error`]: [`Code::Unauthenticated`] where the server refuses the credential or does not prove itself,
/// [`Code::Unavailable`] where it cannot be reached, [`Code::DeadlineExceeded`] where it takes too long ([`Error::grpc_code`] has them all).
#[derive(Clone, Debug)]
pub struct GrpcClient(Client);

impl GrpcClient {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Service<Request<tonic::body::Body>> for GrpcClient {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        // Stubs without an origin make up one.
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = target.map_or_else(http::Uri::default, http::Uri::from);
        let sent = self.0.call(request);
        Box::pin(async move { sent.await.map_err(Status::from) })
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = Self::new(Code::from_i32(error.grpc_code()), error.to_string());
        status.set_source(std::sync::Arc::new(error));
        status
    }
}
