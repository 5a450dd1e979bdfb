//! How much of the log whoever has no key can write: each line that they cause costs them less than the disk.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// Some lines a second, and a count of those that were left out.
#[derive(Debug)]
pub(crate) struct LogBudget {
    start: Instant,
    /// The second, counted from the start, that `lines` are of.
    second: AtomicU64,
    lines: AtomicU32,
    left_out: AtomicU64,
    lines_a_second: u32,
}

impl LogBudget {
    pub(crate) fn new(lines_a_second: u32) -> Self {
        Self { start: Instant::now(), second: AtomicU64::new(0), lines: AtomicU32::new(0), left_out: AtomicU64::new(0), lines_a_second }
    }

    /// Whether a line may be written now; if so, how many were left out before it, if any.
    pub(crate) fn take(&self) -> Option<Option<NonZeroU64>> {
        self.take_at(self.start.elapsed().as_secs())
    }

    /// Two threads may meet at a new second: then some lines more are written.
    fn take_at(&self, now: u64) -> Option<Option<NonZeroU64>> {
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.lines.store(0, Ordering::Relaxed);
        }
        if self.lines.fetch_add(1, Ordering::Relaxed) < self.lines_a_second {
            return Some(NonZeroU64::new(self.left_out.swap(0, Ordering::Relaxed)));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_a_second_are_written_and_the_others_counted() {
        let budget = LogBudget::new(10);
        let written: Vec<_> = (0..100_000).filter_map(|_| budget.take_at(0)).collect();
        assert_eq!(written, [None; 10]);
        assert_eq!(budget.take_at(1), Some(NonZeroU64::new(99_990)));
        assert_eq!(budget.take_at(1), Some(None));
    }
}
