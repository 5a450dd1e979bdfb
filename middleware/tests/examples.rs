//! The examples serve a client: they run here as they stand in `examples/`.

mod common;

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/axum.rs"]
mod axum_example;
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/hyper.rs"]
mod hyper_example;

use common::{Client, HOST, Pki, request};
use ekm_otp_tower::protocol::field::Credential;
use ekm_otp_tower::protocol::{Derivation, KeyId, Secret, TlsPolicy};
use hyper::StatusCode;
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
async fn the_axum_example_serves_a_verified_client() {
    let pki = Pki::new();
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = tcp.local_addr().expect("an address");
    let server = tokio::spawn(axum_example::serve(tcp, pki.chain.clone(), pki.key.clone_key()));
    shows_who_is_verified(addr, &pki).await;
    server.abort();
}
