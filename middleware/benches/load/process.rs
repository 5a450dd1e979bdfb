//! A server as a child process, and what the operating system says of it.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::AnyError;
use crate::mode::Mode;
use crate::options::KeyExchange;
use crate::pki::Pki;

/// A running server. It ends when this is dropped, or when this process ends in any way: its standard input is closed then.
pub struct ServerProcess {
    child: Child,
    pub addr: SocketAddr,
}

impl ServerProcess {
    pub fn start(mode: Mode, key_exchange: KeyExchange, pki: &Pki) -> Result<Self, AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve", mode.name()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if key_exchange == KeyExchange::X25519 {
            command.arg("--classical");
        }
        let mut child = command.spawn()?;
        child.stdin.as_mut().ok_or("a pipe was asked for")?.write_all(pki.server_part().as_bytes())?;
        let mut port = String::new();
        BufReader::new(child.stdout.as_mut().ok_or("a pipe was asked for")?).read_line(&mut port)?;
        let port = port.trim().parse().map_err(|_| format!("the server for {} did not start", mode.name()))?;
        Ok(Self { child, addr: (Ipv4Addr::LOCALHOST, port).into() })
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
        // The end of its input ends it; killing covers one that hangs.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not what proc(5) says"))
}
