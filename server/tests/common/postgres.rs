//! A PostgreSQL of a test's own: its own port and folder, started, killed and started again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::until;

/// Nobody else may use it: who connects from this machine is let in.
const USER: &str = "registry";

/// A running PostgreSQL. Ends, with all that it holds, when dropped.
pub struct Postgres {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

/// Where Debian has them; they are in nobody's search path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(|version| Some(version.ok()?.path().join("bin")));
    let newest = versions.filter(|folder| folder.join("initdb").exists()).max();
    newest.expect("PostgreSQL is missing: install the package postgresql")
}

/// One of its programs. It refuses to be root's: then it is that of its package's user.
fn program(name: &str) -> Command {
    let program = programs().join(name);
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--inh-caps=-all"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

fn done(what: &str, output: &Output) {
    assert!(output.status.success(), "{what}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

impl Postgres {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if geteuid().is_root() {
            let owned = Command::new("chown").arg("postgres:").arg(folder.path()).output().expect("chown");
            done("chown postgres (the user comes with the package postgresql)", &owned);
        }
        let data = folder.path().join("data");
        let made = program("initdb").args(["--auth=trust", "--no-sync", "--encoding=UTF8", "-U", USER, "-D"]).arg(data).output();
        done("initdb", &made.expect("initdb"));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let mut postgres = Self { folder, port, server: None };
        postgres.start_again();
        postgres
    }

    /// What a server's `registry` is set to.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// On the same port, with the same data.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let log = fs::OpenOptions::new().append(true).create(true).open(self.folder.path().join("log")).expect("its log");
        let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=16MB", "max_connections=40"];
        let mut command = program("postgres");
        command.args(["-p", &self.port.to_string(), "-D"]).arg(self.folder.path().join("data"));
        for setting in settings {
            command.args(["-c", setting]);
        }
        let log = (log.try_clone().expect("its log"), log);
        self.server = Some(command.stdout(log.0).stderr(log.1).spawn().expect("postgres"));
        until("PostgreSQL is ready", || {
            let ended = self.server.as_mut().expect("it").try_wait().expect("its state");
            assert!(ended.is_none(), "PostgreSQL ended: {}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
            let mut asked = Command::new(programs().join("pg_isready"));
            let asked = asked.args(["-q", "-h", "127.0.0.1", "-t", "1", "-p", &self.port.to_string()]).status();
            asked.expect("pg_isready").success()
        });
    }

    /// At once, without a word to anybody: all of its processes.
    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        let id = server.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        server.kill().expect("its end");
        server.wait().expect("its end");
        let children: Vec<i32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        for child in children.iter().filter_map(|id| Pid::from_raw(*id)) {
            // It may have ended by itself.
            let _ = kill_process(child, Signal::KILL);
        }
        until("all of PostgreSQL's processes have ended", || {
            children.iter().all(|id| {
                fs::read_to_string(format!("/proc/{id}/stat"))
                    .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
            })
        });
        assert!(TcpStream::connect_timeout(&([127, 0, 0, 1], self.port).into(), Duration::from_secs(1)).is_err(), "it still listens");
    }

    /// What a statement gives, a line for each row.
    pub fn ask(&self, statement: &str) -> String {
        let mut command = Command::new(programs().join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", statement]);
        let output = command.stdin(Stdio::null()).output().expect("psql");
        done(statement, &output);
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // The immediate shutdown: its processes end with it.
            if let Some(id) = i32::try_from(server.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(id, Signal::QUIT);
            }
            let _ = server.wait();
        }
    }
}
