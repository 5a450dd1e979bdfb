//! How often a client may rotate: each time leaves a key in the registry for good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Within this time, each client as often at most.
const WINDOW: Duration = Duration::from_secs(3600);
const MOST: usize = 10;
/// More than rotate in an hour in any fleet that this server holds; beyond it all wait.
const CLIENTS: usize = 100_000;

/// When clients rotated, on this server.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<HashMap<String, Vec<Instant>>>);

impl Pace {
    /// Counts one. Else how long to wait.
    pub(super) fn take(&self, client: &str, now: Instant) -> Result<(), Duration> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS {
            clients.retain(|_, times| times.last().is_some_and(|last| now.duration_since(*last) < WINDOW));
        }
        if clients.len() >= CLIENTS && !clients.contains_key(client) {
            return Err(Duration::from_secs(60));
        }
        let times = clients.entry(client.to_owned()).or_default();
        times.retain(|at| now.duration_since(*at) < WINDOW);
        match times.first() {
            Some(first) if times.len() >= MOST => Err(WINDOW.saturating_sub(now.duration_since(*first))),
            _ => {
                times.push(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_rotates_ten_times_an_hour_and_no_other_waits_for_it() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..MOST {
            assert_eq!(pace.take("a", start), Ok(()));
        }
        assert_eq!(pace.take("a", start + Duration::from_secs(60)), Err(Duration::from_secs(3540)));
        assert_eq!(pace.take("b", start), Ok(()));
        assert_eq!(pace.take("a", start + WINDOW), Ok(()));
    }
}
