//! What the admin pages are: `/metrics`, `/healthz`, `/readyz`, `/status`, `/status.json`.

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;

use super::guard;
use crate::operations::health::Check;
use crate::operations::snapshot::Snapshot;
use crate::operations::{exposition, page, status};

const TEXT: &str = "text/plain; charset=utf-8";
/// Nothing but the page's own style sheet.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Which page is asked for.
enum Page {
    Index,
    Metrics,
    Health,
    Readiness,
    Status,
    StatusJson,
    Style,
}

/// The answer. `snapshot` looks at everything; `is_alive` asks the threads that serve, and nothing else.
pub(super) async fn answer<B: Body>(
    request: &Request<B>,
    snapshot: impl AsyncFnOnce() -> Snapshot,
    is_alive: impl AsyncFnOnce() -> bool,
) -> Response<Full<Bytes>> {
    if let Some((status, why)) = guard::refuse(request) {
        let mut response = respond(status, TEXT, why);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        return response;
    }
    let Some(page) = page_of(request.uri().path(), request.headers()) else {
        return respond(StatusCode::NOT_FOUND, TEXT, "there are /status, /status.json, /metrics, /healthz and /readyz\n");
    };
    let mut response = match page {
        Page::Index => {
            let mut response = respond(StatusCode::FOUND, TEXT, "/status\n");
            response.headers_mut().insert(http::header::LOCATION, HeaderValue::from_static("/status"));
            response
        }
        Page::Health => match is_alive().await {
            true => respond(StatusCode::OK, TEXT, "ok workers: all threads answer\n"),
            false => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "FAILS workers: a thread that serves has not answered in time\n"),
        },
        Page::Readiness => {
            let snapshot = snapshot().await;
            let status = if snapshot.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            respond(status, TEXT, snapshot.checks.iter().map(line).collect::<String>())
        }
        Page::Metrics => match exposition::write(snapshot().await) {
            Ok(text) => respond(StatusCode::OK, exposition::CONTENT_TYPE, text),
            Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics could not be written\n"),
        },
        Page::Status => respond(StatusCode::OK, "text/html; charset=utf-8", page::html(&snapshot().await)),
        Page::StatusJson => respond(StatusCode::OK, "application/json", format!("{}\n", status::json(&snapshot().await))),
        Page::Style => respond(StatusCode::OK, "text/css; charset=utf-8", page::STYLE),
    };
    if *request.method() == Method::HEAD {
        *response.body_mut() = Full::default();
    }
    response
}

fn page_of(path: &str, headers: &HeaderMap) -> Option<Page> {
    // A browser lists what it would rather have first; a program that wants JSON names nothing else.
    let wants_json = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.trim_start().starts_with("application/json"));
    match path {
        "/" => Some(Page::Index),
        "/metrics" => Some(Page::Metrics),
        "/healthz" => Some(Page::Health),
        "/readyz" => Some(Page::Readiness),
        "/status" if wants_json => Some(Page::StatusJson),
        "/status" => Some(Page::Status),
        "/status.json" => Some(Page::StatusJson),
        "/status.css" => Some(Page::Style),
        _ => None,
    }
}

fn line(check: &Check) -> String {
    format!("{} {}: {}\n", check.word(), check.name, check.found)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let fields = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    response.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}
