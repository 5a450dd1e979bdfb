//! A request for a tunnel: an upgrade on HTTP/1.1 (RFC 9110 §7.8), an extended CONNECT on HTTP/2 (RFC 8441 §4).

use ekm_otp::tunnel::{PROTOCOL, Target};
use ekm_otp_relay::hop::lists;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::refused::Refused;

/// What was asked for, rightly.
pub(super) struct Asked {
    /// `None`: what the path says is no target.
    pub(super) target: Option<Target>,
    /// The client's stream, once it was told so.
    pub(super) client: OnUpgrade,
    is_http2: bool,
}

impl Asked {
    /// Of a request below the path of tunnels. What is wrong with it is said before its target is looked at.
    pub(super) fn of(request: &mut Parts, has_body: bool) -> Result<Self, Refused> {
        let is_http2 = request.version >= Version::HTTP_2;
        if is_http2 {
            let is_tunnel = request.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == PROTOCOL);
            if request.method != Method::CONNECT || !is_tunnel {
                return Err(Refused::Method("CONNECT"));
            }
        } else {
            if request.method != Method::GET {
                return Err(Refused::Method("GET"));
            }
            let headers = &request.headers;
            // HTTP/1.0 has no upgrades (RFC 9110 §7.8).
            if request.version != Version::HTTP_11 || !lists(headers, &CONNECTION, "upgrade") || !lists(headers, &UPGRADE, PROTOCOL) {
                return Err(Refused::NoUpgrade);
            }
            if has_body {
                return Err(Refused::Body);
            }
        }
        let client = request.extensions.remove::<OnUpgrade>().ok_or(Refused::NoUpgrade)?;
        Ok(Self { target: Target::from_path(request.uri.path()), client, is_http2 })
    }

    /// The answer with which the stream begins.
    pub(super) fn accepted(&self) -> Response<()> {
        let mut response = Response::new(());
        if !self.is_http2 {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        }
        response
    }
}
