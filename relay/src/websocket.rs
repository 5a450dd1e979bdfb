//! Websockets: by upgrade on HTTP/1 (RFC 6455 §4), by extended CONNECT on HTTP/2 (RFC 8441), and from one to the other.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::hop::lists;

const WEBSOCKET: &str = "websocket";
/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client's wish for a websocket.
#[derive(Debug)]
pub struct Offer {
    /// The client's stream, once it was told so.
    pub client: OnUpgrade,
    /// What the client wants to see hashed, on HTTP/1.
    client_key: Option<HeaderValue>,
    /// The same towards an upstream on HTTP/1.
    key: HeaderValue,
}

impl Offer {
    /// `has_body`: then it is a request like any other. `None` also where the key could not be made.
    #[must_use]
    pub fn of(request: &mut Parts, has_body: bool) -> Option<Self> {
        let is_extended =
            request.method == Method::CONNECT && request.extensions.get::<Protocol>().is_some_and(|p| p.as_str() == WEBSOCKET);
        let client_key = if is_extended { None } else { Some(upgrade_key(request).filter(|_| !has_body)?) };
        let key = match &client_key {
            Some(key) => key.clone(),
            None => {
                let mut random = [0; 16];
                getrandom::fill(&mut random).ok()?;
                HeaderValue::try_from(STANDARD.encode(random)).ok()?
            }
        };
        let client = request.extensions.remove::<OnUpgrade>()?;
        Some(Self { client, client_key, key })
    }

    fn is_http2(&self) -> bool {
        self.client_key.is_none()
    }

    /// Makes the request ask for a websocket, the way of the upstream's HTTP.
    pub fn ask<B>(&self, request: &mut Request<B>, upstream_is_http2: bool) {
        *request.method_mut() = if upstream_is_http2 { Method::CONNECT } else { Method::GET };
        if upstream_is_http2 {
            request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
            request.headers_mut().remove(SEC_WEBSOCKET_KEY);
        } else {
            request.extensions_mut().remove::<Protocol>();
            upgrade(request.headers_mut());
            request.headers_mut().insert(SEC_WEBSOCKET_KEY, self.key.clone());
        }
    }

    /// Whether the upstream agreed.
    ///
    /// # Errors
    /// It answered neither yes nor no: in which way.
    pub fn is_accepted<B>(&self, response: &Response<B>, upstream_is_http2: bool) -> Result<bool, &'static str> {
        if upstream_is_http2 {
            return Ok(response.status().is_success());
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // To a client on HTTP/2, success means a websocket.
            return if self.is_http2() && response.status().is_success() {
                Err("it took a websocket's request for another")
            } else {
                Ok(false)
            };
        }
        let headers = response.headers();
        if !lists(headers, &UPGRADE, WEBSOCKET) {
            return Err("it switched to another protocol");
        }
        if headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|value| *value == accept(&self.key)) {
            Ok(true)
        } else {
            Err("its Sec-WebSocket-Accept is wrong")
        }
    }

    /// Makes the response one that accepts, the way of the client's HTTP. Its hop-by-hop fields are gone by then.
    pub fn accept<B>(&self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        match &self.client_key {
            Some(key) => {
                upgrade(headers);
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept(key));
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            }
            None => {
                headers.remove(SEC_WEBSOCKET_ACCEPT);
                *response.status_mut() = StatusCode::OK;
            }
        }
    }
}

fn upgrade_key(request: &Parts) -> Option<HeaderValue> {
    let headers = &request.headers;
    let is_upgrade = request.method == Method::GET
        && request.version == Version::HTTP_11
        && lists(headers, &CONNECTION, "upgrade")
        && headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_upgrade).cloned()
}

fn upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// RFC 6455 §4.2.2: Sec-WebSocket-Accept.
fn accept(key: &HeaderValue) -> HeaderValue {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::try_from(STANDARD.encode(hash)).unwrap_or_else(|_| unreachable!("base64 is visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 §1.3.
    #[test]
    fn a_key_is_accepted_as_in_the_rfc() {
        assert_eq!(accept(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
