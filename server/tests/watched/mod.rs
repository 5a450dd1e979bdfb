//! A server that is watched, its clients, and who looks at its pages.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekm_otp::field::Credential;
use ekm_otp::{Derivation, Ekm, KeyId, Secret, ServerName, TlsPolicy};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_ekm-otp-server");
const POLICY: TlsPolicy = TlsPolicy { tls12: false, require_post_quantum: false };
/// How long anything may take that is to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Key id, secret (base64) and client. Test data, used nowhere else.
pub type Key = (&'static str, &'static str, &'static str);

pub const SECRETS: [&str; 3] = [
    "d2F0Y2hlZCB0ZXN0IGRhdGEsIG5vd2hlcmUgZWxzZTE=",
    "d2F0Y2hlZCB0ZXN0IGRhdGEsIG5vd2hlcmUgZWxzZTI=",
    "d2F0Y2hlZCB0ZXN0IGRhdGEsIG5vd2hlcmUgZWxzZTM=",
];
/// A client whose name somebody chose with care.
pub const HOSTILE: Key = ("hostile", SECRETS[0], "<script>alert(1)</script>\n\"}],\"ready\":true,\u{1b}[31m\u{202e}'&amp;\\");
pub const BOB: Key = ("bob", SECRETS[1], "Bob");

/// What the server is started with.
pub struct Setup {
    upstream: String,
    is_expired: bool,
}

impl Setup {
    pub fn upstream(mut self, upstream: &str) -> Self {
        upstream.clone_into(&mut self.upstream);
        self
    }

    pub fn expired(mut self) -> Self {
        self.is_expired = true;
        self
    }
}

pub struct Watched {
    folder: TempDir,
    process: Child,
    port: u16,
    log: Option<std::thread::JoinHandle<String>>,
}

/// What is left of it.
pub struct Stopped {
    pub log: String,
    pub access: String,
    pub audit: String,
}

fn files(setup: &Setup) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    if setup.is_expired {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    fs::write(folder.path().join("server.pem"), params.self_signed(&key).expect("a certificate").pem()).expect("writing");
    fs::write(folder.path().join("server.key"), key.serialize_pem()).expect("writing");
    let registry: serde_json::Map<_, _> = [HOSTILE, BOB]
        .map(|(kid, secret, client)| (kid.to_owned(), serde_json::json!({ "secret": secret, "client": client })))
        .into_iter()
        .collect();
    let path = folder.path().join("secrets.json");
    fs::write(&path, serde_json::Value::from(registry).to_string()).expect("writing");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    let settings = format!(
        "listen = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\nprivate_key = \"server.key\"\nsecrets = \"secrets.json\"\nserver_names = [\"localhost\"]\n\
         upstream = \"{}\"\nadmin = \"unix:admin.sock\"\naccess_log = \"access.log\"\naudit_log = \"audit.log\"\n",
        setup.upstream
    );
    fs::write(folder.path().join("server.toml"), settings).expect("writing");
    folder
}

fn command(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(SERVER);
    let config = folder.path().join("server.toml");
    command.args(["run", "--config"]).arg(config).args(args).current_dir(folder.path()).env_remove("EKM_OTP_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Exit code and message of a server that must not start.
pub fn refused(args: &[&str]) -> (i32, String) {
    let folder = files(&Setup { upstream: "demo".into(), is_expired: false });
    let mut process = command(&folder, args).spawn().expect("the server");
    let end = Instant::now() + PATIENCE;
    while process.try_wait().expect("the server").is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = process.kill();
    let output = process.wait_with_output().expect("its output");
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Watched {
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(|setup| setup, args)
    }

    pub fn start_with(setup: impl FnOnce(Setup) -> Setup, args: &[&str]) -> Self {
        let folder = files(&setup(Setup { upstream: "demo".into(), is_expired: false }));
        let mut process = command(&folder, args).spawn().expect("the server");
        let mut log = BufReader::new(process.stderr.take().expect("its log"));
        let mut read = String::new();
        let port = loop {
            let begin = read.len();
            assert!(log.read_line(&mut read).expect("a line") > 0, "the server ended: {read}");
            let digits: String = read[begin..].split("127.0.0.1:").skip(1).flat_map(str::chars).take_while(char::is_ascii_digit).collect();
            if let Ok(port) = digits.parse() {
                break port;
            }
        };
        let log = std::thread::spawn(move || {
            let _ = log.read_to_string(&mut read);
            read
        });
        let server = Self { folder, process, port, log: Some(log) };
        server.until(|| UnixStream::connect(server.folder().join("admin.sock")).is_ok());
        server
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for something that is to happen.
    pub fn until(&self, happened: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !happened() {
            assert!(Instant::now() < end, "it does not happen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([&format!("-{signal}"), &self.process.id().to_string()]).status().expect("kill").success());
    }

    pub fn stop(mut self) -> Stopped {
        self.signal("TERM");
        assert!(self.process.wait().expect("its end").success());
        let log = self.log.take().expect("its log").join().expect("its log");
        let read = |name: &str| fs::read_to_string(self.folder().join(name)).unwrap_or_default();
        Stopped { log, access: read("access.log"), audit: read("audit.log") }
    }

    /// Status and content of an admin page.
    pub fn admin(&self, page: &str) -> (u16, String) {
        self.ask("GET", page, "localhost")
    }

    pub fn ask(&self, method: &str, target: &str, host: &str) -> (u16, String) {
        let mut socket = UnixStream::connect(self.folder().join("admin.sock")).expect("the admin socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        write!(socket, "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("writing");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        let (head, content) = answer.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).expect("a status").parse().expect("a number"), content.to_owned())
    }

    /// The metrics, once they are as they are to be.
    pub fn metrics_once(&self, are_so: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
        let end = Instant::now() + PATIENCE;
        loop {
            let metrics = families(&self.admin("/metrics").1);
            if are_so(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < end, "they do not become so: {metrics:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn connect(&self) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder().join("server.pem")).expect("a certificate")).expect("a root");
        let builder = ClientConfig::builder_with_provider(POLICY.provider(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(POLICY.versions()).expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        POLICY.restrict_client(&mut config);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut tls = ClientConnection::new(Arc::new(config), "localhost".try_into().expect("a name")).expect("a client");
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).expect("the handshake");
        }
        let ekm = Ekm::export(|bytes, label, context| tls.export_keying_material(&mut bytes[..], label, Some(context)).map(drop));
        Client { tls: BufReader::new(StreamOwned::new(tls, tcp)), ekm: ekm.expect("keying material") }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One connection.
pub struct Client {
    tls: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    ekm: Ekm,
}

/// A status code.
pub struct Answered(u16);

impl Answered {
    #[track_caller]
    pub fn expect(self, status: u16) {
        assert_eq!(self.0, status);
    }
}

impl Client {
    pub fn credential<K: AsCredential>(&self, key: K) -> String {
        let (kid, secret) = key.parts();
        let kid = KeyId::new(kid).expect("a key id");
        let derivation = Derivation::new(&self.ekm, &kid, &ServerName::from_host("localhost").expect("a name"));
        let tag = Secret::new(decoded(secret)).expect("a secret").mac(derivation.mac_input());
        Credential::write(&kid, &self.ekm.channel(), &derivation.finish(tag).otp()).to_string()
    }

    pub fn send(&mut self, bytes: &str) {
        self.tls.get_mut().write_all(bytes.as_bytes()).expect("writing");
        self.tls.get_mut().flush().expect("writing");
    }

    pub fn get(&mut self, path: &str, credential: Option<&str>) -> Answered {
        let field = credential.map(|credential| format!("Authorization: {credential}\r\n")).unwrap_or_default();
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n"));
        let mut line = String::new();
        self.tls.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).expect("a status").parse().expect("a number");
        let mut length = 0;
        loop {
            line.clear();
            self.tls.read_line(&mut line).expect("a field");
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        self.tls.read_exact(&mut vec![0; length]).expect("the content");
        Answered(status)
    }
}

/// Key id and secret.
pub trait AsCredential {
    fn parts(&self) -> (&str, &str);
}

impl AsCredential for Key {
    fn parts(&self) -> (&str, &str) {
        (self.0, self.1)
    }
}

impl AsCredential for (&str, &str) {
    fn parts(&self) -> (&str, &str) {
        (self.0, self.1)
    }
}

/// Base64 (RFC 4648 section 4), by OpenSSL.
fn decoded(text: &str) -> Vec<u8> {
    let mut openssl =
        Command::new("openssl").args(["base64", "-d", "-A"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("openssl");
    openssl.stdin.take().expect("its input").write_all(text.as_bytes()).expect("writing");
    openssl.wait_with_output().expect("its output").stdout
}

/// Each series and its value, of a text that is exactly as the OpenMetrics format wants it; else it panics.
pub fn families(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut family: Option<(&str, &str)> = None;
    let mut seen = Vec::new();
    let lines: Vec<&str> = text.strip_suffix("# EOF\n").expect("the end").lines().collect();
    for line in lines {
        if let Some(descriptor) = line.strip_prefix("# ") {
            let mut words = descriptor.splitn(3, ' ');
            let (keyword, name, rest) = (words.next().expect("a keyword"), words.next().expect("a name"), words.next().expect("more"));
            match keyword {
                "HELP" => {
                    assert!(!seen.contains(&name), "{name} stands twice");
                    seen.push(name);
                    assert!(!rest.is_empty() && rest.ends_with(|c: char| c.is_alphanumeric() || c == ')'), "{line}");
                    family = Some((name, ""));
                }
                "TYPE" => {
                    assert_eq!(family.expect("a HELP before it").0, name);
                    assert!(["counter", "gauge", "histogram", "info"].contains(&rest), "{line}");
                    family = Some((name, rest));
                }
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")) && ["seconds", "bytes"].contains(&rest), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, kind) = family.expect("a family before its series");
        let (labelled, value) = line.rsplit_once(' ').expect("a value");
        let rest = labelled.strip_prefix(name).unwrap_or_else(|| panic!("{line} is not of {name}"));
        let suffix = rest.split('{').next().expect("a suffix");
        let allowed: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_sum", "_count", "_bucket"],
            "info" => &["_info"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line} of a {kind}");
        check_labels(&rest[suffix.len()..]);
        let value: f64 = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(kind == "gauge" || value >= 0.0, "{line}");
        assert!(series.insert(labelled.to_owned(), value).is_none(), "{labelled} stands twice");
    }
    check_histograms(&series);
    series
}

/// `{name="value",…}`, or nothing.
fn check_labels(text: &str) {
    let Some(mut rest) = text.strip_prefix('{') else {
        assert!(text.is_empty(), "{text}");
        return;
    };
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{text}");
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("{text}: no end")) {
                (at, '"') => break at,
                (_, '\\') => assert!(characters.next().is_some_and(|(_, c)| "\\\"n".contains(c)), "{text}"),
                _ => {}
            }
        };
        match &after[end + 1..] {
            "}" => return,
            more => rest = more.strip_prefix(',').unwrap_or_else(|| panic!("{text}")),
        }
    }
}

/// Buckets only grow, and the last is the count.
fn check_histograms(series: &BTreeMap<String, f64>) {
    let mut checked = 0;
    for (name, count) in series.iter().filter(|(name, _)| name.contains("_seconds_count")) {
        let (prefix, labels) = name.split_once("_count").expect("a count");
        let labels = labels.trim_matches(|c| "{}".contains(c));
        let mut buckets: Vec<(f64, f64)> = series
            .iter()
            .filter_map(|(name, count)| {
                let rest = name.strip_prefix(prefix)?.strip_prefix("_bucket{le=\"")?;
                let (bound, others) = rest.split_once('"')?;
                let is_of_it = others.trim_end_matches('}').trim_start_matches(',') == labels;
                is_of_it.then(|| (if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound") }, *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{name}");
        checked += 1;
    }
    assert!(checked > 0, "there are no histograms");
}
