//! Certificates, sites and settings are replaced while the server's binary serves: by SIGHUP and by changed files, all or nothing.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ekm_otp::field::Credential;
use ekm_otp::{Derivation, Ekm, KeyId, Secret, ServerName};
use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_ekm-otp-server");
const SECRET: &[u8] = b"test data, used nowhere else ...";
const REGISTRY: &str = "[client1]\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\nclient = \"Alice\"\n";
/// As long is waited for what is to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Certificate and key whose subject is `subject`, as NAME.pem and NAME.key.
fn certificate(folder: &Path, name: &str, subject: &str, hosts: &[&str]) {
    let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).expect("names");
    params.distinguished_name.push(DnType::CommonName, subject);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("writing");
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("writing");
    fs::set_permissions(folder.join(format!("{name}.key")), fs::Permissions::from_mode(0o600)).expect("chmod");
}

fn site(names: &str, certificate: &str) -> String {
    format!(
        "[[site]]\nserver_names = [{names}]\ncertificate = \"{certificate}.pem\"\nprivate_key = \"{certificate}.key\"\nupstream = \"demo\"\n"
    )
}

const HEAD: &str = "listen = \"127.0.0.1:0\"\nsecrets = \"secrets.toml\"\n";

fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = folder.path().join("secrets.toml");
    fs::write(&registry, REGISTRY).expect("writing");
    fs::set_permissions(&registry, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(folder.path().join("server.toml"), config).expect("writing");
    folder
}

/// As careful programs do: written beside it, then renamed over it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("writing");
    fs::rename(beside, path).expect("renaming");
}

struct Server {
    process: Child,
    port: u16,
    log: Receiver<String>,
}

impl Server {
    fn start(folder: &TempDir) -> Self {
        let mut process = Command::new(SERVER)
            .args(["run", "--config", "server.toml"])
            .current_dir(folder.path())
            .env_remove("EKM_OTP_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server");
        let lines = BufReader::new(process.stderr.take().expect("its log")).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let mut server = Self { process, port: 0, log };
        let line = server.logs("listening");
        let digits: String = line.split("127.0.0.1:").skip(1).flat_map(str::chars).take_while(char::is_ascii_digit).collect();
        server.port = digits.parse().unwrap_or_else(|_| panic!("no port: {line}"));
        server
    }

    /// The next line that holds this.
    fn logs(&self, what: &str) -> String {
        let mut before = String::new();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => before += &format!("{line}\n"),
                Err(_) => panic!("{what:?} was not logged, but:\n{before}"),
            }
        }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([&format!("-{signal}"), &self.process.id().to_string()]).status().expect("kill").success());
    }

    /// The subject of the certificate that is shown to who asks for this name.
    fn shown_to(&self, name: &str) -> String {
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port), "-servername", name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run openssl ({e}): install the Debian package `openssl`"));
        let lines: Vec<String> = BufReader::new(openssl.stdout.take().expect("its output")).lines().map_while(Result::ok).collect();
        let _ = openssl.wait();
        lines.iter().find_map(|line| line.strip_prefix("subject=")).unwrap_or_else(|| panic!("no certificate: {lines:?}")).replace(' ', "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection that stays open, with its credential.
struct Connection {
    process: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
    name: String,
    credential: String,
}

impl Connection {
    fn open(server: &Server, name: &str) -> Self {
        let mut process = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{}", server.port), "-servername", name, "-ign_eof"])
            .args(["-keymatexport", "EXPERIMENTAL-ekm-otp-v1", "-keymatexportlen", "48"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run openssl ({e}): install the Debian package `openssl`"));
        let input = process.stdin.take().expect("its input");
        let mut output = BufReader::new(process.stdout.take().expect("its output"));
        let mut line = String::new();
        while !line.contains("Keying material: ") {
            line.clear();
            assert!(output.read_line(&mut line).expect("a line") > 0, "no handshake");
        }
        let hex = line.trim().trim_start_matches("Keying material: ").to_owned();
        let bytes: Vec<u8> = (0..96).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits")).collect();
        let ekm = Ekm::from_bytes(bytes.try_into().expect("48 bytes"));
        let kid = KeyId::new("client1").expect("a key id");
        let derivation = Derivation::new(&ekm, &kid, &ServerName::from_host(name).expect("a name"));
        let tag = Secret::new(SECRET.to_vec()).expect("a secret").mac(derivation.mac_input());
        let credential = Credential::write(&kid, &ekm.channel(), &derivation.finish(tag).otp()).to_string();
        Self { process, input, output, name: name.to_owned(), credential }
    }

    /// The status that `GET /get` is answered with, and whether the connection was closed after it.
    fn get(&mut self) -> (u16, bool) {
        let Self { name, credential, .. } = self;
        let request = format!("GET /get HTTP/1.1\r\nHost: {name}\r\nAuthorization: {credential}\r\n\r\n");
        self.input.write_all(request.as_bytes()).expect("writing");
        let mut line = String::new();
        while !line.starts_with("HTTP/1.1 ") {
            line.clear();
            assert!(self.output.read_line(&mut line).expect("a line") > 0, "no answer");
        }
        let status = line[9..12].parse().expect("a status");
        let mut length = 0;
        let mut closes = false;
        while !line.trim().is_empty() {
            line.clear();
            self.output.read_line(&mut line).expect("a line");
            let field = line.to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
            closes |= field.trim() == "connection: close";
        }
        let mut body = vec![0; length];
        std::io::Read::read_exact(&mut self.output, &mut body).expect("a body");
        (status, closes)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let folder = folder(&format!("{HEAD}{}", site("\"a.test\"", "a")));
    certificate(folder.path(), "a", "first", &["a.test"]);
    let server = Server::start(&folder);
    let mut open = Connection::open(&server, "a.test");
    assert_eq!(open.get(), (200, false));
    assert_eq!(server.shown_to("a.test"), "CN=first");
    // Renamed over, as certbot's deploy hooks do.
    certificate(folder.path(), "next", "second", &["a.test"]);
    fs::rename(folder.path().join("next.key"), folder.path().join("a.key")).expect("renaming");
    fs::rename(folder.path().join("next.pem"), folder.path().join("a.pem")).expect("renaming");
    let told = server.logs("certificate replaced");
    assert!(told.contains("a.test") && told.contains("expires=") && told.contains('Z'), "{told}");
    server.logs("reloaded");
    assert_eq!(server.shown_to("a.test"), "CN=second");
    // Written in place.
    certificate(folder.path(), "a", "third", &["a.test"]);
    server.logs("reloaded");
    assert_eq!(server.shown_to("a.test"), "CN=third");
    assert_eq!(open.get(), (200, false), "the connection of before the changes");
}

#[test]
fn a_volume_of_kubernetes_is_followed_through_its_links() {
    let folder = folder(&format!("{HEAD}{}", site("\"a.test\"", "volume/tls")));
    let volume = folder.path().join("volume");
    for (version, subject) in [("..1", "first"), ("..2", "second")] {
        fs::create_dir_all(volume.join(version)).expect("a folder");
        certificate(&volume.join(version), "tls", subject, &["a.test"]);
    }
    symlink("..1", volume.join("..data")).expect("a link");
    for file in ["tls.pem", "tls.key"] {
        symlink(format!("..data/{file}"), volume.join(file)).expect("a link");
    }
    let server = Server::start(&folder);
    assert_eq!(server.shown_to("a.test"), "CN=first");
    symlink("..2", volume.join("..data_tmp")).expect("a link");
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("renaming");
    fs::remove_dir_all(volume.join("..1")).expect("removing");
    server.logs("reloaded");
    assert_eq!(server.shown_to("a.test"), "CN=second");
}

#[test]
fn sites_come_and_go_and_share_certificates() {
    let two = format!("{HEAD}{}{}", site("\"a.test\", \"b.test\"", "a"), site("\"c.test\"", "a"));
    let folder = folder(&two);
    certificate(folder.path(), "a", "shared", &["a.test", "b.test", "c.test"]);
    certificate(folder.path(), "d", "other", &["d.test"]);
    let server = Server::start(&folder);
    let mut staying = Connection::open(&server, "b.test");
    let mut leaving = Connection::open(&server, "c.test");
    assert_eq!((staying.get(), leaving.get()), ((200, false), (200, false)));
    assert_eq!(["a.test", "c.test", "d.test"].map(|name| server.shown_to(name)), ["CN=shared", "CN=shared", "CN=shared"]);
    replace(&folder.path().join("server.toml"), &format!("{HEAD}{}{}", site("\"a.test\", \"b.test\"", "a"), site("\"d.test\"", "d")));
    assert!(server.logs("site added").contains("d.test"));
    assert!(server.logs("site removed").contains("c.test"));
    server.logs("reloaded");
    assert_eq!(["a.test", "d.test"].map(|name| server.shown_to(name)), ["CN=shared", "CN=other"]);
    assert_eq!(Connection::open(&server, "d.test").get(), (200, false));
    assert_eq!(staying.get(), (200, false));
    assert_eq!(leaving.get(), (421, true), "a connection of a site that is gone");
    // Asked for by a name of none: the first one's certificate, and no key opens it.
    assert_eq!(server.shown_to("c.test"), "CN=shared");
    assert_eq!(Connection::open(&server, "c.test").get().0, 401);
}

#[test]
fn what_is_wrong_changes_nothing_and_is_told_by_line() {
    let folder = folder(&format!("{HEAD}{}", site("\"a.test\"", "a")));
    certificate(folder.path(), "a", "first", &["a.test"]);
    let server = Server::start(&folder);
    let mut open = Connection::open(&server, "a.test");
    let wrong = format!("{HEAD}relm = \"x\"\nleeway = 900\n{}", site("\"a.test\"", "a"));
    replace(&folder.path().join("server.toml"), &wrong);
    for told in ["line 3: unknown key `relm`: `realm` is meant?", "line 4: leeway: 900: at most 600 seconds"] {
        assert!(server.logs(told).contains("not reloaded"));
    }
    // A key that does not belong to its certificate: half a renewal.
    certificate(folder.path(), "other", "second", &["a.test"]);
    replace(&folder.path().join("server.toml"), &format!("{HEAD}realm = \"new\"\n{}", site("\"a.test\"", "a")));
    server.logs("reloaded");
    fs::rename(folder.path().join("other.pem"), folder.path().join("a.pem")).expect("renaming");
    server.logs("does not belong to the certificate");
    assert_eq!((server.shown_to("a.test"), open.get()), ("CN=first".to_owned(), (200, false)));
    // The other half.
    fs::rename(folder.path().join("other.key"), folder.path().join("a.key")).expect("renaming");
    server.logs("reloaded");
    assert_eq!((server.shown_to("a.test"), open.get()), ("CN=second".to_owned(), (200, false)));
}

#[test]
fn sighup_reads_everything_again_and_says_what_has_to_wait() {
    let folder = folder(&format!("{HEAD}{}", site("\"a.test\"", "a")));
    certificate(folder.path(), "a", "first", &["a.test"]);
    let server = Server::start(&folder);
    server.signal("HUP");
    server.logs("SIGHUP");
    server.logs("reloaded");
    let config = format!("{HEAD}max_connections = 77\nrequire_post_quantum = false\ntls12 = true\n{}", site("\"a.test\"", "a"));
    fs::write(folder.path().join("server.toml"), config).expect("writing");
    let told = server.logs("from the next start on");
    assert!(told.contains("max_connections") && told.contains("tls12") && !told.contains("post_quantum"), "{told}");
    // It is heard while files are read, too.
    server.signal("HUP");
    server.signal("TERM");
    server.logs("stopped");
}

#[test]
fn a_key_that_is_revoked_while_files_are_read_again_stays_revoked() {
    let folder = folder(&format!("{HEAD}{}", site("\"a.test\"", "a")));
    certificate(folder.path(), "a", "first", &["a.test"]);
    let server = Server::start(&folder);
    let mut open = Connection::open(&server, "a.test");
    assert_eq!(open.get(), (200, false));
    for _ in 0..20 {
        server.signal("HUP");
        std::thread::sleep(Duration::from_millis(5));
    }
    let registry = folder.path().join("secrets.toml");
    let beside = folder.path().join("secrets.new");
    fs::write(&beside, format!("{REGISTRY}state = \"revoked\"\n")).expect("writing");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::rename(beside, registry).expect("renaming");
    for _ in 0..20 {
        server.signal("HUP");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(server.logs("keys of the registry's file").contains("changed=1"));
    for _ in 0..3 {
        server.signal("HUP");
        server.logs("reloaded");
        assert_eq!(Connection::open(&server, "a.test").get().0, 401);
    }
    let mut rest = String::new();
    let ended = std::io::Read::read_to_string(&mut open.output, &mut rest);
    assert!(ended.is_ok(), "the revoked key's connection is still open");
}

#[test]
fn a_configuration_that_may_be_cut_off_is_taken_on_sighup_only() {
    let whole = format!("{HEAD}{}", site("\"a.test\"", "a"));
    let folder = folder(&whole);
    certificate(folder.path(), "a", "first", &["a.test"]);
    let server = Server::start(&folder);
    // TOML, and whole as far as it goes.
    fs::write(folder.path().join("server.toml"), format!("{whole}allow = [{{ client = \"^Alice\" }}]\nopen = [\"GET=^/h\"]"))
        .expect("writing");
    server.logs("it may be cut off");
    server.signal("HUP");
    server.logs("reloaded");
}
