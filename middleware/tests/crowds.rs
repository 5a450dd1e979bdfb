//! How many connections there may be: no key and no source keeps out the others, and what many needed is given back.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Client, HOST, KID, LIMITS, TestServer};
use ekm_otp_tower::Limits;
use ekm_otp_tower::protocol::TlsPolicy;
use hyper::StatusCode;
use tokio::net::{TcpSocket, TcpStream};

const SOON: Duration = Duration::from_secs(30);
const OTHER: &str = "client2";

async fn verified(server: &TestServer, kid: &str) -> (Client, StatusCode) {
    let mut client = server.connect().await;
    let credential = client.credential(kid);
    let status = client.get(&credential).await.status;
    (client, status)
}

async fn from(source: &str, server: &TestServer) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(source.parse().expect("an address"), 0)).expect("a source");
    socket.connect(server.addr).await.expect("a TCP connection")
}

/// The status of a request with the password of `kid`, on a connection from `source`.
async fn status_from(source: &str, server: &TestServer, kid: &str) -> String {
    let (mut stream, handshake) = server.tls_over(from(source, server).await, b"http/1.1").await;
    let (head, _) = common::exchange(&mut stream, &[("Authorization", common::credential(&handshake, kid, kid).as_bytes())]).await;
    head.lines().next().unwrap_or_default().to_owned()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn one_key_cannot_take_all_connections_and_is_told_so() {
    let server = TestServer::with(TlsPolicy::default(), |a| a.max_connections_per_key(5), |a| a).await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut held = Vec::new();
        for _ in 0..5 {
            let (client, status) = verified(&server, KID).await;
            assert_eq!(status, StatusCode::OK);
            held.push(client);
        }
        let mut sixth = server.connect_as(HOST, alpn).await;
        let credential = sixth.credential(KID);
        assert_eq!(sixth.get(&credential).await.status, StatusCode::TOO_MANY_REQUESTS);
        // It is not let in by asking again: the connection ends.
        let _ = tokio::time::timeout(SOON, &mut sixth.connection).await.expect("the connection goes on");
        // Another key is not kept out.
        assert_eq!(verified(&server, OTHER).await.1, StatusCode::OK);

        let (last, others) = held.split_last_mut().expect("five");
        let credentials: Vec<String> = others.iter().map(|client| client.credential(KID)).collect();
        for (client, credential) in others.iter_mut().zip(credentials) {
            assert_eq!(client.get(&credential).await.status, StatusCode::OK, "one of the five was ended");
        }
        // One that leaves makes room for one.
        last.connection.abort();
        let open = server.connections.len();
        until("the connection has left", || server.connections.len() < open).await;
        let (seventh, status) = verified(&server, KID).await;
        assert_eq!(status, StatusCode::OK);
        drop((held, seventh));
        until("all have left", || server.connections.is_empty()).await;
    }
}

#[tokio::test]
async fn one_source_cannot_take_all_connections_whatever_keys_it_has() {
    let limits = Limits { per_source: 3, ..LIMITS };
    let server = TestServer::within(limits).await;
    let mut held = Vec::new();
    for kid in [KID, OTHER, KID] {
        let (client, status) = verified(&server, kid).await;
        assert_eq!(status, StatusCode::OK);
        held.push(client);
    }
    assert_eq!(verified(&server, OTHER).await.1, StatusCode::TOO_MANY_REQUESTS);
    assert!(status_from("127.0.0.2", &server, OTHER).await.starts_with("HTTP/1.1 200"), "another source is kept out");
    // Who is not verified does not count: silent connections of one source are ended when the server is full, not before.
    assert_eq!(server.connect().await.send(common::request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    drop(held);
    until("all have left", || server.connections.is_empty()).await;
    assert_eq!(verified(&server, OTHER).await.1, StatusCode::OK);
}

#[tokio::test]
async fn a_full_server_ends_the_oldest_that_is_not_verified_and_nobody_who_is() {
    let server = TestServer::within(Limits { connections: 3, ..LIMITS }).await;
    let (mut first, status) = verified(&server, KID).await;
    assert_eq!(status, StatusCode::OK);
    let mut silent = server.connect().await;
    let (mut third, status) = verified(&server, KID).await;
    assert_eq!(status, StatusCode::OK);
    // Full. The fourth takes the silent one's place; the fifth finds none.
    let (mut fourth, status) = verified(&server, OTHER).await;
    assert_eq!(status, StatusCode::OK);
    let _ = tokio::time::timeout(SOON, &mut silent.connection).await.expect("the silent connection goes on");
    let fifth = TcpStream::connect(server.addr).await.expect("TCP");
    // The server's part of the handshake is done before it is counted: what follows is the end.
    let (mut fifth, _) = server.tls_over(fifth, b"http/1.1").await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, tokio::io::AsyncReadExt::read_to_end(&mut fifth, &mut rest)).await.expect("the fifth goes on");
    assert_eq!(rest, b"");
    for (client, kid) in [(&mut first, KID), (&mut third, KID), (&mut fourth, OTHER)] {
        let credential = client.credential(kid);
        assert_eq!(client.get(&credential).await.status, StatusCode::OK, "a verified one was ended");
    }
}

#[tokio::test]
async fn draining_ends_idle_connections_at_once_and_tells_when_all_have_left() {
    let server = TestServer::start().await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential(KID);
        assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    }
    let mut idle = server.connect().await;
    let credential = idle.credential(KID);
    assert_eq!(idle.get(&credential).await.status, StatusCode::OK);
    let mut silent = server.connect().await;
    let stalled = TcpStream::connect(server.addr).await.expect("TCP");
    until("it is accepted", || server.connections.len() >= 3).await;
    server.connections.drain();
    tokio::time::timeout(SOON, server.connections.all_left()).await.expect("some stay");
    for connection in [&mut idle.connection, &mut silent.connection] {
        let _ = tokio::time::timeout(SOON, connection).await.expect("the connection goes on");
    }
    drop(stalled);
    // None comes in while it drains.
    let late = TcpStream::connect(server.addr).await.expect("TCP");
    let mut byte = [0];
    let read = tokio::time::timeout(SOON, tokio::io::AsyncReadExt::read(&mut { late }, &mut byte)).await.expect("it is let in");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn who_has_just_connected_may_ask_once_while_the_server_drains() {
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let server = TestServer::start().await;
        let mut fresh = server.connect_as(HOST, alpn).await;
        let tcp = TcpStream::connect(server.addr).await.expect("TCP");
        until("both are accepted", || server.connections.len() == 2).await;
        server.connections.drain();
        let left = tokio::spawn({
            let connections = server.connections.clone();
            async move { connections.all_left().await }
        });
        let credential = fresh.credential(KID);
        assert_eq!(fresh.get(&credential).await.status, StatusCode::OK, "a connection that was open");
        let _ = tokio::time::timeout(SOON, &mut fresh.connection).await.expect("it goes on");
        // A handshake that had not begun.
        let (mut stream, handshake) = server.tls_over(tcp, b"http/1.1").await;
        let (head, _) = common::exchange(&mut stream, &[("Authorization", common::credential(&handshake, KID, KID).as_bytes())]).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("connection: close"), "{head}");
        tokio::time::timeout(SOON, left).await.expect("some stay").expect("the task");
    }
}
