//! Answers, in JSON where there is something to say.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

/// This status and what it says. No cache keeps it.
pub(super) fn told(status: StatusCode, what: Option<Value>) -> Response<String> {
    let body = what.as_ref().map(|what| format!("{what}\n")).unwrap_or_default();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if what.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// What went wrong, by a word that programs know.
pub(super) fn refused(status: StatusCode, word: &str) -> Response<String> {
    told(status, Some(json!({ "error": word })))
}

/// The same, and when to come again.
pub(super) fn later(status: StatusCode, word: &str, seconds: u64) -> Response<String> {
    let mut response = refused(status, word);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The registry could not be changed; the log says why.
pub(super) fn failed() -> Response<String> {
    later(StatusCode::SERVICE_UNAVAILABLE, "registry", 5)
}

pub(super) fn not_allowed(methods: &'static str) -> Response<String> {
    let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "method");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
