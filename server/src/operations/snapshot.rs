//! All that there is to know at one moment, for the pages to show.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use ekm_otp_tower::Counts;

use super::health::{Check, Facts};
use super::metrics::refusals::MINUTES;
use super::metrics::shards::Distribution;
use super::metrics::sites::CLASSES;
use super::process::Process;
use super::sources::{Certificate, RegistryState, Sources, TunnelState, UpstreamState};
use super::watch::Watch;
use crate::log_queue::Lost;

/// What the rest of the server says of itself, now and then.
#[derive(Debug, Default)]
pub(crate) struct Told {
    certificates: Mutex<Vec<Certificate>>,
    is_draining: AtomicBool,
    reloads: Mutex<Reloads>,
}

/// How often everything was read again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) taken: u64,
    /// What was there before was kept.
    pub(crate) refused: u64,
    /// Whether the last one was refused: who starts the server anew now may find that it does not start.
    pub(crate) is_refused: bool,
}

impl Told {
    pub(crate) fn certificates(&self, certificates: Vec<Certificate>) {
        *self.certificates.lock().unwrap_or_else(PoisonError::into_inner) = certificates;
    }

    pub(crate) fn reloaded(&self, is_taken: bool) {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        *if is_taken { &mut reloads.taken } else { &mut reloads.refused } += 1;
        reloads.is_refused = !is_taken;
    }

    pub(crate) fn drains(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }
}

/// One site's numbers.
#[derive(Debug)]
pub(crate) struct SiteNumbers {
    /// Empty: requests that no site took.
    pub(crate) name: Box<str>,
    pub(crate) by_class: [u64; CLASSES.len()],
    pub(crate) head: Distribution,
    pub(crate) whole: Distribution,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) at: SystemTime,
    pub(crate) started: SystemTime,
    pub(crate) open: Counts,
    pub(crate) opened: u64,
    pub(crate) closed: BTreeMap<&'static str, u64>,
    pub(crate) handshakes: Distribution,
    pub(crate) handshakes_failed: BTreeMap<&'static str, u64>,
    pub(crate) refusals: BTreeMap<&'static str, u64>,
    pub(crate) refused_in_last_hour: [u64; MINUTES],
    pub(crate) sites: Vec<SiteNumbers>,
    /// The busiest first.
    pub(crate) clients: Vec<(Box<str>, u64)>,
    pub(crate) requests_of_other_clients: u64,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) registry: RegistryState,
    pub(crate) upstreams: Vec<UpstreamState>,
    pub(crate) tunnels: Vec<TunnelState>,
    pub(crate) logs: Vec<(&'static str, Lost)>,
    pub(crate) reloads: Reloads,
    pub(crate) process: Process,
    pub(crate) checks: Vec<Check>,
}

impl Snapshot {
    pub(crate) fn take(watch: &Watch, sources: &Sources, told: &Told, started: SystemTime, workers_answer: bool) -> Self {
        let metrics = watch.metrics();
        let registry = (sources.registry)();
        let upstreams = (sources.upstreams)();
        let certificates = told.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = SystemTime::now();
        let is_draining = told.is_draining.load(Ordering::Relaxed);
        let reloads = *told.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = !reloads.is_refused;
        let facts =
            Facts { is_draining, is_current, workers_answer, registry: &registry, certificates: &certificates, upstreams: &upstreams, now };
        let checks = facts.checks();
        let (clients, requests_of_other_clients) = metrics.clients.all();
        let sites = metrics.sites.all().into_iter().map(|(name, site)| SiteNumbers {
            name,
            by_class: std::array::from_fn(|class| site.requests(class)),
            head: site.head(),
            whole: site.whole(),
            bytes_in: site.bytes_in(),
            bytes_out: site.bytes_out(),
        });
        Self {
            at: now,
            started,
            open: sources.connections.counts(),
            opened: metrics.connections.opened.get(),
            closed: metrics.connections.closed.all(),
            handshakes: metrics.connections.handshakes.distribution(|histogram| histogram),
            handshakes_failed: metrics.connections.failed.all(),
            refusals: metrics.refusals.by_reason(),
            refused_in_last_hour: metrics.refusals.last_hour(),
            // No site's own line is one only where there was something to count.
            sites: sites.filter(|site| !site.name.is_empty() || site.requests() > 0).collect(),
            clients,
            requests_of_other_clients,
            certificates,
            registry,
            upstreams,
            tunnels: (sources.tunnels)(),
            logs: watch.logs().lost(),
            reloads,
            process: Process::look(),
            checks,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.is_ok || !check.decides)
    }
}

impl SiteNumbers {
    pub(crate) fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }
}

/// Seconds since 1970, for machines.
pub(crate) fn unix_seconds(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(e) => -e.duration().as_secs_f64(),
    }
}
