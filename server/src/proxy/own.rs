//! What is this server's own: all below `/.well-known/ekm-otp` (RFC 8615) that the authentication layer does not answer itself. It never reaches an app,
//! and only who was verified gets here.

use ekm_otp::{WELL_KNOWN_PATH, tunnel};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response};

use super::admission::Caller;
use super::body::Body;
use super::failure::Failure;
use super::site::Site;
use crate::tcp::{self, Refused, Tunnels};

/// Answers a request whose path is reserved.
pub(super) async fn answer(
    request: &mut Parts,
    has_body: bool,
    caller: &Caller,
    site: &Site,
    tunnels: &Tunnels,
) -> Result<Response<Body>, Failure> {
    let client = caller.verified().ok_or(Failure::NotOpen)?;
    let path = request.uri.path();
    debug_assert!(path.starts_with(WELL_KNOWN_PATH), "{path}");
    match path {
        path if path.starts_with(tunnel::PATH) => {
            let opened = tcp::open(request, has_body, client, (&site.label, &site.tcp), tunnels).await;
            Ok(opened.map_or_else(no_tunnel, |response| response.map(|()| Body::Empty)))
        }
        _ => Err(Failure::NotFound),
    }
}

fn no_tunnel(refused: Refused) -> Response<Body> {
    let mut response = Response::new(Body::from(refused.text()));
    *response.status_mut() = refused.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().extend(refused.fields());
    response
}
