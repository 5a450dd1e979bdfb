//! Two servers that share a registry in PostgreSQL: what is changed there holds on both within moments, and its failures are felt by nobody.

mod common;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use common::client::{Dialler, Http, Key};
use common::held::Held;
use common::honest::Honest;
use common::pki::{Pki, replace};
use common::postgres::Postgres;
use common::server::{Server, told_by, tool};
use common::upstream::Upstream;
use common::{HOST, SOON, until_so};
use tempfile::TempDir;

/// The site whose application speaks HTTP/2.
const GRPC: &str = "grpc.test";

/// Two servers, their database, and what is behind them.
struct Fleet {
    folder: TempDir,
    database: Postgres,
    servers: [Server; 2],
    diallers: [Dialler; 2],
}

impl Fleet {
    fn start(keys: &[Key]) -> Self {
        let (folder, pki, upstream, database) = (tempfile::tempdir().expect("a folder"), Pki::new(), Upstream::start(), Postgres::start());
        let at = folder.path();
        pki.issue_to(at, "server", &[HOST, GRPC]);
        told_by(at, &["key", "new-registry-key", "--out", "registry.key"]);
        replace(&at.join("first.toml"), &keys.iter().map(Key::entry).collect::<String>());
        key(at, &database, &["import", "first.toml"]);
        let files = "certificate = \"server.pem\"\nprivate_key = \"server.key\"\n";
        let server = |name: &str| {
            let config = format!(
                "listen = \"127.0.0.1:0\"\nadmin = \"unix:{name}.admin\"\nregistry = \"{}\"\nregistry_key = \"registry.key\"\n\n\
                 [[site]]\nserver_names = [\"{HOST}\"]\n{files}upstream = \"{url}\"\n\n\
                 [[site]]\nserver_names = [\"{GRPC}\"]\n{files}upstream = \"{url}\"\nupstream_protocol = \"h2\"\n",
                database.url(),
                url = upstream.url()
            );
            Server::start(at, name, &config)
        };
        let servers = [server("a"), server("b")];
        let diallers = [&servers[0], &servers[1]].map(|server| Dialler::new(&pki, server.address, HOST));
        Self { folder, database, servers, diallers }
    }

    /// `ekm-otp-server key …`, which must succeed.
    fn key(&self, arguments: &[&str]) -> String {
        key(self.folder.path(), &self.database, arguments)
    }

    /// The same for `add` and `rotate`: the new key.
    fn new_key(&self, arguments: &[&str]) -> Key {
        Key::told(&self.key(&[arguments, &["--json"]].concat()))
    }

    /// Waits until requests with this key are answered like this on both servers. It is tried from an address of its own: failures count.
    async fn until_answered(&self, key: &Key, status: u16) -> Duration {
        let started = Instant::now();
        for dialler in &self.diallers {
            let dialler = dialler.from(Ipv4Addr::new(127, 9, 0, 1));
            loop {
                let mut connection = dialler.open(Http::One, key).await.expect("a connection");
                let got = connection.get("/n/x").await.expect("an answer").0;
                if got == status {
                    break;
                }
                assert!(started.elapsed() < SOON, "{} is answered {got}, not {status}", key.kid);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        started.elapsed()
    }

    async fn until_known(&self, is_up: bool) -> Duration {
        let up = if is_up { 1.0 } else { 0.0 };
        until_so("both servers know how their registry is", || {
            self.servers.iter().all(|server| server.metric("ekm_otp_registry_up", &[]) == Some(up))
        })
        .await
    }
}

fn key(folder: &Path, database: &Postgres, arguments: &[&str]) -> String {
    let url = database.url();
    told_by(folder, &[&["key", "--registry", &url, "--registry-key", "registry.key"], arguments].concat())
}

#[tokio::test]
async fn a_database_that_is_killed_and_started_again_is_felt_by_nobody() {
    let keys: Vec<Key> = (0..2).map(Key::numbered).collect();
    let mut fleet = Fleet::start(&keys);
    let honest = [0, 1].map(|at| Honest::start(4, Duration::from_millis(4), &fleet.diallers[at], &keys[at]));
    let mut away = Duration::ZERO;
    for outage in 0..3 {
        for honest in &honest {
            honest.go_on(100).await;
        }
        fleet.database.kill();
        let killed = Instant::now();
        let known = fleet.until_known(false).await;
        for server in &fleet.servers {
            let (status, told) = server.admin("/readyz");
            assert!(status == 200 && told.contains("cannot be reached"), "{status}: {told}");
        }
        // Who wants to change the registry is told so.
        let url = fleet.database.url();
        let refused = tool(fleet.folder.path(), &["key", "--registry", &url, "--registry-key", "registry.key", "revoke", &keys[0].kid]);
        assert!(!refused.status.success() && !refused.stderr.is_empty(), "{refused:?}");
        // Their connections are new ones, too.
        let before = honest.iter().map(Honest::requests).sum::<usize>();
        for honest in &honest {
            honest.go_on(300).await;
        }
        let meanwhile = honest.iter().map(Honest::requests).sum::<usize>() - before;
        fleet.database.start_again();
        away += killed.elapsed();
        let recovered = fleet.until_known(true).await;
        for server in &fleet.servers {
            let (status, told) = server.admin("/readyz");
            assert!(status == 200 && !told.contains("cannot be reached"), "{status}: {told}");
        }
        let added = fleet.new_key(&["add", &format!("late{outage}"), "--client", "Late"]);
        let arrived = fleet.until_answered(&added, 200).await;
        println!(
            "database killed: known after {known:.1?}, {meanwhile} requests without it, known to be back after {recovered:.1?}, a new key arrives after {arrived:.1?}"
        );
    }
    for (honest, at) in honest.into_iter().zip(["a", "b"]) {
        honest.end(&format!("honest clients of server {at}, {away:.1?} without the database")).await;
    }
}

#[tokio::test]
async fn revocation_and_expiry_end_every_kind_of_connection_on_both_servers_and_no_others() {
    let keys: Vec<Key> = (0..2).map(Key::numbered).collect();
    let fleet = Fleet::start(&keys);
    let [victim, other] = &keys[..] else { panic!("two keys") };
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for dialler in &fleet.diallers {
        theirs.extend(Held::all(dialler, GRPC, victim).await);
        others.extend(Held::all(dialler, GRPC, other).await);
    }
    for held in theirs.iter_mut().chain(&mut others) {
        held.goes_on().await;
    }
    let asked = Instant::now();
    fleet.key(&["revoke", &victim.kid]);
    let told = asked.elapsed();
    let mut left = Vec::new();
    until_so("all connections of the revoked key have ended", || {
        left = theirs.iter().filter(|held| !held.is_over()).map(|held| &held.what).collect();
        left.is_empty()
    })
    .await;
    println!(
        "{} connections of a revoked key on two servers ended {:.2?} after the command began, which took {told:.2?}",
        theirs.len(),
        asked.elapsed()
    );
    for held in &mut others {
        held.goes_on().await;
    }
    fleet.until_answered(victim, 401).await;

    // The same by time: the old key of a rotation is valid for its overlap, the new one from the start.
    let asked = Instant::now();
    let new = fleet.new_key(&["rotate", &other.kid, "--overlap", "4s"]);
    fleet.until_answered(&new, 200).await;
    let mut moved = Vec::new();
    for dialler in &fleet.diallers {
        moved.extend(Held::all(dialler, GRPC, &new).await);
    }
    assert!(others.iter().all(|held| !held.is_over()) || asked.elapsed() > Duration::from_secs(4), "ended before their time");
    until_so("all connections of the expired key have ended", || others.iter().all(Held::is_over)).await;
    let ended = asked.elapsed();
    assert!(ended >= Duration::from_secs(3), "ended before their time: {ended:?}");
    println!("{} connections of a rotated key with 4 s of overlap ended after {ended:.2?}", others.len());
    for held in &mut moved {
        held.goes_on().await;
    }
    fleet.until_answered(other, 401).await;
}
