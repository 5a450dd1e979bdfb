//! Numbers that many threads count up all the time: each thread in a place of its own, added up by whoever asks.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// One `T` for each thread that counts, no two in one cache line; more threads than processors share some.
#[derive(Debug)]
pub(crate) struct Shards<T>(Box<[Shard<T>]>);

/// Processors fetch lines of 64 bytes, some of them two at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard<T>(T);

impl<T: Default> Default for Shards<T> {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self((0..processors).map(|_| Shard::default()).collect())
    }
}

impl<T> Shards<T> {
    /// This thread's.
    pub(crate) fn mine(&self) -> &T {
        &self.0[place() % self.0.len()].0
    }

    /// The sum over all.
    pub(crate) fn sum(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().map(|shard| of(&shard.0)).fold(0, u64::wrapping_add)
    }
}

/// Each thread's number, in the order in which they first count.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        place.get()
    })
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of a histogram's buckets, in microseconds; one more is without bound.
pub(crate) const BOUNDS: [u64; 16] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000, 60_000_000];

/// How long things took.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Count; BOUNDS.len() + 1],
    microseconds: Count,
}

impl Histogram {
    pub(crate) fn add(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| microseconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.microseconds.add(microseconds);
    }
}

/// A histogram's numbers at one moment.
#[derive(Debug)]
pub(crate) struct Distribution {
    /// Upper bound in seconds, and how many lie below it and above the one before.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) count: u64,
    /// In seconds.
    pub(crate) sum: f64,
}

impl Distribution {
    /// A bound, in seconds, that this part of them did not pass; `None` where there were none, or no bound is that large.
    pub(crate) fn at_most(&self, part: f64) -> Option<f64> {
        let wanted = part * precise(self.count);
        let mut counted = 0;
        let bucket = self.buckets.iter().find(|(_, count)| {
            counted += count;
            self.count > 0 && precise(counted) >= wanted
        });
        bucket.map(|(bound, _)| *bound).filter(|bound| bound.is_finite())
    }

    /// In seconds; `None` where there were none.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / precise(self.count))
    }
}

impl<T> Shards<T> {
    /// The histograms that `of` finds, added up. The count is that of the buckets, so that they agree while all goes on.
    pub(crate) fn distribution(&self, of: impl Fn(&T) -> &Histogram) -> Distribution {
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.enumerate().map(|(at, bound)| (bound, self.sum(|shard| of(shard).buckets[at].get()))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Distribution { buckets, count, sum: seconds(self.sum(|shard| of(shard).microseconds.get())) }
    }
}

pub(crate) fn seconds(microseconds: u64) -> f64 {
    precise(microseconds) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "285 years in microseconds are still exact")]
fn precise(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_adds_up() {
        let shards: Shards<Count> = Shards::default();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10_000).for_each(|_| shards.mine().add(1)));
            }
        });
        assert_eq!(shards.sum(Count::get), 80_000);
    }

    #[test]
    fn a_time_on_a_bound_is_within_it() {
        let shards: Shards<Histogram> = Shards::default();
        for microseconds in [0, 100, 101, 60_000_000, 60_000_001] {
            shards.mine().add(Duration::from_micros(microseconds));
        }
        let distribution = shards.distribution(|histogram| histogram);
        let filled: Vec<_> = distribution.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.0001, 2), (0.000_25, 1), (60.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((distribution.count, distribution.sum), (5, 120.000_202));
        assert_eq!((distribution.at_most(0.4), distribution.at_most(0.5), distribution.at_most(1.0)), (Some(0.0001), Some(0.000_25), None));
        let none: Shards<Histogram> = Shards::default();
        assert_eq!(none.distribution(|histogram| histogram).at_most(0.5), None);
    }
}
