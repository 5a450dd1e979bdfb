//! The command line: what to measure, or (started by ourselves) which server to be.

use std::fmt;

use ekm_otp_tower::protocol::TlsPolicy;
use rustls::NamedGroup;
use rustls::crypto::CryptoProvider;

use crate::mode::Mode;

/// What this process is to do.
pub enum Role {
    /// Start servers and measure them.
    Load(Options),
    /// Be a server: `--serve MODE`, not for people.
    Server { mode: Mode, key_exchange: KeyExchange },
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
}

impl Options {
    const FULL: Self = Self { key_exchange: KeyExchange::X25519MlKem768, rounds: 21, connections: 400, requests: 10_000, idle: 500 };
    /// Enough to see that every mode works; the numbers mean nothing.
    const SMOKE: Self = Self { rounds: 2, connections: 8, requests: 80, idle: 8, ..Self::FULL };
}

impl Role {
    /// Reads the command line. `--bench`, which cargo passes, says nothing.
    pub fn from_args(args: impl Iterator<Item = String>) -> Result<Self, String> {
        // An unoptimised build (`cargo test --all-targets`) can only show that every mode works.
        let mut options = if cfg!(debug_assertions) { Options::SMOKE } else { Options::FULL };
        let mut serve = None;
        let mut counts = Vec::new();
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {}
                "--smoke" => options = Options { key_exchange: options.key_exchange, ..Options::SMOKE },
                "--classical" => options.key_exchange = KeyExchange::X25519,
                "--rounds" | "--connections" | "--requests" | "--idle" => {
                    let count = args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                    counts.push((count.ok_or_else(|| format!("{arg} takes a count of at least 1"))?, arg));
                }
                "--serve" => {
                    let mode = args.next().and_then(|name| Mode::from_name(&name));
                    serve = Some(mode.ok_or("--serve takes a mode")?);
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
        let key_exchange = options.key_exchange;
        Ok(serve.map_or(Self::Load(options), |mode| Self::Server { mode, key_exchange }))
    }
}

const USAGE: &str = "options: [--classical] [--smoke] [--rounds N] [--connections N] [--requests N] [--idle N]";

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_exchange, rounds, connections, requests, idle } = self;
        let group = key_exchange.group();
        write!(f, "TLS 1.3, {group:?}, full handshakes, P-256 certificate, HTTP/1.1, one server thread. ")?;
        write!(f, "Per mode: {rounds} rounds of {connections} connections and {requests} requests; {idle} idle connections.")
    }
}
