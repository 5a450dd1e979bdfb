//! Refusals by reason: since the start, and in each minute of the last hour.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many minutes are kept.
pub(crate) const MINUTES: usize = 60;

/// Refusals of requests and of handshakes, each under a name that stays.
#[derive(Debug)]
pub(crate) struct Refusals {
    start: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    by_reason: BTreeMap<&'static str, u64>,
    /// By the minute since the start, modulo [`MINUTES`].
    ring: [u64; MINUTES],
    /// The last minute that `ring` holds.
    minute: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        let none = Counts { by_reason: BTreeMap::new(), ring: [0; MINUTES], minute: 0 };
        Self { start: Instant::now(), counts: Mutex::new(none) }
    }
}

impl Refusals {
    pub(crate) fn count(&self, reason: &'static str) {
        self.count_at(reason, self.start.elapsed());
    }

    fn count_at(&self, reason: &'static str, now: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.by_reason.entry(reason).or_default() += 1;
        let place = counts.turn(now);
        counts.ring[place] += 1;
    }

    /// By reason, since the start.
    pub(crate) fn by_reason(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).by_reason.clone()
    }

    /// The last hour, the minute that runs last.
    pub(crate) fn last_hour(&self) -> [u64; MINUTES] {
        self.last_hour_at(self.start.elapsed())
    }

    fn last_hour_at(&self, now: Duration) -> [u64; MINUTES] {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = counts.turn(now);
        std::array::from_fn(|at| counts.ring[(place + 1 + at) % MINUTES])
    }
}

impl Counts {
    /// Empties what is older than an hour, and tells the place of this minute.
    fn turn(&mut self, now: Duration) -> usize {
        let minute = now.as_secs() / 60;
        let place = |minute: u64| usize::try_from(minute % MINUTES as u64).unwrap_or_default();
        for passed in (self.minute + 1..=minute).take(MINUTES) {
            self.ring[place(passed)] = 0;
        }
        self.minute = self.minute.max(minute);
        place(self.minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_an_hour_is_not_of_the_last_hour() {
        let refusals = Refusals::default();
        let minute = |n: u64| Duration::from_secs(60 * n);
        for n in [0, 0, 1, 59, 61] {
            refusals.count_at("wrong", minute(n));
        }
        let hour = refusals.last_hour_at(minute(61));
        let filled: Vec<_> = hour.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        // Minutes 2 to 61; those at 0 and 1 are over.
        assert_eq!(filled, [(57, &1), (59, &1)]);
        assert_eq!(refusals.last_hour_at(minute(100_000)), [0; MINUTES]);
        assert_eq!(refusals.by_reason()["wrong"], 5);
    }
}
