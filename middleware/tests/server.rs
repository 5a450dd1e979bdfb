//! `EkmServer`: a whole server in three lines, on loopback.

mod common;
mod whole;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Client, HOST, KID, Pki, request};
use ekm_otp_tower::protocol::TlsPolicy;
use ekm_otp_tower::{EkmServer, StartError};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use tokio::sync::Notify;
use whole::{PATIENCE, bind, connect, hello, run, settings, store};

#[tokio::test]
async fn a_server_of_three_lines_lets_clients_in_and_nobody_else_and_ends_on_a_signal() {
    let pki = Pki::new();
    let server = run(bind(settings(&pki)).await, |bound| bound.serve(service_fn(hello)));
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = connect(server.address, &pki, alpn).await;
        assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
        let credential = client.credential(KID);
        let answer = client.get(&credential).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "hello Alice"));
        assert!(answer.has_proof());
    }
    let address = server.address;
    server.stop().await;
    tokio::net::TcpStream::connect(address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn what_is_under_way_finishes_and_then_the_server_ends() {
    let pki = Pki::new();
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (in_service, until) = (Arc::clone(&begun), Arc::clone(&go_on));
    let slow = service_fn(move |request| {
        let (begun, go_on) = (Arc::clone(&in_service), Arc::clone(&until));
        async move {
            begun.notify_one();
            go_on.notified().await;
            hello(request).await
        }
    });
    let server = run(bind(settings(&pki)).await, |bound| bound.serve(slow));
    let mut client = connect(server.address, &pki, b"h2").await;
    let credential = client.credential(KID);
    let asking = tokio::spawn(async move { client.get(&credential).await });
    begun.notified().await;
    let ending = tokio::spawn(server.stop());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!ending.is_finished(), "it waits for what is under way");
    go_on.notify_one();
    assert_eq!(asking.await.expect("no panic").body, "hello Alice");
    ending.await.expect("it ended");
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut() {
    let pki = Pki::new();
    let begun = Arc::new(Notify::new());
    let in_service = Arc::clone(&begun);
    let stuck = service_fn(move |_| {
        in_service.notify_one();
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let server = run(bind(settings(&pki).drain_within(Duration::from_millis(50))).await, |bound| bound.serve(stuck));
    let mut client = connect(server.address, &pki, b"http/1.1").await;
    let credential = client.credential(KID);
    let asking = tokio::spawn(async move { client.send(request("/", Some(&credential))).await.map(|answer| answer.status) });
    begun.notified().await;
    server.stop().await;
    asking.await.expect("no panic").expect_err("the connection was cut");
}

#[tokio::test]
async fn after_too_many_failures_the_connection_is_closed() {
    let pki = Pki::new();
    let server = run(bind(settings(&pki).authentication(|a| a.max_failures(3))).await, |bound| bound.serve(service_fn(hello)));
    let mut client = connect(server.address, &pki, b"http/1.1").await;
    for _ in 0..3 {
        assert_eq!(client.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    }
    tokio::time::timeout(PATIENCE, client.connection).await.expect("it ends").expect("no panic").expect("gracefully");
    server.stop().await;
}

#[tokio::test]
async fn events_tell_of_refused_requests_and_load_balancers_of_their_clients() {
    use std::sync::Mutex;
    use tokio::io::AsyncWriteExt as _;

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);
    impl ekm_otp_tower::Events for Seen {
        fn refused(&self, facts: &ekm_otp_tower::ConnectionFacts<'_>, refused: &ekm_otp_tower::Refused<'_>) {
            let peer = facts.peer.map(|peer| peer.to_string());
            self.0.lock().expect("no panic").push(format!("{} {}", peer.unwrap_or_default(), refused.status.as_u16()));
        }
    }
    let (pki, seen) = (Pki::new(), Arc::new(Seen::default()));
    let server = settings(&pki).events(Arc::clone(&seen) as Arc<_>).proxy_protocol_from(|_| true);
    let server = run(bind(server).await, |bound| bound.serve(service_fn(hello)));

    let mut tcp = tokio::net::TcpStream::connect(server.address).await.expect("a connection");
    tcp.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n").await.expect("writing");
    let config = Arc::new(pki.client_config(&TlsPolicy::default(), b"http/1.1"));
    let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
    let mut tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.expect("TLS");
    let (head, _) = common::ask(&mut tls, "GET / HTTP/1.1", &[]).await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    let since = std::time::Instant::now();
    while seen.0.lock().expect("no panic").is_empty() {
        assert!(since.elapsed() < PATIENCE, "nothing was told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*seen.0.lock().expect("no panic"), ["192.0.2.7:4711 401"]);
    drop(tls);
    server.stop().await;
}

async fn fault(server: EkmServer) -> String {
    server.bind("127.0.0.1:0").await.expect_err("it does not start").to_string()
}

#[tokio::test]
async fn what_is_missing_or_does_not_fit_is_told_before_the_server_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pki, other) = (Pki::new(), Pki::new());
    let server = |name: &str| EkmServer::new(name).certificate_der(pki.chain.clone(), pki.key.clone_key()).store(store());

    assert!(fault(EkmServer::new(HOST).store(store())).await.contains("EkmServer::certificate"));
    let no_registry = EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key());
    assert!(fault(no_registry).await.contains("EkmServer::store"));
    assert!(fault(server("no name")).await.contains("no name"));
    assert!(fault(server(HOST).also_for("api.example.com")).await.contains("the certificate is not for api.example.com"));
    let mixed = EkmServer::new(HOST).certificate_der(pki.chain.clone(), other.key.clone_key()).store(store());
    assert!(fault(mixed).await.contains("private key"));
    let nowhere = |chain: &Path| EkmServer::new(HOST).certificate(chain, chain).store(store());
    assert!(fault(nowhere(&folder.path().join("chain.pem"))).await.contains("chain.pem"));
    std::fs::write(folder.path().join("empty.pem"), "").expect("writing");
    assert!(fault(nowhere(&folder.path().join("empty.pem"))).await.contains("empty.pem: it holds no PEM block"));
    assert!(fault(server(HOST).realm("ä")).await.contains("realm"));

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let error = server(HOST).bind(taken.local_addr().expect("an address")).await.expect_err("it is taken");
    assert!(matches!(error, StartError::Listen(_)), "{error}");
    // What `main` shows of it is Debug.
    assert_eq!(format!("{error:?}"), error.to_string());
}

#[tokio::test]
async fn a_server_is_found_by_its_address_where_that_is_its_name() {
    let pki = Pki::new();
    let server = EkmServer::new("127.0.0.1").certificate_der(pki.chain.clone(), pki.key.clone_key()).store(store());
    let server = run(bind(server).await, |bound| bound.serve(service_fn(hello)));
    let policy = TlsPolicy::default();
    let mut client = Client::connect(server.address, pki.client_config(&policy, b"h2"), "127.0.0.1", policy).await.expect("a connection");
    let credential = client.credential(KID);
    let mut request = request("/", Some(&credential));
    request.headers_mut().insert(hyper::header::HOST, server.address.to_string().parse().expect("a value"));
    assert_eq!(client.send(request).await.expect("an answer").body, "hello Alice");
    server.stop().await;
}
