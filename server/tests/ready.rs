//! Whether the server says that it is ready: it turns with what is this server's own, and comes back by itself.

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use common::client::{Dialler, Http, Key};
use common::pki::{Pki, replace};
use common::server::{Server, told_by};
use common::upstream::Upstream;
use common::{HOST, one_site, until_so};

const ADMIN: &str = "admin = \"unix:server.admin\"\n";

/// The server before this application, and its client.
fn before(folder: &Path, upstream: SocketAddr) -> (Server, Dialler, Key) {
    let (pki, key) = (Pki::new(), Key::numbered(0));
    pki.issue_to(folder, "server", &[HOST]);
    replace(&folder.join("registry.toml"), &key.entry());
    let config = format!(
        "listen = \"127.0.0.1:0\"\nsecrets = \"registry.toml\"\nserver_names = [\"{HOST}\"]\ncertificate = \"server.pem\"\n\
         private_key = \"server.key\"\nupstream = \"http://{upstream}\"\n{ADMIN}"
    );
    let server = Server::start(folder, "server", &config);
    let dialler = Dialler::new(&pki, server.address, HOST);
    (server, dialler, key)
}

#[tokio::test]
async fn a_server_whose_upstream_starts_again_is_ready_all_the_while_and_told_to_be_well_without_any_request() {
    let folder = tempfile::tempdir().expect("a folder");
    // A port that nobody listens on.
    let away = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let (server, dialler, key) = before(folder.path(), away);
    assert_eq!(server.admin("/readyz").0, 200, "nothing is known of the upstream yet");
    let mut client = dialler.open(Http::Two, &key).await.expect("a connection");
    assert!(client.get("/").await.expect("an answer").0.is_server_error());
    let (status, told) = server.admin("/readyz");
    assert!(status == 200 && told.contains("NOTE upstreams: all down when last tried: api.test"), "{status}: {told}");
    assert_eq!(server.metric("ekm_otp_upstream_up", &[]), Some(0.0));
    assert_eq!(server.metric("ekm_otp_ready", &["check=\"upstreams\""]), None, "it decides nothing");

    let back = TcpListener::bind(away).expect("the same port");
    until_so("it may be tried again", || {
        let (status, told) = server.admin("/readyz");
        assert_eq!(status, 200, "{told}");
        told.contains("ok upstreams")
    })
    .await;
    drop(back);
}

#[tokio::test]
async fn no_client_turns_readiness_by_requests_that_the_app_drops() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (server, dialler, key) = before(folder.path(), app.local_addr().expect("its address"));
    // Takes each connection, and drops it.
    std::thread::spawn(move || app.incoming().for_each(drop));
    let mut client = dialler.open(Http::Two, &key).await.expect("a connection");
    for _ in 0..10 {
        assert!(client.get("/drop").await.expect("an answer").0.is_server_error());
    }
    let (status, told) = server.admin("/readyz");
    assert!(status == 200, "{status}: {told}");
}

#[tokio::test]
async fn a_registry_that_cannot_be_understood_makes_the_server_not_ready_until_it_can_and_clients_are_served_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pki, key, upstream) = (Pki::new(), Key::numbered(0), Upstream::start());
    let config = one_site(folder.path(), &pki, std::slice::from_ref(&key), &upstream) + ADMIN;
    let server = Server::start(folder.path(), "server", &config);
    assert_eq!((server.admin("/readyz").0, server.metric("ekm_otp_registry_up", &[])), (200, Some(1.0)));
    let registry = folder.path().join("registry.toml");
    let right = fs::read_to_string(&registry).expect("the registry");
    replace(&registry, "[nonsense]\nsecret = 7\n");
    until_so("it is told", || server.metric("ekm_otp_registry_up", &[]) == Some(0.0)).await;
    until_so("it is not ready", || server.admin("/readyz").0 == 503).await;
    let told = server.admin("/readyz").1;
    assert!(told.contains("FAILS registry: it answers, and cannot be understood: ") && told.contains("registry.toml"), "{told}");
    let dialler = Dialler::new(&pki, server.address, HOST);
    let mut client = dialler.open(Http::Two, &key).await.expect("a connection");
    assert_eq!(client.get("/n/word").await.expect("an answer").0, 200, "what was read before goes on");

    // One that is gone is away: it may come back as it was.
    fs::remove_file(&registry).expect("removing");
    until_so("it is away", || {
        let (status, told) = server.admin("/readyz");
        status == 200 && told.contains("ok registry: cannot be reached")
    })
    .await;
    replace(&registry, &right);
    until_so("it is well", || server.admin("/readyz").0 == 200 && server.metric("ekm_otp_registry_up", &[]) == Some(1.0)).await;
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pki, key, upstream) = (Pki::new(), Key::numbered(0), Upstream::start());
    let config = one_site(folder.path(), &pki, std::slice::from_ref(&key), &upstream) + ADMIN;
    let registry = ["--registry", "sqlite://registry.db", "--registry-key", "registry.key"];
    told_by(folder.path(), &["key", "new-registry-key", "--out", "registry.key"]);
    told_by(folder.path(), &[&["key"], &registry[..], &["import", "registry.toml"]].concat());
    told_by(folder.path(), &[&["key"], &registry[..], &["add", "broken", "--client", "Bob", "--secret-out", "secret"]].concat());
    // Another one's sealed secret.
    let swap = "import sqlite3; db = sqlite3.connect('registry.db')\n\
                db.execute(\"update ekm_otp_key set secret = zeroblob(length(secret)) where kid = 'broken'\"); db.commit()";
    let output = Command::new("python3").args(["-c", swap]).current_dir(folder.path()).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let config = config.replace("secrets = \"registry.toml\"", "registry = \"sqlite://registry.db\"\nregistry_key = \"registry.key\"");
    let server = Server::start(folder.path(), "server", &config);
    assert_eq!(server.metric("ekm_otp_registry_keys_unreadable", &[]), Some(1.0));
    let (status, told) = server.admin("/readyz");
    assert!(status == 200 && told.contains("1 keys, and 1 that cannot be read"), "{status}: {told}");
    let json: serde_json::Value = serde_json::from_str(&server.admin("/status.json").1).expect("JSON");
    assert_eq!(json["registry"]["unreadable"], 1);
    assert!(server.admin("/status").1.contains("1 more cannot be read"));
}

#[tokio::test]
async fn a_reload_that_is_refused_is_told_until_one_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pki, key, upstream) = (Pki::new(), Key::numbered(0), Upstream::start());
    let config = one_site(folder.path(), &pki, std::slice::from_ref(&key), &upstream) + ADMIN;
    let server = Server::start(folder.path(), "server", &config);
    assert_eq!(server.metric("ekm_otp_configuration_current", &[]), Some(1.0));
    replace(&folder.path().join("server.toml"), &format!("{config}nonsense = 1\n"));
    until_so("it is refused", || server.metric("ekm_otp_configuration_current", &[]) == Some(0.0)).await;
    let (status, told) = server.admin("/readyz");
    assert!(status == 200 && told.contains("NOTE configuration: the last reload was refused"), "{status}: {told}");
    assert!(server.metric("ekm_otp_reloads_total", &["refused"]) >= Some(1.0));
    replace(&folder.path().join("server.toml"), &config);
    until_so("it is taken", || server.metric("ekm_otp_configuration_current", &[]) == Some(1.0)).await;
}
