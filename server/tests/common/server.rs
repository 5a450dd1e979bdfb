//! The server's binary as a process: started with a configuration file, asked for its log, its figures and its end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::pki::replace;
use super::{SOON, until};

pub const BINARY: &str = env!("CARGO_BIN_EXE_ekm-otp-server");

/// A running server. Killed when dropped; a test that fails shows the end of its log.
pub struct Server {
    pub address: SocketAddr,
    folder: PathBuf,
    admin: PathBuf,
    process: Child,
    log: Arc<Mutex<String>>,
    /// Reads the log to its end.
    reader: Option<JoinHandle<()>>,
}

/// `run` with the configuration file of this name in this folder. What is in the environment of whoever runs the tests does not count.
pub fn command(folder: &Path, config: &str) -> Command {
    let mut command = binary(folder);
    command.args(["run", "--config", config]);
    command
}

/// The binary in this folder, with no flags yet.
pub fn binary(folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    for name in ["EKM_OTP_LOG", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "CREDENTIALS_DIRECTORY", "WATCHDOG_USEC"] {
        command.env_remove(name);
    }
    command
}

/// Another of the binary's commands, to its end.
pub fn tool(folder: &Path, arguments: &[&str]) -> Output {
    binary(folder).args(arguments).stdout(Stdio::piped()).output().expect("the binary")
}

/// The same, which must succeed. Returns what it prints.
pub fn told_by(folder: &Path, arguments: &[&str]) -> String {
    let output = tool(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

impl Server {
    /// Writes the configuration as NAME.toml into the folder and starts with it. Relative paths in it are relative to the folder.
    pub fn start(folder: &Path, name: &str, config: &str) -> Self {
        let file = format!("{name}.toml");
        replace(&folder.join(&file), config);
        Self::started(command(folder, &file), folder, name)
    }

    /// By a command of the test's own. `name` is that of the admin socket, NAME.admin, if the configuration sets one.
    pub fn started(mut command: Command, folder: &Path, name: &str) -> Self {
        let mut process = command.spawn().expect("the server");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(process.stderr.take().expect("its log")).lines().map_while(Result::ok);
        let written = Arc::clone(&log);
        // Read on for ever: a full pipe would stop the server.
        let reader = std::thread::spawn(move || {
            for line in lines {
                let mut log = written.lock().expect("the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let admin = folder.join(format!("{name}.admin"));
        let mut server =
            Self { address: SocketAddr::from(([0, 0, 0, 0], 0)), folder: folder.to_owned(), admin, process, log, reader: Some(reader) };
        server.address = server.listens();
        server
    }

    fn listens(&mut self) -> SocketAddr {
        let mut address = None;
        until("the server listens", || {
            let log = self.log();
            address = log
                .lines()
                .filter(|line| line.contains("listening"))
                .find_map(|line| line.split_once("address=127.0.0.1:")?.1.split([' ', ',']).next()?.parse().ok());
            let ended = self.process.try_wait().expect("its state");
            assert!(ended.is_none() || address.is_some(), "the server ended: {ended:?}");
            address.is_some()
        });
        SocketAddr::from(([127, 0, 0, 1], address.expect("a port")))
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All that it has logged to standard error.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// How often this stands in its log.
    pub fn logged(&self, text: &str) -> usize {
        self.log.lock().expect("the log").matches(text).count()
    }

    pub fn signal(&self, name: &str) {
        let id = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        let signal = match name {
            "HUP" => rustix::process::Signal::HUP,
            "TERM" => rustix::process::Signal::TERM,
            "USR1" => rustix::process::Signal::USR1,
            _ => panic!("no signal of the tests: {name}"),
        };
        rustix::process::kill_process(id, signal).expect("a signal");
    }

    /// Waits for its end, which must come without being killed, and for the last line of its log.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the server ends", || {
            status = self.process.try_wait().expect("its state");
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its log");
        }
        status.expect("a status")
    }

    /// A figure of proc(5)'s status in bytes: VmRSS, VmHWM.
    pub fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix("kB"));
        line.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or_else(|| panic!("{name} is missing: {status}")) * 1024
    }

    /// How many files and sockets it holds open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("its descriptors").count()
    }

    /// What the admin listener (`admin = "unix:NAME.admin"`) answers: status and body.
    pub fn admin(&self, path: &str) -> (u16, String) {
        let mut socket = UnixStream::connect(&self.admin).expect("the admin socket");
        socket.set_read_timeout(Some(SOON)).expect("a time limit");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// The sum of a metric's lines whose labels hold all of these.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.admin("/metrics");
        let values: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '))
            .filter(|(rest, _)| rest.is_empty() || rest.starts_with('{') && labels.iter().all(|label| rest.contains(label)))
            .filter_map(|(_, value)| value.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log.lock().map(|log| log.clone()).unwrap_or_default();
            let from = log.lines().count().saturating_sub(60);
            eprintln!("the end of the server's log:\n{}", log.lines().skip(from).collect::<Vec<_>>().join("\n"));
        }
    }
}
