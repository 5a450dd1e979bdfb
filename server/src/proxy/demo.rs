//! The demo origin: `upstream = "demo"`.

use ekm_otp::field::CredentialKind;
use ekm_otp_tower::{VerifiedClaims, VerifiedClient};
use http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use super::body::Body;

/// `GET /get` → `ok`; `GET /whoami` → the verified client, its claims and the connection's TLS facts.
pub(super) fn answer(request: &Parts, client: Option<(&VerifiedClient, Option<&VerifiedClaims>)>) -> Response<Body> {
    match (&request.method, request.uri.path()) {
        (&Method::GET | &Method::HEAD, "/get") => text(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/whoami") => {
            let facts = match client {
                Some((client, claims)) => facts(client, claims),
                None => serde_json::json!({ "client": null }),
            };
            answer_with(StatusCode::OK, (CONTENT_TYPE, "application/json"), format!("{facts}\n"))
        }
        (_, "/get" | "/whoami") => answer_with(StatusCode::METHOD_NOT_ALLOWED, (ALLOW, "GET, HEAD"), "only GET is served here\n"),
        _ => text(StatusCode::NOT_FOUND, "there is GET /get and GET /whoami\n"),
    }
}

fn facts(client: &VerifiedClient, claims: Option<&VerifiedClaims>) -> serde_json::Value {
    let tls = client.tls();
    serde_json::json!({
        "client": client.client(),
        "kid": client.kid().as_str(),
        "profile": client.profile().as_str(),
        "credential": claims.map_or(CredentialKind::Otp, VerifiedClaims::kind).as_str(),
        "claims": claims.map(VerifiedClaims::extra),
        "tls_version": tls.version_name(),
        "cipher_suite": tls.cipher_suite_name(),
        "key_exchange_group": tls.group_name(),
        "server_name": tls.server_name().as_str(),
    })
}

fn text(status: StatusCode, body: &'static str) -> Response<Body> {
    answer_with(status, (CONTENT_TYPE, "text/plain; charset=utf-8"), body)
}

fn answer_with(status: StatusCode, (name, value): (HeaderName, &'static str), body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
