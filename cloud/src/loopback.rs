//! A small HTTP/1.1 server on loopback, for what SDKs ask a machine's metadata service.
//!
//! Whoever runs on this machine can connect; nobody else may be led here. So the Host is one of those that were named (a browser that a
//! foreign page sends here by DNS rebinding names another), and what a proxy forwarded is refused.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More at once are not answered until others have ended.
const CONNECTIONS: usize = 64;
/// Requests of SDKs have short bodies or none.
const MAX_BODY: usize = 64 * 1024;
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// The answer. The request's Host was checked.
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send;
}

/// A listener on loopback.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
    hosts: Vec<String>,
}

impl Loopback {
    /// Listens. `hosts` are answered besides `localhost` and the address itself, with any port; `hop_limit` is the IP time to live of answers: 1 and
    /// they pass no router, not even the one between a container and its host.
    ///
    /// # Errors
    /// When the address is not a loopback one, or cannot be had.
    pub async fn bind(address: SocketAddr, hosts: &[&str], hop_limit: Option<u32>) -> Result<Self, LoopbackError> {
        if !address.ip().is_loopback() {
            return Err(LoopbackError::NotLoopback(address));
        }
        let failed = |error| LoopbackError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        if let Some(hops) = hop_limit {
            listener.set_ttl(hops).map_err(failed)?;
        }
        let address = listener.local_addr().map_err(failed)?;
        let own = ["localhost".to_owned(), address.ip().to_string(), format!("[{}]", address.ip())];
        Ok(Self { listener, address, hosts: own.into_iter().chain(hosts.iter().map(|host| (*host).to_owned())).collect() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until dropped.
    pub async fn serve<H: Handler>(self, handler: Arc<H>) -> Infallible {
        let (hosts, places) = (Arc::new(self.hosts), Arc::new(Semaphore::new(CONNECTIONS)));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { unreachable!("the semaphore is never closed") };
            while connections.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                // Out of descriptors, or the peer has left already: neither ends the server.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (handler, hosts, place) = (Arc::clone(&handler), Arc::clone(&hosts), Arc::new(place));
            connections.spawn(async move {
                let service = service_fn(|request| answer(&handler, &hosts, &place, request));
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_headers(64);
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }
}

async fn answer<H: Handler>(
    handler: &Arc<H>,
    hosts: &[String],
    place: &Arc<OwnedSemaphorePermit>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match refused(request.headers(), hosts) {
        Some(status) => plain(status),
        None => {
            let (head, body) = request.into_parts();
            match tokio::time::timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await {
                Ok(Ok(body)) => to_its_end(handler, place, Request::from_parts(head, body.to_bytes())).await,
                Ok(Err(_)) => plain(StatusCode::PAYLOAD_TOO_LARGE),
                Err(_) => plain(StatusCode::REQUEST_TIMEOUT),
            }
        }
    })
}

/// SDKs give up after a second and ask again. What was begun for them goes on, or a service that takes longer would never be heard to its end.
async fn to_its_end<H: Handler>(handler: &Arc<H>, place: &Arc<OwnedSemaphorePermit>, request: Request<Bytes>) -> Response<Full<Bytes>> {
    let (handler, place) = (Arc::clone(handler), Arc::clone(place));
    let answering = tokio::spawn(async move {
        let response = handler.handle(request).await;
        drop(place);
        response
    });
    answering.await.map_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR), |response| response.map(Full::new))
}

fn refused(headers: &HeaderMap, hosts: &[String]) -> Option<StatusCode> {
    let forwarded = ["x-forwarded-for", "forwarded", "via"].into_iter().any(|name| headers.contains_key(name));
    let mut named = headers.get_all(header::HOST).iter();
    let host = named.next().and_then(|host| host.to_str().ok()).map(without_port).filter(|_| named.next().is_none());
    match host {
        None => Some(StatusCode::BAD_REQUEST),
        Some(host) if forwarded || !hosts.iter().any(|own| own.eq_ignore_ascii_case(host)) => Some(StatusCode::FORBIDDEN),
        Some(_) => None,
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    respond(status, "text/plain", format!("{status}\n")).map(Full::new)
}

/// An answer.
pub(crate) fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer in JSON.
pub(crate) fn respond_json(status: StatusCode, value: &serde_json::Value) -> Response<Bytes> {
    respond(status, "application/json", value.to_string())
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopbackError {
    /// Credentials are handed out on this machine only.
    #[error("{0} is no loopback address: credentials are handed out on this machine only (127.0.0.1, [::1])")]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::sync::{Notify, mpsc};

    use super::*;

    /// Tells that it began, waits, and tells how it went: to its end, or dropped before.
    struct Slow {
        begun: mpsc::UnboundedSender<()>,
        go_on: Notify,
        ended: mpsc::UnboundedSender<bool>,
    }

    struct Ending<'a>(&'a mpsc::UnboundedSender<bool>, bool);

    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }

    impl Handler for Slow {
        async fn handle(&self, _: Request<Bytes>) -> Response<Bytes> {
            let mut ending = Ending(&self.ended, false);
            let _ = self.begun.send(());
            self.go_on.notified().await;
            ending.1 = true;
            Response::new(Bytes::new())
        }
    }

    #[tokio::test]
    async fn what_was_begun_for_who_has_given_up_goes_on_to_its_end() {
        let ((begun, mut has_begun), (ended, mut has_ended)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let slow = Arc::new(Slow { begun, go_on: Notify::new(), ended });
        let loopback = Loopback::bind(([127, 0, 0, 1], 0).into(), &[], None).await.expect("a port");
        let address = loopback.address();
        let asking = async {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("writing");
            has_begun.recv().await.expect("the request");
            drop(stream);
            // What hears that nobody waits has heard it by then: all runs in this thread.
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            slow.go_on.notify_one();
            has_ended.recv().await
        };
        tokio::select! {
            ended = asking => assert_eq!(ended, Some(true)),
            never = loopback.serve(Arc::clone(&slow)) => match never {},
        }
    }
}
