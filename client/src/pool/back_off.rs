//! How long no dial is tried after one that failed: longer with each, and never the same for two clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ConnectError;

/// The first wait and the longest, where nobody answers or the server asks to wait.
const ABSENT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// The same, where whoever answers refuses the credential or does not prove itself: that changes when people change something.
const REFUSED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
    rest: Option<(Instant, Arc<ConnectError>)>,
}

impl BackOff {
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// `jitter` is random, from 0 to 1.
    pub(super) fn failed(&mut self, error: &Arc<ConnectError>, now: Instant, jitter: f64) {
        let (first, longest) = if is_refusal(error) { REFUSED } else { ABSENT };
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.rest = Some((now + wait.mul_f64(0.5 + jitter / 2.0), Arc::clone(error)));
    }

    /// How long no dial is tried, and why.
    pub(super) fn rest(&self, now: Instant) -> Option<(Duration, &Arc<ConnectError>)> {
        let (until, error) = self.rest.as_ref()?;
        until.checked_duration_since(now).filter(|wait| !wait.is_zero()).map(|wait| (wait, error))
    }

    /// Whether the last dial failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn last_error(&self) -> Option<&Arc<ConnectError>> {
        self.rest.as_ref().map(|(_, error)| error)
    }
}

/// Whether it lasts until somebody changes something.
pub(super) fn is_refusal(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused { .. }
        | ConnectError::Intercepted { .. }
        | ConnectError::NotProven(_)
        | ConnectError::Certificate(_)
        | ConnectError::Policy(_) => true,
        ConnectError::Key(error) => !error.is_temporary(),
        _ => false,
    }
}

/// From 0 to 1. Nothing secret comes of it: where there is no randomness, half of it does.
pub(super) fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::Refusal;

    #[test]
    fn each_failure_waits_longer_and_a_refused_credential_longest() {
        let absent = Arc::new(ConnectError::Unavailable(StatusCode::SERVICE_UNAVAILABLE));
        let refused = Arc::new(ConnectError::Refused { status: StatusCode::UNAUTHORIZED, why: Refusal::Unknown });
        let now = Instant::now();
        let waits = |error: &Arc<ConnectError>, jitter| {
            let mut back_off = BackOff::default();
            let failed = |_| {
                back_off.failed(error, now, jitter);
                back_off.rest(now).expect("a rest").0
            };
            (0..20).map(failed).collect::<Vec<_>>()
        };
        for error in [&absent, &refused] {
            assert!(waits(error, 0.3).is_sorted() && waits(error, 0.3)[0] < waits(error, 0.3)[3]);
            assert!(waits(error, 0.0)[0] < waits(error, 1.0)[0], "all clients come back at once");
        }
        assert!(waits(&refused, 0.0).iter().zip(waits(&absent, 1.0)).all(|(refused, absent)| *refused > absent));
        assert_eq!(waits(&absent, 1.0)[19], ABSENT.1);
        let mut back_off = BackOff::default();
        back_off.failed(&absent, now, 1.0);
        assert!(back_off.rest(now + ABSENT.0).is_none() && back_off.is_failing());
        back_off.succeeded();
        assert!(!back_off.is_failing());
    }
}
