//! The examples do what they say: they run here as they stand in `examples/`.

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/requests.rs"]
mod requests;
#[cfg(feature = "tonic")]
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/tonic.rs"]
mod tonic_example;
#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/tower_retry.rs"]
mod tower_retry;

use super::server::{Server, in_time, secret};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_sends_requests_with_a_holder_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    for is_h2 in [true, false] {
        let server = Server::start(is_h2).await;
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, server.certificate_pem()).expect("writing");
        let origin = format!("https://localhost:{}", server.port);
        let done = in_time(requests::run(&origin, &ca, requests::Holder(secret(1)))).await.expect("answers");
        assert_eq!(done, ("0 bytes".to_owned(), b"hello".to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_of_tower_asks_again_until_the_server_is_there() {
    let mut server = Server::start(true).await;
    server.kill().await;
    let (client, _) = server.client(|builder| builder);
    let asking = tokio::spawn(tower_retry::run(client.clone(), tower_retry::Patience { tries: 1000 }));
    super::server::until(|| client.status().failures_total > 0).await;
    assert!(!asking.is_finished());
    server.restart().await;
    assert_eq!(in_time(asking).await.expect("a task").expect("an answer"), "hello");
    assert_eq!(server.seen.times("/echo"), 1);
}

#[cfg(feature = "tonic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stub_of_tonic_gets_answers_and_statuses_that_say_what_is_wrong() {
    let mut server = Server::start(true).await;
    let (client, _) = server.client(|builder| builder);
    let mut stub = tonic_example::GreeterClient::new(client.grpc());
    assert_eq!(in_time(stub.hello("world")).await.expect("an answer"), "world");

    let refused = server.builder().secret(secret(9)).build().expect("a client");
    let status = in_time(tonic_example::GreeterClient::new(refused.grpc()).hello("world")).await.expect_err("another secret");
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status:?}");

    server.kill().await;
    let (client, _) = server.client(|builder| builder);
    let status = in_time(tonic_example::GreeterClient::new(client.grpc()).hello("world")).await.expect_err("nobody is there");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
}
