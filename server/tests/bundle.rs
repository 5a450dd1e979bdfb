//! Keys that leave in bundles: what `key add` and `key rotate` write, what running servers make of the first use, and how clients rotate by themselves. Over all engines.

mod common;

use std::fs;
use std::path::Path;

use common::client::{Connection, Dialler, Http, Key, empty};
use common::pki::{Pki, replace};
use common::postgres::Postgres;
use common::server::{Server, told_by, tool};
use common::{HOST, until_so};
use ekm_otp_files::bundle::{Bundle, BundleFile, BundleSecret, read};
use ekm_otp_swtpm::Swtpm;
use http_body_util::{BodyExt as _, Full};
use hyper::StatusCode;
use serde_json::Value;

const SQLITE: &str = "sqlite://registry.db";
const ORIGIN: &str = "https://api.test:8443";

/// A folder with a certificate and an empty registry.
struct Bench {
    folder: tempfile::TempDir,
    pki: Pki,
    registry: String,
}

impl Bench {
    fn new(registry: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        told_by(folder.path(), &["key", "new-registry-key", "--out", "registry.key"]);
        let pki = Pki::new();
        pki.issue_to(folder.path(), "server", &[HOST]);
        Self { folder, pki, registry: registry.to_owned() }
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn key(&self, arguments: &[&str]) -> std::process::Output {
        let flags = ["key", "--registry", &self.registry, "--registry-key", "registry.key"];
        tool(self.at(), &[&flags, arguments].concat())
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.key(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.key(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    fn shown(&self, kid: &str) -> Value {
        serde_json::from_str(&self.done(&["show", kid, "--json"])).expect("JSON")
    }

    /// Adds a key in a bundle, and takes that in.
    fn bundled(&self, kid: &str, more: &[&str]) -> Key {
        let file = format!("{kid}.bundle");
        let arguments = ["add", kid, "--bundle-out", &file, "--origin", ORIGIN, "--passphrase-generate", "--json"];
        let told: Value = serde_json::from_str(&self.done(&[&arguments, more].concat())).expect("JSON");
        self.opened(&file, told["passphrase"].as_str().expect("a passphrase")).1
    }

    fn opened(&self, file: &str, passphrase: &str) -> (Bundle, Key) {
        let text = fs::read_to_string(self.at().join(file)).expect("the bundle");
        let BundleFile::Sealed(sealed) = read(&text).expect("a bundle") else { panic!("not sealed: {text}") };
        let bundle = sealed.open(passphrase).expect("it opens");
        let BundleSecret::Clear(secret) = &bundle.secret else { panic!("no secret") };
        let key = Key { kid: bundle.kid.clone(), secret: encoded(secret) };
        (bundle, key)
    }

    fn server(&self, name: &str, more: &str) -> Server {
        let config = format!(
            "listen = \"127.0.0.1:0\"\nregistry = \"{}\"\nregistry_key = \"registry.key\"\nserver_names = [\"{HOST}\"]\n\
             certificate = \"server.pem\"\nprivate_key = \"server.key\"\nupstream = \"demo\"\naudit_log = \"{name}.audit\"\n{more}",
            self.registry
        );
        Server::start(self.at(), name, &config)
    }

    async fn connection(&self, server: &Server, http: Http, key: &Key) -> Connection {
        let dialler = Dialler::new(&self.pki, server.address, HOST).post_quantum(&self.pki);
        dialler.open(http, key).await.expect("a connection")
    }

    async fn status(&self, server: &Server, key: &Key, path: &str) -> u16 {
        self.connection(server, Http::One, key).await.get(path).await.expect("an answer").0.as_u16()
    }

    async fn enrols(&self, server: &Server, key: &Key) -> (StatusCode, Value) {
        post(&mut self.connection(server, Http::Two, key).await, "/.well-known/ekm-otp/enrolment", "").await
    }

    /// Waits until the audit log tells this so often: its lines are written when there is time.
    async fn audited(&self, name: &str, outcome: &str, times: usize) {
        let told = || {
            let text = fs::read_to_string(self.at().join(format!("{name}.audit"))).unwrap_or_default();
            text.lines().filter(|line| line.contains(&format!("\"outcome\":\"{outcome}\""))).count()
        };
        until_so(&format!("{outcome} is told {times} times"), || told() >= times).await;
        assert_eq!(told(), times, "{outcome}");
    }
}

async fn post(connection: &mut Connection, path: &str, body: &str) -> (StatusCode, Value) {
    let body = if body.is_empty() { empty() } else { Full::from(body.to_owned()).map_err(|never| match never {}).boxed_unsync() };
    let response = connection.send(connection.request("POST", path).body(body).expect("a request")).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn encoded(secret: &[u8]) -> String {
    ekm_otp::Secret::new(secret.to_vec()).expect("a secret").encode_base64().to_string()
}

const NEW_KEY: &str = "/.well-known/ekm-otp/key";

fn new_secret(byte: u8) -> (String, String) {
    let secret = encoded(&[byte; 32]);
    (format!("{{\"secret\":\"{secret}\"}}"), secret)
}

#[tokio::test]
async fn a_bundles_key_waits_for_its_first_use_which_is_remembered_over_all_engines() {
    let postgres = Postgres::start();
    for registry in ["registry.toml", "registry.json", SQLITE, &postgres.url()] {
        let bench = Bench::new(registry);
        let key = bench.bundled("alice", &["--client", "Alice", "--credential", "otp"]);
        assert_eq!(bench.shown("alice")["standing"], "bundle unused", "{registry}");
        assert!(bench.done(&["list"]).contains("bundle unused"), "{registry}");
        let server = bench.server("one", "registry_writable = true\n");
        // The probe shows that both know the secret, and asks for nothing.
        assert_eq!(bench.status(&server, &key, "/.well-known/ekm-otp").await, 204, "{registry}");
        assert_eq!(bench.shown("alice")["enrolled"], Value::Null, "{registry}");
        assert_eq!(bench.enrols(&server, &key).await.0, 204, "{registry}");
        let used = bench.shown("alice")["enrolled"].as_str().expect("a time").to_owned();
        assert_eq!(bench.shown("alice")["standing"], "active", "{registry}");
        let (status, told) = bench.enrols(&server, &key).await;
        assert_eq!((status.as_u16(), told["first_use"].as_str()), (409, Some(used.as_str())), "{registry}");
        assert_eq!(bench.status(&server, &key, "/get").await, 200, "{registry}");
        bench.audited("one", "enrolled", 1).await;
        bench.audited("one", "enrolled_again", 1).await;
        drop(server);
        // Another server, or the same one later, knows it.
        let server = bench.server("two", "registry_writable = true\n");
        assert_eq!(bench.enrols(&server, &key).await.0, 409, "{registry}");
        let plain = Key::numbered(1);
        replace(&bench.at().join("entry.toml"), &plain.entry());
        bench.done(&["add", "--entry", "entry.toml"]);
        let started = std::time::Instant::now();
        while bench.enrols_if_known(&server, &plain).await != Some(409) {
            assert!(started.elapsed() < common::SOON, "{registry}: a key that came by another way");
        }
        let exported = bench.done(&["export"]);
        assert!(exported.contains(&format!("enrolled = \"{used}\"")), "{registry}: {exported}");
    }
}

impl Bench {
    /// `None` while the server does not know the key.
    async fn enrols_if_known(&self, server: &Server, key: &Key) -> Option<u16> {
        let mut connection = self.connection(server, Http::One, key).await;
        let request = connection.request("POST", "/.well-known/ekm-otp/enrolment").body(empty()).expect("a request");
        let status = connection.send(request).await.expect("an answer").status().as_u16();
        (status != 401).then_some(status)
    }
}

#[tokio::test]
async fn a_bundle_that_nobody_took_in_until_its_time_is_refused_and_one_in_use_is_not() {
    let postgres = Postgres::start();
    for registry in ["registry.toml", SQLITE, &postgres.url()] {
        let bench = Bench::new(registry);
        let [late, used] = ["late", "used"].map(|kid| bench.bundled(kid, &["--bundle-expires", "6s"]));
        let server = bench.server("one", "registry_writable = true\n");
        // Whatever comes first is the first use: who takes a bundle in later is told.
        assert_eq!(bench.status(&server, &used, "/get").await, 200, "{registry}");
        bench.audited("one", "enrolled", 1).await;
        let mut open = bench.connection(&server, Http::One, &late).await;
        assert_eq!(open.get("/.well-known/ekm-otp").await.expect("an answer").0, 204, "{registry}: verified, and not used");
        until_so("its time is over", || bench.shown("late")["standing"] == "bundle expired").await;
        until_so("its connection is closed", || !open.is_open()).await;
        assert_eq!(bench.status(&server, &late, "/get").await, 401, "{registry}");
        assert_eq!(bench.status(&server, &used, "/get").await, 200, "{registry}");
        assert_eq!(bench.enrols(&server, &used).await.0, 409, "{registry}");
        assert_eq!(bench.shown("late")["enrolled"], Value::Null, "{registry}");
    }
}

#[tokio::test]
async fn two_servers_at_once_take_a_bundle_in_for_one_client_only() {
    let postgres = Postgres::start();
    for registry in [SQLITE, &postgres.url()] {
        let bench = Bench::new(registry);
        let key = bench.bundled("alice", &[]);
        let servers = [bench.server("one", ""), bench.server("two", "")];
        let [one, two] = &servers;
        let asked = tokio::join!(bench.enrols(one, &key), bench.enrols(two, &key), bench.enrols(one, &key), bench.enrols(two, &key));
        let statuses = [asked.0, asked.1, asked.2, asked.3].map(|(status, _)| status.as_u16());
        assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{registry}: {statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 3, "{registry}: {statuses:?}");
    }
}

#[tokio::test]
async fn where_the_first_use_cannot_be_remembered_the_key_is_not_let_in_and_the_log_says_why() {
    let bench = Bench::new("registry.toml");
    let key = bench.bundled("alice", &[]);
    let server = bench.server("one", "");
    assert_eq!(bench.enrols(&server, &key).await, (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "error": "registry" })));
    assert_eq!(bench.status(&server, &key, "/get").await, 503);
    until_so("it is told why", || server.logged("set registry_writable = true") == 2).await;
    assert_eq!(bench.shown("alice")["enrolled"], Value::Null);
}

#[test]
fn what_a_bundle_needs_is_asked_for_and_a_failure_leaves_neither_file_nor_key() {
    let bench = Bench::new("registry.toml");
    let weak = bench.at().join("weak");
    replace(&weak, "short\n");
    replace(&bench.at().join("chosen"), "a passphrase of a test\n");
    for file in ["weak", "chosen"] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(bench.at().join(file), fs::Permissions::from_mode(0o600)).expect("chmod");
    }
    let out = ["--bundle-out", "b", "--origin", ORIGIN];
    for (fault, arguments, told) in [
        ("no_protection", &out[..], "--passphrase-generate"),
        ("weak_passphrase", &[&out[..], &["--passphrase-file", "weak"]].concat(), "16 at least"),
        ("no_origin", &["--bundle-out", "b", "--passphrase-generate"], "--origin"),
        ("origin_without_tls", &["--bundle-out", "b", "--origin", "http://api.test", "--passphrase-generate"], "https://HOST"),
        ("over_already", &[&out[..], &["--passphrase-generate", "--bundle-expires", "2020-01-01T00:00:00Z"]].concat(), "that is over"),
        ("no_storage_key", &[&out[..], &["--wrap-to", "chosen"]].concat(), "--wrap-to chosen"),
        ("ca_without_certificate", &[&out[..], &["--passphrase-generate", "--ca", "chosen"]].concat(), "--ca chosen"),
    ] {
        let why = bench.refused(&[&["add", "alice"], arguments].concat());
        assert!(why.contains(told), "{fault}: {why}");
        assert!(!bench.at().join("b").exists(), "{fault}: a bundle without a key");
    }
    assert!(!bench.at().join("registry.toml").exists(), "a key without its bundle");
    let told = bench.done(&[&["add", "alice", "--ca", "server.pem", "--passphrase-file", "chosen"], &out[..]].concat());
    assert_eq!(told, "", "nothing of it is secret, and nothing is shown");
    let (bundle, _) = bench.opened("b", "a passphrase of a test");
    assert_eq!((bundle.origins, bundle.client.as_str()), (vec![ORIGIN.to_owned()], "alice"));
    assert!(bundle.ca.expect("certificates").starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(bench.refused(&[&["add", "bob", "--passphrase-generate"], &out[..]].concat()).contains("is there already"));
    // The same for a client's next key.
    let arguments = ["rotate", "alice", "--bundle-out", "c", "--origin", ORIGIN, "--passphrase-generate", "--json"];
    let told: Value = serde_json::from_str(&bench.done(&arguments)).expect("JSON");
    assert_eq!(bench.opened("c", told["passphrase"].as_str().expect("a passphrase")).1.kid, "alice-2");
    assert_eq!(
        (bench.shown("alice")["successor"].as_str(), bench.shown("alice-2")["standing"].as_str()),
        (Some("alice-2"), Some("bundle unused"))
    );
}

#[test]
fn a_bundle_wrapped_to_a_tpm_is_imported_by_tpm2_tools_there() {
    let bench = Bench::new("registry.toml");
    let swtpm = Swtpm::start();
    let tool = |line: &str| {
        let mut words = line.split_whitespace();
        let told = swtpm.tool(words.next().expect("a tool"), &words.collect::<Vec<_>>());
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        told
    };
    tool(
        "tpm2_createprimary -Q -C o -G ecc -a fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt -c parent.ctx",
    );
    tool("tpm2_readpublic -Q -c parent.ctx -o parent.pub -n parent.name");
    let parent = swtpm.dir().join("parent.pub");
    let told =
        bench.done(&["add", "alice", "--bundle-out", "b", "--origin", ORIGIN, "--wrap-to", parent.to_str().expect("a path"), "--json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let text = fs::read_to_string(bench.at().join("b")).expect("the bundle");
    let BundleFile::Wrapped { bundle, fingerprint } = read(&text).expect("a bundle") else { panic!("{text}") };
    assert_eq!(told["bundle"]["fingerprint"], fingerprint.as_str());
    let BundleSecret::Wrapped { parent, public, duplicate, seed } = &bundle.secret else { panic!("not wrapped") };
    assert_eq!(*parent, fs::read(swtpm.dir().join("parent.name")).expect("its name"));
    for (name, bytes) in [("key.pub", public), ("key.dpriv", duplicate), ("key.seed", seed)] {
        fs::write(swtpm.dir().join(name), bytes).expect("writing");
    }
    fs::write(swtpm.dir().join("message"), "a message").expect("writing");
    tool("tpm2_import -Q -C parent.ctx -u key.pub -i key.dpriv -s key.seed -r key.priv");
    tool("tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx");
    tool("tpm2_hmac -c key.ctx -o hmac message");
    let registry = fs::read_to_string(bench.at().join("registry.toml")).expect("the registry");
    let secret = registry.split("secret = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a secret");
    assert!(!text.contains(secret), "in clear");
    let secret = ekm_otp::Secret::new(ekm_otp::Secret::decode_base64(secret).expect("base64")).expect("a secret");
    let wanted = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.expose()), b"a message");
    assert_eq!(fs::read(swtpm.dir().join("hmac")).expect("the HMAC"), wanted.as_ref());
}

#[tokio::test]
async fn a_client_rotates_its_own_key_once_and_the_same_again_over_all_engines() {
    let postgres = Postgres::start();
    for registry in ["registry.toml", SQLITE, &postgres.url()] {
        let bench = Bench::new(registry);
        let old = bench.bundled("alice", &["--client", "Alice", "--not-after", "30d"]);
        let server = bench.server("one", "rotation = true\nrotation_overlap = 3600\n");
        let (body, secret) = new_secret(1);
        let mut connection = bench.connection(&server, Http::Two, &old).await;
        assert_eq!(connection.get(NEW_KEY).await.expect("an answer").0, 200, "{registry}");
        let (status, told) = post(&mut connection, NEW_KEY, &body).await;
        assert_eq!((status.as_u16(), told["kid"].as_str()), (201, Some("alice-2")), "{registry}: {told}");
        // The answer may have been lost.
        let (status, again) = post(&mut connection, NEW_KEY, &body).await;
        assert_eq!((status.as_u16(), &again), (200, &told), "{registry}");
        let (status, told) = post(&mut connection, NEW_KEY, &new_secret(2).0).await;
        assert_eq!((status.as_u16(), told["error"].as_str()), (409, Some("has_successor")), "{registry}");
        let told: Value = serde_json::from_slice(&connection.get(NEW_KEY).await.expect("an answer").1).expect("JSON");
        assert_eq!(told["successor"]["kid"], "alice-2", "{registry}");
        let new = Key { kid: "alice-2".into(), secret };
        assert_eq!([bench.status(&server, &old, "/get").await, bench.status(&server, &new, "/get").await], [200, 200], "{registry}");
        let (of_old, of_new) = (bench.shown("alice"), bench.shown("alice-2"));
        assert_eq!((of_old["standing"].as_str(), of_new["client"].as_str()), (Some("in overlap"), Some("Alice")), "{registry}");
        assert!(of_new["not_after"].as_str() > of_old["not_after"].as_str(), "{registry}: as long as the old one was, and no longer");
        assert!(of_new["not_after"].is_string(), "{registry}: for ever");
        bench.audited("one", "rotated", 1).await;
        bench.audited("one", "rotation_refused", 1).await;
        assert!(!fs::read_to_string(bench.at().join("one.audit")).expect("the log").contains(&new.secret), "{registry}");
        assert!(!server.log().contains(&new.secret), "{registry}");
    }
}

#[tokio::test]
async fn a_rotation_that_must_not_be_is_refused_by_a_word_and_changes_nothing() {
    let bench = Bench::new("registry.toml");
    let [alice, bob] = ["alice", "bob"].map(|kid| bench.bundled(kid, &[]));
    let off = bench.server("off", "registry_writable = true\n");
    let mut connection = bench.connection(&off, Http::One, &alice).await;
    let refused = |word: &str| serde_json::json!({ "error": word });
    assert_eq!(post(&mut connection, NEW_KEY, &new_secret(1).0).await, (StatusCode::FORBIDDEN, refused("rotation_off")));
    drop((connection, off));
    let server = bench.server("on", "rotation = true\n");
    let mut connection = bench.connection(&server, Http::One, &alice).await;
    for (fault, body, status) in [
        ("no_json", "secret", 400),
        ("no_secret", "{}", 400),
        ("short_secret", "{\"secret\":\"AAAAAAAAAAAAAAAAAAAAAA==\"}", 400),
        ("long_secret", &format!("{{\"secret\":\"{}\"}}", "A".repeat(88)), 400),
        ("another_field", &new_secret(1).0.replace('}', ",\"kid\":\"admin\"}"), 400),
        ("long_body", &" ".repeat(2000), 413),
    ] {
        let (told, word) = post(&mut connection, NEW_KEY, body).await;
        assert_eq!((told.as_u16(), word), (status, refused("body")), "{fault}");
        connection = bench.connection(&server, Http::One, &alice).await;
    }
    let taken = format!("{{\"secret\":\"{}\"}}", bob.secret);
    assert_eq!(post(&mut connection, NEW_KEY, &taken).await, (StatusCode::CONFLICT, refused("secret_taken")));
    let request = connection.request("PUT", NEW_KEY).body(empty()).expect("a request");
    assert_eq!(connection.send(request).await.expect("an answer").status(), 405);
    // A secret over a key exchange that a quantum computer opens.
    let mut connection = Dialler::new(&bench.pki, server.address, HOST).open(Http::One, &alice).await.expect("a connection");
    assert_eq!(post(&mut connection, NEW_KEY, &new_secret(1).0).await, (StatusCode::FORBIDDEN, refused("not_post_quantum")));
    assert_eq!(bench.shown("alice")["successor"], Value::Null);
    // As often as an attacker with the key likes would fill the registry.
    let mut key = alice;
    let mut statuses = Vec::new();
    for number in 0..12_u8 {
        let (body, secret) = new_secret(100 + number);
        let (status, told) = post(&mut bench.connection(&server, Http::One, &key).await, NEW_KEY, &body).await;
        statuses.push(status.as_u16());
        if status == 201 {
            key = Key { kid: told["kid"].as_str().expect("a kid").to_owned(), secret };
        }
    }
    assert!(statuses.ends_with(&[429, 429]) && statuses.contains(&201), "{statuses:?}");
}

/// Before there were bundles, the database's table had two columns less.
#[tokio::test]
async fn a_database_of_before_gets_its_new_columns_and_its_keys_go_on() {
    let postgres = Postgres::start();
    for registry in [SQLITE, &postgres.url()] {
        let bench = Bench::new(registry);
        let old = Key::numbered(1);
        replace(&bench.at().join("entry.toml"), &old.entry());
        bench.done(&["add", "--entry", "entry.toml"]);
        for column in ["enrol_by", "enrolled"] {
            let sql = format!("ALTER TABLE ekm_otp_key DROP COLUMN {column}");
            if registry == SQLITE {
                let output = std::process::Command::new("python3")
                    .args(["-c", "import sqlite3,sys; c=sqlite3.connect('registry.db'); c.execute(sys.argv[1]); c.commit()", &sql])
                    .current_dir(bench.at())
                    .output()
                    .expect("python3");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            } else {
                postgres.ask(&sql);
            }
        }
        let server = bench.server("one", "");
        assert_eq!(bench.status(&server, &old, "/get").await, 200, "{registry}");
        let new = bench.bundled("alice", &[]);
        let started = std::time::Instant::now();
        while bench.enrols_if_known(&server, &new).await != Some(204) {
            assert!(started.elapsed() < common::SOON, "{registry}: {}", server.log());
        }
    }
}

/// Who can write the database, but has no registry key, prolongs no bundle and makes none unused again.
#[tokio::test]
async fn a_bundles_state_that_somebody_else_changed_makes_no_key() {
    let postgres = Postgres::start();
    let bench = Bench::new(&postgres.url());
    let keys = ["a", "b", "c"].map(|kid| bench.bundled(kid, &[]));
    {
        let server = bench.server("before", "");
        assert_eq!(bench.enrols(&server, &keys[2]).await.0, 204);
    }
    postgres.ask("UPDATE ekm_otp_key SET enrol_by = enrol_by + 1000 WHERE kid = 'a'");
    postgres.ask("UPDATE ekm_otp_key SET enrol_by = NULL WHERE kid = 'b'");
    postgres.ask("UPDATE ekm_otp_key SET enrolled = NULL WHERE kid = 'c'");
    let server = bench.server("after", "");
    for key in &keys {
        assert_eq!(bench.status(&server, key, "/get").await, 401, "{}", key.kid);
    }
    until_so("they are told", || server.logged("is no key, and is refused") == 3).await;
}
