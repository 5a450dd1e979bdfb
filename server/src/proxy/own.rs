//! What is this server's own: all below `/.well-known/ekm-otp` (RFC 8615) that the authentication layer does not answer itself. It never reaches an app,
//! and only who was verified gets here.

use std::sync::Arc;

use bytes::Bytes;
use ekm_otp::{WELL_KNOWN_PATH, tunnel};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body::Body as HttpBody;

use super::admission::Caller;
use super::body::Body;
use super::failure::Failure;
use super::site::Site;
use crate::enrolment::Enrolment;
use crate::tcp::{self, Refused, Tunnels};

/// Where a client says that it took a bundle in, below the well-known path.
const ENROLMENT: &str = "/enrolment";
/// Where it rotates its key.
const KEY: &str = "/key";

/// What answers there.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) enrolment: Arc<Enrolment>,
    pub(crate) tunnels: Tunnels,
}

fn below(request: &Parts) -> Option<&str> {
    request.uri.path().strip_prefix(WELL_KNOWN_PATH)
}

impl Own {
    /// Answers a request whose path is reserved.
    pub(super) async fn answer<B>(&self, request: &mut Parts, body: B, caller: &Caller, site: &Site) -> Result<Response<Body>, Failure>
    where
        B: HttpBody<Data = Bytes> + Send,
    {
        let client = caller.verified().ok_or(Failure::NotOpen)?;
        match below(request) {
            _ if request.uri.path().starts_with(tunnel::PATH) => {
                let opened = tcp::open(request, !body.is_end_stream(), client, (&site.label, &site.tcp), &self.tunnels).await;
                Ok(opened.map_or_else(no_tunnel, |response| response.map(|()| Body::Empty)))
            }
            Some(ENROLMENT) => Ok(self.enrolment.begin(&request.method, client.0).await.map(Body::from)),
            Some(KEY) => Ok(self.enrolment.key(&request.method, body, client.0).await.map(Body::from)),
            _ => Err(Failure::NotFound),
        }
    }

    /// Whether it need not be remembered that this client's key is used, or is remembered now: from its first request on, a key that left in a bundle is in use.
    /// Where that request says so itself, its answer tells.
    pub(super) async fn remembers(&self, request: &Parts, caller: &Caller) -> bool {
        match caller.verified() {
            Some((client, _)) if client.is_awaited() => below(request) == Some(ENROLMENT) || self.enrolment.remember(client).await,
            _ => true,
        }
    }
}

fn no_tunnel(refused: Refused) -> Response<Body> {
    let mut response = Response::new(Body::from(refused.text()));
    *response.status_mut() = refused.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().extend(refused.fields());
    response
}
