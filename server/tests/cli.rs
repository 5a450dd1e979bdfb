//! The server's binary as an operator runs it: configuration, refusals to start, TLS 1.2, signals.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};

use ekm_otp::field::Credential;
use ekm_otp::jose::{ExtraClaims, SignedRequest};
use ekm_otp::{Derivation, Ekm, KeyId, Prk, Secret, ServerName};
use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_ekm-otp-server");
// Test data, used nowhere else.
const REGISTRY: &str = "[client1]\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\nclient = \"Alice\"\n";

/// A folder with a certificate and a registry.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.path().join("server.pem"), certified.cert.pem()).expect("writing");
    fs::write(folder.path().join("server.key"), certified.signing_key.serialize_pem()).expect("writing");
    write_private(&folder, "secrets.toml", REGISTRY);
    fs::write(
        folder.path().join("server.toml"),
        "listen = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\nprivate_key = \"server.key\"\nsecrets = \"secrets.toml\"\n\
         server_names = [\"localhost\"]\nupstream = \"demo\"\nrealm = \"from the file\"\n[authorities]\nlocalhost = [\"alias.test:8443\"]\n",
    )
    .expect("writing");
    folder
}

fn write_private(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("writing");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

fn command(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(SERVER);
    command.arg("run").args(args).current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).env_remove("EKM_OTP_LOG");
    command
}

/// Runs a server that must not start.
fn refused(folder: &TempDir, args: &[&str]) -> (i32, String) {
    // One that starts all the same must not hold the test for ever.
    let mut process = command(folder, args).stderr(Stdio::piped()).spawn().expect("the server");
    for _ in 0..1000 {
        if process.try_wait().expect("the server").is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let _ = process.kill();
    let Output { status, stderr, .. } = process.wait_with_output().expect("its output");
    (status.code().expect("an exit code"), String::from_utf8_lossy(&stderr).into_owned())
}

struct Running {
    process: Child,
    port: u16,
    /// The line that tells what it listens on.
    listening: String,
    log: BufReader<std::process::ChildStderr>,
}

fn start(folder: &TempDir, args: &[&str]) -> Running {
    let mut process = command(folder, args).stderr(Stdio::piped()).spawn().expect("the server");
    let mut log = BufReader::new(process.stderr.take().expect("its log"));
    let mut line = String::new();
    while !line.contains("127.0.0.1:") {
        line.clear();
        let read = log.read_line(&mut line).expect("a line");
        if read == 0 {
            panic!("the server ended: {}", process.wait().expect("its end"));
        }
    }
    let digits: String = line.split("127.0.0.1:").skip(1).flat_map(str::chars).take_while(char::is_ascii_digit).collect();
    Running { process, port: digits.parse().expect("a port"), listening: line, log }
}

impl Running {
    /// Ends it by this signal and returns its exit code and what it logged since its start.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        assert!(Command::new("kill").args([&format!("-{signal}"), &self.process.id().to_string()]).status().expect("kill").success());
        let status = self.process.wait().expect("its end");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("its log");
        (status.code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// OpenSSL as a TLS client: an implementation of its own. Sends one request without a credential and returns all that it tells.
fn s_client(port: u16, flags: &[&str]) -> String {
    s_client_with(port, flags, "/dev/null")
}

fn s_client_with(port: u16, flags: &[&str], configuration: &str) -> String {
    let mut openssl = Command::new("openssl")
        .env("OPENSSL_CONF", configuration)
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost", "-ign_eof"])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run openssl ({e}): install the Debian package `openssl`"));
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // Where the handshake fails, the pipe may be closed already.
    let _ = std::io::Write::write_all(&mut openssl.stdin.take().expect("its input"), request);
    let output = openssl.wait_with_output().expect("its output");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn flags_win_over_the_configuration_file() {
    let folder = folder();
    let server = start(&folder, &["--config", "server.toml"]);
    assert!(s_client(server.port, &[]).contains("www-authenticate: EKM-OTP realm=\"from the file\""));
    assert_eq!(server.end("TERM").0, Some(0));
    let server = start(&folder, &["--config", "server.toml", "--realm", "from the flag", "--log-format", "json"]);
    assert!(s_client(server.port, &[]).contains("www-authenticate: EKM-OTP realm=\"from the flag\""));
    let (code, log) = server.end("TERM");
    assert_eq!(code, Some(0));
    assert!(log.lines().all(|line| line.starts_with("{\"timestamp\"")), "{log}");
}

#[test]
fn sigterm_and_sigint_drain_and_exit_0() {
    let folder = folder();
    for signal in ["TERM", "INT"] {
        let server = start(&folder, &["--config", "server.toml"]);
        // A connection that is idle, and one that has not finished its handshake.
        let mut idle = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", server.port), "-servername", "localhost"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        std::io::Write::write_all(idle.stdin.as_mut().expect("its input"), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("writing");
        let mut line = String::new();
        BufReader::new(idle.stdout.as_mut().expect("its output")).read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 401"), "{line}");
        let _stalled = std::net::TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
        let (code, log) = server.end(signal);
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("draining") && log.contains("stopped") && !log.contains("were cut"), "{log}");
        drop(idle.stdin.take());
        let _ = idle.wait();
    }
}

#[test]
fn tls_1_2_is_refused_unless_switched_on_and_then_without_extended_master_secret() {
    let folder = folder();
    let server = start(&folder, &["--config", "server.toml"]);
    assert!(s_client(server.port, &[]).contains("HTTP/1.1 401"), "TLS 1.3");
    assert!(!s_client(server.port, &["-tls1_2"]).contains("HTTP/1.1 401"), "TLS 1.2 is off");
    server.end("TERM");

    let server = start(&folder, &["--config", "server.toml", "--tls12"]);
    let with_ems = s_client(server.port, &["-tls1_2"]);
    assert!(with_ems.contains("Extended master secret: yes") && with_ems.contains("HTTP/1.1 401"), "{with_ems}");
    let configuration = folder.path().join("no-ems.cnf");
    fs::write(&configuration, "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nOptions=-ExtendedMasterSecret\n")
        .expect("writing");
    let without = s_client_with(server.port, &["-tls1_2"], configuration.to_str().expect("a path"));
    assert!(
        !without.contains("HTTP/1.1 401") && without.contains("alert"),
        "a client without extended master secret was accepted: {without}"
    );
    // Without resumption: neither a session id nor a ticket is handed out.
    assert!(with_ems.contains("Session-ID: \n") && !with_ems.contains("session ticket:"), "{with_ems}");
    server.end("TERM");
}

#[test]
fn post_quantum_can_be_required() {
    let folder = folder();
    // Debian's OpenSSL 3.0 has no X25519MLKEM768.
    let server = start(&folder, &["--config", "server.toml", "--require-post-quantum"]);
    assert!(!s_client(server.port, &[]).contains("HTTP/1.1 401"));
    server.end("TERM");
    let server = start(&folder, &["--config", "server.toml", "--require-post-quantum=false"]);
    assert!(s_client(server.port, &[]).contains("HTTP/1.1 401"));
    server.end("TERM");
}

#[test]
fn a_certificate_file_is_read_whole_or_refused_by_name() {
    let folder = folder();
    let pem = fs::read_to_string(folder.path().join("server.pem")).expect("reading");
    let key = fs::read_to_string(folder.path().join("server.key")).expect("reading");
    for (certificate, told_of) in [
        (format!("{pem}{}", &pem[..pem.len() - 30]), "server.pem: block 2, CERTIFICATE, has no END mark of its own"),
        (format!("{pem}{}", pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")), "server.pem: it holds a TRUSTED CERTIFICATE"),
        (key, "server.pem: it holds no certificate, but PRIVATE KEY"),
    ] {
        fs::write(folder.path().join("server.pem"), certificate).expect("writing");
        let (code, told) = refused(&folder, &["--config", "server.toml"]);
        assert_eq!(code, 64, "{told}");
        assert!(told.contains(told_of), "{told}");
    }
    // Both certificates of a chain that lacks a line end between them are sent.
    fs::write(folder.path().join("server.pem"), format!("\u{feff}{}{pem}", pem.trim_end())).expect("writing");
    let server = start(&folder, &["--config", "server.toml"]);
    let shown = s_client(server.port, &["-showcerts"]);
    assert_eq!(shown.matches("-----BEGIN CERTIFICATE-----").count(), 2, "{shown}");
}

#[test]
fn a_registry_that_others_can_read_is_refused() {
    let folder = folder();
    for mode in [0o644, 0o604, 0o602, 0o646] {
        fs::set_permissions(folder.path().join("secrets.toml"), fs::Permissions::from_mode(mode)).expect("chmod");
        let (code, told) = refused(&folder, &["--config", "server.toml"]);
        assert_eq!(code, 77, "{told}");
        assert!(told.contains("everyone can") && told.contains("chmod 600") && told.contains(&format!("{mode:04o}")), "{told}");
    }
    // As a secret of Kubernetes, which the pod's group reads.
    fs::set_permissions(folder.path().join("secrets.toml"), fs::Permissions::from_mode(0o440)).expect("chmod");
    assert_eq!(start(&folder, &["--config", "server.toml"]).end("TERM").0, Some(0));
}

#[test]
fn a_server_that_cannot_start_tells_why() {
    let folder = folder();
    fs::write(folder.path().join("misspelt.toml"), "lissten = \"127.0.0.1:0\"\n").expect("writing");
    fs::write(folder.path().join("kinds.toml"), "credentials = [\"hotp\"]\n").expect("writing");
    write_private(&folder, "minimum.toml", &format!("{REGISTRY}credential = \"hotp\"\n"));
    write_private(&folder, "weak.toml", "[client1]\nsecret = \"dGVzdA==\"\nclient = \"Alice\"\n");
    write_private(&folder, "broken.json", "{\"client1\": \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (reason, code, args) in [
        ("--certificate is missing", 64, vec![]),
        ("misspelt.toml: line 1: unknown key `lissten`: `listen` is meant?", 64, vec!["--config", "misspelt.toml"]),
        ("cannot read missing.toml", 69, vec!["--config", "missing.toml"]),
        ("cannot open missing.toml", 69, vec!["--config", "server.toml", "--secrets", "missing.toml"]),
        ("at least 16 are needed", 64, vec!["--config", "server.toml", "--secrets", "weak.toml"]),
        ("line 1: not understood", 64, vec!["--config", "server.toml", "--secrets", "broken.json"]),
        ("cannot read missing.pem", 69, vec!["--config", "server.toml", "--certificate", "missing.pem"]),
        ("server.toml", 64, vec!["--config", "server.toml", "--private-key", "server.toml"]),
        ("neither an IP literal nor a DNS name", 64, vec!["--config", "server.toml", "--server-name", "not a name"]),
        ("is no configured server name", 64, vec!["--config", "server.toml", "--authority", "other.test=other.test"]),
        ("[possible values: otp, jws, jwe]", 64, vec!["--config", "server.toml", "--credential", "hotp"]),
        ("kinds otp, jws, jwe", 64, vec!["--config", "kinds.toml"]),
        ("v1 is always spoken", 64, vec!["--config", "server.toml", "--profile", "go"]),
        ("go is not switched on", 64, vec!["--config", "server.toml", "--go-default-kid", "client1"]),
        (
            "no key with this key id and",
            64,
            vec!["--config", "server.toml", "--profile", "v1", "--profile", "go", "--go-default-kid", "client1"],
        ),
        ("client1: credential: a credential is of one of the kinds", 64, vec!["--config", "server.toml", "--secrets", "minimum.toml"]),
        ("at most 600 seconds", 64, vec!["--config", "server.toml", "--leeway", "601"]),
        ("printable ASCII", 64, vec!["--config", "server.toml", "--realm", "r\u{e9}alm"]),
        ("cannot listen on", 69, vec!["--config", "server.toml", "--listen", &taken]),
        ("unexpected argument", 64, vec!["--unknown"]),
    ] {
        let (got, told) = refused(&folder, &args);
        assert!(told.contains(reason), "{reason:?} is missing for {args:?}:\n{told}");
        assert_eq!(got, code, "{args:?}: {told}");
        assert!(!told.contains("dGVz"), "a secret is shown: {told}");
    }
}

#[test]
fn the_bounds_on_connections_are_told() {
    let folder = folder();
    let bounds = ["--max-connections", "40", "--max-connections-per-key", "7"];
    for (flags, told) in [(&bounds[..0], [10_000, 2_500, 5_000]), (&bounds[..2], [40, 10, 20]), (&bounds[..], [40, 7, 20])] {
        let server = start(&folder, &[&["--config", "server.toml"], flags].concat());
        for (name, bound) in ["max_connections", "per_key", "per_source"].into_iter().zip(told) {
            assert!(server.listening.contains(&format!(" {name}={bound}")), "{}", server.listening);
        }
        assert_eq!(server.end("TERM").0, Some(0));
    }
}

#[test]
fn a_port_that_another_server_listens_on_is_not_shared_with_it() {
    let folder = folder();
    let server = start(&folder, &["--config", "server.toml"]);
    let address = format!("127.0.0.1:{}", server.port);
    let (code, told) = refused(&folder, &["--config", "server.toml", "--listen", &address]);
    assert_eq!(code, 69, "{told}");
    assert!(told.contains(&format!("cannot listen on {address}: Address already in use")), "{told}");
    assert_eq!(server.end("TERM").0, Some(0));
}

#[test]
fn connections_that_are_not_verified_keep_nobody_out() {
    let folder = folder();
    let server = start(&folder, &["--config", "server.toml", "--max-connections", "3"]);
    // Six clients that finish their handshake and say nothing.
    let mut silent: Vec<Child> = (0..6)
        .map(|_| {
            let mut openssl = Command::new("openssl")
                .args(["s_client", "-connect", &format!("127.0.0.1:{}", server.port), "-servername", "localhost"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("openssl");
            let mut lines = BufReader::new(openssl.stdout.take().expect("its output")).lines();
            assert!(lines.any(|line| line.expect("a line").contains("Verify return code")), "no handshake");
            openssl
        })
        .collect();
    assert!(s_client(server.port, &[]).contains("HTTP/1.1 401"), "the server is full");
    for openssl in &mut silent {
        let _ = openssl.kill();
        let _ = openssl.wait();
    }
    assert_eq!(server.end("TERM").0, Some(0));
}

/// What `GET /get` with a credential of client1 is answered, on a connection whose keying material OpenSSL exports.
fn get(server: &Running, credential: impl FnOnce(&KeyId, &Ekm, &Prk) -> String) -> Vec<String> {
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", server.port), "-servername", "localhost", "-ign_eof"])
        // The label and length of docs/protocol.md; in TLS 1.3 no context is the same as an empty one (RFC 8446 section 7.5).
        .args(["-keymatexport", "EXPERIMENTAL-ekm-otp-v1", "-keymatexportlen", "48"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let mut lines = BufReader::new(openssl.stdout.take().expect("its output")).lines().map(|line| line.expect("a line"));
    let exported = lines.find_map(|line| line.trim().strip_prefix("Keying material: ").map(str::to_owned)).expect("keying material");
    let bytes: Vec<u8> = (0..96).step_by(2).map(|i| u8::from_str_radix(&exported[i..i + 2], 16).expect("hex digits")).collect();

    let ekm = Ekm::from_bytes(bytes.try_into().expect("48 bytes"));
    let kid = KeyId::new("client1").expect("a key id");
    let derivation = Derivation::new(&ekm, &kid, &ServerName::from_host("localhost").expect("a name"));
    let tag = Secret::new(b"test data, used nowhere else ...".to_vec()).expect("a secret").mac(derivation.mac_input());
    let credential = credential(&kid, &ekm, &derivation.finish(tag));
    let request = format!("GET /get HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: {credential}\r\n\r\n");
    std::io::Write::write_all(openssl.stdin.as_mut().expect("its input"), request.as_bytes()).expect("writing");
    let answer = lines.collect();
    openssl.wait().expect("its end");
    answer
}

#[test]
fn the_leeway_is_a_setting_and_0_is_none() {
    let folder = folder();
    for (leeway, age, is_taken) in
        [(None, 90, true), (Some("0"), 90, false), (Some("0"), 30, true), (Some("600"), 600, true), (Some("600"), 700, false)]
    {
        let flags: Vec<&str> =
            ["--config", "server.toml"].into_iter().chain(leeway.iter().flat_map(|leeway| ["--leeway", leeway])).collect();
        let server = start(&folder, &flags);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        let answer = get(&server, |kid, ekm, prk| {
            let request = SignedRequest { audience: "https://localhost", method: "GET", target: "/get" };
            let token = prk.jws_signer(kid).sign(&request, 1, now - age, &ExtraClaims::default()).expect("a token");
            Credential::write_token(kid, &ekm.channel(), &token).expect("a short token").to_string()
        });
        let expected = if is_taken { "HTTP/1.1 200 OK" } else { "error=\"time\"" };
        assert!(answer.iter().any(|line| line.contains(expected)), "{leeway:?}, {age} s old: {answer:?}");
        assert_eq!(server.end("TERM").0, Some(0));
    }
}

#[test]
fn openssl_exports_the_keying_material_that_the_server_does() {
    let folder = folder();
    let server = start(&folder, &["--config", "server.toml"]);
    let answer = get(&server, |kid, ekm, prk| Credential::write(kid, &ekm.channel(), &prk.otp()).to_string());
    assert!(answer.iter().any(|line| line.starts_with("HTTP/1.1 200 OK")), "{answer:?}");
    assert_eq!(server.end("TERM").0, Some(0));
}

#[test]
fn a_misspelt_log_level_is_refused_and_an_empty_one_is_none() {
    let folder = folder();
    let (code, told) = refused(&folder, &["--config", "server.toml", "--log", "ekm_otp_tower=debug,inof"]);
    assert_eq!(code, 64, "{told}");
    assert!(told.contains("\"inof\" is no level: off, error, warn, info, debug and trace are"), "{told}");
    let mut process = command(&folder, &["--config", "server.toml"]).env("EKM_OTP_LOG", "").stderr(Stdio::piped()).spawn().expect("it");
    let mut line = String::new();
    BufReader::new(process.stderr.take().expect("its log")).read_line(&mut line).expect("a line");
    let _ = process.kill();
    let _ = process.wait();
    assert!(line.contains(" ekm_otp_server::"), "{line}");
}

#[test]
fn a_secret_in_the_configuration_file_is_not_shown() {
    let folder = folder();
    let secret = "dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=";
    for (line, told_of) in [
        (format!("tls12 = \"{secret}\""), "server.toml: line 1: tls12: write true or false, without quotes"),
        (format!("[client1]\nsecret = \"{secret}\""), "server.toml: line 1: unknown table"),
        (format!("realm = {secret}"), "server.toml: line 1: "),
    ] {
        fs::write(folder.path().join("server.toml"), line).expect("writing");
        let (code, told) = refused(&folder, &["--config", "server.toml"]);
        assert_eq!(code, 64, "{told}");
        assert!(told.contains(told_of) && !told.contains("dGVzdCBk"), "{told}");
    }
}
