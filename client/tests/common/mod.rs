//! Real parts for the client's tests: a software TPM, certificates, the server's binary. All secrets are test data.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod cloud;
pub mod echo;
pub mod kms;
pub mod machine;
pub mod nitro;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use ekm_otp_swtpm::Swtpm;

pub const CLIENT: &str = env!("CARGO_BIN_EXE_ekm-otp-client");

/// The client, which keeps nothing of a software TPM that ends with the test, and takes nothing from the configuration of whoever runs that.
pub fn client() -> Command {
    let mut client = Command::new(CLIENT);
    client.env_remove("XDG_RUNTIME_DIR").env("EKM_OTP_CONFIG", "/dev/null");
    client
}

/// The server's binary, built from the same workspace and profile as this test. Whoever has built it with all else says where it is: alone it
/// would be built once more, with fewer features of what it depends on.
pub fn server_binary() -> PathBuf {
    if let Some(built) = std::env::var_os("EKM_OTP_TESTED_SERVER") {
        return built.into();
    }
    let target = Path::new(CLIENT).parent().expect("a folder");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--package", "ekm-otp-server", "--bin", "ekm-otp-server", "--target-dir"])
        .arg(target.parent().expect("a folder"));
    if target.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo").success(), "the server does not build");
    target.join("ekm-otp-server")
}

/// The client in the folder, against the software TPM, with these variables and this input.
pub fn run(bench: &Bench, variables: &[(&str, &str)], input: &str, args: &[&str]) -> Output {
    let mut child = client()
        .args(args)
        .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
        .env_remove("SSH_ASKPASS")
        .envs(variables.iter().copied())
        .current_dir(bench.swtpm.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client");
    // A command that fails before it reads has closed its input.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    child.wait_with_output().expect("its output")
}

pub fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{:?}: {}", output.status.code(), text(&output.stderr));
    text(&output.stdout)
}

/// Exit code and what was told.
pub fn failed(output: &Output) -> (Option<i32>, String) {
    assert!(!output.status.success(), "it succeeded");
    (output.status.code(), text(&output.stderr))
}

/// A folder with certificates and a registry, and a software TPM.
pub struct Bench {
    pub swtpm: Swtpm,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { swtpm: Swtpm::start() };
        let certified = rcgen::generate_simple_self_signed(["localhost", "127.0.0.1"].map(str::to_owned)).expect("a certificate");
        fs::write(bench.path("server.pem"), certified.cert.pem()).expect("writing");
        fs::write(bench.path("server.key"), certified.signing_key.serialize_pem()).expect("writing");
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.swtpm.dir().join(name)
    }

    /// Runs the client in the folder, against the software TPM.
    pub fn client(&self, args: &[&str]) -> Output {
        self.client_with(args, &self.swtpm.tcti())
    }

    pub fn client_with(&self, args: &[&str], tcti: &str) -> Output {
        client().args(args).env("TPM2TOOLS_TCTI", tcti).current_dir(self.swtpm.dir()).stdin(Stdio::null()).output().expect("the client")
    }

    /// Makes `client1.pem` in the TPM and `secrets.toml` for the server.
    pub fn create_key(&self) {
        let made = self.client(&[
            "key",
            "create",
            "--kid",
            "client1",
            "--client",
            "Alice",
            "--out",
            "client1.pem",
            "--secret-out",
            "secrets.toml",
        ]);
        assert!(made.status.success(), "{}", text(&made.stderr));
    }

    /// The secret as it stands in `secrets.toml`.
    pub fn secret(&self) -> String {
        let registry = fs::read_to_string(self.path("secrets.toml")).expect("reading");
        registry.split("secret = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a secret").to_owned()
    }

    pub fn get(&self, server: &Server, path: &str, flags: &[&str]) -> Output {
        let url = format!("https://localhost:{}{path}", server.port);
        let args = ["get", &url, "--kid", "client1", "--key-file", "client1.pem", "--ca", "server.pem"];
        self.client(&[&args, flags].concat())
    }
}

/// A running server binary. Ended by SIGKILL when dropped.
pub struct Server {
    pub port: u16,
    pub process: Child,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(bench: &Bench, flags: &[&str]) -> Self {
        Self::start_before(bench, "demo", flags)
    }

    /// In front of this application.
    pub fn start_before(bench: &Bench, upstream: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(server_binary());
        command
            .args(["run", "--certificate", "server.pem", "--private-key", "server.key", "--secrets", "secrets.toml"])
            .args(["--server-name", "localhost", "--upstream", upstream])
            .args(flags)
            .current_dir(bench.swtpm.dir());
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::of(&mut command)
    }

    /// Runs a command that becomes the server.
    pub fn of(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the server");
        let mut lines = BufReader::new(process.stderr.take().expect("its log")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let port = loop {
            let line = lines.next().expect("the server ended").expect("a line");
            log.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
            if let Some((_, rest)) = line.split_once("address=127.0.0.1:") {
                break rest.split_whitespace().next().and_then(|port| port.parse().ok()).expect("a port");
            }
        };
        let shared = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
            }
        });
        Self { port, process, log, reader: Some(reader) }
    }

    /// Ends it by this signal and returns its exit code and all that it logged.
    pub fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.process.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        let status = self.process.wait().expect("its end");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log's reader");
        }
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (status.code(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

/// Writes a file that only its owner can read.
pub fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("writing");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}
