//! What a refusal tells (nothing), what faulty input does (nothing), and what repeated failures do (end the connection).

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{HOST, KID, TestServer, Unserved, request};
use ekm_otp_tower::protocol::{KeyId, TlsPolicy};
use ekm_otp_tower::{EkmOtpLayer, VerifiedClient};
use http_body_util::Empty;
use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Sends one request with these `Authorization` fields and reads the answer's head, without its date.
async fn exchange(server: &TestServer, fields: &[Vec<u8>]) -> String {
    let (mut stream, _) = server.tls(b"http/1.1").await;
    exchange_on(&mut stream, fields).await
}

async fn exchange_on(stream: &mut TlsStream<TcpStream>, fields: &[Vec<u8>]) -> String {
    let fields: Vec<_> = fields.iter().map(|field| ("Authorization", field.as_slice())).collect();
    common::exchange(stream, &fields).await.0
}

#[tokio::test]
async fn missing_malformed_unknown_and_wrong_are_answered_with_the_same_bytes() {
    let server = TestServer::start().await;
    let with_keys_of = |kid: &'static str, secret_of: &'static str| {
        let server = &server;
        async move {
            let (mut stream, handshake) = server.tls(b"http/1.1").await;
            exchange_on(&mut stream, &[common::credential(&handshake, kid, secret_of).into_bytes()]).await
        }
    };
    let missing = exchange(&server, &[]).await;
    assert!(missing.starts_with("HTTP/1.1 401 Unauthorized\n"), "{missing}");
    assert!(missing.contains("www-authenticate: EKM-OTP realm=\"test\"\n"), "{missing}");
    assert_eq!(exchange(&server, &[b"EKM-OTP kid=".to_vec()]).await, missing, "malformed");
    assert_eq!(exchange(&server, &[b"Bearer abc".to_vec()]).await, missing, "another scheme");
    assert_eq!(with_keys_of("nobody", "nobody").await, missing, "unknown key id");
    assert_eq!(with_keys_of(common::UNKNOWN, common::DUMMY).await, missing, "what stands in for unknown key ids");
    assert_eq!(with_keys_of(KID, "client2").await, missing, "wrong one-time password");
    // The right one is not refused: the comparison means something.
    assert!(with_keys_of(KID, KID).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn the_wrong_channel_is_told_before_the_key_id_is_looked_at() {
    let server = TestServer::start().await;
    let otp = "A".repeat(43);
    let field = |kid: &str| format!(r#"EKM-OTP kid="{kid}", channel="{}", otp="{otp}""#, "A".repeat(22)).into_bytes();
    let known = exchange(&server, &[field(KID)]).await;
    assert!(known.contains(r#"www-authenticate: EKM-OTP realm="test", error="channel""#), "{known}");
    assert_eq!(exchange(&server, &[field("nobody")]).await, known);
}

#[tokio::test]
async fn each_request_needs_its_own_credential_also_after_a_verified_one() {
    let server = TestServer::start().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential(KID);
        assert_eq!(client.get(&credential).await.status, StatusCode::OK);
        assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
        let mut doubled = request("/", Some(&credential));
        doubled.headers_mut().append(hyper::header::AUTHORIZATION, credential.parse().expect("a value"));
        assert_eq!(client.send(doubled).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
        let truncated = &credential[..credential.len() - 1];
        assert_eq!(client.get(truncated).await.status, StatusCode::UNAUTHORIZED);
        let other = credential.replace("otp=\"", "otp=\"x").replace("x\"", "\"");
        assert_eq!(client.get(&other).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_revoked_or_pinned_away_key_is_answered_with_the_same_bytes() {
    let server = TestServer::start().await;
    let missing = exchange(&server, &[]).await;
    let (mut stream, handshake) = server.tls(b"http/1.1").await;
    let field = |kid: &str| common::credential(&handshake, kid, kid).into_bytes();
    assert!(exchange_on(&mut stream, &[field(KID)]).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(exchange_on(&mut stream, &[field("client2")]).await, missing, "pinned to another key");

    assert!(server.store.revoke(&KeyId::new("client2").expect("a key id")));
    let (mut stream, handshake) = server.tls(b"http/1.1").await;
    let revoked = common::credential(&handshake, "client2", "client2").into_bytes();
    assert_eq!(exchange_on(&mut stream, &[revoked]).await, missing, "revoked");
}

#[tokio::test]
async fn a_credential_in_the_trailer_section_is_none() {
    let server = TestServer::start().await;
    let (mut stream, handshake) = server.tls(b"http/1.1").await;
    let field = common::credential(&handshake, KID, KID);
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n";
    stream.write_all(format!("{head}0\r\nAuthorization: {field}\r\n\r\n").as_bytes()).await.expect("writing");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn connect_is_not_served() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let credential = client.credential(KID);
    let mut connect = request("/", Some(&credential));
    *connect.method_mut() = hyper::Method::CONNECT;
    *connect.uri_mut() = "localhost:443".parse().expect("an authority");
    assert_eq!(client.send(connect).await.expect("an answer").status, StatusCode::NOT_IMPLEMENTED);
    // Without a credential it is refused like anything else.
    let mut client = server.connect().await;
    let mut connect = request("/", None);
    *connect.method_mut() = hyper::Method::CONNECT;
    *connect.uri_mut() = "localhost:443".parse().expect("an authority");
    assert_eq!(client.send(connect).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_authority_as_the_target_is_a_bad_request() {
    let server = TestServer::start().await;
    let (mut stream, handshake) = server.tls(b"http/1.1").await;
    let credential = common::credential(&handshake, KID, KID);
    let fields = [("Authorization", credential.as_bytes())];
    for line in ["GET localhost HTTP/1.1", "POST localhost:443 HTTP/1.1", "OPTIONS localhost:8443 HTTP/1.1"] {
        let (head, _) = common::ask(&mut stream, line, &fields).await;
        assert!(head.starts_with("HTTP/1.1 400 ") && !head.contains("authentication-info"), "{line}: {head}");
    }
    // Without a credential it is refused like anything else.
    assert!(common::ask(&mut stream, "GET localhost HTTP/1.1", &[]).await.0.starts_with("HTTP/1.1 401 "));
    for line in ["GET / HTTP/1.1", "GET https://localhost HTTP/1.1", "OPTIONS * HTTP/1.1"] {
        assert!(common::ask(&mut stream, line, &fields).await.0.starts_with("HTTP/1.1 200 "), "{line}");
    }
}

#[tokio::test]
async fn extended_connect_is_for_websockets_and_tunnels_only_and_authenticated_like_any_request() {
    let server = TestServer::start().await;
    let mut client = server.connect_as(HOST, b"h2").await;
    let credential = client.credential(KID);
    assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    let (otp, tunnel) = (Some(credential.as_str()), "/.well-known/ekm-otp/tcp/db.internal/5432");
    for (protocol, path, credential, status) in [
        ("websocket", "/chat", otp, StatusCode::OK),
        ("connect-udp", "/chat", otp, StatusCode::NOT_IMPLEMENTED),
        ("connect-udp", tunnel, otp, StatusCode::NOT_IMPLEMENTED),
        ("ekm-otp-tcp", tunnel, otp, StatusCode::OK),
        ("ekm-otp-tcp", "/chat", otp, StatusCode::NOT_IMPLEMENTED),
        ("ekm-otp-tcp", "/.well-known/ekm-otp/tcpx", otp, StatusCode::NOT_IMPLEMENTED),
        ("ekm-otp-tcp", "/.well-known/ekm-otp", otp, StatusCode::NOT_IMPLEMENTED),
        ("websocket", "/chat", None, StatusCode::UNAUTHORIZED),
        ("ekm-otp-tcp", tunnel, None, StatusCode::UNAUTHORIZED),
    ] {
        let mut connect = request(path, credential);
        *connect.method_mut() = hyper::Method::CONNECT;
        connect.extensions_mut().insert(hyper::ext::Protocol::from_static(protocol));
        assert_eq!(client.status_of(connect).await, status, "{protocol} {path}");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_is_503_for_every_key() {
    let authentication = common::authentication_of(Arc::new(common::Down));
    let server = TestServer::serving(TlsPolicy::default(), Arc::default(), authentication, |a| a, common::LIMITS).await;
    let mut client = server.connect().await;
    for kid in [KID, "nobody"] {
        let credential = client.credential(kid);
        let answer = client.get(&credential).await;
        assert_eq!((answer.status, answer.has_proof()), (StatusCode::SERVICE_UNAVAILABLE, false));
        assert!(answer.headers.contains_key("retry-after"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_keys_that_race_for_a_connection_do_not_share_it() {
    let server = TestServer::start().await;
    for _ in 0..50 {
        let (stream, handshake) = server.tls(b"h2").await;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream))
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        let requests = [KID, "client2"].map(|kid| {
            let field = common::credential(&handshake, kid, kid);
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let request = hyper::Request::get("https://localhost/").header("authorization", field.as_str());
                let answer = sender.send_request(request.body(Empty::<Bytes>::new()).expect("a request")).await.expect("an answer");
                answer.status()
            })
        });
        let mut statuses = Vec::new();
        for request in requests {
            statuses.push(request.await.expect("a task"));
        }
        statuses.sort();
        assert_eq!(statuses, [StatusCode::OK, StatusCode::UNAUTHORIZED]);
    }
}

#[tokio::test]
async fn no_faulty_field_makes_the_server_panic_or_pass() {
    let corpus: serde_json::Value =
        serde_json::from_str(include_str!("../../testdata/fields/authorization-refused.json")).expect("a corpus");
    let server = TestServer::start().await;
    let cases = corpus["cases"].as_array().expect("cases");
    assert!(cases.len() >= 30);
    for case in cases {
        let fields: Vec<Vec<u8>> = case["fields"]
            .as_array()
            .expect("fields")
            .iter()
            .map(|f| f.as_str().expect("a text").chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect())
            .collect();
        let answer = exchange(&server, &fields).await;
        // hyper itself answers 400 to bytes that no field may hold. A task that panics answers nothing.
        assert!(answer.starts_with("HTTP/1.1 401 ") || answer.starts_with("HTTP/1.1 400 "), "{}: {answer:?}", case["name"]);
    }
}

#[tokio::test]
async fn the_eighth_failure_closes_the_connection_after_its_answer() {
    let server = TestServer::start().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        for failure in 1..=8 {
            let answer = client.send(request("/", None)).await.unwrap_or_else(|e| panic!("no answer to failure {failure}: {e:?}"));
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            let says_close = answer.headers.get("connection").is_some_and(|value| value == "close");
            assert_eq!(says_close, failure == 8 && alpn != b"h2", "failure {failure}");
        }
        // The server ends the connection; whatever is sent on it until then is refused.
        let credential = client.credential(KID);
        if let Ok(answer) = client.send(request("/", Some(&credential))).await {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        }
        let ended = tokio::time::timeout(Duration::from_secs(30), client.connection).await.expect("the connection goes on");
        ended.expect("the client's task").expect("the connection was not closed gracefully");
        // Others are not harmed.
        let mut other = server.connect_as(HOST, alpn).await;
        let credential = other.credential(KID);
        assert_eq!(other.get(&credential).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn after_the_eighth_failure_nothing_passes_while_the_connection_is_still_there() {
    let store = TestServer::start().await.store.clone();
    let unserved = Unserved::accept(common::authentication_of(store)).await;
    let good = || request("/", Some(&common::credential(&unserved.handshake, KID, KID)));
    for _ in 1..8 {
        assert_eq!(unserved.answer(request("/", None)).status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(unserved.answer(good()).status(), StatusCode::OK, "after the seventh");
    assert_eq!(unserved.answer(request("/", None)).status(), StatusCode::UNAUTHORIZED);
    assert!(!unserved.server.authenticator().is_closed(), "it is not gone: the test means something");
    assert_eq!(unserved.answer(good()).status(), StatusCode::UNAUTHORIZED, "after the eighth");
}

#[tokio::test]
async fn seven_failures_do_not_close_the_connection() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    for _ in 1..=7 {
        assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    }
    let credential = client.credential(KID);
    assert_eq!(client.get(&credential).await.status, StatusCode::OK);
}

#[tokio::test]
async fn concurrent_failures_on_h2_are_all_answered() {
    let server = TestServer::start().await;
    let (stream, _) = server.tls(b"h2").await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let answers = (0..8).map(|_| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let request = hyper::Request::get("https://localhost/").body(Empty::<Bytes>::new()).expect("a request");
            sender.send_request(request).await.map(|answer| answer.status())
        })
    });
    for answer in answers.collect::<Vec<_>>() {
        assert_eq!(answer.await.expect("a task").expect("an answer"), StatusCode::UNAUTHORIZED);
    }
    drop(sender);
    tokio::time::timeout(Duration::from_secs(30), connection)
        .await
        .expect("the connection goes on")
        .expect("a task")
        .expect("a graceful end");
}

#[tokio::test]
async fn a_request_that_belongs_to_no_connection_is_the_servers_fault() {
    use tower_layer::Layer as _;
    use tower_service::Service as _;

    #[derive(Clone)]
    struct Never;
    impl tower_service::Service<hyper::Request<()>> for Never {
        type Response = hyper::Response<String>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: hyper::Request<()>) -> Self::Future {
            assert!(request.extensions().get::<VerifiedClient>().is_some(), "an unverified request passed");
            std::future::ready(Ok(hyper::Response::new(String::new())))
        }
    }
    let answer = EkmOtpLayer::new().layer(Never).call(hyper::Request::new(())).await.expect("infallible");
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
