//! The proxy as a service: a request in, the app's answer out.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ekm_otp_relay::websocket::Offer;
use ekm_otp_relay::{cookies, joined, target};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as HttpBody;

use super::admission::Caller;
use super::balance::Balance;
use super::body::{Body, UpstreamBody};
use super::failure::Failure;
use super::forward::{Incomings, Outgoing, forward};
use super::own::Own;
use super::pool::Pools;
use super::progress::Progress;
use super::request_body::{BodyError, RequestBody};
use super::site::{Behind, Site, Sites};
use super::{demo, forwarded, headers};
use crate::operations::{Answered, RequestId};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Hands requests on to the site that their connection's server name leads to. Behind the authentication layer.
///
/// One is made per thread: it holds that thread's connections to upstreams. It is cloned for each connection.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    sites: Arc<ArcSwap<Sites>>,
    own: Own,
    pools: Pools,
}

impl Proxy {
    /// The sites are looked up for each request: what replaces them is seen by open connections, too.
    pub(crate) fn new(sites: Arc<ArcSwap<Sites>>, own: Own) -> Self {
        Self { sites, own, pools: Pools::default() }
    }
}

impl<B> hyper::service::Service<Request<B>> for Proxy
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    /// Boxed: hyper keeps room for one in each connection, also while that is idle.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let proxy = self.clone();
        Box::pin(async move { Ok(proxy.answer(request).await.unwrap_or_else(Failure::answer)) })
    }
}

impl Proxy {
    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Body>, Failure>
    where
        B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let (mut parts, body) = request.into_parts();
        let Some(caller) = Caller::of(&mut parts.extensions) else {
            tracing::error!("a request came past the authentication layer");
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(response);
        };
        let Some(site) = self.sites.load().get(caller.server_name()).cloned() else {
            let mut response = Failure::NoSite.answer();
            // A connection of a site that is gone has nothing to come. (On HTTP/2 it is the client's to leave: 421 says so.)
            if parts.version < Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            return Ok(response);
        };
        let answer = match (caller.admit(&site, &parts), &site.behind) {
            (Err(failure), _) => Err(failure),
            (Ok(()), _) if !self.own.remembers(&parts, &caller).await => Err(Failure::NotRemembered),
            (Ok(()), _) if ekm_otp::is_reserved(parts.uri.path()) => self.own.answer(&mut parts, body, &caller, &site).await,
            (Ok(()), Behind::App(balance)) => self.hand_on(&site, balance, &caller, parts, body).await,
            (Ok(()), Behind::Demo) => Ok(demo::answer(&parts, caller.verified())),
            (Ok(()), Behind::Nobody) => Err(Failure::NotFound),
        };
        let mut response = answer.unwrap_or_else(Failure::answer);
        response.extensions_mut().insert(site.label.clone());
        Ok(response)
    }

    async fn hand_on<B>(
        &self,
        site: &Site,
        balance: &Balance,
        caller: &Caller,
        mut parts: Parts,
        body: B,
    ) -> Result<Response<Body>, Failure>
    where
        B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        if parts.method == Method::TRACE {
            return Err(Failure::Trace);
        }
        if parts.headers.get_all(TRANSFER_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(Failure::Coding);
        }
        let received = host(&parts).ok_or(Failure::NoSite)?;
        let has_body = !body.is_end_stream();
        let offer = Offer::of(&mut parts, has_body);
        let hop = headers::request(&mut parts.headers, &site.names, caller.verified().is_none());
        cookies::join(&mut parts.headers);
        forwarded::write(&mut parts.headers, caller.peer(), &received);
        if let Some(id) = parts.extensions.get::<RequestId>() {
            parts.headers.insert(REQUEST_ID, id.header_value());
        }
        if let Some((client, claims)) = caller.verified() {
            site.names.write(&mut parts.headers, client, claims);
        }

        let progress = (has_body && offer.is_none()).then(|| Arc::new(Progress::new(!hop.expects_continue)));
        let target = target::origin_form(&parts.uri);
        let mut request = Request::new(RequestBody::Empty);
        (*request.method_mut(), *request.headers_mut()) = (parts.method, parts.headers);
        if let Some(progress) = &progress {
            *request.body_mut() = RequestBody::new(body, Arc::clone(progress), &site.names);
            if hop.expects_continue {
                let progress = Arc::clone(progress);
                hyper::ext::on_informational(&mut request, move |response| {
                    if response.status() == StatusCode::CONTINUE {
                        progress.want();
                    }
                });
            }
        } else {
            request.headers_mut().remove(http::header::EXPECT);
        }
        tell_length(&mut request, hop.had_length && offer.is_none());
        let host = site.host.clone().unwrap_or(received);
        let outgoing = Outgoing { site, request, target, host, hop, progress, offer };
        answer(site, forward(outgoing, balance, &self.pools).await?)
    }
}

/// Makes the upstream's answer ours.
fn answer(site: &Site, incoming: Incomings) -> Result<Response<Body>, Failure> {
    let Incomings { mut response, lease, offer, is_http2, upstream, head } = incoming;
    let answered = Answered { upstream: Arc::clone(&upstream.label), head };
    let broken = |why: &'static str| {
        upstream.failed(false, &why);
        Failure::Broken
    };
    let accepted = match offer {
        Some(offer) => offer.is_accepted(&response, is_http2).map_err(broken)?.then_some(offer),
        None if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            return Err(broken("it switched protocols, and nobody had asked for that"));
        }
        None => None,
    };
    headers::response(response.headers_mut());
    if let Some(offer) = accepted {
        offer.accept(&mut response);
        let upstream = hyper::upgrade::on(&mut response);
        joined::join(offer.client, upstream, site.idle_timeout, lease.hand_over());
        response.extensions_mut().insert(answered);
        return Ok(response.map(|_| Body::Empty));
    }
    let (parts, body) = response.into_parts();
    let mut response = Response::new(Body::Upstream(Box::new(UpstreamBody::new(body, lease, site.idle_timeout))));
    (*response.status_mut(), *response.headers_mut()) = (parts.status, parts.headers);
    response.extensions_mut().insert(answered);
    Ok(response)
}

/// The authority that the layer in front has checked: that of the target before that of the field (RFC 9112 §3.2.2).
fn host(parts: &Parts) -> Option<HeaderValue> {
    match parts.uri.authority() {
        Some(authority) => HeaderValue::try_from(authority.as_str()).ok(),
        None => parts.headers.get(HOST).cloned(),
    }
}

/// `Content-Length` is said once, from what the body is known to be; else the body goes in chunks.
fn tell_length(request: &mut Request<RequestBody>, had_length: bool) {
    let length = request.body().size_hint().exact();
    if let Some(length) = length.filter(|length| *length > 0 || had_length) {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}
