//! How the registry is: what /readyz, metrics and the status page tell.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ekm_otp::KeyId;

use crate::error::ServerError;

/// What the registry is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    File,
    Sqlite,
    Postgres,
}

impl Engine {
    /// For metrics and people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// How the registry is now.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) engine: Engine,
    /// Whether it could be read when it was looked at last, less than some seconds ago.
    pub(crate) is_reachable: bool,
    /// How long ago it was known to be what the snapshot says.
    pub(crate) age: Duration,
    /// Whether that is longer than `max_staleness`: look-ups are answered 503.
    pub(crate) is_stale: bool,
    /// How many keys there are, revoked ones included.
    pub(crate) keys: usize,
    /// How many of them are in overlap: a successor took their place, and they are still valid.
    pub(crate) in_overlap: usize,
    /// How many keys are left out, because their secret does not open: somebody changed it.
    pub(crate) unreadable: usize,
    /// Why it could not be read.
    pub(crate) fault: Option<String>,
    /// Whether that is because it does not answer. Else it answers, and what it says cannot be understood, or it does not let this server in.
    pub(crate) is_away: bool,
}

/// A key whose place a successor took, and that is still valid.
#[derive(Clone, Debug)]
pub(crate) struct Overlap {
    pub(crate) kid: KeyId,
    pub(crate) client: String,
    pub(crate) not_after: Option<SystemTime>,
    /// On this server, to the minute; what a database remembers of others stands here from the start on.
    pub(crate) last_use: Option<SystemTime>,
}

/// What whoever keeps the snapshot fresh tells of it.
#[derive(Debug)]
pub(crate) struct Status {
    start: Instant,
    /// Milliseconds since the start.
    fresh: AtomicU64,
    pub(crate) unreadable: AtomicUsize,
    fault: Mutex<Option<Fault>>,
}

#[derive(Debug)]
struct Fault {
    why: String,
    is_away: bool,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), fresh: AtomicU64::new(0), unreadable: AtomicUsize::new(0), fault: Mutex::default() }
    }

    /// The snapshot is what the registry says. Whether it was not known before.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        self.lock().take().is_some()
    }

    /// The registry cannot be read. Whether that is news.
    pub(crate) fn fails(&self, error: &ServerError) -> bool {
        let mut fault = self.lock();
        let why = error.to_string();
        let is_new = fault.as_ref().is_none_or(|fault| fault.why != why);
        *fault = Some(Fault { why, is_away: matches!(error, ServerError::Unavailable(_)) });
        is_new
    }

    /// Since when nothing is known of the registry.
    pub(crate) fn age(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.fresh.load(Ordering::Acquire)))
    }

    /// Why it could not be read, and whether that is because it does not answer.
    pub(crate) fn fault(&self) -> (Option<String>, bool) {
        let fault = self.lock();
        (fault.as_ref().map(|fault| fault.why.clone()), fault.as_ref().is_some_and(|fault| fault.is_away))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
