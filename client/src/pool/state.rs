//! What stands, who waits, and what is under way: the pool's bookkeeping. Nothing here waits or dials.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::Version;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::back_off::BackOff;
use super::dial::Dial;
use super::error::PoolError;
use super::keys::Remembered;
use super::lease::Lease;
use super::settings::Settings;
use super::slot::Slot;

/// From when on the holder of the key counts as slow, so that connections are made ahead of need.
const SLOW: Duration = Duration::from_millis(50);

pub(super) type Waiter = oneshot::Sender<Result<Lease, PoolError>>;

/// What is not to be dropped or begun under the lock: declared before it is taken, this outlives it.
#[derive(Default)]
pub(super) struct Trash {
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) leases: Vec<Lease>,
    /// What is to be begun then.
    pub(super) dials: Vec<Dial>,
}

impl Drop for Trash {
    fn drop(&mut self) {
        self.dials.drain(..).for_each(Dial::begin);
    }
}

/// An HTTP/2 connection, which many requests share.
pub(super) struct Shared {
    slot: Arc<Slot>,
    streams: usize,
    idle_since: Instant,
}

pub(super) struct State {
    /// The youngest last.
    pub(super) shared: Vec<Shared>,
    /// HTTP/1.1 connections that nothing is under way on. The last one used last.
    pub(super) idle: Vec<(Arc<Slot>, Instant)>,
    pub(super) waiting: VecDeque<Waiter>,
    pub(super) dialling: usize,
    /// HTTP/1.1 connections that are about to be free.
    pub(super) returning: usize,
    pub(super) in_flight: usize,
    pub(super) version: Option<Version>,
    pub(super) back_off: BackOff,
    pub(super) key: Remembered,
    pub(super) mac_time: Option<Duration>,
    pub(super) used_at: Instant,
    pub(super) last_used: Weak<Slot>,
    pub(super) dials: u64,
    pub(super) failures: u64,
    pub(super) is_draining: bool,
    /// Looks after what idles.
    pub(super) upkeep: Option<AbortHandle>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            shared: Vec::new(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            dialling: 0,
            returning: 0,
            in_flight: 0,
            version: None,
            back_off: BackOff::default(),
            key: Remembered::default(),
            mac_time: None,
            used_at: Instant::now(),
            last_used: Weak::new(),
            dials: 0,
            failures: 0,
            is_draining: false,
            upkeep: None,
        }
    }

    /// A connection that takes a request now. What is found dead or too old on the way is thrown away.
    pub(super) fn take(&mut self, settings: &Settings, now: Instant, trash: &mut Trash) -> Option<Arc<Slot>> {
        let is_over = |slot: &Slot, since: Instant| !slot.is_new() && now.duration_since(since) >= settings.idle_limit;
        let (usable, dead): (Vec<_>, Vec<_>) = self
            .shared
            .drain(..)
            .partition(|shared| shared.slot.is_usable(now) && (shared.streams > 0 || !is_over(&shared.slot, shared.idle_since)));
        self.shared = usable;
        trash.slots.extend(dead.into_iter().map(|shared| shared.slot));
        let has_room = |shared: &&mut Shared| shared.streams < shared.slot.connection().peer().max_streams();
        if let Some(shared) = self.shared.iter_mut().rev().find(has_room) {
            shared.streams += 1;
            let slot = Arc::clone(&shared.slot);
            return Some(self.taken(&slot, now));
        }
        while let Some((slot, since)) = self.idle.pop() {
            if slot.is_usable(now) && !is_over(&slot, since) {
                return Some(self.taken(&slot, now));
            }
            trash.slots.push(slot);
        }
        None
    }

    fn taken(&mut self, slot: &Arc<Slot>, now: Instant) -> Arc<Slot> {
        self.in_flight += 1;
        (self.used_at, self.last_used) = (now, Arc::downgrade(slot));
        Arc::clone(slot)
    }

    /// A connection is there, or free again.
    pub(super) fn put(&mut self, slot: Arc<Slot>, settings: &Settings, now: Instant, trash: &mut Trash) {
        let is_needed = !self.is_draining || !self.waiting.is_empty();
        if !is_needed || !slot.is_usable(now) {
            trash.slots.push(slot);
        } else if slot.is_shared() {
            self.shared.push(Shared { slot, streams: 0, idle_since: now });
        } else {
            self.idle.push((slot, now));
            // Those who wait are served from there first.
            if self.idle.len() > settings.max_idle.max(settings.spare) + self.waiting.len() {
                trash.slots.push(self.idle.remove(0).0);
            }
        }
    }

    /// A stream of a shared connection has ended.
    pub(super) fn stream_ended(&mut self, slot: &Arc<Slot>, now: Instant) {
        if let Some(shared) = self.shared.iter_mut().find(|shared| Arc::ptr_eq(&shared.slot, slot)) {
            shared.streams = shared.streams.saturating_sub(1);
            shared.idle_since = now;
        }
    }

    /// Gives no further request to it.
    pub(super) fn retire(&mut self, slot: &Arc<Slot>, trash: &mut Trash) {
        let (retired, kept): (Vec<_>, Vec<_>) = self.shared.drain(..).partition(|shared| Arc::ptr_eq(&shared.slot, slot));
        self.shared = kept;
        trash.slots.extend(retired.into_iter().map(|shared| shared.slot));
    }

    /// How many dials are to be begun. `open` connections stand.
    pub(super) fn dials_wanted(&mut self, open: usize, settings: &Settings, now: Instant) -> usize {
        self.waiting.retain(|waiter| !waiter.is_closed());
        if self.back_off.rest(now).is_some() {
            return 0;
        }
        let ahead = if self.is_draining { 0 } else { self.wanted_ahead(settings, now) };
        let wanted = self.waiting.len().saturating_sub(self.returning) + ahead;
        // Until it is known which protocol is spoken, whether one is enough; and after a failure, whether there is any use in it.
        let at_once = match self.version {
            Some(Version::HTTP_2) | None => 1,
            Some(_) if self.back_off.is_failing() => 1,
            Some(_) => wanted,
        };
        let room = settings.max_connections.saturating_sub(open + self.dialling);
        wanted.min(at_once).saturating_sub(self.dialling).min(room)
    }

    /// Connections that nobody waits for yet: spare ones, and those that take the place of others in time.
    fn wanted_ahead(&self, settings: &Settings, now: Instant) -> usize {
        // Where nothing happens, nothing is made.
        if self.version.is_none() || now.duration_since(self.used_at) > settings.idle_limit {
            return 0;
        }
        let is_slow = self.mac_time.is_some_and(|time| time >= SLOW);
        let spare = settings.spare.max(usize::from(is_slow));
        if self.version == Some(Version::HTTP_2) {
            let Some(youngest) = self.shared.last() else { return 0 };
            let is_nearly_full = self.shared.iter().all(|shared| {
                let room = shared.slot.connection().peer().max_streams();
                shared.streams >= room - room / 8
            });
            usize::from(now >= youngest.slot.replace_at || spare > 0 && is_nearly_full)
        } else {
            let fresh = self.idle.iter().filter(|(slot, _)| now < slot.replace_at).count();
            let ageing = self.idle.len() - fresh;
            spare.saturating_sub(fresh + self.returning).max(usize::from(ageing > 0 && fresh + self.returning == 0))
        }
    }

    /// Throws away what is not needed any more.
    pub(super) fn sweep(&mut self, settings: &Settings, now: Instant, trash: &mut Trash) {
        let is_over = |since: Instant| now.duration_since(since) >= settings.idle_limit;
        let youngest = self.shared.len().saturating_sub(1);
        let mut position = 0;
        let (gone, kept): (Vec<_>, Vec<_>) = self.shared.drain(..).partition(|shared| {
            let has_successor = position < youngest && now >= shared.slot.replace_at;
            position += 1;
            !shared.slot.is_usable(now) || has_successor || shared.streams == 0 && is_over(shared.idle_since)
        });
        self.shared = kept;
        trash.slots.extend(gone.into_iter().map(|shared| shared.slot));
        let (gone, kept): (Vec<_>, Vec<_>) = self.idle.drain(..).partition(|(slot, since)| !slot.is_usable(now) || is_over(*since));
        self.idle = kept;
        trash.slots.extend(gone.into_iter().map(|(slot, _)| slot));
    }

    /// A connection has broken: those that idle may have, too, and nobody has noticed yet.
    pub(super) fn forget_idle(&mut self, trash: &mut Trash) {
        trash.slots.extend(self.idle.drain(..).map(|(slot, _)| slot));
    }

    /// All that stands, for the end.
    pub(super) fn clear(&mut self, trash: &mut Trash) {
        trash.slots.extend(self.shared.drain(..).map(|shared| shared.slot));
        trash.slots.extend(self.idle.drain(..).map(|(slot, _)| slot));
    }

    pub(super) fn idle_connections(&self) -> usize {
        self.idle.len() + self.shared.iter().filter(|shared| shared.streams == 0).count()
    }
}
