//! A server with TCP targets, a key in a software TPM, targets, and an sshd.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::common::{Bench, Server, client, server_binary, text};
use super::postgres::Postgres;
use super::until;

/// The server in front of targets, and whose key it knows.
pub struct Gate {
    pub bench: Bench,
    pub server: Server,
}

impl Gate {
    /// With these targets: what they are called, and where they lead.
    pub fn before(targets: &[(&str, &str)]) -> Self {
        let bench = Bench::new();
        bench.create_key();
        let tables: String = targets.iter().map(|(target, to)| format!("[[tcp]]\ntarget = \"{target}\"\nto = \"{to}\"\n")).collect();
        let config = format!(
            "listen = \"127.0.0.1:0\"\nregistry = \"secrets.toml\"\nserver_names = [\"localhost\"]\ncertificate = \"server.pem\"\n\
             private_key = \"server.key\"\n{tables}{}",
            if targets.is_empty() { "upstream = \"demo\"\n" } else { "" }
        );
        fs::write(bench.path("server.toml"), config).expect("writing");
        let mut command = Command::new(server_binary());
        command.args(["run", "--config", "server.toml"]).current_dir(bench.swtpm.dir());
        Self { server: Server::of(&mut command), bench }
    }

    /// `connect` to this target, with pipes.
    pub fn connect(&self, target: &str, flags: &[&str]) -> Command {
        let mut command = client();
        command.args(["connect", target]).args(self.flags()).args(flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The same as a line of a shell, but for the target.
    pub fn connect_line(&self) -> String {
        format!("env EKM_OTP_CONFIG=/dev/null {} connect {}", super::common::CLIENT, self.flags().join(" "))
    }

    /// The sidecar with these `--tcp`: where it listens, and to what.
    pub fn sidecar(&self, tunnels: &[(&str, &str)], flags: &[&str]) -> Sidecar {
        let mut command = client();
        command.arg("proxy").args(tunnels.iter().map(|(listen, target)| format!("--tcp={listen}={target}")));
        command.args(self.flags().iter().map(|flag| if flag == "--via" { "--to" } else { flag })).args(flags);
        Sidecar::of(command.current_dir(self.bench.swtpm.dir()), tunnels.len())
    }

    pub fn flags(&self) -> Vec<String> {
        let (key, ca) = (self.bench.path("client1.pem"), self.bench.path("server.pem"));
        let via = format!("https://localhost:{}", self.server.port);
        ["--via", &via, "--kid", "client1", "--key", &key.display().to_string(), "--ca", &ca.display().to_string(), "--tcti"]
            .map(str::to_owned)
            .into_iter()
            .chain([self.bench.swtpm.tcti()])
            .collect()
    }

    /// The most memory that the server has taken, in KiB.
    pub fn memory(&self) -> u64 {
        peak(self.server.process.id())
    }
}

/// A running sidecar.
pub struct Sidecar {
    pub process: Child,
    log: Arc<Mutex<String>>,
}

impl Sidecar {
    fn of(command: &mut Command, sockets: usize) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the sidecar");
        let lines = BufReader::new(process.stderr.take().expect("its log")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
            }
        });
        let mut sidecar = Self { process, log };
        until("the sidecar listens", || {
            let ended = sidecar.process.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended: {}", sidecar.log());
            sidecar.log().matches("listening address=").count() == sockets
        });
        sidecar
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it listens for this target.
    pub fn port(&self, target: &str) -> u16 {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("address=127.0.0.1:") && line.contains(target)).unwrap_or_else(|| panic!("{log}"));
        let port = line.split("address=127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        port.unwrap_or_else(|| panic!("{line}"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The most memory that a process has taken, in KiB.
pub fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What a process says until it ends, which it must.
pub fn ends(mut child: Child) -> Output {
    let id = child.id();
    drop(child.stdin.take());
    let waiting = std::thread::spawn(move || child.wait_with_output().expect("its output"));
    let since = Instant::now();
    while !waiting.is_finished() {
        if since.elapsed() > Duration::from_secs(60) {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    waiting.join().expect("its output")
}

/// Runs a command to its end, which must come.
pub fn within(what: &str, mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    ends(command.spawn().unwrap_or_else(|e| panic!("{what}: {e}")))
}

/// A TCP service.
pub struct Target {
    port: u16,
    served: Arc<AtomicUsize>,
}

impl Target {
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many connections were served to their end, without a panic.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// Does this with each connection.
pub fn target(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (serve, served) = (Arc::new(serve), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (serve, counted) = (Arc::clone(&serve), Arc::clone(&counted));
            std::thread::spawn(move || {
                serve(stream);
                counted.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    Target { port, served }
}

/// A port on this machine; each connection there is standard input and output of a command of its own, as inetd has it.
pub fn bridge(mut command: Command) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let output: OwnedFd = stream.try_clone().expect("the same socket").into();
            command.stdin(OwnedFd::from(stream)).stdout(output).stderr(Stdio::inherit());
            let mut child = command.spawn().expect("the client");
            // It has the socket, and nobody else: its end is the connection's.
            command.stdin(Stdio::null()).stdout(Stdio::null());
            std::thread::spawn(move || child.wait());
        }
    });
    port
}

impl Postgres {
    pub fn address(&self) -> String {
        let url = self.url();
        url.split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned()
    }

    /// What psql shows through this port of this machine.
    pub fn psql(&self, port: u16, statement: &str) -> String {
        self.psql_at("127.0.0.1", port, statement)
    }

    /// The same; a host that is a folder has PostgreSQL's socket in it.
    pub fn psql_at(&self, host: &str, port: u16, statement: &str) -> String {
        let user = self.url().trim_start_matches("postgres://").split('@').next().map(str::to_owned).expect("a user");
        let mut psql = Command::new("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            host,
            "-p",
            &port.to_string(),
            "-U",
            &user,
            "-d",
            "postgres",
            "-c",
        ]);
        let output = within("psql", {
            psql.arg(statement).stdin(Stdio::null());
            psql
        });
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }
}

/// An sshd of the test's own, for this user alone.
pub struct Sshd {
    folder: TempDir,
    port: u16,
    process: Child,
}

const SSHD: &str = "/usr/sbin/sshd";

impl Sshd {
    pub fn start() -> Self {
        assert!(Path::new(SSHD).exists(), "sshd is missing: install the packages openssh-server and openssh-client");
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).output().expect("ssh-keygen");
            assert!(made.status.success(), "{}", text(&made.stderr));
        }
        fs::copy(at("user.pub"), at("authorized_keys")).expect("copying");
        if rustix::process::geteuid().is_root() {
            // Where Debian's unit has it made: sshd as root does not start without it.
            fs::create_dir_all("/run/sshd").expect("/run/sshd");
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {keys}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n",
            host = at("host").display(),
            keys = at("authorized_keys").display(),
        );
        fs::write(at("sshd_config"), config).expect("writing");
        let log = fs::File::create(at("sshd.log")).expect("its log");
        let process =
            Command::new(SSHD).args(["-D", "-e", "-f"]).arg(at("sshd_config")).stdin(Stdio::null()).stderr(log).spawn().expect("sshd");
        let mut sshd = Self { folder, port, process };
        until("sshd listens", || {
            let ended = sshd.process.try_wait().expect("its state");
            assert!(ended.is_none(), "sshd ended: {}", fs::read_to_string(sshd.path("sshd.log")).unwrap_or_default());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        sshd
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A configuration of ssh that knows this sshd's key and has the right one itself, with this besides.
    pub fn client_config(&self, more: &str) -> PathBuf {
        let host = fs::read_to_string(self.path("host.pub")).expect("the host's key");
        fs::write(self.path("known_hosts"), format!("* {host}")).expect("writing");
        let user = Command::new("id").arg("-un").output().expect("id");
        let config = format!(
            "Host *\nUser {}IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {}\nStrictHostKeyChecking yes\nBatchMode yes\n\
             LogLevel ERROR\n{more}\n",
            text(&user.stdout),
            self.path("user").display(),
            self.path("known_hosts").display(),
        );
        let file = self.path("ssh_config");
        fs::write(&file, config).expect("writing");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        file
    }

    /// A bare repository with one commit; its path.
    pub fn repository(&self) -> String {
        let (work, bare) = (self.path("work"), self.path("bare.git"));
        fs::create_dir(&work).expect("a folder");
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.args(arguments).current_dir(&work).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
            let done = within("git", git);
            assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
        };
        git(&["init", "--quiet"]);
        fs::write(work.join("file"), "content\n").expect("writing");
        git(&["add", "file"]);
        git(&["-c", "user.name=test", "-c", "user.email=test@example.test", "commit", "--quiet", "-m", "first"]);
        let bare = bare.display().to_string();
        git(&["clone", "--quiet", "--bare", ".", &bare]);
        bare
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
