//! Child processes, and what the operating system says of them.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::AnyError;

/// A running process that listens. It ends when this is dropped, or when this process ends in any way.
pub struct Process {
    child: Child,
    pub addr: SocketAddr,
}

/// Where it works.
#[derive(Clone, Copy)]
pub enum Place {
    /// On the processor of the pairs.
    Pair,
    /// On the client's.
    Beside,
}

impl Process {
    /// Starts a program (the first word) that is told by `arguments` where to listen, and waits until it does.
    pub fn start(
        place: Place,
        name: &str,
        arguments: impl FnOnce(SocketAddr, &mut Command) -> Result<(), AnyError>,
    ) -> Result<Self, AnyError> {
        // stunnel tells nobody which port it has chosen: so it is chosen here.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let processor = match place {
            Place::Pair => *PAIRS_PROCESSOR,
            Place::Beside => 0,
        };
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "taskset", "--cpu-list"])
            .arg(processor.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        arguments(addr, &mut command)?;
        let mut child = command.spawn()?;
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
        Err(format!("{name} did not start").into())
    }

    /// CPU time used so far, in nanoseconds, by all threads, those that have ended included: stunnel starts one for each connection.
    /// proc_pid_stat(5): utime and stime, the 12th and 13th fields after the command's name; as exact as a tick, which is 10 ms.
    fn cpu(&self) -> io::Result<u64> {
        const NANOSECONDS_PER_TICK: u64 = 10_000_000;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        Ok((number(fields.next())? + number(fields.next())?) * NANOSECONDS_PER_TICK)
    }

    /// The most memory that it has ever had resident, in KiB.
    pub fn peak_kib(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        number(line.split_whitespace().next())
    }
}

/// CPU time that these have used, in nanoseconds, once they have come to rest. What a thread uses is booked when it stops.
pub fn cpu_at_rest(processes: &[Process]) -> io::Result<u64> {
    const SETTLE: Duration = Duration::from_millis(25);
    let sum = || processes.iter().map(Process::cpu).sum::<io::Result<u64>>();
    let mut cpu = sum()?;
    loop {
        std::thread::sleep(SETTLE);
        let before = std::mem::replace(&mut cpu, sum()?);
        if before == cpu {
            return Ok(cpu);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last one. Asked for before this process leaves it: what is left is all that it would be told of then.
static PAIRS_PROCESSOR: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(0, |processors| processors.get() - 1));

/// Leaves the pairs' processor to them, where there is another.
pub fn leave_the_pairs_processor() -> Result<(), AnyError> {
    let pairs = *PAIRS_PROCESSOR;
    if pairs > 0 {
        let moved = Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid", &format!("0-{}", pairs - 1), &std::process::id().to_string()])
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
