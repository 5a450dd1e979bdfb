//! An application behind the server: HTTP/1.1 and HTTP/2 in plain text on loopback, in a thread of its own. It records which requests came.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Serves until the process ends.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<HashSet<String>>>,
}

impl Upstream {
    /// - `/n/WORD`: answers WORD
    /// - `/slow/MILLISECONDS/WORD`: the same, after a while
    /// - `/echo`: the request's body, as it comes, trailers included
    /// - `/big/BYTES`: as many
    /// - `/events`: a line each 20 ms, for ever
    /// - `/ws`: a websocket that sends back what comes
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let recorded = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, recorded));
        });
        Self { address, seen }
    }

    /// As the configuration names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The words of all requests that came.
    pub fn seen(&self) -> MutexGuard<'_, HashSet<String>> {
        self.seen.lock().expect("the record")
    }
}

async fn serve(listener: std::net::TcpListener, seen: Arc<Mutex<HashSet<String>>>) {
    let listener = TcpListener::from_std(listener).expect("a socket");
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let _ = tcp.set_nodelay(true);
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            let mut http = auto::Builder::new(TokioExecutor::new());
            http.http2().max_concurrent_streams(10_000);
            let _ = http.serve_connection_with_upgrades(TokioIo::new(tcp), service).await;
        });
    }
}

fn text(text: &str) -> Body {
    Full::from(text.to_owned()).map_err(|never| match never {}).boxed_unsync()
}

async fn answer(request: Request<Incoming>, seen: Arc<Mutex<HashSet<String>>>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    Ok(match parts[..] {
        ["n", word] => {
            seen.lock().expect("the record").insert(word.to_owned());
            Response::new(text(word))
        }
        ["slow", milliseconds, word] => {
            seen.lock().expect("the record").insert(word.to_owned());
            tokio::time::sleep(Duration::from_millis(milliseconds.parse().expect("a number"))).await;
            Response::new(text(word))
        }
        ["echo"] => {
            let mut response = Response::new(UnsyncBoxBody::default());
            if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
                response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
            }
            *response.body_mut() = request.into_body().boxed_unsync();
            response
        }
        ["big", bytes] => {
            let left: usize = bytes.parse().expect("a number");
            let pieces = futures_util::stream::unfold(left, |left| async move {
                let piece = left.min(16 * 1024);
                (piece > 0).then(|| (Ok(Frame::data(Bytes::from(vec![b'x'; piece]))), left - piece))
            });
            Response::new(StreamBody::new(pieces).boxed_unsync())
        }
        ["events"] => {
            let lines = futures_util::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok(Frame::data(Bytes::from_static(b"data: tick\n\n"))), ()))
            });
            let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
            response
        }
        ["ws"] => websocket(request),
        _ => {
            let mut response = Response::new(text("there is no such thing"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get("sec-websocket-key") else {
        let mut response = Response::new(text("this is for websockets"));
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-accept", accept);
    response.body(Body::default()).expect("a response")
}
