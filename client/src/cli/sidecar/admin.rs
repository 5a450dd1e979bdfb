//! The pages for whoever looks after the sidecar: `/metrics`, `/readyz`, `/healthz`. They hold no secret, and answer nobody whom a stranger's page has sent.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::accept::{Caller, Serve, Stream};
use super::asked::Asked;
use super::browser;
use super::running::Running;
use super::shared::Shared;
use super::users::Users;

/// How long a request's header section may take.
const HEADER: Duration = Duration::from_secs(30);
/// How long a connection lives at most.
const CONNECTION: Duration = Duration::from_secs(120);
/// How long a connection to the origin may take to stand, until this one is not ready.
const READY: Duration = Duration::from_secs(10);

/// Serves the pages.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    pub(super) shared: Arc<Shared>,
    pub(super) users: Users,
}

impl Serve for Admin {
    async fn serve(&self, stream: Stream, caller: Caller, running: Running) {
        if let Caller::Unix { uid } = caller
            && !uid.is_some_and(|uid| self.users.admit(uid))
        {
            return;
        }
        let service = service_fn(|request: Request<Incoming>| {
            let (admin, running) = (self.clone(), running.clone());
            async move { Ok::<_, Infallible>(admin.answer(request, caller, &running).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(16 * 1024);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            _ = tokio::time::timeout(CONNECTION, connection) => {}
            // It is told that it is not ready until there is nothing to be ready for.
            () = async { running.draining().await; tokio::time::sleep(Duration::from_millis(500)).await } => {}
        }
    }
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>, caller: Caller, running: &Running) -> Response<Full<Bytes>> {
        let (parts, _) = request.into_parts();
        let asked = match Asked::of(&parts) {
            Ok(asked) if asked.is_here(&caller) => asked,
            Ok(_) => {
                return text(StatusCode::MISDIRECTED_REQUEST, "ask for localhost or a loopback address: nothing else is answered here\n");
            }
            Err(failure) => return text(failure.status(), format!("{}\n", failure.text())),
        };
        if let Err(failure) = browser::check(&parts, &asked, &[]) {
            return text(failure.status(), format!("{}\n", failure.text()));
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match parts.uri.path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(running).await,
            "/metrics" => {
                let page = self.shared.metrics.page(&self.shared.table.load().origins);
                let mut response = text(StatusCode::OK, page);
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                response
            }
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /readyz and /healthz\n"),
        }
    }

    /// Ready means: a connection on which both sides have proved themselves stands to each origin, or can be made now.
    async fn readiness(&self, running: &Running) -> Response<Full<Bytes>> {
        if running.is_draining() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "not ready: it is being stopped\n");
        }
        let origins = self.shared.table.load().origins.clone();
        let looks = origins.iter().map(|origin| async move {
            match tokio::time::timeout(READY, origin.client.connected()).await {
                Ok(Ok(())) => (true, format!("{}: ready\n", origin.label)),
                Ok(Err(error)) => (false, format!("{}: not ready: {error}\n", origin.label)),
                Err(_) => (false, format!("{}: not ready: no connection within {} s\n", origin.label, READY.as_secs())),
            }
        });
        let looked = futures_util::future::join_all(looks).await;
        let is_ready = !looked.is_empty() && looked.iter().all(|(is_ready, _)| *is_ready);
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(status, looked.into_iter().map(|(_, line)| line).collect::<String>())
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
