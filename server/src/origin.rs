//! The demo origin behind the authentication layer.

use std::convert::Infallible;

use ekm_otp::field::CredentialKind;
use ekm_otp_tower::{VerifiedClaims, VerifiedClient};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName};
use hyper::{Method, Request, Response, StatusCode};

/// `GET /get` → `ok`; `GET /whoami` → the verified client, its claims and the connection's TLS facts.
pub(crate) async fn handle(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = answer(&request);
    if let Some(client) = request.extensions().get::<VerifiedClient>() {
        // The path only: a query may hold what is nobody's business.
        tracing::info!(
            peer = client.peer().map(tracing::field::display),
            kid = client.kid().as_str(),
            client = client.client(),
            method = request.method().as_str(),
            path = request.uri().path(),
            status = response.status().as_u16(),
            "request",
        );
    }
    Ok(response)
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(client) = request.extensions().get::<VerifiedClient>() else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "no verified client\n");
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/get") => text(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/whoami") => {
            let tls = client.tls();
            let claims = request.extensions().get::<VerifiedClaims>();
            let facts = serde_json::json!({
                "client": client.client(),
                "kid": client.kid().as_str(),
                "profile": client.profile().as_str(),
                "credential": claims.map_or(CredentialKind::Otp, VerifiedClaims::kind).as_str(),
                "claims": claims.map(VerifiedClaims::extra),
                "tls_version": tls.version_name(),
                "cipher_suite": tls.cipher_suite_name(),
                "key_exchange_group": tls.group_name(),
                "server_name": tls.server_name().as_str(),
            });
            answer_with(StatusCode::OK, (CONTENT_TYPE, "application/json"), format!("{facts}\n"))
        }
        (_, "/get" | "/whoami") => answer_with(StatusCode::METHOD_NOT_ALLOWED, (ALLOW, "GET, HEAD"), "only GET is served here\n"),
        _ => text(StatusCode::NOT_FOUND, "there is GET /get and GET /whoami\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    answer_with(status, (CONTENT_TYPE, "text/plain; charset=utf-8"), body)
}

fn answer_with(status: StatusCode, (name, value): (HeaderName, &'static str), body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
    response
}
