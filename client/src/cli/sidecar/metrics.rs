//! What is counted, in Prometheus' text format.

use std::sync::Arc;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::failure::Failure;
use super::routes::Origin;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    origin: String,
    /// `2xx`.
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Failed {
    /// Empty where the request led to none.
    origin: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    origin: String,
}

/// All that is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    answered: Family<Answered, Counter>,
    failed: Family<Failed, Counter>,
    connections: Gauge,
    streams: Gauge,
    reloads: Counter,
    failed_reloads: Counter,
}

/// One more of something, until it is dropped.
#[derive(Debug)]
pub(super) struct Held(Gauge);

impl Held {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn answered(&self, origin: &str, status: StatusCode) {
        let status = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.answered.get_or_create(&Answered { origin: origin.to_owned(), status }).inc();
    }

    pub(super) fn failed(&self, origin: &str, failure: &Failure) {
        self.failed.get_or_create(&Failed { origin: origin.to_owned(), reason: failure.word() }).inc();
    }

    pub(super) fn connection(&self) -> Held {
        Held::new(&self.connections)
    }

    pub(super) fn stream(&self) -> Held {
        Held::new(&self.streams)
    }

    pub(super) fn reloaded(&self, is_well: bool) {
        self.reloads.inc();
        if !is_well {
            self.failed_reloads.inc();
        }
    }

    /// The page.
    pub(super) fn page(&self, origins: &[Arc<Origin>]) -> String {
        let mut registry = Registry::with_prefix("ekm_otp_sidecar");
        registry.register("requests", "Requests that got an answer of their origin's", self.answered.clone());
        registry.register("failures", "Requests that were refused here, or got no answer, by what Ekm-Otp-Error says", self.failed.clone());
        registry.register("local_connections", "Connections of local programs", self.connections.clone());
        registry.register("streams", "Websockets and tunnels that are open", self.streams.clone());
        registry.register("reloads", "How often the settings were read again", self.reloads.clone());
        registry.register("failed_reloads", "How often that failed, and the old settings stayed", self.failed_reloads.clone());
        let statuses: Vec<_> = origins.iter().map(|origin| (Of { origin: origin.label.clone() }, origin.client.status())).collect();
        let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: &dyn Fn(&ekm_otp_client::Status) -> Option<f64>| {
            let family = Family::<Of, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
            for (of, status) in &statuses {
                if let Some(value) = value(status) {
                    family.get_or_create(of).set(value);
                }
            }
            register(&mut registry, name, help, unit, family);
        };
        let count = |number: usize| Some(number as f64);
        gauge("origin_connections", "Connections to the origin", None, &|status| count(status.connections));
        gauge("origin_idle_connections", "Of these, unused ones", None, &|status| count(status.idle));
        gauge("origin_requests_under_way", "Requests under way, streams included", None, &|status| count(status.in_flight));
        gauge("origin_requests_waiting", "Requests that wait for a connection", None, &|status| count(status.waiting));
        gauge("origin_mac", "How long the holder of the key took for the last connection", Some(Unit::Seconds), &|status| {
            status.mac_time.map(|time| time.as_secs_f64())
        });
        gauge("origin_back_off", "How long no connection is tried, after failures", Some(Unit::Seconds), &|status| {
            Some(status.back_off.map_or(0.0, |wait| wait.as_secs_f64()))
        });
        let mut counter = |name: &str, help: &str, value: &dyn Fn(&ekm_otp_client::Status) -> u64| {
            let family = Family::<Of, Counter>::default();
            for (of, status) in &statuses {
                family.get_or_create(of).inc_by(value(status));
            }
            register(&mut registry, name, help, None, family);
        };
        counter("origin_dials", "Connections that were begun", &|status| status.dials_total);
        counter("origin_dial_failures", "Connections that failed", &|status| status.failures_total);
        counter("origin_resent_requests", "Requests that were sent again on another connection", &|status| status.resent_total);
        let mut page = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut page, &registry);
        page
    }
}

fn register(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, metric: impl Metric) {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric),
        None => registry.register(name, help, metric),
    }
}
