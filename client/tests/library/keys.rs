//! Several keys for one origin, and what becomes of refused ones.

use std::sync::Arc;

use ekm_otp_client::{Client, CredentialKind, Error, ErrorKind, KeyId, Mutual};
use http::StatusCode;

use super::server::{Counting, Server, in_time, until};

async fn kid_of(client: &Client) -> String {
    let response = in_time(client.get("/")).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let kid = response.connection().expect("its connection").kid().to_string();
    response.bytes().await.expect("a body");
    kid
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_key_is_taken_where_one_is_refused_and_a_rotation_needs_no_restart() {
    for is_h2 in [true, false] {
        let server = Server::start(is_h2).await;
        let (newer, older) = (Arc::new(Counting::of(2)), Arc::new(Counting::of(1)));
        let client = server.builder().kid("client1-2").signer(Arc::clone(&newer)).or_key("client1", Arc::clone(&older));
        let client = client.build().expect("a client");
        assert_eq!(kid_of(&client).await, "client1");
        assert_eq!((newer.macs(), older.macs(), client.status().key), (1, 1, Some(1)));
        assert_eq!(kid_of(&client).await, "client1");
        // The server learns the new one and forgets the old one: its connections end.
        server.knows("client1-2", 2);
        assert!(server.store.revoke(&KeyId::new("client1").expect("a key id")));
        until(|| client.status().idle == 0 || client.status().connections == 0).await;
        assert_eq!(in_time(kid_of(&client)).await, "client1-2");
        assert_eq!(client.status().key, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_credential_is_told_to_all_who_wait_and_not_tried_again_for_a_while() {
    let server = Server::start(true).await;
    let signer = Arc::new(Counting::of(9));
    let client = server.builder().signer(Arc::clone(&signer)).build().expect("a client");
    let answers = futures_util::future::join_all((0..5).map(|_| client.get("/"))).await;
    for answer in answers {
        let error = answer.expect_err("another secret");
        assert!(error.kind() == ErrorKind::Refused && error.grpc_code() == 16 && !error.is_retryable(), "{error:?}");
    }
    assert!(matches!(client.get("/").await, Err(Error::BackOff { .. })));
    assert_eq!((signer.macs(), server.connections()), (1, 1));
}

/// Without the probe the first request meets the refusal: it is answered so, and the next goes with the next key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_401_on_a_connection_goes_to_the_caller_and_the_connection_is_used_no_more() {
    let server = Server::start(true).await;
    let (wrong, right) = (Arc::new(Counting::of(9)), Arc::new(Counting::of(1)));
    let client = server.builder().kid("nobody").signer(wrong).or_key("client1", right).mutual(Mutual::Prefer).build().expect("a client");
    let response = in_time(client.get("/")).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    drop(response);
    assert_eq!(kid_of(&client).await, "client1");
    assert_eq!((server.connections(), server.seen.times("/")), (2, 1));
}

#[tokio::test]
async fn mistakes_in_the_settings_are_told_when_it_is_built() {
    let server = Server::start(true).await;
    let signer = || Counting::of(1);
    for (origin, told) in [
        ("http://localhost", "never travels without TLS"),
        ("https://localhost/path", "without a path"),
        ("localhost", "https://HOST"),
        ("https://user@localhost", "https://HOST"),
    ] {
        let error = Client::new(origin).kid("client1").signer(signer()).roots(server.roots()).build().expect_err(origin);
        assert!(error.to_string().contains(told), "{error}");
    }
    let error = Client::new("https://localhost").signer(signer()).build().expect_err("no key id").to_string();
    assert!(error.contains("kid()"), "{error}");
    let error = Client::new("https://localhost").kid("client1").build().expect_err("no key").to_string();
    assert!(error.contains("key_file()"), "{error}");
    assert!(Client::new("https://localhost").kid("a b").signer(signer()).build().is_err());
    let error = server.builder().signer(signer()).credential(CredentialKind::Jws).mutual(Mutual::Require).profile_go().build();
    assert!(error.is_err(), "the Go original's server proves nothing");
}
