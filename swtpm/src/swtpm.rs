//! A private swtpm: its own state directory (mode 0700), free ports, killed and removed on drop.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{command, two_listeners};

const START_WITHIN: Duration = Duration::from_secs(10);

/// A running swtpm that ends with this value.
pub struct Swtpm {
    state: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Swtpm {
    /// Starts one with an empty state: a TPM fresh from the factory.
    ///
    /// # Panics
    /// When swtpm is not installed or does not start: a test without it proves nothing.
    #[must_use]
    pub fn start() -> Self {
        let state = tempfile::Builder::new().prefix("ekm-otp-swtpm-").tempdir().expect("a temporary directory");
        let mut swtpm = Self { state, port: a_free_port(), process: None };
        // Another process may take the ports between the look and the start: then swtpm ends, and other ports are tried.
        for _ in 0..20 {
            if swtpm.try_start() {
                return swtpm;
            }
            swtpm.port = a_free_port();
        }
        panic!("swtpm found no free ports in 20 tries");
    }

    fn try_start(&mut self) -> bool {
        let (port, ctrl) = (self.port, self.port + 1);
        let child = command("swtpm", "swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={},mode=0600", self.state.path().display()))
            .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
            .args(["--ctrl", &format!("type=tcp,port={ctrl},bindaddr=127.0.0.1")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("starting swtpm");
        let started = Instant::now();
        while started.elapsed() < START_WITHIN {
            if child.try_wait().expect("waiting for swtpm").is_some() {
                return false;
            }
            if answers(ctrl) {
                self.process = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("swtpm did not answer within {START_WITHIN:?}");
    }

    /// The port of its data channel on 127.0.0.1; the control channel is at the next one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its TCTI string.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Its state directory; also a place for a test's own files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.state.path()
    }

    /// Kills it, as a crash would. The state stays.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("killing swtpm");
            process.wait().expect("waiting for swtpm");
        }
    }

    /// Starts it again on the same ports and state.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        // The ports may still be in use for a moment.
        let started = Instant::now();
        while !self.try_start() {
            assert!(started.elapsed() < START_WITHIN, "swtpm does not start again on port {}", self.port);
        }
    }

    /// Stops it from answering (SIGSTOP) until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it answer again (SIGCONT).
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        if let Some(process) = &self.process {
            let status = command("kill", "procps").args([&format!("-{signal}"), &process.id().to_string()]).status();
            assert!(status.is_ok_and(|s| s.success()), "kill -{signal}");
        }
    }

    /// Runs a program of tpm2-tools (or OpenSSL, whose provider `tpm2` finds it) against it, in [`dir`](Self::dir), and returns its standard output.
    ///
    /// # Panics
    /// When the tool is not installed or fails.
    pub fn tool(&self, tool: &str, args: &[&str]) -> String {
        let output = self.try_tool(tool, args);
        assert!(output.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`tool`](Self::tool), whatever the outcome.
    ///
    /// # Panics
    /// When the tool is not installed.
    pub fn try_tool(&self, tool: &str, args: &[&str]) -> Output {
        let mut command = command(tool, if tool.starts_with("tpm2_") { "tpm2-tools" } else { tool });
        command.args(args).env("TPM2TOOLS_TCTI", self.tcti()).env("TPM2OPENSSL_TCTI", self.tcti());
        command.current_dir(self.dir()).stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("cannot run {tool}: {e}"))
    }

    /// The handles of transient objects and loaded sessions that are in it now.
    #[must_use]
    pub fn loaded_handles(&self) -> Vec<String> {
        ["handles-transient", "handles-loaded-session"]
            .iter()
            .flat_map(|kind| self.tool("tpm2_getcap", &[kind]).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Whether the control channel answers CMD_GET_CAPABILITY (swtpm_ioctls(3)). The data channel is left alone: it takes one connection.
fn answers(ctrl: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", ctrl)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut result = [0; 4];
    stream.write_all(&[0, 0, 0, 1]).is_ok() && stream.read_exact(&mut result).is_ok()
}

/// A port that is free together with the next one.
fn a_free_port() -> u16 {
    two_listeners().0.local_addr().expect("a bound socket has an address").port()
}
