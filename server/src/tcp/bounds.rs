//! How many tunnels there are, and may be.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::refused::Refused;
use super::settings::Config;
use crate::operations::TunnelState;

/// All tunnels of this process. They outlive the settings that they were opened under, and so do their numbers.
#[derive(Clone, Debug)]
pub(crate) struct Tunnels(Arc<Inner>);

type SiteAndTarget = (Box<str>, Box<str>);

#[derive(Debug)]
struct Inner {
    limits: Config,
    open: Mutex<Open>,
    counts: Mutex<BTreeMap<SiteAndTarget, Arc<Counts>>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_connection: HashMap<u64, usize>,
}

/// One target's numbers.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) open: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) to_target: AtomicU64,
    pub(super) from_target: AtomicU64,
}

impl Tunnels {
    pub(crate) fn new(limits: Config) -> Self {
        Self(Arc::new(Inner { limits, open: Mutex::default(), counts: Mutex::default() }))
    }

    /// A place for one more on this connection, kept until what is returned is dropped.
    pub(super) fn enter(&self, connection: u64) -> Result<Place, Refused> {
        let mut open = lock(&self.0.open);
        if open.all >= self.0.limits.max_tunnels {
            return Err(Refused::TooMany);
        }
        let of_connection = open.by_connection.entry(connection).or_default();
        if *of_connection >= self.0.limits.max_tunnels_per_connection {
            let is_none = *of_connection == 0;
            if is_none {
                open.by_connection.remove(&connection);
            }
            return Err(Refused::TooManyOfConnection);
        }
        *of_connection += 1;
        open.all += 1;
        Ok(Place { tunnels: self.clone(), connection })
    }

    pub(super) fn counts(&self, site: &str, target: &str) -> Arc<Counts> {
        Arc::clone(lock(&self.0.counts).entry((site.into(), target.into())).or_default())
    }

    /// The numbers of all targets that were ever asked for.
    pub(crate) fn all(&self) -> Vec<TunnelState> {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let shown = |((site, target), counts): (&SiteAndTarget, &Arc<Counts>)| TunnelState {
            site: site.to_string(),
            target: target.to_string(),
            open: get(&counts.open),
            opened: get(&counts.opened),
            failed: get(&counts.failed),
            to_target: get(&counts.to_target),
            from_target: get(&counts.from_target),
        };
        lock(&self.0.counts).iter().map(shown).collect()
    }
}

/// A tunnel's place among those that may be open.
#[derive(Debug)]
pub(super) struct Place {
    tunnels: Tunnels,
    connection: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.tunnels.0.open);
        open.all = open.all.saturating_sub(1);
        if let Some(of_connection) = open.by_connection.get_mut(&self.connection) {
            *of_connection -= 1;
            if *of_connection == 0 {
                open.by_connection.remove(&self.connection);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_its_tunnel_has_ended() {
        let tunnels = Tunnels::new(Config { max_tunnels: 3, max_tunnels_per_connection: 2 });
        let first = tunnels.enter(1).expect("a place");
        let _second = tunnels.enter(1).expect("a place");
        assert_eq!(tunnels.enter(1).expect_err("none"), Refused::TooManyOfConnection);
        let _other = tunnels.enter(2).expect("a place");
        assert_eq!(tunnels.enter(3).expect_err("none"), Refused::TooMany);
        drop(first);
        drop(tunnels.enter(3).expect("a place"));
        tunnels.enter(1).expect("a place");
        assert_eq!(lock(&tunnels.0.open).by_connection, HashMap::from([(1, 1), (2, 1)]));
    }
}
