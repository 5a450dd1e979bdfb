//! How connections end: the last answer arrives, and the peer is told that it was the last.

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use common::{HOST, KID, TestServer, authentication_of, credential};
use ekm_otp_tower::protocol::TlsPolicy;
use ekm_otp_tower::{EkmAcceptor, EkmListener, Http, MemoryStore, RegisteredKey, serve_connection};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

const SOON: Duration = Duration::from_secs(30);
const UPLOAD: usize = 8 * 1024 * 1024;

/// All that comes, and whether the end was told by close_notify.
async fn rest(stream: &mut TlsStream<TcpStream>) -> (String, bool) {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection goes on");
    (String::from_utf8_lossy(&answer).into_owned(), read.is_ok())
}

async fn upload(stream: &mut TlsStream<TcpStream>, host: &str, credential: Option<&str>, framing: &str) {
    let authorization = credential.map_or_else(String::new, |credential| format!("Authorization: {credential}\r\n"));
    let head = format!("POST /get HTTP/1.1\r\nHost: {host}\r\n{authorization}{framing}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the head");
}

#[tokio::test]
async fn an_answer_given_before_the_body_was_read_reaches_an_uploading_client() {
    let server = TestServer::start().await;
    for (host, is_right, status) in [(HOST, false, "401"), ("elsewhere.test", true, "421")] {
        let (mut stream, handshake) = server.tls(b"http/1.1").await;
        let credential = is_right.then(|| credential(&handshake, KID, KID));
        upload(&mut stream, host, credential.as_deref(), &format!("Content-Length: {UPLOAD}")).await;
        // Like most clients: first all of it, and only then the answer.
        let body = vec![7; 64 * 1024];
        for _ in 0..UPLOAD / body.len() {
            stream.write_all(&body).await.unwrap_or_else(|e| panic!("{status}: the upload is cut: {e}"));
        }
        let (answer, is_told) = rest(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer:?}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(is_told, "{status}: the end is not told");
    }
}

#[tokio::test]
async fn an_upload_without_end_is_cut_all_the_same() {
    let server = TestServer::start().await;
    let (mut stream, _) = server.tls(b"http/1.1").await;
    upload(&mut stream, HOST, None, "Transfer-Encoding: chunked").await;
    let mut sent = 0;
    let piece = [b"10000\r\n".as_slice(), &[7; 0x10000], b"\r\n"].concat();
    while sent < 20 * UPLOAD && stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
    }
    assert!(sent < 20 * UPLOAD, "nobody ends it");
}

#[tokio::test]
async fn a_bodyless_refusal_keeps_the_connection() {
    let server = TestServer::start().await;
    let (mut stream, handshake) = server.tls(b"http/1.1").await;
    for fields in [&[][..], &[("Content-Length", b"0".as_slice())]] {
        let (head, _) = common::exchange(&mut stream, fields).await;
        assert!(head.starts_with("HTTP/1.1 401 ") && !head.contains("connection: close"), "{head}");
    }
    let (head, _) = common::exchange(&mut stream, &[("Authorization", credential(&handshake, KID, KID).as_bytes())]).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    Ok(Response::new(Full::from("hello")))
}

/// hyper drops a connection on its time-outs. Its peer is told all the same: else it cannot tell the end from an attack.
#[tokio::test]
async fn every_end_is_told_by_close_notify() {
    let pki = TestServer::start().await;
    for (what, within, header_timeout) in
        [("no request in time", 300, 60_000), ("half a request", 60_000, 300), ("idle after an answer", 60_000, 300)]
    {
        let store = Arc::new(MemoryStore::new());
        let key = RegisteredKey::new(ekm_otp_tower::protocol::KeyId::new(KID).expect("a key id"), "Alice", common::secret_of(KID));
        store.add(key).expect("a key");
        let authentication = authentication_of(store).verified_within(Duration::from_millis(within));
        let policy = TlsPolicy::default();
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        let listener = EkmListener::new(tcp, EkmAcceptor::new(pki.pki.server_config(&policy), policy, authentication));
        let mut http = Http::new(TokioExecutor::new());
        http.http1().header_read_timeout(Duration::from_millis(header_timeout));
        let server = tokio::spawn(async move {
            let (handshaking, _) = listener.arrival().await;
            let _ = serve_connection(&http, handshaking, service_fn(hello)).await;
        });
        let (mut stream, handshake) = pki.tls_over(TcpStream::connect(address).await.expect("TCP"), b"http/1.1").await;
        match what {
            "half a request" => stream.write_all(b"GET / HT").await.expect("writing"),
            "idle after an answer" => {
                let (head, _) = common::exchange(&mut stream, &[("Authorization", credential(&handshake, KID, KID).as_bytes())]).await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            }
            _ => {}
        }
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection goes on");
        assert!(!matches!(&read, Err(e) if e.kind() == ErrorKind::UnexpectedEof), "{what}: not told");
        read.unwrap_or_else(|e| panic!("{what}: {e}"));
        server.await.expect("the server's task");
    }
}

#[tokio::test]
async fn after_the_eighth_failure_further_streams_of_h2_get_no_answer() {
    let server = TestServer::start().await;
    let (stream, _) = server.tls(b"h2").await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream)).await.expect("h2");
    let connection = tokio::spawn(connection);
    // All are sent before the first is answered.
    let requests: Vec<_> = (0..100)
        .map(|_| {
            let mut sender = sender.clone();
            sender.send_request(Request::get("https://localhost/").body(http_body_util::Empty::<Bytes>::new()).expect("a request"))
        })
        .collect();
    let answers = tokio::time::timeout(SOON, futures_util::future::join_all(requests)).await.expect("the connection goes on");
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 8);
    drop(sender);
    let _ = tokio::time::timeout(SOON, connection).await.expect("the connection goes on");
}
