//! What passes the proxy as it arrives: websockets, events, gRPC, large bodies; and how it ends when one side leaves.

mod proxied;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxied::upstream::{OK, Recorder, head, listen};
use proxied::{ALICE, Body, Server, line, soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Role;

fn empty() -> Body {
    Empty::new().map_err(|e| match e {}).boxed()
}

async fn echo<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() || socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Speaks it a little, a large message included, and closes it.
async fn speaks<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    for text in ["hello".to_owned(), "x".repeat(300_000), String::new()] {
        socket.send(text.clone().into()).await.expect("sending");
        let got = soon("a message", socket.next()).await.expect("a message").expect("a message");
        assert_eq!(got.into_text().expect("text").as_str(), text);
    }
    socket.close(None).await.expect("closing");
}

/// Echoes on HTTP/1.1.
async fn echo_by_upgrade() -> String {
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                    echo(socket).await;
                }
            });
        }
    });
    url
}

/// Serves HTTP/2 without TLS.
async fn http2_upstream<F, R>(answer: F) -> String
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send,
{
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer.clone();
                async move { Ok::<_, Infallible>(answer(request).await) }
            });
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http2.enable_connect_protocol().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

/// Echoes on HTTP/2.
async fn echo_by_connect() -> String {
    http2_upstream(|mut request: Request<Incoming>| async move {
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        assert_eq!(request.headers()["ekm-otp-client"], "alice");
        let stream = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let stream = stream.await.expect("a stream");
            echo(WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await).await;
        });
        Response::new(empty())
    })
    .await
}

async fn websocket_by_upgrade(server: &Server) {
    let connection = server.connect(ALICE, false).await;
    let mut request = format!("wss://{}/chat", connection.authority).into_client_request().expect("a request");
    request.headers_mut().insert("authorization", connection.otp.parse().expect("a value"));
    let (socket, answer) = soon("a websocket", tokio_tungstenite::client_async(request, connection.tls)).await.expect("a websocket");
    assert!(answer.headers().contains_key("authentication-info"), "the 101 carries the proof: {answer:?}");
    speaks(socket).await;
}

async fn websocket_by_connect(server: &Server) {
    let (mut sender, otp, authority) = server.connect(ALICE, true).await.http2().await;
    // The server's settings, which allow it, come before its first answer.
    let request =
        Request::get(format!("https://{authority}/.well-known/ekm-otp")).header("authorization", &otp).body(empty()).expect("a request");
    assert_eq!(soon("an answer", sender.send_request(request)).await.expect("an answer").status(), 204);
    let mut request = Request::builder().method(Method::CONNECT).uri(format!("https://{authority}/chat")).header("authorization", otp);
    request = request.header("sec-websocket-version", "13").extension(Protocol::from_static("websocket"));
    let mut answer = soon("an answer", sender.send_request(request.body(empty()).expect("a request"))).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("sec-websocket-accept") && !answer.headers().contains_key("upgrade"), "{answer:?}");
    let stream = soon("a stream", hyper::upgrade::on(&mut answer)).await.expect("a stream");
    speaks(WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await).await;
}

#[tokio::test]
async fn websockets_pass_from_each_http_to_each() {
    for (upstream, flags) in [(echo_by_upgrade().await, &[][..]), (echo_by_connect().await, &["--upstream-protocol", "h2"])] {
        let server = Server::start(&[&upstream], flags);
        websocket_by_upgrade(&server).await;
        websocket_by_connect(&server).await;
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_a_websocket_is_heard_and_one_that_misunderstands_it_is_not() {
    for (answer, by_upgrade, by_connect) in [
        (&b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n"[..], 403, 403),
        (OK, 200, 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n", 502, 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 502, 502),
    ] {
        let upstream = Recorder::start(answer).await;
        let server = Server::start(&[&upstream.url()], &[]);
        let head = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        assert_eq!(server.ask(ALICE, head, b"").await.status, by_upgrade);
        let (mut sender, otp, authority) = server.connect(ALICE, true).await.http2().await;
        let request = Request::get(format!("https://{authority}/.well-known/ekm-otp"))
            .header("authorization", &otp)
            .body(empty())
            .expect("a request");
        assert_eq!(sender.send_request(request).await.expect("an answer").status(), 204);
        let request = Request::builder().method(Method::CONNECT).uri(format!("https://{authority}/")).header("authorization", otp);
        let request = request.extension(Protocol::from_static("websocket")).body(empty()).expect("a request");
        assert_eq!(soon("an answer", sender.send_request(request)).await.expect("an answer").status().as_u16(), by_connect);
    }
}

#[tokio::test]
async fn a_silent_websocket_is_ended() {
    let upstream = echo_by_upgrade().await;
    let server = Server::start(&[&upstream], &["--idle-timeout", "1"]);
    let connection = server.connect(ALICE, false).await;
    let mut request = format!("wss://{}/chat", connection.authority).into_client_request().expect("a request");
    request.headers_mut().insert("authorization", connection.otp.parse().expect("a value"));
    let (mut socket, _) = tokio_tungstenite::client_async(request, connection.tls).await.expect("a websocket");
    let end = soon("the end", socket.next()).await;
    assert!(end.is_none_or(|end| end.is_err()));
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (listener, url) = listen().await;
    let server = Server::start(&[&url], &[]);
    let mut client = server.connect(ALICE, false).await;
    let otp = client.otp.clone();
    client.send(&format!("GET /events HTTP/1.1\r\nAccept: text/event-stream\r\nAuthorization: {otp}\r\n"), b"").await;
    let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    head(&mut upstream).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await.expect("writing");
    assert!(soon("a head", head(&mut client.tls)).await.to_ascii_lowercase().contains("content-type: text/event-stream"));
    for event in 0..3 {
        upstream.write_all(format!("d\r\ndata: {event:05}\n\n\r\n").as_bytes()).await.expect("writing");
        // Each is there before the next is sent.
        let got = soon("an event", async { [line(&mut client.tls).await, line(&mut client.tls).await].concat() }).await;
        assert!(got.ends_with(&format!("data: {event:05}\n")), "{got:?}");
        soon("its end", async { line(&mut client.tls).await + &line(&mut client.tls).await }).await;
    }
}

/// As gRPC does it: messages both ways, interleaved, and trailers at both ends, on HTTP/2 all the way.
#[tokio::test]
async fn streams_with_trailers_pass_both_ways_on_http_2() {
    let upstream = http2_upstream(|request: Request<Incoming>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.uri().path(), "/package.Service/Method");
        let (mut sender, receiver) = channel();
        tokio::spawn(async move {
            let mut body = request.into_body();
            let mut trailers = HeaderMap::new();
            while let Some(frame) = body.frame().await {
                match frame.expect("a frame").into_data() {
                    Ok(data) => sender.send(Frame::data(data)).await.expect("sending"),
                    Err(frame) => trailers = frame.into_trailers().expect("trailers"),
                }
            }
            assert_eq!(trailers.len(), 1, "{trailers:?}");
            trailers.insert("grpc-status", "0".parse().expect("a value"));
            trailers.insert("authentication-info", "proof=\"forged\"".parse().expect("a value"));
            sender.send(Frame::trailers(trailers)).await.expect("sending");
        });
        Response::builder().header("content-type", "application/grpc").body(receiver).expect("a response")
    })
    .await;
    let server = Server::start(&[&upstream], &["--upstream-protocol", "h2"]);
    let (mut client, otp, authority) = server.connect(ALICE, true).await.http2().await;
    let (mut sender, body) = channel();
    let request =
        Request::post(format!("https://{authority}/package.Service/Method")).header("authorization", otp).header("te", "trailers");
    let request = request.header("content-type", "application/grpc").body(body).expect("a request");
    let answer = soon("an answer", client.send_request(request)).await.expect("an answer");
    assert!(answer.headers().contains_key("authentication-info"), "{answer:?}");
    let mut body = answer.into_body();
    for message in 0..5 {
        let message = Bytes::from(format!("message {message}"));
        sender.send(Frame::data(message.clone())).await.expect("sending");
        let got = soon("a message", body.frame()).await.expect("a frame").expect("a frame").into_data().expect("data");
        assert_eq!(got, message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse().expect("a value"));
    trailers.insert("ekm-otp-client", "forged".parse().expect("a value"));
    sender.send(Frame::trailers(trailers)).await.expect("sending");
    drop(sender);
    let trailers = soon("trailers", body.frame()).await.expect("a frame").expect("a frame").into_trailers().expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-checksum"], trailers.len()),
        (&"0".parse().expect("a value"), &"1".parse().expect("a value"), 2)
    );
}

type Frames = tokio::sync::mpsc::Sender<Frame<Bytes>>;

/// A body that is sent piece by piece.
fn channel() -> (FrameSender, Body) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(Ok::<_, Box<dyn std::error::Error + Send + Sync>>);
    (FrameSender(sender), SyncBody(std::sync::Mutex::new(StreamBody::new(frames))).boxed())
}

struct FrameSender(Frames);

impl FrameSender {
    async fn send(&mut self, frame: Frame<Bytes>) -> Result<(), tokio::sync::mpsc::error::SendError<Frame<Bytes>>> {
        self.0.send(frame).await
    }
}

struct SyncBody<B>(std::sync::Mutex<B>);

impl<B: hyper::body::Body + Unpin> hyper::body::Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(self.0.get_mut().expect("a body")).poll_frame(cx)
    }
}

const LARGE: usize = 100 * 1024 * 1024;
/// What the server's memory may grow by meanwhile, in KiB.
const GROWTH: u64 = 24 * 1024;

#[tokio::test]
async fn a_hundred_mebibytes_pass_both_ways_in_bounded_memory() {
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                head(&mut stream).await;
                stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes()).await.expect("writing");
                let mut buffer = vec![0; 64 * 1024];
                let mut left = LARGE;
                while left > 0 {
                    let count = stream.read(&mut buffer).await.expect("reading");
                    assert!(count > 0, "{left} bytes are missing");
                    stream.write_all(&buffer[..count]).await.expect("writing");
                    left -= count;
                }
            });
        }
    });
    let server = Server::start(&[&url], &[]);
    for is_http2 in [false, true] {
        let before = server.memory();
        let connection = server.connect(ALICE, is_http2).await;
        let chunk = Bytes::from(vec![0x5a; 64 * 1024]);
        let frames = futures_util::stream::iter((0..LARGE / chunk.len()).map(move |_| Ok(Frame::data(chunk.clone()))));
        let body = SyncBody(std::sync::Mutex::new(StreamBody::new(frames))).boxed();
        let request = |otp: String, authority: &str| {
            let request =
                Request::post(if is_http2 { format!("https://{authority}/") } else { "/".to_owned() }).header("authorization", otp);
            request.header("host", authority).header("content-length", LARGE).body(body).expect("a request")
        };
        let answer = if is_http2 {
            let (mut sender, otp, authority) = connection.http2().await;
            soon("an answer", sender.send_request(request(otp, &authority))).await.expect("an answer")
        } else {
            let (mut sender, otp, authority) = connection.http1().await;
            soon("an answer", sender.send_request(request(otp, &authority))).await.expect("an answer")
        };
        let mut body = answer.into_body();
        let mut got = 0;
        while let Some(frame) = soon("a frame", body.frame()).await {
            got += frame.expect("a frame").into_data().map_or(0, |data| data.len());
        }
        assert_eq!(got, LARGE);
        let after = server.memory();
        assert!(after < before + GROWTH, "HTTP/2 {is_http2}: {before} KiB before, {after} after");
    }
}

/// Writes until nobody takes more for a while.
async fn writes_until_full(stream: &mut (impl tokio::io::AsyncWrite + Unpin)) -> usize {
    let chunk = vec![0; 64 * 1024];
    let mut written = 0;
    while let Ok(count) = tokio::time::timeout(Duration::from_millis(500), stream.write(&chunk)).await {
        written += count.expect("writing");
        assert!(written < 64 * 1024 * 1024, "nobody stops the writer");
    }
    written
}

#[tokio::test]
async fn who_does_not_read_stops_who_writes() {
    let (listener, url) = listen().await;
    let server = Server::start(&[&url], &[]);
    let before = server.memory();
    // The client does not read.
    let mut client = server.connect(ALICE, false).await;
    let otp = client.otp.clone();
    client.send(&format!("GET / HTTP/1.1\r\nAuthorization: {otp}\r\n"), b"").await;
    let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    head(&mut upstream).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.expect("writing");
    writes_until_full(&mut upstream).await;
    // The upstream does not read.
    let mut client = server.connect(ALICE, false).await;
    client.send(&format!("POST / HTTP/1.1\r\nContent-Length: 1000000000\r\nAuthorization: {}\r\n", client.otp.clone()), b"").await;
    let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    head(&mut upstream).await;
    writes_until_full(&mut client.tls).await;
    let after = server.memory();
    assert!(after < before + GROWTH, "{before} KiB before, {after} after");
}

async fn is_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = soon("the upstream's connection to be closed", stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request_upstream() {
    let (listener, url) = listen().await;
    let server = Server::start(&[&url], &[]);
    for begun in [false, true] {
        for is_http2 in [false, true] {
            let connection = server.connect(ALICE, is_http2).await;
            let (otp, authority) = (connection.otp.clone(), connection.authority.clone());
            let asking = if is_http2 {
                let (mut sender, ..) = connection.http2().await;
                let request = Request::get(format!("https://{authority}/")).header("authorization", otp).body(empty()).expect("a request");
                tokio::spawn(async move {
                    let answer = sender.send_request(request).await.expect("an answer");
                    let _ = answer.into_body().frame().await;
                    std::future::pending::<()>().await;
                })
            } else {
                let mut connection = connection;
                tokio::spawn(async move {
                    connection.send(&format!("GET / HTTP/1.1\r\nAuthorization: {otp}\r\n"), b"").await;
                    std::future::pending::<()>().await;
                })
            };
            let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
            head(&mut upstream).await;
            if begun {
                upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n...").await.expect("writing");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            asking.abort();
            is_closed(&mut upstream).await;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_leaves_breaks_the_answer_off() {
    for answer in
        [&b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"[..], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
    {
        let (listener, url) = listen().await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                head(&mut stream).await;
                stream.write_all(answer).await.expect("writing");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let server = Server::start(&[&url], &[]);
        let mut client = server.connect(ALICE, false).await;
        let otp = client.otp.clone();
        client.send(&format!("GET / HTTP/1.1\r\nAuthorization: {otp}\r\n"), b"").await;
        let text = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(text.contains("half") && !text.contains("\r\n0\r\n") && text.contains("HTTP/1.1 200"), "{text}");
        let (mut sender, otp, authority) = server.connect(ALICE, true).await.http2().await;
        let request = Request::get(format!("https://{authority}/")).header("authorization", otp).body(empty()).expect("a request");
        let answer = soon("an answer", sender.send_request(request)).await.expect("an answer");
        assert!(soon("the end", answer.into_body().collect()).await.is_err(), "ended as if it was whole");
    }
}

#[tokio::test]
async fn a_client_is_asked_for_its_body_when_the_upstream_wants_it() {
    let (listener, url) = listen().await;
    let server = Server::start(&[&url], &[]);
    let mut client = server.connect(ALICE, false).await;
    let ask = format!("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nAuthorization: {}\r\n", client.otp.clone());
    client.send(&ask, b"").await;
    let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    assert!(head(&mut upstream).await.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n"));
    upstream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.expect("writing");
    assert_eq!(client.answer().await.status, 100);
    client.tls.write_all(b"hi").await.expect("writing");
    let mut body = [0; 2];
    soon("the body", upstream.read_exact(&mut body)).await.expect("the body");
    assert_eq!(&body, b"hi");
    upstream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await.expect("writing");
    assert_eq!(client.answer().await.status, 200);

    // And one that does not want it.
    let mut client = server.connect(ALICE, false).await;
    let ask = format!("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nAuthorization: {}\r\n", client.otp.clone());
    client.send(&ask, b"").await;
    let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    head(&mut upstream).await;
    upstream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await.expect("writing");
    assert_eq!(client.answer().await.status, 413, "and no 100 before");
    let mut rest = Vec::new();
    let _ = soon("the end", upstream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "no body was sent: {rest:?}");
}

#[tokio::test]
async fn an_answer_before_the_body_is_whole_arrives() {
    let (listener, url) = listen().await;
    let server = Server::start(&[&url], &[]);
    let mut client = server.connect(ALICE, false).await;
    client.send(&format!("POST / HTTP/1.1\r\nContent-Length: 1000000\r\nAuthorization: {}\r\n", client.otp.clone()), &[0; 1000]).await;
    let (mut upstream, _) = soon("a connection", listener.accept()).await.expect("a connection");
    head(&mut upstream).await;
    upstream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nbig\n").await.expect("writing");
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (413, "big\n"));
    is_closed(&mut upstream).await;
}

#[tokio::test]
async fn many_requests_share_one_connection_to_an_http_2_upstream() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let upstream = http2_upstream(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            assert_eq!(request.uri().authority().map(ToString::to_string).expect("an authority").split(':').next(), Some("proxy.test"));
            assert!(!request.headers().contains_key("host"));
            seen.fetch_add(1, Ordering::SeqCst);
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            Response::builder().status(StatusCode::CREATED).body(Full::new(body).map_err(|e| match e {}).boxed()).expect("a response")
        }
    })
    .await;
    let server = Server::start(&[&upstream], &["--upstream-protocol", "h2"]);
    let (sender, otp, authority) = server.connect(ALICE, true).await.http2().await;
    let requests = (0..50).map(|n| {
        let (mut sender, otp, authority) = (sender.clone(), otp.clone(), authority.clone());
        async move {
            let body = Full::new(Bytes::from(format!("{n}"))).map_err(|e| match e {}).boxed();
            let request = Request::post(format!("https://{authority}/{n}")).header("authorization", otp).body(body).expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 201);
            assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), format!("{n}"));
        }
    });
    soon("the answers", futures_util::future::join_all(requests)).await;
    until("all", || count.load(Ordering::SeqCst) == 50).await;
}

/// Two streams at a time on each connection, and none ends before all have begun.
#[tokio::test]
async fn a_full_connection_to_an_http_2_upstream_stalls_nobody() {
    let (listener, url) = listen().await;
    let begun = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&begun);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            let service = service_fn(move |_: Request<Incoming>| {
                let seen = Arc::clone(&seen);
                async move {
                    seen.fetch_add(1, Ordering::SeqCst);
                    until("all have begun", || seen.load(Ordering::SeqCst) >= 12).await;
                    Ok::<_, Infallible>(Response::new(empty()))
                }
            });
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http2.max_concurrent_streams(2).serve_connection(TokioIo::new(stream), service));
        }
    });
    let server = Server::start(&[&url], &["--upstream-protocol", "h2"]);
    let (sender, otp, authority) = server.connect(ALICE, true).await.http2().await;
    let requests = (0..12).map(|n| {
        let (mut sender, otp, authority) = (sender.clone(), otp.clone(), authority.clone());
        async move {
            // The first connection's settings are known before the second request.
            tokio::time::sleep(Duration::from_millis(30 * n)).await;
            let request = Request::get(format!("https://{authority}/")).header("authorization", otp).body(empty()).expect("a request");
            assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
        }
    });
    soon("the answers", futures_util::future::join_all(requests)).await;
}
