//! An application behind the server: HTTP/1.1 and HTTP/2 in plain text on loopback, in a thread of its own. It writes down what it was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Serves until the process ends.
pub struct App {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Method, target and fields of what came.
    seen: Mutex<Vec<String>>,
    pages: Mutex<HashMap<String, String>>,
    repositories: Mutex<Option<PathBuf>>,
    waiting: Mutex<usize>,
    everybody: Notify,
}

impl App {
    /// - `/n/WORD`: answers WORD
    /// - `/echo`: the request's body, as it comes, trailers included
    /// - `/fields`: the request's fields
    /// - `/big/BYTES`: as many
    /// - `/count`: how many bytes came
    /// - `/meet/COUNT`: answers when so many are here
    /// - `/redirect`: to `/n/redirected`
    /// - `/events`: an event each 20 ms, for ever
    /// - `/ws`: a websocket that sends back what comes
    /// - `/chat.Service/Talk`: gRPC that sends back what comes, with trailers
    /// - `/git/…`: the repositories in a folder
    /// - what [`page`](Self::page) has put there
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, served));
        });
        Self { address, shared }
    }

    /// As the configuration names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far: `GET /target`, and the fields, a line each.
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts an HTML page there.
    pub fn page(&self, path: &str, html: &str) {
        self.shared.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), html.to_owned());
    }

    /// Serves the git repositories in this folder.
    pub fn repositories(&self, folder: PathBuf) {
        *self.shared.repositories.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder);
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a socket");
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let _ = tcp.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let mut http = auto::Builder::new(TokioExecutor::new());
            http.http2().max_concurrent_streams(10_000);
            let _ = http.serve_connection_with_upgrades(TokioIo::new(tcp), service).await;
        });
    }
}

pub fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::from(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync())
}

fn with(mut response: Response<Body>, name: header::HeaderName, value: &str) -> Response<Body> {
    response.headers_mut().insert(name, value.parse().expect("a value"));
    response
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let fields: String =
        request.headers().iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect();
    let line = format!("{} {}\n{fields}", request.method(), request.uri().path_and_query().map_or("", |target| target.as_str()));
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    let page = shared.pages.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
    if let Some(html) = page {
        return Ok(with(text(html), header::CONTENT_TYPE, "text/html; charset=utf-8"));
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    Ok(match parts[..] {
        ["n", word] => text(word.to_owned()),
        ["fields"] => text(fields),
        ["echo"] => {
            let kind = request.headers().get(header::CONTENT_TYPE).cloned();
            let mut response = Response::new(request.into_body().boxed_unsync());
            response.headers_mut().extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
            response
        }
        ["big", bytes] => {
            let bytes: u64 = bytes.parse().expect("a number");
            const PIECE: &[u8] = &[b'x'; 64 * 1024];
            let pieces = stream::unfold(bytes, |left| async move {
                let piece = usize::try_from(left).unwrap_or(PIECE.len()).min(PIECE.len());
                (piece > 0).then(|| (Ok(Frame::data(Bytes::from_static(&PIECE[..piece]))), left - piece as u64))
            });
            with(Response::new(StreamBody::new(pieces).boxed_unsync()), header::CONTENT_LENGTH, &bytes.to_string())
        }
        ["count"] => {
            let (mut body, mut count) = (request.into_body(), 0);
            while let Some(frame) = body.frame().await {
                count += frame?.data_ref().map_or(0, Bytes::len);
            }
            text(count.to_string())
        }
        ["meet", count] => {
            let count: usize = count.parse().expect("a number");
            let everybody = shared.everybody.notified();
            let here = {
                let mut waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                *waiting += 1;
                *waiting
            };
            if here < count {
                everybody.await
            } else {
                shared.everybody.notify_waiters()
            }
            text(request.uri().query().unwrap_or_default().to_owned())
        }
        ["redirect"] => {
            let mut response = with(text(""), header::LOCATION, "/n/redirected");
            *response.status_mut() = StatusCode::FOUND;
            response
        }
        ["events"] => {
            let events = stream::unfold(0, |n| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok(Frame::data(Bytes::from(format!("data: tick {n}\n\n")))), n + 1))
            });
            with(Response::new(StreamBody::new(events).boxed_unsync()), header::CONTENT_TYPE, "text/event-stream")
        }
        ["ws"] => websocket(request),
        ["chat.Service", "Talk"] => talk(request),
        ["git", ..] => {
            let folder = shared.repositories.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("repositories");
            super::git::answer(request, folder).await?
        }
        _ => {
            let mut response = text("there is no such thing");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get("sec-websocket-key") else {
        let mut response = text("this is for websockets");
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

/// Each message is sent back when it comes. Then trailers, as gRPC has them.
fn talk(request: Request<Incoming>) -> Response<Body> {
    let frames = stream::unfold(Some(request.into_body()), |body| async move {
        let mut body = body?;
        match body.frame().await {
            Some(frame) => Some((frame, Some(body))),
            None => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().expect("a value"));
                trailers.insert("x-last", "word".parse().expect("a value"));
                Some((Ok(Frame::trailers(trailers)), None))
            }
        }
    });
    with(Response::new(StreamBody::new(frames).boxed_unsync()), header::CONTENT_TYPE, "application/grpc")
}

/// For those whose body comes from elsewhere.
pub fn broken(error: &io::Error) -> Response<Body> {
    let mut response = text(error.to_string());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
