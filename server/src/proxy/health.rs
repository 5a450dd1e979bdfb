//! Whether an upstream answers, learnt from the requests that it gets.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many answers in a row may fail before it is out. One failed connection is enough.
const FAILURES: u32 = 3;
/// How long it is out at first; twice as long after each trial that fails; and at most.
const OUT: Duration = Duration::from_secs(1);
const OUT_AT_MOST: Duration = Duration::from_secs(30);

/// One upstream's. Shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Health {
    is_out: AtomicBool,
    /// Whether it ever answered or failed.
    is_known: AtomicBool,
    failures: AtomicU64,
    requests: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    /// When a request may try it again.
    trial: Option<Instant>,
    out: Duration,
    /// The last failure was at connecting.
    is_unreachable: bool,
}

/// What became of it by one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Out,
    Back,
}

impl Health {
    /// Whether a request may go there. While it is out, one may from time to time, as a trial.
    pub(super) fn admits(&self) -> bool {
        if !self.is_out.load(Ordering::Acquire) {
            return true;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_due = state.trial.is_none_or(|trial| trial <= now);
        if is_due {
            // Others are kept away while this one tries.
            state.trial = Some(now + state.out);
        }
        is_due
    }

    pub(super) fn answered(&self) -> Change {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.is_known.store(true, Ordering::Relaxed);
        if !self.is_out.load(Ordering::Acquire) {
            // Not exact while others fail at the same time, which does no harm.
            if let Ok(mut state) = self.state.try_lock() {
                state.in_a_row = 0;
            }
            return Change::None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State::default();
        if self.is_out.swap(false, Ordering::AcqRel) { Change::Back } else { Change::None }
    }

    /// `at_connecting`: it could not even be reached.
    pub(super) fn failed(&self, at_connecting: bool) -> Change {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.is_known.store(true, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_a_row = state.in_a_row.saturating_add(1);
        if !at_connecting && state.in_a_row < FAILURES && !self.is_out.load(Ordering::Acquire) {
            return Change::None;
        }
        state.out = if state.out.is_zero() { OUT } else { (state.out * 2).min(OUT_AT_MOST) };
        state.trial = Some(Instant::now() + state.out);
        state.is_unreachable = at_connecting;
        if self.is_out.swap(true, Ordering::AcqRel) { Change::None } else { Change::Out }
    }

    /// Whether nobody can reach it just now, if anything is known of it. Not once a request may try it again: who is kept from sending any by this
    /// would never learn that it is back. And not for bad answers: a client could bring them about.
    pub(crate) fn is_out(&self) -> Option<bool> {
        let is_out = || {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_unreachable && state.trial.is_some_and(|trial| Instant::now() < trial)
        };
        self.is_known.load(Ordering::Relaxed).then(|| self.is_out.load(Ordering::Acquire) && is_out())
    }

    /// How many requests it was tried for, and how many of them failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_out_for_a_while_and_tried_by_one_request_at_a_time() {
        let health = Health::default();
        assert_eq!((health.admits(), health.is_out()), (true, None));
        assert_eq!(health.failed(true), Change::Out);
        assert_eq!((health.admits(), health.is_out()), (false, Some(true)));
        health.state.lock().expect("its state").trial = Some(Instant::now());
        assert_eq!(health.is_out(), Some(false), "it may be tried");
        assert!(health.admits() && !health.admits(), "one trial");
        assert_eq!(health.failed(true), Change::None);
        assert_eq!(health.state.lock().expect("its state").out, OUT * 2);
        assert_eq!(health.answered(), Change::Back);
        assert!(health.admits());
        assert_eq!((health.is_out(), health.counts()), (Some(false), (3, 2)));
    }

    #[test]
    fn three_bad_answers_in_a_row_put_it_out() {
        let health = Health::default();
        assert_eq!([health.failed(false), health.failed(false), health.answered()], [Change::None; 3]);
        assert_eq!([health.failed(false), health.failed(false), health.failed(false)], [Change::None, Change::None, Change::Out]);
        assert_eq!((health.admits(), health.is_out()), (false, Some(false)), "a client may have brought that about");
    }
}
