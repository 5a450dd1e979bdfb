//! What everything that is watched reports to.

use super::access_log::AccessLog;
use super::exchange::Exchange;
use super::metrics::{Clients, Metrics, Sample};

/// Metrics and logs of this process. One for all connections.
#[derive(Debug)]
pub(crate) struct Watch {
    metrics: Metrics,
    access_log: Option<AccessLog>,
}

impl Watch {
    pub(crate) fn new(access_log: Option<AccessLog>) -> Self {
        Self { metrics: Metrics::default(), access_log }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A request is over.
    pub(crate) fn record(&self, exchange: &Exchange) {
        let whole = exchange.started.elapsed();
        if let Some(client) = &exchange.client_metrics {
            Clients::count(client);
        }
        let head = exchange.head.as_ref();
        let sample = Sample {
            head: head.map(|head| (head.status.as_u16(), head.after)),
            whole,
            bytes_in: exchange.received(),
            bytes_out: exchange.bytes_out,
        };
        self.metrics.sites.count(head.and_then(|head| head.site.as_ref()), &sample);
        if let Some(log) = &self.access_log {
            log.write(exchange, whole);
        }
    }
}
