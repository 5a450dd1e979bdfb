//! A server as a child process, and what the operating system says of it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::AnyError;
use crate::command::{self, Surroundings};
use crate::mode::{Mode, UPSTREAM};

/// A running server. It ends when this is dropped, or when this process ends in any way.
pub struct ServerProcess {
    child: Child,
    pub addr: SocketAddr,
}

impl ServerProcess {
    pub fn start(mode: Mode, surroundings: Surroundings<'_>) -> Result<Self, AnyError> {
        Self::start_by(pinned(*SERVERS_PROCESSOR), mode, surroundings)
    }

    /// What stands behind proxies, on the client's processor.
    pub fn start_upstream(surroundings: Surroundings<'_>) -> Result<Self, AnyError> {
        Self::start_by(pinned(0), UPSTREAM, surroundings)
    }

    /// Under callgrind, which writes to `counts` when the process ends.
    pub fn start_counted(mode: Mode, surroundings: Surroundings<'_>, counts: &Path) -> Result<Self, AnyError> {
        let mut counted = pinned(*SERVERS_PROCESSOR);
        counted.args(["valgrind", "--quiet", "--tool=callgrind"]);
        counted.arg(format!("--callgrind-out-file={}", counts.display()));
        Self::start_by(counted, mode, surroundings)
    }

    /// `starter` runs what stands behind it.
    fn start_by(mut starter: Command, mode: Mode, surroundings: Surroundings<'_>) -> Result<Self, AnyError> {
        // Nobody tells which port nginx has chosen: so it is chosen here.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        starter.stdin(Stdio::null());
        let mut child = command::add(starter, mode, addr, surroundings)?.spawn()?;
        for _ in 0..1500 {
            if child.try_wait()?.is_some() {
                break;
            }
            if TcpStream::connect(addr).is_ok() {
                return Ok(Self { child, addr });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("the server for {:?} did not start", mode.name).into())
    }

    /// Ends it by SIGTERM, and waits until it has ended.
    pub fn terminate(mut self) -> io::Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        self.child.wait().map(drop)
    }

    /// CPU time used so far, in nanoseconds, once the server has come to rest. What a thread uses is booked when it stops.
    pub async fn cpu_at_rest(&self) -> io::Result<u64> {
        const SETTLE: Duration = Duration::from_millis(10);
        let mut cpu = self.cpu()?;
        loop {
            tokio::time::sleep(SETTLE).await;
            let before = std::mem::replace(&mut cpu, self.cpu()?);
            if before == cpu {
                return Ok(cpu);
            }
        }
    }

    fn cpu(&self) -> io::Result<u64> {
        let proc = format!("/proc/{}", self.child.id());
        let mut sum = 0;
        for task in fs::read_dir(format!("{proc}/task"))? {
            match fs::read_to_string(task?.path().join("schedstat")) {
                Ok(stat) => sum += number(stat.split_whitespace().next())?,
                // A kernel without scheduler statistics.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return self.cpu_in_ticks(&proc),
                Err(error) => return Err(error),
            }
        }
        Ok(sum)
    }

    /// proc_pid_stat(5): utime and stime are fields 14 and 15, the 12th and 13th after the command's name. Coarse: a tick is 10 ms.
    fn cpu_in_ticks(&self, proc: &str) -> io::Result<u64> {
        const NANOSECONDS_PER_TICK: u64 = 10_000_000;
        let stat = fs::read_to_string(format!("{proc}/stat"))?;
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        Ok((number(fields.next())? + number(fields.next())?) * NANOSECONDS_PER_TICK)
    }

    /// Resident memory in KiB. `smaps_rollup` counts pages; VmRSS may be off by some hundred KiB (proc_pid_status(5)), but is always there.
    pub fn resident_kib(&self) -> io::Result<u64> {
        let file = |name| fs::read_to_string(format!("/proc/{}/{name}", self.child.id()));
        let (text, field) = match file("smaps_rollup") {
            Ok(text) => (text, "Rss:"),
            Err(_) => (file("status")?, "VmRSS:"),
        };
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        number(line.split_whitespace().next())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs what stands behind it on that processor. The servers and the client have different ones, so that neither is measured with the other's
/// cache. It ends when this process does. setpriv(1), taskset(1).
fn pinned(processor: usize) -> Command {
    let mut pinned = Command::new("setpriv");
    pinned.args(["--pdeathsig", "KILL", "taskset", "--cpu-list"]).arg(processor.to_string());
    pinned
}

/// The last one. Asked for before this process leaves it: what is left is all that it would be told of then.
static SERVERS_PROCESSOR: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(0, |processors| processors.get() - 1));

/// Leaves the servers' processor to them, where there is another.
pub fn leave_the_servers_processor() -> Result<(), AnyError> {
    let servers = *SERVERS_PROCESSOR;
    if servers > 0 {
        let moved = Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid", &format!("0-{}", servers - 1), &std::process::id().to_string()])
            .stdout(Stdio::null())
            .status()?;
        if !moved.success() {
            return Err("taskset(1) could not move this process".into());
        }
    }
    Ok(())
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not what proc(5) says"))
}
