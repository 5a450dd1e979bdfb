//! Files that an `EkmServer` reads again while it serves: certificates, and the registry's.

mod common;
mod whole;

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Client, HOST, KID, Pki, request};
use ekm_otp_tower::protocol::{KeyId, TlsPolicy};
use ekm_otp_tower::{EkmServer, LoadError};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use tokio::sync::Notify;
use whole::{PATIENCE, Running, bind, connect, hello, run, store};

/// How often the tests' servers look at their files.
const OFTEN: Duration = Duration::from_millis(20);
/// How often where something else is to happen in between each time.
const SELDOM: Duration = Duration::from_millis(200);

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
    let since = Instant::now();
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
    fs::create_dir(&other).expect("a folder");
    let [other_chain, other_key] = second.write(&other);
    fs::copy(other_chain, &chain).expect("copying");
    assert!(matches!(server.reloader.reload().await.certificate, Err(LoadError::Certificate(_))), "the key of another certificate");
    connect(server.address, &first, b"h2").await;
    fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA").expect("writing");
    assert!(matches!(server.reloader.reload().await.certificate, Err(LoadError::Pem { .. })), "half a key");
    connect(server.address, &first, b"h2").await;
    fs::remove_file(&key).expect("removing");
    assert!(matches!(server.reloader.reload().await.certificate, Err(LoadError::Read { .. })), "no key");
    connect(server.address, &first, b"h2").await;
    fs::copy(other_key, &key).expect("copying");
    assert!(server.reloader.reload().await.certificate.expect("both are there"));
    connect(server.address, &second, b"h2").await;
    assert!(!server.reloader.reload().await.certificate.expect("both are there"), "it is the same");
    server.stop().await;
}

// Test data, used nowhere else: 32 times the letter that is the client's, in base64.
const SECRETS: [&str; 2] = ["YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=", "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="];

/// The registry's file in this folder with these keys, in which `revoked` are so. It is replaced at once.
fn write_with(folder: &Path, kids: &[(&str, usize)], revoked: &[&str]) -> PathBuf {
    let path = folder.join("secrets.toml");
    let entry = |(kid, n): &(&str, usize)| {
        let state = if revoked.contains(kid) { "revoked" } else { "active" };
        format!("[{kid}]\nstate = \"{state}\"\nsecret = \"{}\"\nclient = \"owner of {kid}\"\n", SECRETS[*n])
    };
    let new = folder.join("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).expect("a file");
    std::io::Write::write_all(&mut file, kids.iter().map(entry).collect::<String>().as_bytes()).expect("writing");
    fs::rename(new, &path).expect("renaming");
    path
}

fn write(folder: &Path, kids: &[(&str, usize)]) -> PathBuf {
    write_with(folder, kids, &[])
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
    let since = Instant::now();
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
async fn a_registry_file_that_is_wrong_is_told_and_keeps_the_old_keys_but_not_the_old_certificate() {
    let (folder, pki, other) = (tempfile::tempdir().expect("a folder"), Pki::new(), Pki::new());
    let path = write(folder.path(), &[("a", 0)]);
    let [chain, key] = pki.write(folder.path());
    let server = EkmServer::new(HOST).certificate(chain, key).registry_file(&path).look_every(None);
    let server = run(bind(server).await, |bound| bound.serve(service_fn(hello)));
    other.write(folder.path());
    // The same secret for two key ids.
    write(folder.path(), &[("a", 0), ("c", 0)]);
    let reloaded = server.reloader.reload().await;
    let error = reloaded.registry.expect_err("it is wrong");
    assert!(matches!(error, LoadError::Registry(_)) && error.to_string().contains("secrets.toml"), "{error}");
    assert!(reloaded.certificate.expect("it is right"));
    assert_eq!(status(server.address, &other, "a", 0).await, StatusCode::OK);

    write(folder.path(), &[("a", 0), ("b", 1)]);
    let reloaded = server.reloader.reload().await;
    let keys = reloaded.registry.expect("it is right");
    assert_eq!((keys.added, keys.removed, keys.changed), (1, 0, 0));
    assert!(!reloaded.certificate.expect("it is right"));
    assert_eq!(status(server.address, &other, "b", 1).await, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn a_registry_that_others_can_read_is_refused() {
    let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
    let path = write(folder.path(), &[("a", 0)]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    let server = EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key()).registry_file(&path);
    let fault = server.bind("127.0.0.1:0").await.expect_err("it does not start").to_string();
    assert!(fault.contains("secrets.toml"), "{fault}");
}

/// A server of files that are looked at often, a client of key `b`, and its credential.
async fn with_a_client_of_b(folder: &Path, pki: &Pki, look_every: Duration) -> (Running, Client, String) {
    let path = write(folder, &[("a", 0), ("b", 1)]);
    let [chain, key] = pki.write(folder);
    let server = EkmServer::new(HOST).certificate(chain, key).registry_file(path).look_every(look_every);
    let server = run(bind(server).await, |bound| bound.serve(service_fn(hello)));
    let mut client = connect(server.address, pki, b"http/1.1").await;
    let credential = credential(&client, "b", 1);
    assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    (server, client, credential)
}

/// Cut, with or without a word.
async fn is_cut(client: Client) {
    let _ = tokio::time::timeout(PATIENCE, client.connection).await.expect("it is cut").expect("no panic");
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_holds_back_no_revocation() {
    let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
    let (server, client, _) = with_a_client_of_b(folder.path(), &pki, OFTEN).await;
    // A renewal that wrote one of its two files.
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("a folder");
    let [other_chain, _] = Pki::new().write(&other);
    fs::copy(other_chain, folder.path().join("chain.pem")).expect("copying");
    write_with(folder.path(), &[("a", 0), ("b", 1)], &["b"]);
    is_cut(client).await;
    assert_eq!(status(server.address, &pki, "b", 1).await, StatusCode::UNAUTHORIZED);

    write_with(folder.path(), &[("a", 0), ("b", 1)], &["a", "b"]);
    let reloaded = server.reloader.reload().await;
    assert!(matches!(reloaded.certificate, Err(LoadError::Certificate(_))), "{reloaded:?}");
    reloaded.registry.expect("it is right");
    assert_eq!(status(server.address, &pki, "a", 0).await, StatusCode::UNAUTHORIZED);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_whose_reading_does_not_end_holds_back_no_revocation() {
    let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
    let (server, client, _) = with_a_client_of_b(folder.path(), &pki, OFTEN).await;
    let key = folder.path().join("key.pem");
    fs::remove_file(&key).expect("removing");
    assert!(std::process::Command::new("mkfifo").arg(&key).status().expect("mkfifo (coreutils)").success());
    // Time enough to begin reading it.
    tokio::time::sleep(OFTEN * 5).await;
    write_with(folder.path(), &[("a", 0), ("b", 1)], &["b"]);
    is_cut(client).await;
    // Whoever waits at the pipe gets its end.
    fs::rename(&key, folder.path().join("pipe")).expect("renaming");
    drop(fs::OpenOptions::new().read(true).write(true).open(folder.path().join("pipe")).expect("the pipe"));
    server.stop().await;
}

/// Does something all the time, until it is dropped.
struct AllTheTime(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl AllTheTime {
    fn begin(mut what: impl FnMut() + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let in_thread = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !in_thread.load(Ordering::Relaxed) {
                what();
                std::thread::sleep(OFTEN / 4);
            }
        });
        Self(ends, Some(thread))
    }
}

impl Drop for AllTheTime {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().map(JoinHandle::join);
    }
}

#[tokio::test]
async fn a_certificate_that_is_touched_all_the_time_holds_back_no_revocation() {
    let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
    let (server, client, _) = with_a_client_of_b(folder.path(), &pki, SELDOM).await;
    let chain = folder.path().join("chain.pem");
    let touching = AllTheTime::begin(move || {
        let file = fs::OpenOptions::new().append(true).open(&chain).expect("the chain");
        file.set_modified(std::time::SystemTime::now()).expect("touching");
    });
    write_with(folder.path(), &[("a", 0), ("b", 1)], &["b"]);
    is_cut(client).await;
    drop(touching);
    server.stop().await;
}

#[tokio::test]
async fn a_registry_that_never_rests_is_read_all_the_same() {
    let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
    let (server, client, _) = with_a_client_of_b(folder.path(), &pki, SELDOM).await;
    let of_thread = folder.path().to_owned();
    let writing = AllTheTime::begin(move || drop(write_with(&of_thread, &[("a", 0), ("b", 1)], &["b"])));
    is_cut(client).await;
    drop(writing);
    server.stop().await;
}

#[tokio::test]
async fn what_is_written_before_the_server_serves_is_not_missed() {
    let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
    let path = write(folder.path(), &[("a", 0)]);
    let server = EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key()).registry_file(&path);
    let bound = bind(server.look_every(OFTEN)).await;
    write_with(folder.path(), &[("a", 0)], &["a"]);
    let server = run(bound, |bound| bound.serve(service_fn(hello)));
    let since = Instant::now();
    while status(server.address, &pki, "a", 0).await != StatusCode::UNAUTHORIZED {
        assert!(since.elapsed() < PATIENCE, "the revocation was not taken");
        tokio::time::sleep(OFTEN).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn keys_that_are_revoked_or_end_while_the_server_drains_lose_their_connections() {
    let (folder, pki) = (tempfile::tempdir().expect("a folder"), Pki::new());
    let path = write(folder.path(), &[("a", 0), ("b", 1)]);
    let begun = Arc::new(Notify::new());
    let in_service = Arc::clone(&begun);
    let stuck = service_fn(move |_| {
        in_service.notify_one();
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let server = EkmServer::new(HOST).certificate_der(pki.chain.clone(), pki.key.clone_key()).registry_file(&path);
    let server = run(bind(server.look_every(OFTEN).drain_within(PATIENCE * 10)).await, |bound| bound.serve(stuck));
    let mut asking = Vec::new();
    for (n, kid) in ["a", "b"].into_iter().enumerate() {
        let mut client = connect(server.address, &pki, b"http/1.1").await;
        let credential = credential(&client, kid, n);
        asking.push(tokio::spawn(async move { client.send(request("/", Some(&credential))).await.map(|answer| answer.status) }));
        begun.notified().await;
    }
    let ending = tokio::spawn(server.stop());
    tokio::time::sleep(OFTEN).await;
    write_with(folder.path(), &[("a", 0), ("b", 1)], &["b"]);
    let of_b = tokio::time::timeout(PATIENCE, asking.remove(1)).await.expect("it is cut").expect("no panic");
    of_b.expect_err("the connection was cut");
    assert!(!asking[0].is_finished(), "the other goes on");
    // Its key ends now.
    let text = fs::read_to_string(&path).expect("the registry").replacen("[a]\n", "[a]\nnot_after = \"2020-01-01T00:00:00Z\"\n", 1);
    fs::write(&path, text).expect("writing");
    let of_a = tokio::time::timeout(PATIENCE, asking.remove(0)).await.expect("it is cut").expect("no panic");
    of_a.expect_err("the connection was cut");
    tokio::time::timeout(PATIENCE, ending).await.expect("nobody is left to wait for").expect("it ended");
}
