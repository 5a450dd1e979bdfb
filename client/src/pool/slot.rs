//! A connection of a pool, and how long it is to be used.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Version;

use crate::connection::Connection;

/// How long a connection that is not needed any more may take to say goodbye (RFC 8446 §6.1, RFC 9113 §6.8).
const GOODBYE: Duration = Duration::from_secs(2);

/// Counted while it lives. Never dropped under the pool's lock: the goodbye of its connection begins then.
pub(super) struct Slot {
    /// `None` once it is dropped.
    connection: Option<Arc<Connection>>,
    /// The position of its key in order of preference.
    pub(super) key: usize,
    /// From then on another is to be made in its place.
    pub(super) replace_at: Instant,
    /// From then on no request is given to it.
    pub(super) expires: Instant,
    is_used: AtomicBool,
    is_retired: AtomicBool,
    /// It belongs to one request only, and is in no list.
    is_alone: bool,
    open: Arc<AtomicUsize>,
}

impl Slot {
    pub(super) fn new(connection: Connection, key: usize, age: Age, is_alone: bool, open: &Arc<AtomicUsize>) -> Arc<Self> {
        open.fetch_add(1, Ordering::AcqRel);
        let born = Instant::now();
        Arc::new(Self {
            connection: Some(Arc::new(connection)),
            key,
            replace_at: born + age.replace,
            expires: born + age.expire,
            is_used: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            is_alone,
            open: Arc::clone(open),
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        // It is taken where the slot is dropped, and nowhere else.
        self.connection.as_deref().unwrap_or_else(|| unreachable!("a dropped slot is not used"))
    }

    pub(super) fn is_shared(&self) -> bool {
        self.connection().http_version() == Version::HTTP_2
    }

    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether another request may be given to it.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        now < self.expires && !self.is_retired.load(Ordering::Acquire) && self.connection().is_ready()
    }

    /// No further request is given to it.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    /// Whether it has had no request yet: then it cannot have idled too long.
    pub(super) fn is_new(&self) -> bool {
        !self.is_used.load(Ordering::Acquire)
    }

    /// Whether this is its first request.
    pub(super) fn is_first_use(&self) -> bool {
        !self.is_used.swap(true, Ordering::AcqRel)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        // Without a runtime it is closed as it is.
        if let (Some(connection), Ok(runtime)) = (self.connection.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { connection.goodbye(GOODBYE).await });
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// How old a connection gets.
#[derive(Clone, Copy)]
pub(super) struct Age {
    replace: Duration,
    expire: Duration,
}

impl Age {
    /// Those that were made at once are not to be replaced at once: up to a tenth less. Its replacement is begun another tenth before, at most a minute.
    pub(super) fn of(max: Duration, jitter: f64) -> Self {
        let expire = max.mul_f64(1.0 - jitter / 10.0);
        Self { replace: expire.saturating_sub((max / 10).min(Duration::from_secs(60))), expire }
    }
}
