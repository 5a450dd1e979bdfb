//! Servers that are killed and come back while requests are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ekm_otp_client::{Client, Error, ErrorKind, Response};
use http::{Method, Request, StatusCode};
use http_body_util::Full;

use super::server::{Server, in_time, until};

async fn ask(client: &Client, method: &Method, path: &str) -> Result<StatusCode, Error> {
    let request = Request::builder().method(method).uri(path).body(Full::new(Bytes::from_static(b"body"))).expect("a request");
    let response = Response::of(client.send(request).await?);
    let status = response.status();
    response.bytes().await?;
    Ok(status)
}

/// Asks until it is answered. Nothing is asked again that may have been executed, but for what is idempotent. Whether it was answered.
async fn insist(client: &Client, method: &Method, path: &str) -> bool {
    loop {
        match ask(client, method, path).await {
            Ok(status) => {
                assert_eq!(status, StatusCode::OK, "{method} {path}");
                return true;
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Broken | ErrorKind::Deadline), "{error:?}");
                if !error.is_retryable() && *method == Method::POST {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

async fn requests_while_the_server_restarts(is_h2: bool, requests: usize) {
    let mut server = Server::start(is_h2).await;
    let (client, signer) = server.client(|builder| builder);
    let (next, answered, unsure) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..32)
        .map(|_| {
            let (client, next, answered, unsure) = (client.clone(), next.clone(), answered.clone(), unsure.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return;
                    }
                    let method = if number % 2 == 0 { Method::GET } else { Method::POST };
                    let counter = if insist(&client, &method, &format!("/id/{number}")).await { &answered } else { &unsure };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for restart in 1..=3 {
        until(|| next.load(Ordering::Relaxed) > requests * restart / 4).await;
        server.kill().await;
        server.restart().await;
    }
    for worker in workers {
        in_time(worker).await.expect("a worker");
    }
    // At most one for each connection that was killed under one.
    assert!(unsure.load(Ordering::Relaxed) <= 3 * 32);
    assert_eq!(answered.load(Ordering::Relaxed) + unsure.load(Ordering::Relaxed), requests);
    let executed = server.seen.executed.lock().expect("a lock");
    for number in (1..requests).step_by(2) {
        let times = executed.get(&format!("/id/{number}")).copied().unwrap_or_default();
        assert!(times <= 1, "POST {number} was executed {times} times");
    }
    // A connection each, and no more than a few after each restart.
    assert!(signer.macs() <= if is_h2 { 16 } else { 5 * 32 }, "{} MACs", signer.macs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_http1_of_ten_thousand_requests_none_is_refused_and_none_executed_twice_that_is_not_idempotent() {
    requests_while_the_server_restarts(false, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_http2_of_two_thousand_requests_none_is_refused_and_none_executed_twice_that_is_not_idempotent() {
    requests_while_the_server_restarts(true, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_request_goes_once_more_when_its_connection_dies_and_no_other_does() {
    let server = Server::start(false).await;
    let (client, _) = server.client(|builder| builder);
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let path = format!("/dies/{method}");
        assert_eq!(in_time(ask(&client, &method, &path)).await.expect("the second try"), StatusCode::OK);
        assert_eq!(server.seen.times(&path), 2);
    }
    for method in [Method::POST, Method::PATCH] {
        let path = format!("/dies/{method}");
        let error = in_time(ask(&client, &method, &path)).await.expect_err("it may have been executed");
        assert!(error.kind() == ErrorKind::Broken && !error.is_retryable(), "{error:?}");
        assert_eq!(server.seen.times(&path), 1);
    }
    assert_eq!(client.status().resent_total, 4);
}

/// The answer's body breaks off: what has come of it is not taken for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_an_error() {
    for is_h2 in [false, true] {
        let mut server = Server::start(is_h2).await;
        let (client, _) = server.client(|builder| builder);
        let response = in_time(client.get("/stream")).await.expect("an answer");
        server.kill().await;
        let error = in_time(response.bytes()).await.expect_err("half a body");
        assert!(matches!(error, Error::Body(_)) && error.kind() == ErrorKind::Broken, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_a_connection_that_stands() {
    let mut server = Server::start(true).await;
    let (client, signer) = server.client(|builder| builder);
    for _ in 0..3 {
        in_time(client.connected()).await.expect("a connection");
    }
    assert_eq!(signer.macs(), 1);
    let has_failed = AtomicBool::new(false);
    server.kill().await;
    in_time(async {
        while !has_failed.load(Ordering::Relaxed) {
            has_failed.store(client.connected().await.is_err(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.restart().await;
    in_time(async {
        while client.connected().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
