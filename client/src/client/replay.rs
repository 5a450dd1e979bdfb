//! One request from its handing over to its answer: which connection, how long, and whether it may go again.

use std::any::Any;
use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty, Full};

use super::watched::watch;
use super::{Error, ResponseBody};
use crate::RequestError;
use crate::connection::Body;
use crate::pool::Pool;

/// A request, and what it takes to send it once more.
pub(super) struct Outgoing {
    request: Request<Body>,
    /// The same with its whole body, where that is there already.
    again: Option<Request<Bytes>>,
    is_idempotent: bool,
}

impl Outgoing {
    pub(super) fn of<B>(request: Request<B>) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let again = whole(request.body()).map(|body| {
            let mut again = Request::new(body);
            *again.method_mut() = request.method().clone();
            *again.uri_mut() = request.uri().clone();
            *again.headers_mut() = request.headers().clone();
            *again.extensions_mut() = request.extensions().clone();
            again
        });
        let is_idempotent = is_idempotent(request.method());
        Self { request: request.map(|body| body.map_err(Into::into).boxed_unsync()), again, is_idempotent }
    }

    fn once_more(&self) -> Option<Request<Body>> {
        let whole = |bytes: Bytes| {
            if bytes.is_empty() { none() } else { Full::new(bytes).map_err(|never| match never {}).boxed_unsync() }
        };
        self.again.clone().map(|request| request.map(whole))
    }
}

/// A body that is none.
fn none() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
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

pub(super) async fn send(pool: &Arc<Pool>, mut outgoing: Outgoing) -> Result<Response<ResponseBody>, Error> {
    let (mut unsent_tries, mut has_broken) = (0, false);
    let mut request = std::mem::replace(&mut outgoing.request, Request::new(none()));
    loop {
        let lease = pool.acquire().await?;
        let was_proven = lease.connection().is_proven();
        let (watched, movement) = watch(request);
        let lost = match movement.within(pool.response_deadline(), lease.connection().exchange(watched)).await {
            Ok(mut response) => {
                let connection = lease.info().of_request(lease.is_fresh(), was_proven);
                response.extensions_mut().insert(connection);
                lease.look_at(&response);
                return Ok(response.map(|body| ResponseBody::new(body, lease)));
            }
            Err(lost) => lost,
        };
        let is_broken = has_died(&lost.error);
        if is_broken || matches!(lost.error, RequestError::Deadline(_) | RequestError::WrongProof) {
            lease.retire(false);
        }
        drop(lease);
        let unprocessed = match lost.unsent {
            Some(unsent) => Some(*unsent),
            None if lost.error.is_unprocessed() => outgoing.once_more(),
            None => None,
        };
        request = match unprocessed {
            Some(request) if unsent_tries < UNSENT_TRIES => {
                unsent_tries += 1;
                request
            }
            _ if is_broken && outgoing.is_idempotent && !has_broken => {
                has_broken = true;
                pool.broke();
                outgoing.once_more().ok_or_else(|| Error::from(lost.error))?
            }
            _ => return Err(lost.error.into()),
        };
        tracing::debug!("the connection ended under a request: it is sent again on another");
        pool.count_resent();
    }
}

/// Whether the connection is gone, rather than the request or its answer wrong.
fn has_died(error: &RequestError) -> bool {
    let RequestError::Http(error) = error else { return false };
    if error.is_user() || error.is_parse() || error.is_body_write_aborted() {
        return false;
    }
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_io() || error.is_go_away();
        }
        source = error.source();
    }
    // What HTTP/1.1 is left with when the peer closes or resets.
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || error.source().is_some_and(|e| e.is::<std::io::Error>())
}
