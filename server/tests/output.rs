//! Output that cannot be written, and signals: nothing of it ends a server that serves.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_ekm-otp-server");
// Test data, used nowhere else.
const REGISTRY: &str = "[client1]\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\nclient = \"Alice\"\n";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.path().join("server.pem"), certified.cert.pem()).expect("writing");
    fs::write(folder.path().join("server.key"), certified.signing_key.serialize_pem()).expect("writing");
    let registry = folder.path().join("secrets.toml");
    fs::write(&registry, REGISTRY).expect("writing");
    fs::set_permissions(registry, fs::Permissions::from_mode(0o600)).expect("chmod");
    folder
}

struct Running(Child);

impl Running {
    fn start(folder: &TempDir, port: u16, log: Stdio) -> Self {
        let listen = format!("127.0.0.1:{port}");
        let files = ["--certificate", "server.pem", "--private-key", "server.key", "--secrets", "secrets.toml"];
        let mut command = Command::new(SERVER);
        command
            .args(["run", "--listen", &listen, "--server-name", "localhost", "--upstream", "demo"])
            .args(files)
            .current_dir(folder.path());
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the server"))
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().expect("kill").success());
    }

    /// Waits until SIGTERM would not end the process by default: signal 15 is in the mask of those that it catches (proc(5), SigCgt).
    fn hears_sigterm(&self) {
        for _ in 0..1000 {
            let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("its status");
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask").trim();
            if u64::from_str_radix(caught, 16).expect("a mask") & 1 << 14 != 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not listen to signals");
    }

    fn end(mut self) -> Option<i32> {
        self.signal("TERM");
        self.0.wait().expect("its end").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn connect(port: u16) -> TcpStream {
    for _ in 0..1000 {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            return stream;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing listens at {port}");
}

/// Whether the server still answers a request, by OpenSSL.
fn answers(port: u16) -> bool {
    answers_from("127.0.0.1", port)
}

fn answers_from(source: &str, port: u16) -> bool {
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost", "-bind", source])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let _ = openssl.stdin.take().expect("its input").write_all(request);
    let output = openssl.wait_with_output().expect("its output");
    String::from_utf8_lossy(&output.stdout).starts_with("HTTP/1.1 401 ")
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("/dev/full")
}

/// A pipe whose reader has gone.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_log_that_cannot_be_written_ends_no_server() {
    for (what, log) in [("a full disk", Stdio::from(full())), ("a closed pipe", closed_pipe())] {
        let folder = folder();
        let port = free_port();
        let server = Running::start(&folder, port, log);
        // No TLS: that is logged.
        let mut plain = connect(port);
        plain.write_all(b"x\r\n\r\n").expect("writing");
        let _ = plain.read(&mut [0; 64]);
        assert!(answers(port), "{what}");
        assert!(answers(port), "{what}: after a refusal, which is logged too");
        assert_eq!(server.end(), Some(0), "{what}");
    }
}

#[test]
fn help_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let help = |stdout: Stdio| {
        let output = Command::new(SERVER).arg("--help").stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).output().expect("it");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = help(full().into());
    assert_eq!(code, Some(1), "{told}");
    assert!(told.starts_with("ekm-otp-server: cannot write to standard output: No space left"), "{told}");
    assert_eq!(help(closed_pipe()), (Some(0), String::new()));
}

#[test]
fn an_error_that_cannot_be_shown_keeps_its_exit_code() {
    for stderr in [full().into(), closed_pipe()] {
        let status = Command::new(SERVER).args(["run", "--config", "none.toml"]).stdin(Stdio::null()).stderr(stderr).status();
        assert_eq!(status.expect("the server").code(), Some(69));
    }
}

#[test]
fn sighup_ends_no_server() {
    let folder = folder();
    let port = free_port();
    let server = Running::start(&folder, port, Stdio::null());
    drop(connect(port));
    server.signal("HUP");
    assert!(answers(port));
    assert_eq!(server.end(), Some(0));
}

#[test]
fn signals_are_heard_while_the_registry_is_read() {
    let folder = folder();
    // Nobody writes to it: it is read for ever.
    let registry = folder.path().join("secrets.toml");
    fs::remove_file(&registry).expect("removing");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&registry).status().expect("mkfifo").success());
    let (mut log, writer) = std::io::pipe().expect("a pipe");
    let server = Running::start(&folder, free_port(), writer.into());
    server.hears_sigterm();
    assert_eq!(server.end(), Some(0));
    let mut told = String::new();
    log.read_to_string(&mut told).expect("its log");
    assert!(told.contains("stopped before it listened"), "{told}");
}

#[test]
fn who_has_no_key_fills_no_log() {
    let folder = folder();
    let port = free_port();
    let path = folder.path().join("log");
    let server = Running::start(&folder, port, File::create(&path).expect("a file").into());
    drop(connect(port));
    let started = std::time::Instant::now();
    for _ in 0..500 {
        let mut plain = connect(port);
        plain.write_all(b"x\r\n\r\n").expect("writing");
        let _ = plain.read(&mut [0; 64]);
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).expect("a number") + 2;
    assert_eq!(server.end(), Some(0));
    let log = fs::read_to_string(path).expect("the log");
    let lines = log.lines().filter(|line| line.contains("connection refused")).count();
    assert!((1..=10 * seconds).contains(&lines), "{lines} lines in {seconds} s");
}

/// A TLS connection on which nothing is asked.
fn silent(folder: &TempDir, port: u16) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(folder.path().join("server.pem")).expect("a certificate");
    roots.add(certificate).expect("a root");
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let mut tls = rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut tcp = connect(port);
    // The server may close it to make room.
    let _ = tls.complete_io(&mut tcp);
    rustls::StreamOwned::new(tls, tcp)
}

#[test]
fn silent_connections_use_up_no_descriptors_and_slow_nobody() {
    // With nothing else open, and with so much that the descriptors run out all the same.
    for others in [0, 90] {
        let folder = folder();
        let port = free_port();
        let path = folder.path().join("log");
        let files = ["--certificate", "server.pem", "--private-key", "server.key", "--secrets", "secrets.toml"];
        let mut command = Command::new("bash");
        let line = format!("ulimit -n 160; for i in $(seq {others}); do exec {{fd}}</dev/null; done; exec \"$@\"");
        command.args([
            "-c",
            &line,
            "bash",
            SERVER,
            "run",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--server-name",
            "localhost",
            "--upstream",
            "demo",
        ]);
        command.args(files).current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let server = Running(command.stderr(File::create(&path).expect("a file")).spawn().expect("the server"));
        let started = std::time::Instant::now();
        // Some stall after the handshake, the others in it.
        let _silent: Vec<_> = (0..200).map(|_| silent(&folder, port)).collect();
        let _stalled: Vec<TcpStream> = (0..100).map(|_| connect(port)).collect();
        for _ in 0..3 {
            // One source holds a quarter of the handshakes: this is another one.
            // Where there is no room at all, whoever is slow at the handshake may be the oldest that makes room: once more, then.
            assert!((0..2).any(|_| answers_from("127.0.0.2", port)), "{others} others");
        }
        let seconds = usize::try_from(started.elapsed().as_secs()).expect("a number") + 2;
        assert_eq!(server.end(), Some(0));
        let log = fs::read_to_string(path).expect("the log");
        assert!(log.contains("fewer connections than configured"), "{log}");
        let told = log.matches("cannot accept connections").count();
        let expected = if others == 0 { 0..=0 } else { 1..=seconds };
        assert!(expected.contains(&told), "{others} others: {told} lines: {log}");
    }
}
