//! How often each source has failed of late. Per source only, never per key id: those are no secret, and whoever is blocked by theirs would be the
//! victim.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::peer::Source;

/// How many sources are remembered: in sets, so that a new one takes the place of the one in its set that has the least to answer for.
const SETS: usize = 4096;
const WAYS: usize = 4;

const MINUTE: u64 = 60_000_000_000;

/// Each source has a bucket that holds a minute's failures and fills up again within a minute (the generic cell rate algorithm). Bounded: 16,384
/// sources, none of which takes memory before the first failure.
#[derive(Debug)]
pub(crate) struct SourceFailures {
    /// What one failure takes out of the bucket, in nanoseconds; 0: nothing.
    each: u64,
    start: Instant,
    /// Whether anybody has ever failed.
    is_used: AtomicBool,
    sets: Mutex<Vec<[Option<Bucket>; WAYS]>>,
    /// Keyed anew in each process: nobody chooses whose place they take.
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    source: Source,
    /// When it is full again, in nanoseconds from the start.
    full_at: u64,
}

impl SourceFailures {
    /// So many may fail in a minute; 0: any number.
    pub(crate) fn new(a_minute: u32) -> Self {
        let each = MINUTE.checked_div(u64::from(a_minute)).unwrap_or(0);
        Self { each, start: Instant::now(), is_used: AtomicBool::new(false), sets: Mutex::default(), hasher: RandomState::new() }
    }

    /// Whether the source may try; if not, after how long.
    pub(crate) fn may_try(&self, source: Source) -> Result<(), Duration> {
        // Nobody has failed: the usual case takes no lock.
        if self.is_used.load(Ordering::Relaxed) { self.may_try_at(source, self.now()) } else { Ok(()) }
    }

    /// It failed.
    pub(crate) fn failed(&self, source: Source) {
        if self.each > 0 {
            self.is_used.store(true, Ordering::Relaxed);
            self.failed_at(source, self.now());
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn may_try_at(&self, source: Source, now: u64) -> Result<(), Duration> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = sets.get(self.set_of(source)).and_then(|set| set.iter().flatten().find(|bucket| bucket.source == source));
        let missing = bucket.map_or(0, |bucket| bucket.full_at.saturating_sub(now));
        // Room for one more failure must be there.
        match (missing + self.each).saturating_sub(MINUTE) {
            0 => Ok(()),
            wait => Err(Duration::from_nanos(wait)),
        }
    }

    fn failed_at(&self, source: Source, now: u64) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.is_empty() {
            *sets = vec![[None; WAYS]; SETS];
        }
        let set = &mut sets[self.set_of(source)];
        let of = set.iter().position(|bucket| bucket.is_some_and(|bucket| bucket.source == source));
        let at = of.or_else(|| (0..WAYS).min_by_key(|at| set[*at].map_or(0, |bucket| bucket.full_at))).unwrap_or(0);
        let full_at = set[at].filter(|bucket| bucket.source == source).map_or(0, |bucket| bucket.full_at);
        // Requests that were on their way together take no more out than there is.
        set[at] = Some(Bucket { source, full_at: (full_at.max(now) + self.each).min(now + MINUTE) });
    }

    fn set_of(&self, source: Source) -> usize {
        usize::try_from(self.hasher.hash_one(source) % SETS as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn source(number: u32) -> Source {
        Source::Ip(std::net::IpAddr::V4(number.into()))
    }

    #[test]
    fn a_minutes_failures_may_come_at_once_and_then_one_whenever_its_time_has_passed() {
        let failures = SourceFailures::new(60);
        for _ in 0..60 {
            assert_eq!(failures.may_try_at(source(1), 0), Ok(()));
            failures.failed_at(source(1), 0);
        }
        assert_eq!(failures.may_try_at(source(1), 0), Err(Duration::from_secs(1)));
        assert_eq!(failures.may_try_at(source(2), 0), Ok(()), "another source");
        assert_eq!(failures.may_try_at(source(1), SECOND), Ok(()));
        failures.failed_at(source(1), SECOND);
        assert!(failures.may_try_at(source(1), SECOND).is_err());
        // What was under way meanwhile does not lengthen the wait without end.
        (0..1000).for_each(|_| failures.failed_at(source(1), SECOND));
        assert_eq!(failures.may_try_at(source(1), SECOND), Err(Duration::from_secs(1)));
        // A source that fails once a second is never blocked.
        assert!((100..400).all(|second| {
            failures.failed_at(source(3), second * SECOND);
            failures.may_try_at(source(3), (second + 1) * SECOND).is_ok()
        }));
    }

    #[test]
    fn however_many_sources_fail_the_memory_is_bounded_and_the_worst_is_remembered() {
        let failures = SourceFailures::new(60);
        (0..60).for_each(|_| failures.failed_at(source(0), 0));
        (1..200_000).for_each(|number| failures.failed_at(source(number), 0));
        assert!(failures.may_try_at(source(0), 0).is_err(), "it was forgotten for others");
        assert_eq!(failures.sets.lock().expect("a lock").len(), SETS);
    }

    #[test]
    fn no_limit_is_no_limit() {
        let failures = SourceFailures::new(0);
        (0..1000).for_each(|_| failures.failed(source(1)));
        assert_eq!(failures.may_try(source(1)), Ok(()));
    }
}
