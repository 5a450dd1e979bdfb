//! How many connections there are, who gets them, and how they end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ekm_otp_client::{Client, ConnectionInfo, CredentialKind, Error, ErrorKind, KeyFile, Mutual, TpmHandle};
use ekm_otp_swtpm::Tap;
use futures_util::future::join_all;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;

use super::common;
use super::server::{Counting, Server, in_time, until};

async fn get(client: &Client, path: &str) -> StatusCode {
    let response = in_time(client.get(path)).await.expect("an answer");
    let status = response.status();
    response.bytes().await.expect("a body");
    status
}

fn connection_of(response: &ekm_otp_client::Response) -> ConnectionInfo {
    response.connection().expect("its connection").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_concurrent_first_requests_over_http2_cost_one_dial_and_one_mac() {
    let server = Server::start(true).await;
    let (client, signer) = server.client(|builder| builder);
    let answers = join_all((0..20).map(|_| get(&client, "/"))).await;
    assert!(answers.iter().all(|status| *status == StatusCode::OK), "{answers:?}");
    assert_eq!((server.connections(), signer.macs(), client.status().dials_total), (1, 1, 1));
    assert_eq!(client.status().http_version, Some(Version::HTTP_2));
    assert_eq!((client.status().in_flight, client.status().connections), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_concurrent_first_requests_over_http2_cost_one_command_of_the_tpm() {
    let bench = common::Bench::new();
    bench.create_key();
    let server = common::Server::start(&bench, &[]);
    let tap = Tap::on(&bench.swtpm);
    let tpm = TpmHandle::open(tap.tcti().parse().expect("a TCTI string")).expect("a thread");
    let key = tpm.load(KeyFile::from_pem(&std::fs::read_to_string(bench.path("client1.pem")).expect("reading")).expect("a key file"));
    key.prepare().await.expect("loading");
    let client = Client::new(format!("https://localhost:{}", server.port)).kid("client1").tpm_key(key);
    let client = client.ca_file(bench.path("server.pem")).expect("a CA").build().expect("a client");
    let _ = tap.take();
    let answers = join_all((0..20).map(|_| get(&client, "/get"))).await;
    assert!(answers.iter().all(|status| *status == StatusCode::OK), "{answers:?}");
    assert_eq!(tap.take().commands, [0x155], "TPM2_HMAC alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_many_concurrent_tokens_is_taken_once() {
    for is_h2 in [true, false] {
        let server = Server::start(is_h2).await;
        for kind in [CredentialKind::Jws, CredentialKind::Jwe] {
            let (client, _) = server.client(|builder| builder.credential(kind));
            for _ in 0..10 {
                let answers = join_all((0..50).map(|_| get(&client, "/"))).await;
                assert!(answers.iter().all(|status| *status == StatusCode::OK), "{kind}: {answers:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_http2_connection_is_made_when_the_first_is_full() {
    let server = Server::start_with(true, |http| {
        http.http2().max_concurrent_streams(4);
    })
    .await;
    let (client, _) = server.client(|builder| builder);
    assert_eq!(get(&client, "/").await, StatusCode::OK);
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, "/wait").await })
        })
        .collect();
    until(|| server.seen.at_gate.load(Ordering::Relaxed) == 10).await;
    assert_eq!((server.connections(), client.status().in_flight), (3, 10));
    server.seen.gate.add_permits(10);
    for answer in waiting {
        assert_eq!(in_time(answer).await.expect("a task"), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_one_connection_serves_what_comes_one_after_the_other() {
    let server = Server::start(false).await;
    let (client, signer) = server.client(|builder| builder);
    for _ in 0..200 {
        assert_eq!(get(&client, "/").await, StatusCode::OK);
    }
    // Where this machine is slow, another may be made while the first is about to be free.
    assert!(server.connections() <= 3 && signer.macs() <= 3, "{}", server.connections());
}

/// A new connection is not ready before HTTP has looked at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_that_no_probe_has_used_is_taken_and_not_made_again() {
    for is_h2 in [true, false] {
        let server = Server::start(is_h2).await;
        let (client, signer) = server.client(|builder| builder.mutual(Mutual::Prefer));
        for _ in 0..5 {
            assert_eq!(get(&client, "/").await, StatusCode::OK);
        }
        assert_eq!((server.connections(), signer.macs()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_a_body_that_streams_blocks_no_other_request() {
    let server = Server::start(false).await;
    let (client, _) = server.client(|builder| builder);
    let mut streaming = in_time(client.get("/stream")).await.expect("an answer").into_inner().into_body();
    let first = in_time(streaming.frame()).await.expect("a frame").expect("the first").into_data().expect("data");
    assert_eq!(first, "first ");
    for _ in 0..10 {
        assert_eq!(get(&client, "/").await, StatusCode::OK);
    }
    assert_eq!((server.connections(), client.status().in_flight), (2, 1));
    server.seen.gate.add_permits(1);
    assert_eq!(in_time(streaming.collect()).await.expect("the rest").to_bytes(), "last");
    until(|| client.status().idle == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_a_body_that_is_dropped_midway_ends_its_connection_and_over_http2_its_stream() {
    for (is_h2, expected) in [(false, 2), (true, 1)] {
        let server = Server::start(is_h2).await;
        let (client, _) = server.client(|builder| builder);
        let mut streaming = in_time(client.get("/stream")).await.expect("an answer").into_inner().into_body();
        in_time(streaming.frame()).await.expect("a frame").expect("the first");
        drop(streaming);
        until(|| client.status().in_flight == 0).await;
        assert_eq!(get(&client, "/").await, StatusCode::OK);
        assert_eq!(server.connections(), expected);
        until(|| client.status().connections == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_up_poisons_nothing() {
    for is_h2 in [false, true] {
        let server = Server::start(is_h2).await;
        let signer = Counting::gated(1);
        let client = server.builder().signer(Arc::clone(&signer)).build().expect("a client");
        // While its connection is made: the next one gets that.
        let asked = client.clone();
        let given_up = tokio::spawn(async move { asked.get("/").await.map(drop) });
        until(|| signer.macs() == 1).await;
        given_up.abort();
        assert!(given_up.await.is_err());
        signer.let_through(1);
        assert_eq!(get(&client, "/").await, StatusCode::OK);
        // Where that took long, one more is made ahead of need.
        assert!(signer.macs() <= 2 && server.connections() <= 2);
        // While its answer is waited for.
        signer.let_through(10);
        for _ in 0..5 {
            let before = server.seen.at_gate.load(Ordering::Relaxed);
            let asked = client.clone();
            let waiting = tokio::spawn(async move { asked.get("/wait").await.map(drop) });
            until(|| server.seen.at_gate.load(Ordering::Relaxed) == before + 1).await;
            waiting.abort();
            let _ = waiting.await;
            assert_eq!(get(&client, "/").await, StatusCode::OK);
        }
        until(|| client.status().in_flight == 0 && client.status().connections <= 2).await;
    }
}

/// A slow TPM: its MAC has not come yet while all this happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_key_delays_new_connections_and_no_request_on_those_that_stand() {
    let server = Server::start(false).await;
    let signer = Counting::gated(1);
    let client = server.builder().signer(Arc::clone(&signer)).build().expect("a client");
    signer.let_through(1);
    assert_eq!(get(&client, "/").await, StatusCode::OK);
    let mut streaming = in_time(client.get("/stream")).await.expect("an answer").into_inner().into_body();
    let asked = client.clone();
    let behind = tokio::spawn(async move { get(&asked, "/behind").await });
    until(|| signer.macs() == 2).await;
    server.seen.gate.add_permits(1);
    while let Some(frame) = in_time(streaming.frame()).await {
        frame.expect("the rest");
    }
    // It is served by the connection that became free, and so are all that follow.
    assert_eq!(in_time(behind).await.expect("a task"), StatusCode::OK);
    for _ in 0..100 {
        assert_eq!(get(&client, "/").await, StatusCode::OK);
    }
    assert_eq!((signer.macs(), client.status().dialling), (2, 1));
    signer.let_through(1);
    until(|| client.status().connections == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spare_connections_are_made_ahead_of_need() {
    let server = Server::start(false).await;
    let (client, signer) = server.client(|builder| builder.spare_connections(3));
    assert_eq!(get(&client, "/").await, StatusCode::OK);
    until(|| client.status().idle >= 3).await;
    let macs = signer.macs();
    let streams: Vec<_> = join_all((0..3).map(|_| client.get("/stream"))).await;
    assert!(streams.iter().all(|answer| !answer.as_ref().expect("an answer").connection().expect("one").age().is_zero()));
    // Their places are taken by others.
    until(|| client.status().idle >= 3 && signer.macs() > macs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_answers_all_wait_for_one_dial_get_one_error_and_nobody_dials_at_once_again() {
    let mut server = Server::start(true).await;
    server.kill().await;
    let (client, signer) = server.client(|builder| builder);
    let errors: Vec<Error> =
        join_all((0..10).map(|_| client.get("/"))).await.into_iter().map(|answer| answer.expect_err("nobody")).collect();
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Unavailable && error.is_retryable() && error.grpc_code() == 14));
    let status = client.status();
    assert_eq!((status.dials_total, status.failures_total, signer.macs()), (1, 1, 0));
    let error = client.get("/").await.expect_err("it rests");
    assert!(matches!(error, Error::BackOff { .. }) && error.retry_after().is_some(), "{error:?}");
    assert_eq!(client.status().dials_total, 1);
    server.restart().await;
    until(|| client.status().back_off.is_none()).await;
    assert_eq!(get(&client, "/").await, StatusCode::OK);
    assert!(client.status().last_error.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_may_wait_are_refused() {
    let server = Server::start(false).await;
    let (client, _) = server.client(|builder| builder.max_connections(1).max_waiting(2));
    assert_eq!(get(&client, "/").await, StatusCode::OK);
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, "/wait").await })
        })
        .collect();
    until(|| client.status().waiting == 2 && client.status().in_flight == 1).await;
    assert!(matches!(client.get("/").await, Err(Error::Crowded(2))));
    server.seen.gate.add_permits(3);
    for answer in asked {
        assert_eq!(in_time(answer).await.expect("a task"), StatusCode::OK);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_replaced_before_it_is_too_old_and_no_request_notices() {
    for is_h2 in [true, false] {
        let server = Server::start(is_h2).await;
        let (client, signer) = server.client(|builder| builder.max_age(Duration::from_millis(500)));
        let mut ids = std::collections::BTreeSet::new();
        in_time(async {
            while ids.len() < 4 {
                let response = client.get("/").await.expect("an answer");
                assert_eq!(response.status(), StatusCode::OK);
                let connection = connection_of(&response);
                assert!(connection.age() < Duration::from_secs(5));
                ids.insert(connection.id());
                response.bytes().await.expect("a body");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        assert_eq!(client.status().resent_total, 0);
        // Not one for each request, either.
        assert!(signer.macs() <= 3 * ids.len(), "{}", signer.macs());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unused_connection_is_closed_after_its_time_and_without_time_at_once() {
    let server = Server::start(false).await;
    let (client, _) = server.client(|builder| builder.idle_limit(Duration::from_millis(100)));
    assert_eq!(get(&client, "/").await, StatusCode::OK);
    until(|| client.status().connections == 0).await;
    let (client, signer) = server.client(|builder| builder.idle_limit(Duration::ZERO));
    for _ in 0..3 {
        assert_eq!(get(&client, "/").await, StatusCode::OK);
    }
    assert_eq!(signer.macs(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drains_lets_what_is_under_way_end_and_takes_nothing_new() {
    for is_h2 in [true, false] {
        let server = Server::start(is_h2).await;
        let (client, _) = server.client(|builder| builder);
        let streaming = in_time(client.get("/stream")).await.expect("an answer");
        let drained = client.clone();
        let draining = tokio::spawn(async move { drained.drain().await });
        until(|| client.status().is_draining).await;
        assert!(matches!(client.get("/").await, Err(Error::Draining)));
        assert!(!draining.is_finished());
        server.seen.gate.add_permits(1);
        assert_eq!(in_time(streaming.text()).await.expect("all of it"), "first last");
        in_time(draining).await.expect("a task");
        // Also the one that came free last.
        let closed = async {
            while client.status().connections > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), closed).await.is_ok(), "a connection outlives the client's end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http1_a_connection_returns_only_when_its_request_is_sent_too() {
    let server = Server::start(false).await;
    let (client, _) = server.client(|builder| builder);
    let (sender, mut chunks) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::poll_fn(move |context| {
        chunks.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok::<_, std::convert::Infallible>(Frame::data(chunk))))
    });
    let request = Request::post("/early").body(StreamBody::new(stream)).expect("a request");
    let response = in_time(client.send(request)).await.expect("an early answer");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(body, "before the request's end");
    assert_eq!(client.status().idle, 0);
    assert_eq!(get(&client, "/").await, StatusCode::OK);
    drop(sender);
    assert_eq!(get(&client, "/").await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_is_refused_where_it_is_to_be_collected() {
    let server = Server::start(true).await;
    let (client, _) = server.client(|builder| builder);
    let post = |length: usize| Request::post("/echo").body(http_body_util::Full::new(Bytes::from(vec![b'x'; length]))).expect("a request");
    let response = ekm_otp_client::Response::of(client.send(post(1000)).await.expect("an answer"));
    assert!(matches!(response.limit(999).bytes().await, Err(Error::TooLong(999))));
    let response = ekm_otp_client::Response::of(client.send(post(1000)).await.expect("an answer"));
    assert_eq!(response.limit(1000).text().await.expect("text").len(), 1000);
    let request = Request::get("https://elsewhere.test/").body(Empty::<Bytes>::new()).expect("a request");
    assert_eq!(client.send(request).await.expect_err("another origin").kind(), ErrorKind::Usage);
}

#[test]
fn a_signer_that_panics_and_a_runtime_that_ends_leave_a_client_that_works() {
    #[derive(Debug)]
    struct Panics(Arc<Counting>);
    impl ekm_otp_client::Signer for Panics {
        fn mac<'a>(
            &'a self,
            input: &'a [u8],
        ) -> futures_util::future::BoxFuture<'a, Result<ekm_otp_client::Tag, ekm_otp_client::SignerError>> {
            assert!(self.0.macs.load(Ordering::Relaxed) > 0 || self.0.macs.fetch_add(1, Ordering::Relaxed) > 0, "the test's own panic");
            self.0.mac(input)
        }
    }
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let servers = runtime();
    let server = servers.block_on(Server::start(true));
    let client = server.builder().signer(Panics(Arc::new(Counting::of(1)))).build().expect("a client");
    let first = runtime();
    first.block_on(async {
        let error = in_time(client.get("/")).await.expect_err("a panic");
        assert_eq!(error.kind(), ErrorKind::Key);
        until(|| client.status().back_off.is_none()).await;
        assert_eq!(get(&client, "/").await, StatusCode::OK);
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(get(&client, "/").await, StatusCode::OK);
    });
}
