//! Connections that are held open in each way that HTTP has, and go on until somebody ends them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, StatusCode, header};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::client::{Connection, Dialler, Http, Key, empty};
use super::until_so;

/// How often what goes on gives a sign of life.
const PULSE: Duration = Duration::from_millis(50);

/// One of them.
pub struct Held {
    /// For messages.
    pub what: String,
    /// Idle, or with a response that does not end.
    connection: Option<Connection>,
    /// What goes on on it; ends with it.
    task: Option<JoinHandle<()>>,
    signs: Arc<AtomicUsize>,
}

impl Held {
    /// One of each kind, of this key: idle HTTP/1 and HTTP/2, server-sent events over both, a websocket, and a stream in both directions as gRPC has
    /// it, for the site `grpc`.
    pub async fn all(dialler: &Dialler, grpc: &str, key: &Key) -> Vec<Self> {
        vec![
            Self::idle(dialler, key, Http::One).await,
            Self::idle(dialler, key, Http::Two).await,
            Self::events(dialler, key, Http::One).await,
            Self::events(dialler, key, Http::Two).await,
            Self::websocket(dialler, key).await,
            Self::grpc(&dialler.at(grpc), key).await,
        ]
    }

    fn new(what: &str, dialler: &Dialler, key: &Key) -> Self {
        let what = format!("{what} of {} at {}", key.kid, dialler.address);
        Self { what, connection: None, task: None, signs: Arc::default() }
    }

    async fn idle(dialler: &Dialler, key: &Key, http: Http) -> Self {
        let mut connection = dialler.open(http, key).await.expect("a connection");
        assert_eq!(connection.get("/n/idle").await.expect("an answer").0, StatusCode::OK);
        Self { connection: Some(connection), ..Self::new(&format!("idle HTTP {http:?}"), dialler, key) }
    }

    async fn events(dialler: &Dialler, key: &Key, http: Http) -> Self {
        let held = Self::new(&format!("events over HTTP {http:?}"), dialler, key);
        let mut connection = dialler.open(http, key).await.expect("a connection");
        let request = connection.request("GET", "/events").body(empty()).expect("a request");
        let response = connection.send(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let task = tokio::spawn(reads(response.into_body(), Arc::clone(&held.signs)));
        Self { connection: Some(connection), task: Some(task), ..held }
    }

    async fn websocket(dialler: &Dialler, key: &Key) -> Self {
        let held = Self::new("a websocket", dialler, key);
        let (stream, handshake) = dialler.tls(Http::One).await.expect("a connection");
        let request = Request::get(format!("wss://{}/ws", dialler.host))
            .header(header::HOST, &dialler.host)
            .header(header::AUTHORIZATION, key.credential(&handshake))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .body(())
            .expect("a request");
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("a websocket");
        let signs = Arc::clone(&held.signs);
        let task = tokio::spawn(async move {
            while socket.send(Message::text("echo")).await.is_ok() {
                match socket.next().await {
                    Some(Ok(message)) if message.is_text() => signs.fetch_add(1, Ordering::Relaxed),
                    _ => break,
                };
                tokio::time::sleep(PULSE).await;
            }
        });
        Self { task: Some(task), ..held }
    }

    async fn grpc(dialler: &Dialler, key: &Key) -> Self {
        let held = Self::new("a stream of gRPC", dialler, key);
        let mut connection = dialler.open(Http::Two, key).await.expect("a connection");
        let messages = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(PULSE).await;
            // Not compressed, of five bytes.
            Some((io::Result::Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x05hello"))), ()))
        });
        let request = connection.request("POST", "/echo").header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers");
        let request = request.body(StreamBody::new(messages).boxed_unsync()).expect("a request");
        let response = connection.send(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let task = tokio::spawn(reads(response.into_body(), Arc::clone(&held.signs)));
        Self { connection: Some(connection), task: Some(task), ..held }
    }

    /// Whether its connection and all on it have ended.
    pub fn is_over(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| !connection.is_open()) && self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// It must still do what it was made for.
    pub async fn goes_on(&mut self) {
        if let Some(task) = &self.task {
            let before = self.signs.load(Ordering::Relaxed);
            until_so(&format!("{} goes on", self.what), || {
                assert!(!task.is_finished(), "{} was ended", self.what);
                self.signs.load(Ordering::Relaxed) > before + 1
            })
            .await;
        } else if let Some(connection) = &mut self.connection {
            let answer = connection.get("/n/again").await.unwrap_or_else(|e| panic!("{} was ended: {e:?}", self.what));
            assert_eq!(answer.0, StatusCode::OK, "{}", self.what);
        }
    }
}

async fn reads(mut body: Incoming, signs: Arc<AtomicUsize>) {
    while let Some(Ok(_)) = body.frame().await {
        signs.fetch_add(1, Ordering::Relaxed);
    }
}
