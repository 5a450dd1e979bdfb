//! Another protocol on a stream of its own, by one call over both versions of HTTP.

use std::sync::atomic::Ordering;

use ekm_otp_client::{Client, Error, Upgrade, UpgradedStream};
use http::{HeaderMap, StatusCode, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::server::{Server, in_time, until};

async fn accepted(client: &Client, protocol: &str) -> UpgradedStream {
    match in_time(client.upgrade("/echo", protocol, HeaderMap::new())).await.expect("an answer") {
        Upgrade::Accepted(response) => {
            assert!(response.extensions().get::<ekm_otp_client::ConnectionInfo>().expect("its connection").was_proven());
            response.into_body()
        }
        Upgrade::Refused(response) => panic!("{}", response.status()),
    }
}

async fn echoes(mut stream: UpgradedStream) {
    stream.write_all(b"hello").await.expect("writing");
    stream.flush().await.expect("flushing");
    let mut heard = [0; 5];
    in_time(stream.read_exact(&mut heard)).await.expect("reading");
    assert_eq!(&heard, b"hello");
    // One direction ends, the other is read to its end.
    stream.write_all(b" and goodbye").await.expect("writing");
    stream.shutdown().await.expect("the end of one direction");
    let mut rest = String::new();
    in_time(stream.read_to_string(&mut rest)).await.expect("the rest");
    assert_eq!(rest, " and goodbye");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_upgraded_by_one_call_over_both_versions_and_requests_go_on_beside_it() {
    for is_h2 in [true, false] {
        let server = Server::start(is_h2).await;
        let (client, _) = server.client(|builder| builder);
        // Over HTTP/1.1 the test's server does not hash the key of websockets.
        let protocol = if is_h2 { "websocket" } else { "other" };
        let stream = accepted(&client, protocol).await;
        assert_eq!(client.status().in_flight, 1);
        for _ in 0..5 {
            assert_eq!(in_time(client.get("/")).await.expect("an answer").text().await.expect("a body"), "0 bytes");
        }
        echoes(stream).await;
        until(|| client.status().in_flight == 0).await;
        assert_eq!(server.connections(), if is_h2 { 1 } else { 2 });
        let version = if is_h2 { Version::HTTP_2 } else { Version::HTTP_11 };
        assert_eq!(client.status().http_version, Some(version));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_http2_takes_no_extended_connect_a_connection_of_http1_is_made_for_it() {
    let server = Server::start_with(true, |http| *http = ekm_otp_tower::Http::new(hyper_util::rt::TokioExecutor::new())).await;
    let (client, _) = server.client(|builder| builder);
    let stream = accepted(&client, "other").await;
    assert_eq!((server.connections(), client.status().connections), (2, 2));
    echoes(stream).await;
    until(|| client.status().connections == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_refuses_or_answers_wrongly_gets_no_bytes() {
    let server = Server::start(false).await;
    let (client, _) = server.client(|builder| builder);
    match in_time(client.upgrade("/other", "other", HeaderMap::new())).await.expect("an answer") {
        Upgrade::Refused(response) => assert_eq!(response.status(), StatusCode::OK),
        Upgrade::Accepted(_) => panic!("it was not asked to"),
    }
    let wrong = in_time(client.upgrade("/echo", "websocket", HeaderMap::new())).await;
    assert!(matches!(wrong, Err(Error::Upgrade(_))), "its Sec-WebSocket-Accept is missing");
    until(|| client.status().in_flight == 0).await;
    assert_eq!(server.seen.requests.load(Ordering::Relaxed), 2);
}
