//! The server's binary in front of an upstream that a test controls, and a client that can be told to misbehave. All secrets are test data.
#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../common/mod.rs"]
mod common;
pub mod tunnel;
pub mod upstream;

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::server::binary;
use ekm_otp::field::Credential;
use ekm_otp::jose::{ExtraClaims, SignedRequest};
use ekm_otp::{Channel, Derivation, Ekm, KeyId, Prk, Secret, ServerName};
use http_body_util::combinators::BoxBody;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const HOST: &str = "proxy.test";
pub const ALICE: &str = "team/alice";
pub const BOB: &str = "bob";
/// What the registry calls Bob: whatever a name may hold.
pub const BOBS_NAME: &str = "B\u{f6}b, \"the 100% builder\"";

pub type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

fn secret_of(kid: &str) -> Vec<u8> {
    let mut bytes = vec![0x5a; 32];
    bytes[..kid.len()].copy_from_slice(kid.as_bytes());
    bytes
}

/// Waits, but not for ever.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits until it is so, but not for ever.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("writing");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// A folder with a certificate and a registry.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let certified = rcgen::generate_simple_self_signed([HOST, "second.test"].map(str::to_owned)).expect("a certificate");
    fs::write(folder.path().join("server.pem"), certified.cert.pem()).expect("writing");
    write_private(&folder.path().join("server.key"), &certified.signing_key.serialize_pem());
    write_private(&folder.path().join("secrets.toml"), &registry(&[ALICE, BOB]));
    folder
}

/// A registry of these key ids.
pub fn registry(kids: &[&str]) -> String {
    let entry = |kid: &&str| {
        let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret_of(kid));
        let client = if *kid == ALICE { "alice" } else { BOBS_NAME };
        format!("[\"{kid}\"]\nsecret = \"{secret}\"\nclient = '{client}'\n")
    };
    kids.iter().map(entry).collect()
}

/// A configuration of one site.
pub fn configuration(site: &str) -> String {
    format!("server_names = [\"{HOST}\"]\ncertificate = \"server.pem\"\nprivate_key = \"server.key\"\n{site}")
}

/// A running server binary. Killed when dropped; a test that fails shows the end of its log.
pub struct Server {
    pub port: u16,
    process: common::server::Server,
    pub folder: TempDir,
}

impl Server {
    /// In front of these upstreams.
    pub fn start(upstreams: &[&str], flags: &[&str]) -> Self {
        Self::start_in(folder(), upstreams, flags)
    }

    pub fn start_in(folder: TempDir, upstreams: &[&str], flags: &[&str]) -> Self {
        let upstreams = upstreams.iter().flat_map(|upstream| ["--upstream", upstream]);
        let flags: Vec<&str> = upstreams.chain(flags.iter().copied()).collect();
        Self::run(folder, &[&["--server-name", HOST, "--certificate", "server.pem", "--private-key", "server.key"], &*flags].concat())
    }

    /// With this configuration for its one site, besides names and certificate.
    pub fn configured(site: &str) -> Self {
        Self::configured_in(folder(), site)
    }

    pub fn configured_in(folder: TempDir, site: &str) -> Self {
        fs::write(folder.path().join("server.toml"), configuration(site)).expect("writing");
        Self::run(folder, &["--config", "server.toml"])
    }

    fn run(folder: TempDir, flags: &[&str]) -> Self {
        let mut command = binary(folder.path());
        command.args(["run", "--listen", "127.0.0.1:0", "--secrets", "secrets.toml"]).args(flags);
        let process = common::server::Server::started(command, folder.path(), "server");
        Self { port: process.address.port(), process, folder }
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    pub fn ended(&mut self) -> std::process::ExitStatus {
        self.process.ended()
    }

    /// A number of its admin listener's, which must be at `unix:server.admin`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        self.process.metric(name, labels)
    }

    /// What `check` says of a configuration in this folder.
    pub fn check(folder: &Path, config: &str) -> (Option<i32>, String) {
        fs::write(folder.join("checked.toml"), config).expect("writing");
        let output = common::server::tool(folder, &["check", "--config", "checked.toml"]);
        (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    /// The process's memory, in KiB.
    pub fn memory(&self) -> u64 {
        self.process.memory("VmHWM") / 1024
    }

    fn authority(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    /// A connection for this key id; HTTP/2 where `is_http2`.
    pub async fn connect(&self, kid: &str, is_http2: bool) -> Connection {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.path().join("server.pem")).expect("a certificate")).expect("a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.expect("a connection");
        tcp.set_nodelay(true).expect("no delay");
        let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
        let tls = soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.expect("a handshake");
        let ekm = Ekm::export(|buffer, label, context| tls.get_ref().1.export_keying_material(buffer, label, Some(context)).map(drop))
            .expect("an exporter");
        let kid = KeyId::new(kid).expect("a key id");
        let derivation = Derivation::new(&ekm, &kid, &ServerName::from_host(HOST).expect("a name"));
        let tag = Secret::new(secret_of(kid.as_str())).expect("a secret").mac(derivation.mac_input());
        let prk = derivation.finish(tag);
        let otp = Credential::write(&kid, &ekm.channel(), &prk.otp()).to_string();
        Connection { tls, otp, authority: self.authority(), prk, kid, channel: ekm.channel() }
    }

    /// One request on a connection of its own, on HTTP/1. `head` has neither `Host` nor `Authorization`, nor the last empty line.
    pub async fn ask(&self, kid: &str, head: &str, body: &[u8]) -> Answer {
        let mut connection = self.connect(kid, false).await;
        let authorization = connection.otp.clone();
        connection.send(&format!("{head}Authorization: {authorization}\r\n"), body).await;
        connection.answer().await
    }

    /// The same, without a credential.
    pub async fn ask_unverified(&self, head: &str) -> Answer {
        let mut connection = self.connect(ALICE, false).await;
        connection.send(head, b"").await;
        connection.answer().await
    }
}

/// A client's connection, after the handshake.
pub struct Connection {
    pub tls: TlsStream<TcpStream>,
    /// The field that shows its one-time password.
    pub otp: String,
    pub authority: String,
    prk: Prk,
    kid: KeyId,
    channel: Channel,
}

/// An answer on HTTP/1.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case, as lines.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Connection {
    /// The field that shows a token for this GET request, with further claims.
    pub fn token(&self, target: &str, n: u64, claims: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        let audience = format!("https://{}", self.authority);
        let request = SignedRequest { audience: &audience, method: "GET", target };
        let claims = ExtraClaims::new(serde_json::from_str::<serde_json::Map<_, _>>(claims).expect("claims")).expect("claims");
        let token = self.prk.jws_signer(&self.kid).sign(&request, n, now, &claims).expect("a token");
        Credential::write_token(&self.kid, &self.channel, &token).expect("a short token").to_string()
    }

    /// Sends a request; `Host` is put behind the request line.
    pub async fn send(&mut self, head: &str, body: &[u8]) {
        let (line, fields) = head.split_once("\r\n").expect("a request line");
        let text = format!("{line}\r\nHost: {}\r\n{fields}\r\n", self.authority);
        self.tls.write_all(&[text.as_bytes(), body].concat()).await.expect("writing");
    }

    /// Reads one answer; its body as `Content-Length` or chunks have it, or to the end of the connection.
    pub async fn answer(&mut self) -> Answer {
        soon("an answer", read_answer(&mut self.tls)).await
    }

    /// All that comes until the end of the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // The other side may reset it: what came before counts.
        let _ = soon("the end", self.tls.read_to_end(&mut rest)).await;
        rest
    }

    /// hyper's client on it.
    pub async fn http1(self) -> (http1::SendRequest<Body>, String, String) {
        let (sender, connection) = http1::handshake(TokioIo::new(self.tls)).await.expect("HTTP/1.1");
        tokio::spawn(connection.with_upgrades());
        (sender, self.otp, self.authority)
    }

    /// hyper's client on it.
    pub async fn http2(self) -> (http2::SendRequest<Body>, String, String) {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(self.tls)).await.expect("HTTP/2");
        tokio::spawn(connection);
        (sender, self.otp, self.authority)
    }
}

/// Reads one answer of HTTP/1.
pub async fn read_answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&head))));
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    if status == 100 {
        return Answer { status, head, body: Vec::new() };
    }
    let head = head.replace("\r\n", "\n");
    let mut answer = Answer { status, head, body: Vec::new() };
    if let Some(length) = answer.field("content-length").map(|length| length.parse().expect("a length")) {
        if answer.status != 304 {
            answer.body.resize(length, 0);
            stream.read_exact(&mut answer.body).await.expect("the body");
        }
    } else if answer.field("transfer-encoding") == Some("chunked") {
        loop {
            let size = usize::from_str_radix(line(stream).await.trim(), 16).expect("a size");
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).await.expect("a chunk");
            answer.body.append(&mut chunk);
            if size == 0 {
                while !line(stream).await.trim().is_empty() {}
                break;
            }
            line(stream).await;
        }
    } else if !matches!(answer.status, 101 | 204 | 304) {
        let _ = stream.read_to_end(&mut answer.body).await;
    }
    answer
}

/// One line, with its end.
pub async fn line(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.push(stream.read_u8().await.expect("a line"));
    }
    String::from_utf8(line).expect("text")
}
