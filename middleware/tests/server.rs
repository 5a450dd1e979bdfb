//! `EkmServer`: a whole server in three lines, on loopback.

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Client, HOST, KID, Pki, request, secret_of};
use ekm_otp_tower::protocol::{KeyId, TlsPolicy};
use ekm_otp_tower::{BoundServer, EkmServer, LoadError, MemoryStore, RegisteredKey, Reloader, Serve, StartError, VerifiedClient};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(30);

fn store() -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    store.add(RegisteredKey::new(KeyId::new(KID).expect("a key id"), "Alice", secret_of(KID))).expect("a key");
    Arc::new(store)
}

fn settings(pki: &Pki) -> EkmServer {
    EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key()).store(store())
}

async fn bind(server: EkmServer) -> BoundServer {
    server.bind("127.0.0.1:0").await.expect("a server")
}

async fn connect(address: SocketAddr, pki: &Pki, alpn: &[u8]) -> Client {
    let policy = TlsPolicy::default();
    Client::connect(address, pki.client_config(&policy, alpn), HOST, policy).await.expect("a TLS connection")
}

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let client = request.extensions().get::<VerifiedClient>().map_or("nobody", VerifiedClient::client);
    Ok(Response::new(Full::from(format!("hello {client}"))))
}

struct Running {
    address: SocketAddr,
    reloader: Reloader,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), StartError>>,
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).expect("it serves");
        tokio::time::timeout(PATIENCE, self.ended).await.expect("it ends").expect("no panic").expect("no error");
    }
}

fn run<P: ekm_otp_tower::PerConnection + Sync>(bound: BoundServer, serve: impl FnOnce(BoundServer) -> Serve<P>) -> Running {
    let (address, reloader) = (bound.local_addr(), bound.reloader());
    let (stop, stopped) = oneshot::channel();
    let serving = serve(bound).with_graceful_shutdown(async move { drop(stopped.await) }).into_future();
    Running { address, reloader, stop, ended: tokio::spawn(serving) }
}

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
async fn a_new_certificate_is_taken_and_open_connections_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (Pki::new(), Pki::new());
    let [chain, key] = first.write(folder.path());
    let server = EkmServer::new(HOST).certificate(&chain, &key).store(store()).look_every(Duration::from_millis(20));
    let server = run(bind(server).await, |bound| bound.serve(service_fn(hello)));
    let mut open = connect(server.address, &first, b"http/1.1").await;
    let credential = open.credential(KID);
    assert_eq!(open.get(&credential).await.status, StatusCode::OK);

    second.write(folder.path());
    let policy = TlsPolicy::default();
    let since = std::time::Instant::now();
    while Client::connect(server.address, second.client_config(&policy, b"h2"), HOST, policy).await.is_err() {
        assert!(since.elapsed() < PATIENCE, "the new certificate was not taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(open.get(&credential).await.status, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn files_that_are_wrong_are_told_and_what_was_there_before_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (Pki::new(), Pki::new());
    let [chain, key] = first.write(folder.path());
    let server = EkmServer::new(HOST).certificate(&chain, &key).store(store()).look_every(None);
    let server = run(bind(server).await, |bound| bound.serve(service_fn(hello)));

    let other = folder.path().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let [other_chain, other_key] = second.write(&other);
    std::fs::copy(other_chain, &chain).expect("copying");
    assert!(matches!(server.reloader.reload().await, Err(LoadError::Certificate(_))), "the key of another certificate");
    connect(server.address, &first, b"h2").await;
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA").expect("writing");
    assert!(matches!(server.reloader.reload().await, Err(LoadError::Pem { .. })), "half a key");
    connect(server.address, &first, b"h2").await;
    std::fs::remove_file(&key).expect("removing");
    assert!(matches!(server.reloader.reload().await, Err(LoadError::Read { .. })), "no key");
    connect(server.address, &first, b"h2").await;
    std::fs::copy(other_key, &key).expect("copying");
    assert!(server.reloader.reload().await.expect("both are there").certificate);
    connect(server.address, &second, b"h2").await;
    assert!(!server.reloader.reload().await.expect("both are there").certificate, "it is the same");
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

#[cfg(feature = "registry-file")]
mod registry_file {
    use super::*;

    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::PathBuf;

    // Test data, used nowhere else: 32 times the letter that is the client's, in base64.
    const SECRETS: [&str; 2] = ["YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=", "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="];

    fn write(folder: &Path, kids: &[(&str, usize)]) -> PathBuf {
        let path = folder.join("secrets.toml");
        let text: String =
            kids.iter().map(|(kid, n)| format!("[{kid}]\nsecret = \"{}\"\nclient = \"owner of {kid}\"\n", SECRETS[*n])).collect();
        let new = folder.join("new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).expect("a file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("writing");
        std::fs::rename(new, &path).expect("renaming");
        path
    }

    fn credential(client: &Client, kid: &str, n: usize) -> String {
        use ekm_otp_tower::protocol::{Derivation, Secret, field::Credential};
        let kid = KeyId::new(kid).expect("a key id");
        let derivation = Derivation::new(&client.ekm, &kid, client.facts.server_name());
        let tag = Secret::new(vec![b"ab"[n]; 32]).expect("a secret").mac(derivation.mac_input());
        Credential::write(&kid, &client.ekm.channel(), &derivation.finish(tag).otp()).to_string()
    }

    async fn status(address: SocketAddr, pki: &Pki, kid: &str, n: usize) -> StatusCode {
        let mut client = connect(address, pki, b"h2").await;
        let credential = credential(&client, kid, n);
        client.get(&credential).await.status
    }

    #[tokio::test]
    async fn new_keys_are_taken_and_connections_of_keys_that_are_gone_are_cut_while_others_go_on() {
        let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
        let path = write(folder.path(), &[("a", 0)]);
        let server = EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key()).registry_file(&path);
        let server = run(bind(server.look_every(Duration::from_millis(20))).await, |bound| bound.serve(service_fn(hello)));
        assert_eq!(status(server.address, &pki, "b", 1).await, StatusCode::UNAUTHORIZED);
        let mut stays = connect(server.address, &pki, b"http/1.1").await;
        let of_a = credential(&stays, "a", 0);
        assert_eq!(stays.get(&of_a).await.body, "hello owner of a");

        write(folder.path(), &[("a", 0), ("b", 1)]);
        let since = std::time::Instant::now();
        while status(server.address, &pki, "b", 1).await != StatusCode::OK {
            assert!(since.elapsed() < PATIENCE, "the new key was not taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut goes = connect(server.address, &pki, b"http/1.1").await;
        let of_b = credential(&goes, "b", 1);
        assert_eq!(goes.get(&of_b).await.status, StatusCode::OK);

        write(folder.path(), &[("a", 0)]);
        // Cut, with or without a word.
        let _ = tokio::time::timeout(PATIENCE, goes.connection).await.expect("it is cut").expect("no panic");
        assert_eq!(status(server.address, &pki, "b", 1).await, StatusCode::UNAUTHORIZED);
        assert_eq!(stays.get(&of_a).await.status, StatusCode::OK);
        server.stop().await;
    }

    #[tokio::test]
    async fn a_registry_file_that_is_wrong_is_told_and_keeps_the_old_certificate_too() {
        let (folder, pki, other) = (tempfile::tempdir().expect("a folder"), Pki::new(), Pki::new());
        let path = write(folder.path(), &[("a", 0)]);
        let [chain, key] = pki.write(folder.path());
        let server = EkmServer::new(HOST).certificate(chain, key).registry_file(&path).look_every(None);
        let server = run(bind(server).await, |bound| bound.serve(service_fn(hello)));
        other.write(folder.path());
        // The same secret for two key ids.
        write(folder.path(), &[("a", 0), ("c", 0)]);
        let error = server.reloader.reload().await.expect_err("it is wrong");
        assert!(matches!(error, LoadError::Registry(_)) && error.to_string().contains("secrets.toml"), "{error}");
        assert_eq!(status(server.address, &pki, "a", 0).await, StatusCode::OK);

        write(folder.path(), &[("a", 0), ("b", 1)]);
        let loaded = server.reloader.reload().await.expect("it is right");
        assert_eq!((loaded.certificate, loaded.keys_added, loaded.keys_removed, loaded.keys_changed), (true, 1, 0, 0));
        assert_eq!(status(server.address, &other, "b", 1).await, StatusCode::OK);
        server.stop().await;
    }

    #[tokio::test]
    async fn a_registry_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
        let path = write(folder.path(), &[("a", 0)]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("a mode");
        let server = EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key()).registry_file(&path);
        assert!(fault(server).await.contains("secrets.toml"));
    }
}
