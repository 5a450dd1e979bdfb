//! One request on its way to one of a site's upstreams: which, how often, how long.
//!
//! It is tried again only where that can do no harm: when it was not begun on (no connection, or one that died unused), on the next upstream or a fresh
//! connection; and when it has no body and may be repeated (RFC 9110 §9.2.2), if the answer broke off before its head. A time that ran out is not tried again: the
//! upstream may still be at it.

use std::sync::Arc;
use std::time::Duration;

use ekm_otp_relay::hop::Hop;
use ekm_otp_relay::websocket::Offer;
use http::header::{CONNECTION, EXPECT, HOST, TE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::balance::Balance;
use super::connect::{ConnectError, Fault};
use super::failure::Failure;
use super::pool::{Connection, Lease, Pools};
use super::progress::{CancelledOnDrop, Progress};
use super::request_body::RequestBody;
use super::site::Site;
use super::upstream::Upstream;

/// How often one request may meet connections that died unused, until that counts as a failure of the upstream.
const STALE: u32 = 3;
/// How many upstreams may break off one request that may be repeated.
const BEGUN: u32 = 2;
/// How long a fresh HTTP/2 upstream may take to say whether it takes websockets.
const SETTINGS: Duration = Duration::from_secs(2);

/// A request, as far as it is the same for every upstream.
pub(super) struct Outgoing<'s> {
    pub(super) site: &'s Site,
    /// Method, fields and body. The target is not in it.
    pub(super) request: Request<RequestBody>,
    pub(super) target: PathAndQuery,
    pub(super) host: HeaderValue,
    pub(super) hop: Hop,
    pub(super) progress: Option<Arc<Progress>>,
    pub(super) offer: Option<Offer>,
}

/// An upstream's answer.
pub(super) struct Incomings {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    pub(super) offer: Option<Offer>,
    pub(super) is_http2: bool,
    pub(super) upstream: Arc<Upstream>,
    /// From sending the request to the answer's head.
    pub(super) head: Duration,
}

/// Tries the site's upstreams.
pub(super) async fn forward(outgoing: Outgoing<'_>, balance: &Balance, pools: &Pools) -> Result<Incomings, Failure> {
    let Outgoing { site, mut request, target, host, hop, progress, offer } = outgoing;
    let body = CancelledOnDrop::new(progress);
    let is_repeatable = body.progress().is_none() && offer.is_none() && request.method().is_idempotent();
    let mut tried = super::balance::Tried::default();
    let mut last = Failure::Unreachable;
    let mut begun = 0;
    while let Some(upstream) = balance.choose(&tried) {
        tried.mark(&upstream);
        let pool = pools.of(&upstream);
        let mut stale = 0;
        loop {
            let mut connection = match connection(&pool, &upstream, offer.is_some(), stale > 0).await {
                Ok(connection) => connection,
                Err(error) => {
                    upstream.failed(true, &error);
                    last = failure_of(&error);
                    break;
                }
            };
            shape(&mut request, &connection, &target, &host, hop, body.progress());
            if let Some(offer) = &offer {
                offer.ask(&mut request, connection.is_http2());
            }
            let copy = is_repeatable.then(|| copy_of(&request));
            let since = Instant::now();
            let error = match within(connection.send(request), site, body.progress()).await {
                Ok(Ok(response)) => {
                    upstream.answered();
                    let is_http2 = connection.is_http2();
                    let lease = connection.lease(Arc::clone(&upstream), body);
                    return Ok(Incomings { response, lease, offer, is_http2, upstream, head: since.elapsed() });
                }
                Ok(Err(error)) => error,
                Err(Failure::ClientSlow) => return Err(Failure::ClientSlow),
                Err(failure) => {
                    upstream.failed(false, &"it did not begin its answer in time");
                    return Err(failure);
                }
            };
            let mut error = error;
            let was_begun = match error.take_message() {
                Some(back) => {
                    connection.give_up();
                    request = back;
                    false
                }
                None if error.error().is_user() && body.progress().is_some() => return Err(Failure::ClientBody),
                None => match copy {
                    Some(copy) => {
                        request = copy;
                        true
                    }
                    None => {
                        upstream.failed(false, error.error());
                        return Err(Failure::Broken);
                    }
                },
            };
            // A connection that was used before may have been closed meanwhile, which says nothing of the upstream: a fresh one tells.
            stale += 1;
            if connection.is_reused && stale < STALE {
                continue;
            }
            upstream.failed(false, error.error());
            if was_begun {
                begun += 1;
                // What breaks two may be the request: it is not to break them all.
                if begun == BEGUN {
                    return Err(Failure::Broken);
                }
            }
            last = if was_begun { Failure::Broken } else { Failure::Unreachable };
            break;
        }
    }
    Err(last)
}

async fn connection(pool: &Arc<super::pool::Pool>, upstream: &Upstream, for_upgrade: bool, anew: bool) -> Result<Connection, ConnectError> {
    let connection = pool.connection(upstream, for_upgrade, anew).await?;
    let end = Instant::now() + SETTINGS;
    while for_upgrade && !connection.takes_upgrades() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if for_upgrade && !connection.takes_upgrades() { Err(ConnectError::NoWebsockets) } else { Ok(connection) }
}

fn failure_of(error: &ConnectError) -> Failure {
    match error.fault() {
        Fault::TimedOut => Failure::TimedOut,
        Fault::Unreachable => Failure::Unreachable,
        Fault::Wrong => Failure::Broken,
    }
}

/// Makes the request one of the connection's HTTP.
fn shape(
    request: &mut Request<RequestBody>,
    connection: &Connection,
    target: &PathAndQuery,
    host: &HeaderValue,
    hop: Hop,
    progress: Option<&Progress>,
) {
    let is_http2 = connection.is_http2();
    *request.version_mut() = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(target.clone());
    if is_http2 && let Ok(authority) = host.as_bytes().try_into() {
        // What the client used: the upstream must not believe that it is spoken to in the open.
        (uri.scheme, uri.authority) = (Some(Scheme::HTTPS), Some(authority));
    }
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_else(|_| Uri::from(target.clone()));
    let headers = request.headers_mut();
    if is_http2 {
        headers.remove(HOST);
        headers.remove(CONNECTION);
        headers.remove(EXPECT);
        if let Some(progress) = progress {
            progress.want();
        }
    } else {
        headers.insert(HOST, host.clone());
    }
    if hop.takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if !is_http2 {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
}

/// A request without a body, once more.
fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    copy.method_mut().clone_from(request.method());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// Waits for the answer's head. The upstream's time begins again with each piece of the request's body that it takes; while the client is waited for, it is
/// the client's time that runs.
async fn within<T>(sending: impl Future<Output = T>, site: &Site, progress: Option<&Progress>) -> Result<T, Failure> {
    let begun = Instant::now();
    let mut sending = std::pin::pin!(sending);
    loop {
        let (last, waits_for_client) = progress.map_or((begun, false), Progress::last);
        let limit = if waits_for_client { site.idle_timeout } else { site.response_timeout };
        if last.elapsed() >= limit {
            return Err(if waits_for_client { Failure::ClientSlow } else { Failure::TimedOut });
        }
        // Whose time it is may change meanwhile, and theirs may be shorter.
        let look_again = Instant::now() + site.idle_timeout.min(site.response_timeout);
        tokio::select! {
            biased;
            answer = &mut sending => return Ok(answer),
            () = tokio::time::sleep_until(look_again.min(last + limit)) => {}
        }
    }
}
