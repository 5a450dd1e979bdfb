//! One request from its handing over to its answer: which connection, how long, and whether it may go again.

use std::any::Any;
use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty, Full};

use super::{Error, ResponseBody};
use crate::RequestError;
use crate::connection::{Body, Lost};
use crate::pool::Pool;

/// A request, and what it takes to send it once more.
pub(super) struct Outgoing {
    request: Request<Body>,
    /// The same with its whole body, where it may be repeated.
    again: Option<Request<Bytes>>,
}

impl Outgoing {
    pub(super) fn of<B>(request: Request<B>) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let again = is_idempotent(request.method()).then(|| whole(request.body())).flatten().map(|body| {
            let mut again = Request::new(body);
            *again.method_mut() = request.method().clone();
            *again.uri_mut() = request.uri().clone();
            *again.headers_mut() = request.headers().clone();
            *again.extensions_mut() = request.extensions().clone();
            again
        });
        Self { request: request.map(|body| body.map_err(Into::into).boxed_unsync()), again }
    }
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// The body's bytes, where they are there already.
fn whole<B: http_body::Body + 'static>(body: &B) -> Option<Bytes> {
    if body.is_end_stream() {
        return Some(Bytes::new());
    }
    let full = (body as &dyn Any).downcast_ref::<Full<Bytes>>()?.clone();
    // It yields its only frame at once.
    let mut full = std::pin::pin!(full);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match full.as_mut().poll_frame(&mut context) {
        std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
        _ => None,
    }
}

/// How often a request that certainly was not processed is sent again: more connections than that do not die at once unless something is wrong.
const UNSENT_TRIES: u32 = 5;

pub(super) async fn send(pool: &Pool, outgoing: Outgoing) -> Result<Response<ResponseBody>, Error> {
    let Outgoing { mut request, mut again } = outgoing;
    let mut tries = 0;
    loop {
        let lease = pool.acquire().await?;
        let info = lease.info();
        let exchange = within(pool.response_deadline(), lease.connection().exchange(request));
        match exchange.await {
            Ok(response) => {
                let mut response = response;
                let connection = lease.connection().info().of_request(lease.is_fresh(), info.is_proven());
                response.extensions_mut().insert(connection);
                lease.look_at(&response);
                return Ok(response.map(|body| ResponseBody::new(body, lease)));
            }
            Err(Lost { error, unsent: Some(unsent) }) if tries < UNSENT_TRIES => {
                tracing::debug!(%error, "the connection ended before the request was sent");
                (request, tries) = (*unsent, tries + 1);
            }
            Err(Lost { error: error @ RequestError::Http(_), .. }) => {
                let Some(once_more) = again.take() else { return Err(error.into()) };
                tracing::debug!(%error, "the connection broke under an idempotent request: it is sent once more");
                request = once_more.map(|bytes| {
                    if bytes.is_empty() {
                        Empty::new().map_err(|never| match never {}).boxed_unsync()
                    } else {
                        Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
                    }
                });
            }
            Err(Lost { error, .. }) => return Err(error.into()),
        }
    }
}

async fn within<T>(deadline: Option<Duration>, exchange: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
    match deadline {
        None => exchange.await,
        Some(deadline) => match tokio::time::timeout(deadline, exchange).await {
            Ok(result) => result,
            Err(_) => Err(RequestError::Deadline(deadline).into()),
        },
    }
}
