//! Which requests the admin pages answer at all. They authenticate nobody, so that a browser on this machine must not be led to them by a page from
//! elsewhere whose name suddenly means a loopback address (DNS rebinding).

use ekm_otp_relay::loopback::is_loopback;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body::Body;

/// Why a request is not answered.
pub(super) fn refuse<B: Body>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some((StatusCode::BAD_REQUEST, "one Host field is needed\n"));
    };
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    if !host.to_str().is_ok_and(is_loopback) || target.is_some_and(|authority| !is_loopback(authority)) {
        return Some((StatusCode::MISDIRECTED_REQUEST, "ask for localhost or a loopback address: nothing else is answered here\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n"));
    }
    if !request.body().is_end_stream() {
        return Some((StatusCode::BAD_REQUEST, "a request to these pages has no content\n"));
    }
    None
}
