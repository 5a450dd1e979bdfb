//! Requests by client. However many clients there are, only so many are told apart: whoever stores metrics pays for each name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::shards::Count;

/// How many clients are told apart.
pub(crate) const TOLD_APART: usize = 100;
/// What the rest together are called. A client of that name is among them.
pub(crate) const OTHERS: &str = "other";
/// How long a client without connections keeps its place when another one needs it.
const KEEPS: Duration = Duration::from_secs(3600);

/// One client's numbers, or those of all that are not told apart.
#[derive(Debug, Default)]
pub(crate) struct ClientMetrics {
    pub(crate) requests: Count,
    /// When it last connected or asked, in seconds since the clients' start.
    seen: AtomicU64,
}

/// The clients that are told apart: the first that come, and later ones in the place of those that were not seen for an hour. So each series only
/// grows, and one that comes again begins at 0, as after a restart.
#[derive(Debug)]
pub(crate) struct Clients {
    start: Instant,
    by_name: Mutex<HashMap<Box<str>, Arc<ClientMetrics>>>,
    others: Arc<ClientMetrics>,
}

impl Default for Clients {
    fn default() -> Self {
        Self { start: Instant::now(), by_name: Mutex::default(), others: Arc::default() }
    }
}

impl Clients {
    /// A client's numbers, to be kept by its connection for as long as that lives.
    pub(crate) fn of(&self, name: &str) -> Arc<ClientMetrics> {
        self.of_at(name, self.start.elapsed())
    }

    fn of_at(&self, name: &str, now: Duration) -> Arc<ClientMetrics> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let known = by_name.get(name).cloned();
        let client = match known {
            Some(client) => client,
            None if name == OTHERS || !has_room(&mut by_name, now) => Arc::clone(&self.others),
            None => Arc::clone(by_name.entry(name.into()).or_default()),
        };
        client.seen.store(now.as_secs(), Ordering::Relaxed);
        client
    }

    /// One more request. That it was now is noted by connections that end: what is open is not given away.
    pub(crate) fn count(client: &ClientMetrics) {
        client.requests.add(1);
    }

    /// The client's connection has ended.
    pub(crate) fn left(&self, client: &ClientMetrics) {
        client.seen.store(self.start.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// Name and requests of each that is told apart, the busiest first, and the requests of all others.
    pub(crate) fn all(&self) -> (Vec<(Box<str>, u64)>, u64) {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = by_name.iter().map(|(name, client)| (name.clone(), client.requests.get())).collect();
        drop(by_name);
        all.sort_by(|(a_name, a), (b_name, b)| b.cmp(a).then_with(|| a_name.cmp(b_name)));
        (all, self.others.requests.get())
    }
}

/// Whether one more can be told apart, if need be in the place of who was not seen for the longest time.
fn has_room(by_name: &mut HashMap<Box<str>, Arc<ClientMetrics>>, now: Duration) -> bool {
    if by_name.len() < TOLD_APART {
        return true;
    }
    let seen = |client: &ClientMetrics| client.seen.load(Ordering::Relaxed);
    // Nobody else holds it: it has no connection.
    let idle = by_name.iter().filter(|(_, client)| Arc::strong_count(client) == 1);
    let oldest = idle.min_by_key(|(_, client)| seen(client)).map(|(name, client)| (name.clone(), seen(client)));
    match oldest {
        Some((name, seen)) if now.as_secs().saturating_sub(seen) >= KEEPS.as_secs() => by_name.remove(&name).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_clients_come_no_more_than_a_hundred_are_told_apart() {
        let clients = Clients::default();
        for n in 0..10_000 {
            Clients::count(&clients.of_at(&format!("client {n}"), Duration::ZERO));
        }
        Clients::count(&clients.of_at("client 1", Duration::ZERO));
        let (all, others) = clients.all();
        assert_eq!((all.len(), others), (TOLD_APART, 9_900));
        assert_eq!((&*all[0].0, all[0].1), ("client 1", 2));
    }

    #[test]
    fn a_place_is_given_on_after_an_hour_without_connections_and_not_before() {
        let clients = Clients::default();
        let connected: Vec<_> = (0..TOLD_APART).map(|n| clients.of_at(&format!("client {n}"), Duration::ZERO)).collect();
        let is_other = |name: &str, now| Arc::ptr_eq(&clients.of_at(name, now), &clients.others);
        assert!(is_other("new", 2 * KEEPS), "all have connections");
        drop(connected);
        assert!(is_other("new", KEEPS - Duration::from_secs(1)));
        assert!(!is_other("new", KEEPS));
        assert!(is_other(OTHERS, KEEPS), "no client can be taken for the rest");
        assert_eq!(clients.all().0.len(), TOLD_APART);
    }
}
