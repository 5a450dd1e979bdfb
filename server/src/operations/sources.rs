//! What is asked of the rest of the server when somebody looks. Asking is cheap, and waits for nothing.

use std::fmt;
use std::time::{Duration, SystemTime};

use ekm_otp_tower::Connections;
use tokio::runtime::Handle;

/// Whom to ask. Made once all of them are there.
pub(crate) struct Sources {
    /// The runtimes of the threads that serve.
    pub(crate) workers: Vec<Handle>,
    pub(crate) connections: Connections,
    pub(crate) registry: Box<dyn Fn() -> RegistryState + Send + Sync>,
    pub(crate) upstreams: Box<dyn Fn() -> Vec<UpstreamState> + Send + Sync>,
    pub(crate) tunnels: Box<dyn Fn() -> Vec<TunnelState> + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// How the registry is.
#[derive(Clone, Debug)]
pub(crate) struct RegistryState {
    /// `file`, `sqlite` or `postgres`.
    pub(crate) engine: &'static str,
    /// Whether the last try to read it succeeded.
    pub(crate) is_reachable: bool,
    /// Why it did not.
    pub(crate) fault: Option<String>,
    /// Whether that is because it does not answer. Else it answers, and what it says cannot be understood.
    pub(crate) is_away: bool,
    /// Since what is served was last known to be the registry's.
    pub(crate) age: Duration,
    /// Whether that is longer than the settings allow.
    pub(crate) is_stale: bool,
    pub(crate) keys: u64,
    /// How many are refused besides, because they cannot be read.
    pub(crate) unreadable: u64,
    /// How many keys were rotated and still hold.
    pub(crate) in_overlap: u64,
    /// Some of those: the ones that are used last first.
    pub(crate) overlap: Vec<OldKey>,
}

/// A key that was rotated and still holds.
#[derive(Clone, Debug)]
pub(crate) struct OldKey {
    pub(crate) kid: String,
    pub(crate) client: String,
    pub(crate) not_after: Option<SystemTime>,
    /// Coarsely. `None`: not since it is recorded.
    pub(crate) last_used: Option<SystemTime>,
}

/// Whether an upstream answers, as far as requests have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Up,
    Down,
    /// It was not asked yet.
    Unknown,
}

impl Health {
    /// Of whether it is left out for now; nothing is known before its first request.
    pub(crate) fn of(is_out: Option<bool>) -> Self {
        match is_out {
            None => Self::Unknown,
            Some(true) => Self::Down,
            Some(false) => Self::Up,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// How one site's upstream is.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamState {
    /// The site's first server name.
    pub(crate) site: String,
    /// As it is configured.
    pub(crate) address: String,
    pub(crate) health: Health,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

/// The tunnels to one target that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct TunnelState {
    /// The site's first server name.
    pub(crate) site: String,
    /// As clients call it.
    pub(crate) target: String,
    pub(crate) open: u64,
    pub(crate) opened: u64,
    /// How many could not be opened, since the target was not reached.
    pub(crate) failed: u64,
    /// Bytes of tunnels that have ended.
    pub(crate) to_target: u64,
    pub(crate) from_target: u64,
}

/// A site's certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The site's first server name.
    pub(crate) site: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Certificate {
    pub(crate) fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}
