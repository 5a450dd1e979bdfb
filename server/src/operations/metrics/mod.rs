//! What is counted. Nothing on a request's way takes a lock: numbers are counted up in places of each thread's own, and a connection looks up its
//! client's once.

pub(crate) mod clients;
pub(crate) mod refusals;
pub(crate) mod shards;
pub(crate) mod sites;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

pub(crate) use clients::{ClientMetrics, Clients};
pub(crate) use refusals::Refusals;
pub(crate) use shards::{Count, Histogram, Shards};
pub(crate) use sites::{Sample, SiteLabel, Sites};

/// All that this process has counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) sites: Sites,
    pub(crate) clients: Clients,
    /// Of requests.
    pub(crate) refusals: Refusals,
    pub(crate) connections: Connections,
}

/// Connections, by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// Whose handshake was finished.
    pub(crate) opened: Count,
    /// Of those: on which a client was verified.
    pub(crate) verified: Count,
    pub(crate) handshakes: Shards<Histogram>,
    /// By why they were closed.
    pub(crate) closed: ByLabel,
    /// Handshakes that failed, by why.
    pub(crate) failed: ByLabel,
}

/// Few names, counted seldom.
#[derive(Debug, Default)]
pub(crate) struct ByLabel(Mutex<BTreeMap<&'static str, u64>>);

impl ByLabel {
    pub(crate) fn count(&self, label: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(label).or_default() += 1;
    }

    pub(crate) fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
