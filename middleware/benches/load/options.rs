//! The command line: what to measure, or (started by ourselves) which server to be.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ekm_otp_tower::protocol::TlsPolicy;
use rustls::NamedGroup;
use rustls::crypto::CryptoProvider;

use crate::mode::{Mode, Server, UPSTREAM};

/// What this process is to do.
pub enum Role {
    /// Start servers and measure them.
    Load(Options),
    /// Count instructions and compare them with what is recorded: `--instructions`.
    Instructions,
    /// Time refusals and compare them: `--timing N`.
    Timing { tries: usize },
    /// Be a server: `--serve MODE ADDRESS FOLDER UPSTREAM`, not for people.
    Server { server: Server, addr: SocketAddr, folder: PathBuf, upstream: Option<SocketAddr> },
}

/// What both ends agree on: it decides how much of a new connection's cost is TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchange {
    /// What the default policy prefers.
    X25519MlKem768,
    /// X25519 alone (`--classical`).
    X25519,
}

impl KeyExchange {
    pub fn group(self) -> NamedGroup {
        match self {
            Self::X25519MlKem768 => NamedGroup::X25519MLKEM768,
            Self::X25519 => NamedGroup::X25519,
        }
    }

    /// The provider for `policy`, which offers other groups only where the default would.
    pub fn provider(self, policy: &TlsPolicy) -> std::sync::Arc<CryptoProvider> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if self == Self::X25519 {
            provider.kx_groups.retain(|group| group.name() == self.group());
        }
        policy.provider(provider)
    }
}

/// How much to measure, per mode.
#[derive(Clone, Debug)]
pub struct Options {
    pub key_exchange: KeyExchange,
    /// How many rounds count; one more warms up.
    pub rounds: usize,
    /// New connections per round.
    pub connections: usize,
    /// Keep-alive requests per round.
    pub requests: usize,
    /// Idle connections whose memory is measured.
    pub idle: usize,
    /// How long after the last idle connection has left its memory is asked for.
    pub give_back_within: Duration,
    /// Reverse proxies, not origins (`--proxies`).
    pub proxies: bool,
    /// Only modes whose names hold this; the bare servers, which the others are compared with, are always there.
    pub only: String,
}

impl Options {
    fn full() -> Self {
        Self {
            key_exchange: KeyExchange::X25519MlKem768,
            rounds: 21,
            connections: 400,
            requests: 10_000,
            idle: 500,
            give_back_within: Duration::from_secs(15),
            proxies: false,
            only: String::new(),
        }
    }

    /// Enough to see that every mode works; the numbers mean nothing.
    fn smoke() -> Self {
        Self { rounds: 2, connections: 8, requests: 80, idle: 8, give_back_within: Duration::ZERO, ..Self::full() }
    }

    /// Which modes are measured.
    pub fn measures(&self, mode: Mode) -> bool {
        let is_compared_with =
            matches!(mode.server, Server::Bare | Server::BareMtls | Server::BareProxy { .. } | Server::NginxProxy { .. });
        mode.server.is_proxy() == self.proxies && (is_compared_with || self.only.split(',').any(|only| mode.name.contains(only)))
    }
}

impl Role {
    /// Reads the command line. `--bench`, which cargo passes, says nothing.
    pub fn from_args(args: impl Iterator<Item = String>) -> Result<Self, String> {
        // An unoptimised build (`cargo test --all-targets`) can only show that every mode works.
        let mut options = if cfg!(debug_assertions) { Options::smoke() } else { Options::full() };
        let mut serve = None;
        let mut is_counting = false;
        let mut timing = None;
        let mut counts = Vec::new();
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {}
                "--instructions" => is_counting = true,
                "--smoke" => {
                    options =
                        Options { key_exchange: options.key_exchange, proxies: options.proxies, only: options.only, ..Options::smoke() }
                }
                "--only" => options.only = args.next().ok_or("--only takes parts of modes' names, with commas between them")?,
                "--proxies" => options.proxies = true,
                "--timing" => {
                    let tries = args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 1);
                    timing = Some(tries.ok_or("--timing takes a count of at least 2")?);
                }
                "--classical" => options.key_exchange = KeyExchange::X25519,
                "--rounds" | "--connections" | "--requests" | "--idle" => {
                    let count = args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                    counts.push((count.ok_or_else(|| format!("{arg} takes a count of at least 1"))?, arg));
                }
                "--serve" => {
                    let name = args.next().unwrap_or_default();
                    let server = Mode::ALL.iter().chain([&UPSTREAM]).find(|mode| mode.name == name).map(|mode| mode.server);
                    let (addr, folder) = (args.next().and_then(|addr| addr.parse().ok()), args.next().map(PathBuf::from));
                    let upstream = args.next().and_then(|addr| addr.parse().ok());
                    let ((server, addr), folder) = server.zip(addr).zip(folder).ok_or("--serve takes a mode, an address and a folder")?;
                    serve = Some(Self::Server { server, addr, folder, upstream });
                }
                _ => return Err(format!("unknown option {arg}\n{USAGE}")),
            }
        }
        for (count, arg) in counts {
            match arg.as_str() {
                "--rounds" => options.rounds = count,
                "--connections" => options.connections = count,
                "--requests" => options.requests = count,
                _ => options.idle = count,
            }
        }
        if is_counting {
            return Ok(Self::Instructions);
        }
        if let Some(tries) = timing {
            return Ok(Self::Timing { tries });
        }
        Ok(serve.unwrap_or(Self::Load(options)))
    }
}

const USAGE: &str = "options: --instructions, or --timing N, or [--proxies] [--classical] [--smoke] [--only NAME,…] [--rounds N] [--connections N] [--requests N] [--idle N]";

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_exchange, rounds, connections, requests, idle, give_back_within: _, proxies: _, only: _ } = self;
        let group = key_exchange.group();
        write!(f, "TLS 1.3, {group:?}, full handshakes, P-256 certificate, HTTP/1.1, each server on one processor. ")?;
        write!(f, "Per mode: {rounds} rounds of {connections} connections and {requests} requests; {idle} idle connections.")
    }
}
