//! The registry over its three engines: what the key commands do to it, and what running servers make of that.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::client::{Connection, Dialler, Http, Key};
use common::pki::{Pki, replace};
use common::postgres::Postgres;
use common::server::{BINARY, Server, told_by, tool};
use common::upstream::Upstream;
use common::{HOST, until, until_so};

const SQLITE: &str = "sqlite://registry.db";

/// A folder with a registry key.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    told_by(folder.path(), &["key", "new-registry-key", "--out", "registry.key"]);
    folder
}

/// A key command over this registry.
fn key<'a>(registry: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["key", "--registry", registry, "--registry-key", "registry.key"], arguments].concat()
}

fn done(folder: &Path, registry: &str, arguments: &[&str]) -> String {
    told_by(folder, &key(registry, arguments))
}

/// One that must fail: its exit code and what it says.
fn refused(folder: &Path, registry: &str, arguments: &[&str]) -> (i32, String) {
    let output = tool(folder, &key(registry, arguments));
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Adds a key whose secret the test knows.
fn add(folder: &Path, registry: &str, new: &Key, more: &[&str]) {
    replace(&folder.join("entry.toml"), &new.entry());
    done(folder, registry, &[&["add", "--entry", "entry.toml"], more].concat());
}

fn list(folder: &Path, registry: &str) -> serde_json::Value {
    serde_json::from_str(&done(folder, registry, &["list", "--json", "--all"])).expect("JSON")
}

fn shown(folder: &Path, registry: &str, kid: &str, field: &str) -> String {
    let told: serde_json::Value = serde_json::from_str(&done(folder, registry, &["show", kid, "--json"])).expect("JSON");
    told[field].as_str().unwrap_or_default().to_owned()
}

#[test]
fn keys_are_added_rotated_ended_and_never_bound_to_another_secret_over_all_engines() {
    let postgres = Postgres::start();
    for registry in ["registry.toml", "registry.json", SQLITE, &postgres.url()] {
        let folder = folder();
        let at = folder.path();
        let secret = done(at, registry, &["add", "alice", "--client", "Alice", "--not-after", "30d", "--server-name", HOST]);
        assert_eq!(secret.trim().len(), 44, "{registry}: 32 bytes in base64");
        done(at, registry, &["add", "bob", "--secret-out", "bob.secret"]);
        assert_eq!(fs::metadata(at.join("bob.secret")).expect("the secret").permissions().mode() & 0o777, 0o600, "{registry}");

        for (fault, arguments) in [
            ("kid_taken", &["add", "alice"][..]),
            ("secret_out_taken", &["add", "carol", "--secret-out", "bob.secret"]),
            ("no_such_kid", &["revoke", "nobody"]),
            ("one_of_two_is_none", &["revoke", "bob", "nobody"]),
        ] {
            assert_eq!(refused(at, registry, arguments).0, 64, "{registry}: {fault}");
        }
        replace(&at.join("again.toml"), &format!("[again]\nsecret = \"{}\"\nclient = \"A\"\n", secret.trim()));
        let (code, why) = refused(at, registry, &["add", "--entry", "again.toml"]);
        assert!(code == 64 && why.contains("the secret of again is the same as that of alice"), "{registry}: {why}");
        replace(&at.join("weak.toml"), "[weak]\nsecret = \"dGVzdA==\"\nclient = \"A\"\n");
        assert_eq!(refused(at, registry, &["add", "--entry", "weak.toml"]).0, 64, "{registry}: a weak secret");
        assert_eq!(shown(at, registry, "bob", "state"), "active", "{registry}: all or none");

        done(at, registry, &["rotate", "alice", "--overlap", "7d"]);
        assert_eq!(shown(at, registry, "alice", "successor"), "alice-2", "{registry}");
        assert_eq!(shown(at, registry, "alice", "standing"), "in overlap", "{registry}");
        assert_eq!(shown(at, registry, "alice-2", "client"), "Alice", "{registry}");
        done(at, registry, &["revoke", "bob", "alice"]);
        assert_eq!(shown(at, registry, "bob", "state"), "revoked", "{registry}");
        done(at, registry, &["enable", "bob"]);
        done(at, registry, &["disable", "alice-2"]);
        assert_eq!(shown(at, registry, "bob", "state"), "active", "{registry}");
        done(at, registry, &["remove", "bob"]);
        let (code, why) = refused(at, registry, &["add", "bob"]);
        assert!(code == 64 && why.contains("never bound to another secret"), "{registry}: {why}");
        assert_eq!(refused(at, registry, &["enable", "bob"]).0, 64, "{registry}: gone for good");

        let table = done(at, registry, &["list"]);
        assert!(table.starts_with("KEY ID") && table.contains("alice-2") && !table.contains("bob"), "{registry}: {table}");
        for output in [&table, &done(at, registry, &["export"]), &list(at, registry).to_string()] {
            assert!(!output.contains(secret.trim()), "{registry}: a secret is shown: {output}");
        }
    }
}

#[test]
fn what_is_exported_can_be_imported_by_each_engine_and_is_the_same_again() {
    let postgres = Postgres::start();
    let folder = folder();
    let at = folder.path();
    for number in 0..1200 {
        let text = fs::read_to_string(at.join("first.toml")).unwrap_or_default();
        if number % 400 == 0 {
            let more: String = (number..number + 400).map(|number| Key::numbered(number).entry()).collect();
            replace(&at.join("first.toml"), &(text + &more));
        }
    }
    done(at, "first.toml", &["rotate", "client7"]);
    done(at, "first.toml", &["remove", "client8"]);
    done(at, "first.toml", &["revoke", "client9"]);
    let mut from = "first.toml".to_owned();
    let url = postgres.url();
    for (number, to) in [SQLITE, &url, "second.json", "third.toml"].into_iter().enumerate() {
        let file = format!("export{number}.toml");
        done(at, &from, &["export", "--with-secrets", "--out", &file]);
        assert_eq!(fs::metadata(at.join(&file)).expect("it").permissions().mode() & 0o777, 0o600);
        done(at, to, &["import", &file]);
        assert_eq!(refused(at, to, &["import", &file]).0, 64, "all are there already");
        from = to.to_owned();
    }
    done(at, &from, &["export", "--with-secrets", "--out", "last.toml"]);
    let [first, last] = ["export1.toml", "last.toml"].map(|name| fs::read_to_string(at.join(name)).expect("it"));
    assert!(first == last && first.matches("secret = ").count() == 1200, "1,200, one removed, one new");
}

#[test]
fn writers_at_once_wait_for_one_another() {
    let postgres = Postgres::start();
    for registry in ["registry.toml", SQLITE, &postgres.url()] {
        let folder = folder();
        // The first of several makes what is not there yet.
        done(folder.path(), registry, &["add", "first"]);
        let writers: Vec<_> = (0..8)
            .map(|number| {
                let kid = format!("writer{number}");
                let mut command = Command::new(BINARY);
                command.args(key(registry, &["add", &kid])).current_dir(folder.path());
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a writer")
            })
            .collect();
        for writer in writers {
            let output = writer.wait_with_output().expect("its end");
            assert!(output.status.success(), "{registry}: {}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(list(folder.path(), registry).as_array().expect("a list").len(), 9, "{registry}");
    }
}

#[test]
fn a_full_disk_changes_nothing_and_a_secret_that_was_not_delivered_is_no_key() {
    for registry in ["registry.toml", SQLITE] {
        let folder = folder();
        let at = folder.path();
        done(at, registry, &["add", "alice"]);
        let before = list(at, registry);
        let many: String = (0..2000).map(|number| Key::numbered(number).entry()).collect();
        replace(&at.join("many.toml"), &many);
        // No file grows beyond 64 blocks of 512 bytes.
        let script = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
        let output =
            Command::new("sh").args(["-c", script, "sh", BINARY]).args(key(registry, &["import", "many.toml"])).current_dir(at).output();
        let output = output.expect("sh");
        assert!(!output.status.success() && output.status.code().is_some(), "{registry}: {output:?}");
        assert_eq!(list(at, registry), before, "{registry}");

        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let status = Command::new(BINARY).args(key(registry, &["add", "bob"])).current_dir(at).stdout(full).stderr(Stdio::null()).status();
        assert_eq!(status.expect("its end").code(), Some(1), "{registry}");
        assert_eq!(refused(at, registry, &["add", "bob", "--secret-out", "/nowhere/bob"]).0, 69, "{registry}");
        assert_eq!(list(at, registry), before, "{registry}");
    }
}

#[test]
fn a_database_that_others_can_read_or_that_is_newer_or_sealed_with_another_key_is_refused() {
    let folder = folder();
    let at = folder.path();
    done(at, SQLITE, &["add", "alice"]);
    assert_eq!(fs::metadata(at.join("registry.db")).expect("it").permissions().mode() & 0o777, 0o600);
    fs::set_permissions(at.join("registry.db"), fs::Permissions::from_mode(0o640)).expect("chmod");
    // Root is in the group root: for it, the group is no other.
    fs::set_permissions(at.join("registry.db"), fs::Permissions::from_mode(0o604)).expect("chmod");
    let (code, why) = refused(at, SQLITE, &["list"]);
    assert!(code == 77 && why.contains("chmod 600"), "{why}");
    fs::set_permissions(at.join("registry.db"), fs::Permissions::from_mode(0o600)).expect("chmod");

    let other = ["key", "--registry", SQLITE, "--registry-key", "other.key", "list"];
    told_by(at, &["key", "new-registry-key", "--out", "other.key"]);
    let output = tool(at, &other);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is sealed with the registry key"));

    let postgres = Postgres::start();
    let url = postgres.url();
    done(at, &url, &["add", "alice"]);
    postgres.ask("UPDATE ekm_otp_registry SET version = 2");
    let (code, why) = refused(at, &url, &["list"]);
    assert!(code == 64 && why.contains("schema version 2"), "{why}");
    for (fault, url, expected) in [
        ("password_in_url", "postgres://u:pw@db.test/d", 64),
        ("tls_not_verified", "postgres://u@db.test/d?sslmode=require", 64),
        ("nothing_listens", "postgres://u@127.0.0.1:1/d", 69),
        ("no_such_engine", "mysql://u@127.0.0.1/d", 64),
    ] {
        assert_eq!(refused(at, url, &["list"]).0, expected, "{fault}");
    }
}

/// Servers before one application that share a registry.
struct Fleet {
    folder: tempfile::TempDir,
    pki: Pki,
    upstream: Arc<Upstream>,
    registry: String,
}

impl Fleet {
    fn new(registry: &str) -> Self {
        let (folder, pki) = (folder(), Pki::new());
        pki.issue_to(folder.path(), "server", &[HOST]);
        Self { folder, pki, upstream: Arc::new(Upstream::start()), registry: registry.to_owned() }
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn server(&self, name: &str) -> Server {
        self.server_with(name, "")
    }

    fn server_with(&self, name: &str, more: &str) -> Server {
        let config = format!(
            "listen = \"127.0.0.1:0\"\nregistry = \"{}\"\nregistry_key = \"registry.key\"\nserver_names = [\"{HOST}\"]\n\
             max_failures_per_source = 0\ncertificate = \"server.pem\"\nprivate_key = \"server.key\"\nupstream = \"{}\"\n{more}",
            self.registry,
            self.upstream.url()
        );
        Server::start(self.at(), name, &config)
    }

    async fn connection(&self, server: &Server, http: Http, key: &Key) -> Connection {
        Dialler::new(&self.pki, server.address, HOST).open(http, key).await.expect("a connection")
    }

    /// What a new connection's first request gets.
    async fn status(&self, server: &Server, key: &Key) -> u16 {
        self.answer(server, key).await.expect("an answer")
    }

    /// The same, where the key may end in the middle of it: then there is none.
    async fn answer(&self, server: &Server, key: &Key) -> Option<u16> {
        Some(self.connection(server, Http::One, key).await.get("/n/word").await.ok()?.0.as_u16())
    }

    async fn becomes(&self, server: &Server, key: &Key, status: u16) {
        let started = std::time::Instant::now();
        while self.answer(server, key).await != Some(status) {
            assert!(started.elapsed() < common::SOON, "{} never gets {status}: {}", key.kid, server.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    fn done(&self, arguments: &[&str]) -> String {
        done(self.at(), &self.registry, arguments)
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_or_expires_loses_its_connections_on_every_server() {
    let postgres = Postgres::start();
    let [alice, bob, carol] = [1, 2, 3].map(Key::numbered);
    // The file is followed as well, by one server.
    for (registry, names) in
        [(postgres.url(), &["one", "two"][..]), ("registry.toml".to_owned(), &["one"]), (SQLITE.to_owned(), &["one", "two"])]
    {
        let fleet = Fleet::new(&registry);
        for key in [&alice, &bob, &carol] {
            add(fleet.at(), &registry, key, &[]);
        }
        let servers: Vec<Server> = names.iter().map(|name| fleet.server(name)).collect();
        let mut open = Vec::new();
        for server in &servers {
            for key in [&alice, &bob, &carol] {
                for http in [Http::One, Http::Two] {
                    let mut connection = fleet.connection(server, http, key).await;
                    assert_eq!(connection.get("/n/word").await.expect("an answer").0, 200, "{registry}: {}", key.kid);
                    open.push((key.kid.as_str(), connection));
                }
            }
        }
        let still_open = |open: &[(&str, Connection)], kid: &str| open.iter().filter(|(of, one)| *of == kid && one.is_open()).count();

        fleet.done(&["revoke", &alice.kid]);
        until_so("the connections of who is revoked are closed", || still_open(&open, &alice.kid) == 0).await;
        fleet.done(&["rotate", &bob.kid, "--overlap", "2s"]);
        until_so("the connections of who has expired are closed", || still_open(&open, &bob.kid) == 0).await;
        assert_eq!(still_open(&open, &carol.kid), 2 * servers.len(), "{registry}: the others go on");
        for server in &servers {
            assert_eq!([fleet.status(server, &alice).await, fleet.status(server, &bob).await], [401, 401], "{registry}");
            assert_eq!(fleet.status(server, &carol).await, 200, "{registry}");
        }
        fleet.done(&["enable", &alice.kid]);
        for server in &servers {
            fleet.becomes(server, &alice, 200).await;
        }
        fleet.done(&["remove", &carol.kid]);
        until_so("the connections of who is removed are closed", || still_open(&open, &carol.kid) == 0).await;
    }
}

#[tokio::test]
async fn a_database_that_is_away_takes_nobody_down_and_what_changes_after_it_is_back_arrives() {
    let mut postgres = Postgres::start();
    let fleet = Fleet::new(&postgres.url());
    let [alice, bob] = [1, 2].map(Key::numbered);
    add(fleet.at(), &fleet.registry, &alice, &[]);
    let servers = [fleet.server("one"), fleet.server("two")];
    let strict = fleet.server_with("strict", "max_staleness = 1\n");
    let mut open = Vec::new();
    for server in &servers {
        open.push(fleet.connection(server, Http::Two, &alice).await);
    }
    for round in 0..2 {
        postgres.kill();
        for server in &servers {
            until("it is told", || server.logged("the registry cannot be read") > round);
            assert_eq!(fleet.status(server, &alice).await, 200, "what was read goes on");
            assert_eq!(fleet.status(server, &bob).await, if round == 0 { 401 } else { 200 });
        }
        for connection in &mut open {
            assert_eq!(connection.get("/n/word").await.expect("an answer").0, 200);
        }
        fleet.becomes(&strict, if round == 0 { &alice } else { &bob }, 503).await;
        postgres.start_again();
        if round == 0 {
            add(fleet.at(), &fleet.registry, &bob, &[]);
        } else {
            fleet.done(&["revoke", &alice.kid]);
        }
        for server in &servers {
            fleet.becomes(server, if round == 0 { &bob } else { &alice }, if round == 0 { 200 } else { 401 }).await;
        }
        fleet.becomes(&strict, &bob, 200).await;
    }
    // The end writes down who came.
    drop(strict);
    let [mut one, two] = servers;
    one.signal("TERM");
    assert_eq!(tokio::task::spawn_blocking(move || one.ended()).await.expect("its end").code(), Some(0));
    assert!(!shown(fleet.at(), &fleet.registry, &bob.kid, "last_use").is_empty());
    drop(two);
}

#[tokio::test]
async fn rows_that_somebody_else_changed_are_no_keys() {
    let postgres = Postgres::start();
    let fleet = Fleet::new(&postgres.url());
    let keys: Vec<Key> = (0..9).map(Key::numbered).collect();
    for key in &keys {
        add(fleet.at(), &fleet.registry, key, &[]);
    }
    fleet.done(&["revoke", "client5"]);
    let before = fleet.server("before");
    postgres.ask("UPDATE ekm_otp_key SET secret = (SELECT secret FROM ekm_otp_key WHERE kid = 'client1') WHERE kid = 'client0'");
    postgres.ask("UPDATE ekm_otp_key SET client = 'the owner of client5' WHERE kid = 'client2'");
    postgres.ask("UPDATE ekm_otp_key SET secret = set_byte(secret, 20, get_byte(secret, 20) # 1) WHERE kid = 'client3'");
    postgres.ask("UPDATE ekm_otp_key SET server_names = 'other.test' WHERE kid = 'client4'");
    postgres.ask("UPDATE ekm_otp_key SET state = 'active' WHERE kid = 'client5'");
    // So that the server that runs looks at them, too; all of them, once the change is counted.
    postgres.ask("UPDATE ekm_otp_key SET change = (SELECT change + 1 FROM ekm_otp_registry)");
    postgres.ask("UPDATE ekm_otp_key SET profile = 'newer' WHERE kid = 'client6'");
    postgres.ask("UPDATE ekm_otp_key SET sealed_with = 'deadbeef' WHERE kid = 'client7'");
    postgres.ask("UPDATE ekm_otp_registry SET change = change + 1");
    let after = fleet.server("after");
    fleet.becomes(&before, &keys[0], 401).await;
    for server in [&before, &after] {
        for (number, status) in [401, 200, 401, 401, 401, 401, 401, 401, 200].into_iter().enumerate() {
            fleet.becomes(server, &keys[number], status).await;
        }
        assert!(server.logged("is no key, and is refused") >= 7, "{}", server.log());
    }
    // One broken row is one key's fault: revocations of others arrive.
    fleet.done(&["revoke", "client8"]);
    for server in [&before, &after] {
        fleet.becomes(server, &keys[8], 401).await;
    }
    fleet.done(&["remove", "client6"]);
    assert_eq!(refused(fleet.at(), &fleet.registry, &["enable", "client5"]).0, 64);
}

#[tokio::test]
async fn the_registry_key_is_exchanged_while_servers_serve() {
    let fleet = Fleet::new(SQLITE);
    let [alice, bob] = [1, 2].map(Key::numbered);
    add(fleet.at(), SQLITE, &alice, &[]);
    let server = fleet.server("server");
    let old = fs::read_to_string(fleet.at().join("registry.key")).expect("the key");
    told_by(fleet.at(), &["key", "new-registry-key", "--append", "registry.key"]);
    fleet.done(&["rekey"]);
    add(fleet.at(), SQLITE, &bob, &[]);
    fleet.becomes(&server, &bob, 200).await;
    assert_eq!(fleet.status(&server, &alice).await, 200);
    // Without the old one from here on.
    let both = fs::read_to_string(fleet.at().join("registry.key")).expect("the keys");
    replace(&fleet.at().join("registry.key"), &both.replace(&old, ""));
    let after = fleet.server("after");
    assert_eq!([fleet.status(&after, &alice).await, fleet.status(&after, &bob).await], [200, 200]);
}

#[tokio::test]
async fn a_key_for_other_server_names_is_refused_as_an_unknown_one() {
    let fleet = Fleet::new(SQLITE);
    let [alice, bob, unknown] = [1, 2, 3].map(Key::numbered);
    add(fleet.at(), SQLITE, &alice, &["--server-name", "other.test"]);
    add(fleet.at(), SQLITE, &bob, &["--server-name", HOST]);
    let server = fleet.server("server");
    assert_eq!(fleet.status(&server, &bob).await, 200);
    let mut told = Vec::new();
    for key in [&alice, &unknown] {
        let mut connection = fleet.connection(&server, Http::One, key).await;
        let request = connection.request("GET", "/n/word").body(common::client::empty()).expect("a request");
        let response = connection.send(request).await.expect("an answer");
        let mut fields: Vec<_> = response.headers().iter().filter(|(name, _)| *name != "date").collect();
        fields.sort_by_key(|(name, _)| name.as_str());
        told.push(format!("{} {fields:?}", response.status()));
    }
    assert_eq!(told[0], told[1]);
}
