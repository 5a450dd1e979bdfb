//! Whether anything is under way on a connection, and since when not. Long answers, event streams and slow uploads are under way for as long as they take: no
//! clock runs then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What one connection is doing.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    under_way: usize,
    /// When nothing was under way any more.
    since: Instant,
    had_any: bool,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Activity);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { under_way: 0, since: Instant::now(), had_any: false })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) -> UnderWay {
        let mut state = self.state();
        state.under_way += 1;
        state.had_any = true;
        UnderWay(self.clone())
    }

    /// Waits until nothing was under way for as long as that may be: `first` before the first request's header section is there, `idle` between two.
    pub(super) async fn idle(&self, first: Duration, idle: Duration) {
        loop {
            let end = {
                let state = self.state();
                let limit = if state.had_any { idle } else { first };
                // While something is under way, it is looked at again later.
                if state.under_way > 0 { Instant::now() + idle } else { state.since + limit }
            };
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(40);
    const IDLE: Duration = Duration::from_millis(120);

    #[tokio::test]
    async fn a_request_that_takes_long_is_not_idle_and_a_header_that_never_ends_is() {
        let activity = Activity::new();
        let began = Instant::now();
        activity.idle(FIRST, IDLE).await;
        assert!(began.elapsed() >= FIRST, "{:?}", began.elapsed());

        let activity = Activity::new();
        let request = activity.begin();
        let long = IDLE * 5;
        assert!(tokio::time::timeout(long, activity.idle(FIRST, IDLE)).await.is_err(), "it is under way");
        let ended = Instant::now();
        drop(request);
        activity.idle(FIRST, IDLE).await;
        assert!(ended.elapsed() >= IDLE, "{:?}", ended.elapsed());
    }
}
