//! A sidecar in front of the real server in front of an application: what any local program meets.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod app;
pub mod git;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use app::App;

use crate::common::{Bench, Server, client};

/// No wait takes longer.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until it is so, but not for ever.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits, but not for ever.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// A running `ekm-otp-client proxy` on a port of its own. Killed when dropped; a test that fails shows its log.
pub struct Sidecar {
    pub port: u16,
    process: Child,
    log: Arc<Mutex<String>>,
}

impl Sidecar {
    /// For `https://localhost:PORT`, with these flags beside.
    pub fn start(bench: &Bench, to: u16, flags: &[&str]) -> Self {
        let mut command = client();
        command.args(["proxy", "--to", &format!("https://localhost:{to}")]).args(flags).current_dir(bench.swtpm.dir());
        Self::of(command.env("TPM2TOOLS_TCTI", bench.swtpm.tcti()))
    }

    /// Runs a command to which only the address is added.
    pub fn of(command: &mut Command) -> Self {
        command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the sidecar");
        let lines = BufReader::new(process.stderr.take().expect("its log")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let logged = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = logged.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut sidecar = Self { port: 0, process, log };
        until("the sidecar listens", || {
            let log = sidecar.log();
            let port = log.lines().find_map(|line| {
                line.split_once("listening address=127.0.0.1:")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
            });
            let ended = sidecar.process.try_wait().expect("its state");
            assert!(port.is_some() || ended.is_none(), "the sidecar ended: {ended:?}: {log}");
            sidecar.port = port.unwrap_or_default();
            port.is_some()
        });
        sidecar
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    /// What local programs call it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All that it has told so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            eprintln!(
                "the end of the sidecar's log:\n{}",
                log.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

/// The server's binary in front of the application.
pub fn serve(bench: &Bench, app: &App, flags: &[&str]) -> Server {
    Server::start_before(bench, &app.url(), flags)
}

/// The most memory that a process has ever had resident, in MiB.
pub fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    line.and_then(|kib| kib.trim().parse::<u64>().ok()).expect("a figure") / 1024
}

/// All parts, with a key in a TPM.
pub struct Way {
    pub sidecar: Sidecar,
    pub server: Server,
    pub app: App,
    pub bench: Bench,
}

impl Way {
    pub fn new(server_flags: &[&str], sidecar_flags: &[&str]) -> Self {
        let bench = Bench::new();
        bench.create_key();
        let app = App::start();
        let server = serve(&bench, &app, server_flags);
        let credential = ["--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"];
        let sidecar = Sidecar::start(&bench, server.port, &[&credential, sidecar_flags].concat());
        Self { sidecar, server, app, bench }
    }

    pub fn url(&self, path: &str) -> String {
        self.sidecar.url(path)
    }
}
