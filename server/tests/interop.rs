//! The server against stacks that nobody here wrote: a client on pyOpenSSL and jwcrypto (testdata/python), and OpenSSL's exporter.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use common::server::binary;
use ekm_otp::TlsPolicy;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection};
use serde_json::{Value, json};
use tempfile::TempDir;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const KINDS: [&str; 3] = ["otp", "jws", "jwe"];
const GO: [&str; 4] = ["--profile", "v1", "--profile", "go"];

/// A key as the registry and the client hold it. The secrets are test data, used nowhere else.
#[derive(Clone, Copy)]
struct Key {
    kid: &'static str,
    secret: &'static str,
    /// Further lines of its registry entry.
    settings: &'static str,
}

const ALICE: Key = Key { kid: "team/alice@home", secret: "dGVzdCBkYXRhIG9mIEFsaWNlLCBub3doZXJlIGVsc2U=", settings: "" };
const BOB: Key = Key { kid: "bob", secret: "dGVzdCBkYXRhIG9mIEJvYiwgdXNlZCBub3doZXJlIS4=", settings: "credential = \"jws\"" };
const GOPHER: Key = Key { kid: "go:gopher", secret: "dGVzdCBkYXRhIG9mIGEgZ29waGVyLCBub3QgcmVhbC4=", settings: "profile = \"go\"" };
const SIGNER: Key =
    Key { kid: "go:signer", secret: "dGVzdCBkYXRhIG9mIGEgc2lnbmVyLCBub3QgcmVhbC4=", settings: "profile = \"go\"\ncredential = \"jws\"" };
/// What nobody holds.
const OTHER: &str = "b3RoZXIgdGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZQ==";

/// The Python peers' interpreter. Its virtual environment is made where it is missing.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let peers = Path::new(REPOSITORY).join("testdata/python");
    let made = Command::new(peers.join("setup.sh")).stdin(Stdio::null()).output().expect("testdata/python/setup.sh");
    assert!(made.status.success(), "testdata/python/setup.sh failed, and nothing is tested without it:\n{}", text(&made.stderr));
    peers.join(".venv/bin/python")
});

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("writing");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// A folder with a certificate and the registry.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let certified = rcgen::generate_simple_self_signed(["interop.test", "127.0.0.1"].map(str::to_owned)).expect("a certificate");
    fs::write(folder.path().join("server.pem"), certified.cert.pem()).expect("writing");
    write_private(&folder.path().join("server.key"), &certified.signing_key.serialize_pem());
    let entry =
        |Key { kid, secret, settings }| format!("[\"{kid}\"]\nsecret = \"{secret}\"\nclient = \"the client of {kid}\"\n{settings}\n");
    write_private(&folder.path().join("secrets.toml"), &[ALICE, BOB, GOPHER, SIGNER].map(entry).concat());
    folder
}

/// A running server binary. Killed when dropped; a test that fails shows the end of its log.
struct Server {
    port: u16,
    process: common::server::Server,
    folder: TempDir,
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        let folder = folder();
        let mut command = binary(folder.path());
        command
            .args(["run", "--listen", "127.0.0.1:0", "--certificate", "server.pem", "--private-key", "server.key"])
            .args(["--secrets", "secrets.toml", "--server-name", "interop.test", "--upstream", "demo"])
            .args(flags);
        let process = common::server::Server::started(command, folder.path(), "server");
        Self { port: process.address.port(), process, folder }
    }

    /// The Python client, once, for this resource.
    fn ask(&self, url: &str, key: &Key, flags: &[&str]) -> Output {
        let secret = self.folder.path().join("client.b64");
        write_private(&secret, key.secret);
        Command::new(&*PYTHON)
            .arg("-B")
            .arg(Path::new(REPOSITORY).join("testdata/python/ekm_otp_client.py"))
            .args([url, "--connect", &format!("127.0.0.1:{}", self.port), "--ca", "server.pem"])
            .args(["--kid", key.kid, "--secret-file", "client.b64"])
            .args(flags)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("the Python client")
    }

    fn whoami(&self, key: &Key, flags: &[&str]) -> Output {
        self.ask(&format!("https://interop.test:{}/whoami?with=a%20query", self.port), key, flags)
    }

    /// Ends it and returns why it refused requests, in their order.
    fn end(mut self) -> Vec<String> {
        self.process.signal("TERM");
        assert_eq!(self.process.ended().code(), Some(0));
        self.process.log().lines().filter(|line| line.contains("request refused")).map(str::to_owned).collect()
    }
}

/// The same three requests on one connection. Returns what the server's handler saw of each.
fn served_three_times(server: &Server, key: &Key, profile: &str, kind: &str, flags: &[&str]) -> Value {
    let claims: &[&str] = if kind == "otp" { &[] } else { &["--claim", "role=reader", "--claim", "note=1 = \"one\", \u{e9}"] };
    let got = server.whoami(key, &[&["--profile", profile, "--credential", kind, "--repeat", "3"], claims, flags].concat());
    let told = text(&got.stderr);
    assert_eq!((got.status.code(), told.as_str()), (Some(0), "status 200\nstatus 200\nstatus 200\n"), "{profile} {kind} {flags:?}");
    let answers: Vec<Value> = text(&got.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(answers.len() == 3 && answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let mut facts = answers[0].clone();
    // Which ones depends on the OpenSSL of the day.
    for fact in ["cipher_suite", "key_exchange_group"] {
        assert!(facts.as_object_mut().expect("an object").remove(fact).is_some_and(|name| name.is_string()), "{facts}");
    }
    facts
}

fn served_in_each_kind(server: &Server, key: &Key, profile: &str) {
    for (flags, tls_version) in [(&[][..], "TLSv1.3"), (&["--tls12-only"][..], "TLSv1.2")] {
        for kind in KINDS {
            let mut claims = json!({ "role": "reader", "note": "1 = \"one\", \u{e9}" });
            if profile == "go" {
                (claims["iss"], claims["sub"]) = (json!(key.kid), json!(key.kid));
            }
            let expected = json!({
                "client": format!("the client of {}", key.kid), "kid": key.kid, "profile": profile, "credential": kind,
                "claims": if kind == "otp" { Value::Null } else { claims }, "tls_version": tls_version, "server_name": "interop.test",
            });
            assert_eq!(served_three_times(server, key, profile, kind, flags), expected);
        }
    }
}

#[test]
fn the_python_client_is_served_in_v1_with_each_credential_over_tls_1_3_and_1_2() {
    let server = Server::start(&["--tls12"]);
    served_in_each_kind(&server, &ALICE, "v1");
    assert_eq!(served_three_times(&server, &BOB, "v1", "jws", &[])["kid"], BOB.kid, "not below its minimum");
    assert_eq!(served_three_times(&server, &BOB, "v1", "jwe", &[])["kid"], BOB.kid, "above its minimum");
    assert_eq!(server.end(), Vec::<String>::new());
}

/// The exporter's contexts of this profile (the client id, `sig_key`, `enc_key`) are checked here and not with the openssl command, which
/// exports without a context; so is v1's, which is there and empty, over TLS 1.2.
#[test]
fn the_python_client_is_served_in_the_profile_go_with_each_credential_over_tls_1_3_and_1_2() {
    let server = Server::start(&[&["--tls12", "--go-default-kid", GOPHER.kid][..], &GO].concat());
    served_in_each_kind(&server, &GOPHER, "go");
    // A JWE names its key id. And v1 goes on beside it.
    assert_eq!(served_three_times(&server, &SIGNER, "go", "jwe", &[])["kid"], SIGNER.kid);
    for kind in KINDS {
        assert_eq!(served_three_times(&server, &ALICE, "v1", kind, &[])["kid"], ALICE.kid);
    }
    assert_eq!(server.end(), Vec::<String>::new());
}

#[test]
fn the_python_client_is_served_at_an_ip_address_which_makes_an_empty_server_name() {
    let server = Server::start(&["--server-name", "127.0.0.1"]);
    for kind in KINDS {
        let got = server.ask(&format!("https://127.0.0.1:{}/whoami", server.port), &ALICE, &["--credential", kind]);
        let facts: Value = serde_json::from_slice(&got.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&got.stderr)));
        assert_eq!((&facts["server_name"], &facts["credential"]), (&json!(""), &json!(kind)));
    }
}

/// A client's attempt, named for its fault: key, profile and kind, then the error that the client is told, and a part of what is logged.
type Attempt<'a> = (&'a str, Key, &'a str, &'a str, Option<&'a str>, &'a str);

/// Each attempt must end in one 401 and nothing else, for the reason that it is about.
fn all_refused(server: Server, attempts: &[Attempt<'_>]) {
    for (fault, key, profile, kind, error, _) in attempts {
        let got = server.whoami(key, &["--profile", profile, "--credential", kind]);
        let error = error.map(|error| format!(", error=\"{error}\"")).unwrap_or_default();
        let answer = format!("401 EKM-OTP realm=\"ekm-otp\"{error}");
        let told = if *profile == "v1" {
            format!("ekm_otp_client: the server did not prove itself, nothing was sent ({answer})\n")
        } else {
            format!("status 401\nekm_otp_client: the server answered {answer}\n")
        };
        assert_eq!((got.status.code(), text(&got.stdout), text(&got.stderr)), (Some(1), String::new(), told), "{fault}: {profile} {kind}");
    }
    let logged = server.end();
    assert_eq!(logged.len(), attempts.len(), "{logged:#?}");
    for ((fault, _, profile, kind, _, reason), logged) in attempts.iter().zip(logged) {
        assert!(logged.contains(reason), "{fault}: {profile} {kind}: {reason:?} is not why: {logged}");
    }
}

#[test]
fn the_python_client_is_refused_with_another_secret_or_key_id_in_each_credential() {
    let server = Server::start(&[&["--go-default-kid", GOPHER.kid][..], &GO].concat());
    let (wrong_v1, wrong_go) = ("wrong credential for the key id team/alice@home", "wrong credential for the key id go:gopher");
    let attempts = KINDS.map(|kind| {
        // A JWS of the profile go names no key id: only its MAC can be wrong.
        let unknown_go = if kind == "jws" { wrong_go } else { "unknown key id nobody" };
        [
            ("another_secret", Key { secret: OTHER, ..ALICE }, "v1", kind, None, wrong_v1),
            ("the_secret_of_another_key_id", Key { secret: BOB.secret, ..ALICE }, "v1", kind, None, wrong_v1),
            ("unknown_key_id", Key { kid: "nobody", ..ALICE }, "v1", kind, None, "unknown key id nobody"),
            ("another_secret", Key { secret: OTHER, ..GOPHER }, "go", kind, None, wrong_go),
            ("unknown_key_id", Key { kid: "nobody", ..SIGNER }, "go", kind, None, unknown_go),
        ]
    });
    all_refused(server, attempts.as_flattened());
}

#[test]
fn the_python_client_is_refused_below_the_minimum_of_its_key_id() {
    all_refused(
        Server::start(&GO),
        &[
            ("below_its_minimum", BOB, "v1", "otp", Some("credential"), "the key id bob must show more"),
            ("below_its_minimum", SIGNER, "go", "otp", Some("credential"), "the key id go:signer must show more"),
            // Who does not hold the secret learns nothing of the minimum.
            ("another_secret", Key { secret: OTHER, ..BOB }, "v1", "otp", None, "wrong credential for the key id bob"),
            ("another_secret", Key { secret: OTHER, ..SIGNER }, "go", "otp", None, "wrong credential for the key id go:signer"),
        ],
    );
}

#[test]
fn the_python_client_is_refused_with_a_kind_that_the_server_does_not_accept() {
    for accepted in KINDS {
        let server = Server::start(&[&["--credential", accepted, "--go-default-kid", GOPHER.kid][..], &GO].concat());
        let mut attempts: Vec<Attempt<'_>> = Vec::new();
        for (key, profile) in [(ALICE, "v1"), (GOPHER, "go")] {
            assert!(server.whoami(&key, &["--profile", profile, "--credential", accepted]).status.success(), "{profile} {accepted}");
            for kind in KINDS.into_iter().filter(|kind| *kind != accepted) {
                attempts.push(("kind_not_accepted", key, profile, kind, Some("credential"), "is not accepted here"));
            }
        }
        all_refused(server, &attempts);
    }
}

#[test]
fn a_key_of_one_profile_is_unknown_on_the_wire_of_the_other() {
    let mut attempts: Vec<Attempt<'_>> = Vec::new();
    for kind in KINDS {
        attempts.push(("go_key_on_the_v1_wire", GOPHER, "v1", kind, None, "unknown key id go:gopher"));
        // A JWS names no key id, and the default one cannot be that of a v1 key: the server does not start with it.
        let reason = if kind == "jws" { "wrong credential for the key id go:gopher" } else { "unknown key id team/alice@home" };
        attempts.push(("v1_key_on_the_go_wire", ALICE, "go", kind, None, reason));
    }
    all_refused(Server::start(&[&["--go-default-kid", GOPHER.kid][..], &GO].concat()), &attempts);
}

#[test]
fn the_profile_go_is_refused_unless_switched_on() {
    let server = Server::start(&[]);
    assert!(server.whoami(&ALICE, &[]).status.success());
    let attempts = KINDS.map(|kind| ("go_is_off", GOPHER, "go", kind, None, "no EKM-OTP credential"));
    all_refused(server, &attempts);
}

#[test]
fn a_jws_of_the_profile_go_is_refused_without_a_default_key_id_and_is_checked_with_no_other() {
    let server = Server::start(&GO);
    for kind in ["otp", "jwe"] {
        assert!(server.whoami(&GOPHER, &["--profile", "go", "--credential", kind]).status.success(), "{kind} names its key id");
    }
    all_refused(server, &[("no_default_kid", GOPHER, "go", "jws", None, "no default is configured")]);
    let server = Server::start(&[&["--go-default-kid", GOPHER.kid][..], &GO].concat());
    all_refused(server, &[("another_default_kid", SIGNER, "go", "jws", None, "wrong credential for the key id go:gopher")]);
}

/// Labels and lengths of both profiles.
const EXPORTS: [(&str, usize); 3] = [("EXPERIMENTAL-ekm-otp-v1", 48), ("EXPORTER-my_label", 32), ("EXPORTER-Channel-Binding", 32)];
const TLS: [(&str, ProtocolVersion); 2] = [("-tls1_3", ProtocolVersion::TLSv1_3), ("-tls1_2", ProtocolVersion::TLSv1_2)];
/// As the binaries have it: with TLS 1.2, extended master secret is demanded.
const POLICY: TlsPolicy = TlsPolicy { tls12: true, require_post_quantum: false };

/// An `openssl` that exports keying material and tells it on its standard output. Killed when dropped.
struct Openssl {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Openssl {
    fn start(folder: &TempDir, args: &[&str], (label, length): (&str, usize)) -> Self {
        let mut process = Command::new("openssl")
            .args(args)
            .args(["-keymatexport", label, "-keymatexportlen", &length.to_string()])
            .env("OPENSSL_CONF", "/dev/null")
            .current_dir(folder.path())
            // Kept open: s_server ends with its input.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run openssl ({e}): install the Debian package `openssl`"));
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self { process, lines }
    }

    /// The rest of the next line that begins so.
    fn tells(&mut self, prefix: &str) -> String {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        lines.find_map(|line| line.trim().strip_prefix(prefix).map(str::to_owned)).unwrap_or_else(|| panic!("openssl told no {prefix}"))
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ends the handshake of rustls' side, and compares. The openssl command exports without a context, which in TLS 1.3 is the same as an
/// empty one (RFC 8446 section 7.5) and in TLS 1.2 is not (RFC 5705 section 4).
fn exports_the_same<S>(
    tls: &mut ConnectionCommon<S>,
    mut tcp: TcpStream,
    openssl: &mut Openssl,
    version: ProtocolVersion,
    (label, length): (&str, usize),
) {
    tcp.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    while tls.is_handshaking() || tls.wants_write() {
        tls.complete_io(&mut tcp).expect("a handshake");
    }
    assert_eq!(tls.protocol_version(), Some(version));
    let export = |context| tls.export_keying_material(vec![0; length], label.as_bytes(), context).expect("keying material");
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    assert_eq!(hex(export(None)), openssl.tells("Keying material: "), "{version:?} {label}");
    assert_eq!(export(None) == export(Some(b"")), version == ProtocolVersion::TLSv1_3, "{version:?} {label}");
}

/// The next connection; an openssl that does not dial must not hold the test for ever.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a socket");
    for _ in 0..1500 {
        match listener.accept() {
            Ok((tcp, _)) => {
                tcp.set_nonblocking(false).expect("a socket");
                return tcp;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(20)),
            Err(e) => panic!("{e}"),
        }
    }
    panic!("openssl did not dial");
}

#[test]
fn openssl_as_client_exports_the_keying_material_that_rustls_does_as_server() {
    let folder = folder();
    let chain = vec![CertificateDer::from_pem_file(folder.path().join("server.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(folder.path().join("server.key")).expect("a private key");
    let mut config = ServerConfig::builder_with_provider(POLICY.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(POLICY.versions())
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .expect("a configuration");
    POLICY.restrict_server(&mut config);
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    for (flag, version) in TLS {
        for export in EXPORTS {
            let mut openssl =
                Openssl::start(&folder, &["s_client", "-connect", &address, "-servername", "interop.test", "-ign_eof", flag], export);
            let tcp = accept(&listener);
            let mut tls = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            exports_the_same(&mut tls, tcp, &mut openssl, version, export);
        }
    }
}

#[test]
fn openssl_as_server_exports_the_keying_material_that_rustls_does_as_client() {
    let folder = folder();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path().join("server.pem")).expect("a certificate")).expect("a root");
    let mut config = ClientConfig::builder_with_provider(POLICY.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(POLICY.versions())
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    POLICY.restrict_client(&mut config);
    let config = Arc::new(config);
    for (flag, version) in TLS {
        for export in EXPORTS {
            let args = ["s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-key", "server.key", "-naccept", "1", flag];
            let mut openssl = Openssl::start(&folder, &args, export);
            let tcp = TcpStream::connect(openssl.tells("ACCEPT ")).expect("a connection");
            let mut tls =
                ClientConnection::new(Arc::clone(&config), "interop.test".try_into().expect("a server name")).expect("a connection");
            exports_the_same(&mut tls, tcp, &mut openssl, version, export);
        }
    }
}

#[test]
fn the_documentation_shows_the_python_client_byte_for_byte_and_it_is_short() {
    let read = |path| fs::read_to_string(Path::new(REPOSITORY).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (page, client) = (read("docs/other-languages.md"), read("testdata/python/ekm_otp_client.py"));
    let shown = page.split_once("\n<!-- python -->\n```python\n").and_then(|(_, rest)| rest.split_once("```\n")).expect("the block").0;
    assert!(shown == client, "docs/other-languages.md shows another client than testdata/python/ekm_otp_client.py");
    assert!(client.lines().count() < 150, "{} lines", client.lines().count());
}
