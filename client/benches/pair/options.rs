//! The command line: what to measure, or (started by ourselves) what to be.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::forward::End;

/// What this process is to do.
pub enum Role {
    /// Start pairs and measure them.
    Load(Options),
    /// Be the server behind all pairs: `--upstream ADDRESS`, not for people.
    Upstream {
        /// Where to listen.
        addr: SocketAddr,
    },
    /// Be one end of the pair of forwarders: `--forward END ADDRESS TO FOLDER`, not for people.
    Forward {
        /// Which one.
        end: End,
        /// Where to listen.
        addr: SocketAddr,
        /// Where to hand on to.
        to: SocketAddr,
        /// Where the certificates are.
        folder: PathBuf,
    },
}

/// How much to measure, per pair.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many rounds count; one more warms up.
    pub rounds: usize,
    /// New local connections per round.
    pub connections: usize,
    /// Requests on an open connection per round.
    pub requests: usize,
    /// MiB per round and direction.
    pub mib: u64,
    /// Only pairs whose names hold one of these; what they are compared with is always there.
    pub only: String,
}

impl Options {
    fn full() -> Self {
        Self { rounds: 15, connections: 200, requests: 2_000, mib: 1024, only: String::new() }
    }

    /// Enough to see that every pair works; the numbers mean nothing.
    fn smoke() -> Self {
        Self { rounds: 1, connections: 5, requests: 20, mib: 4, only: String::new() }
    }
}

impl Role {
    /// Reads the command line. `--bench`, which cargo passes, says nothing.
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        // An unoptimised build can only show that every pair works.
        let mut options = if cfg!(debug_assertions) { Options::smoke() } else { Options::full() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {}
                "--smoke" => options = Options { only: options.only, ..Options::smoke() },
                "--only" => options.only = args.next().ok_or("--only takes parts of pairs' names, with commas between them")?,
                "--rounds" | "--connections" | "--requests" | "--mib" => {
                    let count = args.next().and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0);
                    let count = count.ok_or_else(|| format!("{arg} takes a count of at least 1"))?;
                    match arg.as_str() {
                        "--rounds" => options.rounds = count,
                        "--connections" => options.connections = count,
                        "--requests" => options.requests = count,
                        _ => options.mib = count as u64,
                    }
                }
                "--upstream" => {
                    let addr = args.next().and_then(|addr| addr.parse().ok()).ok_or("--upstream takes an address")?;
                    return Ok(Self::Upstream { addr });
                }
                "--forward" => {
                    let end = args.next().and_then(|end| End::of(&end));
                    let mut address = || args.next().and_then(|addr| addr.parse().ok());
                    let (addr, to) = (address(), address());
                    let ((end, addr), to) = end.zip(addr).zip(to).ok_or("--forward takes an end and two addresses")?;
                    let folder = args.next().map(PathBuf::from).ok_or("--forward takes a folder")?;
                    return Ok(Self::Forward { end, addr, to, folder });
                }
                _ => return Err(format!("unknown option {arg}\n{USAGE}")),
            }
        }
        Ok(Self::Load(options))
    }
}

const USAGE: &str = "options: [--smoke] [--only NAME,…] [--rounds N] [--connections N] [--requests N] [--mib N]";

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, connections, requests, mib, only: _ } = self;
        write!(f, "TLS 1.3, P-256 certificates, both ends of a pair on one processor. ")?;
        write!(f, "Per pair: {rounds} rounds of {connections} connections, {requests} requests, {mib} MiB down and as many up.")
    }
}
