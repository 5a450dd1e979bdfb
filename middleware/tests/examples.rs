//! The examples serve a client: they run here as they stand in `examples/`.

mod common;

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/axum.rs"]
mod axum_example;
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/axum_serve.rs"]
mod axum_serve_example;
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/hyper.rs"]
mod hyper_example;
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/tonic.rs"]
mod tonic_example;

use std::sync::Arc;

use common::{Client, HOST, Pki, request};
use ekm_otp_tower::protocol::field::Credential;
use ekm_otp_tower::protocol::{Derivation, Handshake, KeyId, Secret, ServerName, TlsPolicy};
use ekm_otp_tower::{EkmAcceptor, EkmListener, EkmOtpLayer};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

async fn shows_who_is_verified(addr: std::net::SocketAddr, pki: &Pki) {
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let policy = TlsPolicy::default();
        let mut client = Client::connect(addr, pki.client_config(&policy, alpn), HOST, policy).await.expect("a connection");
        let kid = KeyId::new("client1").expect("a key id");
        let derivation = Derivation::new(&client.ekm, &kid, client.facts.server_name());
        let tag = Secret::new(b"test data, used nowhere else ...".to_vec()).expect("a secret").mac(derivation.mac_input());
        let prk = derivation.finish(tag);
        assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
        assert_eq!(client.send(request("/nowhere", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
        let answer = client.get(&Credential::write(&kid, &client.ekm.channel(), &prk.otp())).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "hello Alice\n"));
        assert!(answer.has_proof());
    }
}

#[tokio::test]
async fn the_hyper_example_serves_a_verified_client() {
    let pki = Pki::new();
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = tcp.local_addr().expect("an address");
    let server = tokio::spawn(hyper_example::serve(tcp, pki.chain.clone(), pki.key.clone_key()));
    shows_who_is_verified(addr, &pki).await;
    server.abort();
}

#[tokio::test]
async fn the_axum_serve_example_serves_a_verified_client() {
    let pki = Pki::new();
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = tcp.local_addr().expect("an address");
    let server = tokio::spawn(axum_serve_example::serve(tcp, pki.chain.clone(), pki.key.clone_key()));
    shows_who_is_verified(addr, &pki).await;
    server.abort();
}

/// Certificate, key and a registry of `client1` in files, as the examples take them.
fn files(pki: &Pki) -> (tempfile::TempDir, [String; 3]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let [chain, key] = pki.write(folder.path());
    let secrets = folder.path().join("secrets.toml");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secrets).expect("a file");
    // "test data, used nowhere else ..."
    writeln!(file, "[client1]\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\nclient = \"Alice\"").expect("writing");
    (folder, [chain, key, secrets].map(|path| path.to_str().expect("UTF-8").to_owned()))
}

#[tokio::test]
async fn the_axum_example_serves_a_verified_client() {
    let pki = Pki::new();
    let (_folder, [chain, key, secrets]) = files(&pki);
    let bound = axum_example::server(&chain, &key, &secrets).bind("127.0.0.1:0").await.expect("a server");
    let addr = bound.local_addr();
    let server = tokio::spawn(bound.serve_axum(axum_example::app()).into_future());
    shows_who_is_verified(addr, &pki).await;
    let policy = TlsPolicy::default();
    let mut client = Client::connect(addr, pki.client_config(&policy, b"h2"), HOST, policy).await.expect("a connection");
    assert_eq!(client.send(request("/healthz", None)).await.expect("an answer").body, "ok\n");
    server.abort();
}

/// One gRPC call: its status line's code, its message's bytes, and its trailers or, without a body, its headers.
async fn call(addr: std::net::SocketAddr, pki: &Pki, path: &str, is_known: bool) -> (StatusCode, Vec<u8>, HeaderMap) {
    let policy = TlsPolicy::default();
    let config = Arc::new(pki.client_config(&policy, b"h2"));
    let tcp = tokio::net::TcpStream::connect(addr).await.expect("a TCP connection");
    let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.expect("TLS");
    let handshake = Handshake::of_client(stream.get_ref().1, ServerName::from_host(HOST).expect("a name"), &policy).expect("a handshake");
    let kid = KeyId::new("client1").expect("a key id");
    let derivation = Derivation::new(&handshake.ekm, &kid, handshake.facts.server_name());
    let tag = Secret::new(b"test data, used nowhere else ...".to_vec()).expect("a secret").mac(derivation.mac_input());
    let credential = Credential::write(&kid, &handshake.ekm.channel(), &derivation.finish(tag).otp());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    // gRPC's framing: a flag, the length, and the message (field 1: "Bob").
    let message = Full::new(Bytes::from_static(b"\0\0\0\0\x05\x0a\x03Bob"));
    let mut request = Request::post(format!("https://{HOST}{path}")).header("content-type", "application/grpc").header("te", "trailers");
    if is_known {
        request = request.header("authorization", credential.to_string());
    }
    let answer = sender.send_request(request.body(message).expect("a request")).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.expect("a body");
    let trailers = body.trailers().cloned().unwrap_or(parts.headers);
    (parts.status, body.to_bytes().to_vec(), trailers)
}

#[tokio::test]
async fn the_tonic_example_answers_a_call_with_its_trailers() {
    let pki = Pki::new();
    let (_folder, [chain, key, secrets]) = files(&pki);
    let bound = tonic_example::server(&chain, &key, &secrets).bind("127.0.0.1:0").await.expect("a server");
    let addr = bound.local_addr();
    let server = tokio::spawn(bound.serve_tower(tonic_example::Greeter).into_future());

    let (status, message, trailers) = call(addr, &pki, "/greeter.Greeter/Hello", true).await;
    assert_eq!((status, trailers["grpc-status"].as_bytes()), (StatusCode::OK, b"0".as_slice()));
    assert_eq!(&message[5..], b"\x0a\x15hello Bob, says Alice");
    let (status, _, trailers) = call(addr, &pki, "/greeter.Greeter/Nothing", true).await;
    assert_eq!((status, trailers["grpc-status"].as_bytes()), (StatusCode::OK, b"12".as_slice()), "unimplemented");
    // Clients take it for UNAUTHENTICATED.
    let (status, message, trailers) = call(addr, &pki, "/greeter.Greeter/Hello", false).await;
    assert_eq!((status, message.len(), trailers.contains_key("grpc-status")), (StatusCode::UNAUTHORIZED, 0, false));
    server.abort();
}

#[tokio::test]
async fn tonics_own_server_tells_the_layer_its_connections() {
    let pki = Pki::new();
    let policy = TlsPolicy::default();
    let acceptor = EkmAcceptor::new(pki.server_config(&policy), policy, hyper_example::authentication().expect("settings"));
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = tcp.local_addr().expect("an address");
    let server = tonic::transport::Server::builder().layer(EkmOtpLayer::new());
    let serving = tokio::spawn(server.serve_with_incoming(tonic_example::Greeter, EkmListener::new(tcp, acceptor).incoming()));
    let (status, message, _) = call(addr, &pki, "/greeter.Greeter/Hello", true).await;
    assert_eq!((status, &message[7..]), (StatusCode::OK, b"hello Bob, says Alice".as_slice()));
    assert_eq!(call(addr, &pki, "/greeter.Greeter/Hello", false).await.0, StatusCode::UNAUTHORIZED);
    serving.abort();
}
