//! The client as a tower service.

use std::error::Error as StdError;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tower_service::Service;

use super::replay::{self, Outgoing};
use super::{Client, Error, ResponseBody};

/// Always ready: requests wait inside, with a bound ([`ClientBuilder::max_waiting`](super::ClientBuilder::max_waiting)).
impl<B> Service<Request<B>> for Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (pool, request) = (self.pool.clone(), Outgoing::of(request));
        Box::pin(async move { replay::send(&pool, request).await })
    }
}
