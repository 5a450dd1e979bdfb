//! How connections end: a revoked key, age, a stalled handshake.

mod common;

use std::time::Duration;

use common::{HOST, KID, TestServer, request};
use ekm_otp_tower::protocol::{KeyId, TlsPolicy};
use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_revoked_key_ends_its_connections_and_no_others() {
    let server = TestServer::start().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut revoked = server.connect_as(HOST, alpn).await;
        let mut other = server.connect_as(HOST, alpn).await;
        let kid = if alpn == b"h2" { "client2" } else { KID };
        let other_kid = "kept";
        if alpn != b"h2" {
            let key = ekm_otp_tower::RegisteredKey::new(KeyId::new(other_kid).expect("a key id"), "kept", common::secret_of(other_kid));
            server.store.add(key).expect("a key");
        }
        let (credential, other_credential) = (revoked.credential(kid), other.credential(other_kid));
        assert_eq!(revoked.get(&credential).await.status, StatusCode::OK);
        assert_eq!(other.get(&other_credential).await.status, StatusCode::OK);

        assert!(server.store.revoke(&KeyId::new(kid).expect("a key id")));
        // The idle connection is cut without another request.
        let _ = tokio::time::timeout(SOON, &mut revoked.connection).await.expect("the connection goes on");
        assert!(revoked.send(request("/", Some(&credential))).await.is_err());
        assert_eq!(other.get(&other_credential).await.status, StatusCode::OK);
        let mut anew = server.connect_as(HOST, alpn).await;
        let credential = anew.credential(kid);
        assert_eq!(anew.get(&credential).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_revoked_key_ends_its_upgraded_streams() {
    let server = TestServer::start().await;
    let mut stream = upgraded(&server).await;
    stream.write_all(b"still open").await.expect("writing");
    assert!(server.store.revoke(&KeyId::new(KID).expect("a key id")));
    let end = tokio::time::timeout(SOON, stream.read(&mut [0; 1])).await.expect("the upgraded stream goes on");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn an_upgraded_stream_ends_after_its_age_and_grace() {
    let server = TestServer::with(TlsPolicy::default(), |a| a.max_age(Duration::from_millis(300)), |a| a).await;
    let mut stream = upgraded(&server).await;
    // The application reads in one task and has written in another, which does not come back.
    let mut echoed = [0; 5];
    stream.write_all(b"hello").await.expect("writing");
    stream.read_exact(&mut echoed).await.expect("the application's answer");
    let end = tokio::time::timeout(SOON, stream.read(&mut [0; 1])).await.expect("the upgraded stream goes on");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

/// A connection that was verified and upgraded.
async fn upgraded(server: &TestServer) -> tokio_rustls::client::TlsStream<TcpStream> {
    let (mut stream, handshake) = server.tls(b"http/1.1").await;
    let credential = common::credential(&handshake, KID, KID);
    let upgrade =
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: test\r\nAuthorization: {credential}\r\n\r\n");
    stream.write_all(upgrade.as_bytes()).await.expect("writing");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).expect("ASCII");
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("authentication-info: proof="), "{head}");
    stream
}

#[tokio::test]
async fn a_connection_ends_gracefully_at_its_age() {
    let server = TestServer::with(TlsPolicy::default(), |a| a.max_age(Duration::from_millis(300)), |a| a).await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential(KID);
        assert_eq!(client.get(&credential).await.status, StatusCode::OK);
        let ended = tokio::time::timeout(SOON, client.connection).await.expect("the connection goes on");
        ended.expect("a task").expect("a graceful end");
    }
}

#[tokio::test]
async fn a_connection_without_a_verified_request_ends_and_one_with_lives_on() {
    let server = TestServer::with(TlsPolicy::default(), |a| a.verified_within(Duration::from_millis(400)), |a| a).await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let silent = server.connect_as(HOST, alpn).await;
        let mut refused = server.connect_as(HOST, alpn).await;
        assert_eq!(refused.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
        let mut verified = server.connect_as(HOST, alpn).await;
        let credential = verified.credential(KID);
        assert_eq!(verified.get(&credential).await.status, StatusCode::OK);
        // Not even the first byte of a request comes.
        let (mut stalled, _) = server.tls(alpn).await;
        for connection in [silent.connection, refused.connection] {
            let _ = tokio::time::timeout(SOON, connection).await.expect("the connection goes on");
        }
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(SOON, stalled.read_to_end(&mut rest)).await.expect("the connection goes on");
        assert_eq!(verified.get(&credential).await.status, StatusCode::OK, "a verified client lost its connection");
    }
}

#[tokio::test]
async fn a_stalled_handshake_blocks_nobody_and_ends() {
    let server = TestServer::with(TlsPolicy::default(), |a| a, |a| a.handshake_within(Duration::from_millis(500))).await;
    let mut stalled = Vec::new();
    for _ in 0..10 {
        stalled.push(TcpStream::connect(server.addr).await.expect("a TCP connection"));
    }
    let mut client = server.connect().await;
    let credential = client.credential(KID);
    assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    for mut tcp in stalled {
        let mut byte = [0];
        let read = tokio::time::timeout(SOON, tcp.read(&mut byte)).await.expect("the handshake goes on");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn one_source_cannot_hold_all_handshakes() {
    let server = TestServer::with(TlsPolicy::default(), |a| a, |a| a.handshake_within(SOON)).await;
    let mut stalled = Vec::new();
    // More than all that run at a time, from one source.
    for _ in 0..2 * common::LIMITS.handshakes {
        stalled.push(TcpStream::connect(server.addr).await.expect("a TCP connection"));
    }
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("another source");
    let tcp = socket.connect(server.addr).await.expect("a TCP connection");
    // It is not kept out.
    server.tls_over(tcp, b"h2").await;
}
