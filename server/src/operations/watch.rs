//! What everything that is watched reports to: requests, and what the authentication tells of connections.

use std::time::Duration;

use ekm_otp_tower::{AcceptError, Closed, ConnectionFacts, Events, Refused, VerifiedClient};

use super::access_log;
use super::audit::Audit;
use super::exchange::Exchange;
use super::logs::Logs;
use super::metrics::{Clients, Metrics, Sample};

/// Metrics and logs of this process. One for all connections.
#[derive(Debug)]
pub(crate) struct Watch {
    metrics: Metrics,
    logs: Logs,
    audit: Audit,
}

impl Watch {
    pub(crate) fn new(logs: Logs) -> Self {
        Self { metrics: Metrics::default(), audit: Audit::new(logs.audit.clone()), logs }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
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
        self.logs.access.access(|fields| access_log::write(fields, exchange, whole));
    }
}

impl Events for Watch {
    fn handshake_finished(&self, _: &ConnectionFacts<'_>, took: Duration) {
        self.metrics.connections.opened.add(1);
        self.metrics.connections.handshakes.mine().add(took);
    }

    fn handshake_failed(&self, connection: &ConnectionFacts<'_>, error: &AcceptError, _: Duration) {
        self.metrics.connections.failed.count(error.label());
        self.audit.tell("handshake_failed", connection, None, |fields| fields.text("reason", error.label()));
    }

    fn verified(&self, connection: &ConnectionFacts<'_>, client: &VerifiedClient, is_first: bool) {
        if is_first {
            self.metrics.connections.verified.add(1);
            self.audit.tell("verified", connection, Some(client), |_| {});
        }
    }

    fn refused(&self, connection: &ConnectionFacts<'_>, refused: &Refused<'_>) {
        self.metrics.refusals.count(refused.reason.label());
        self.audit.tell("refused", connection, None, |fields| {
            fields.text("reason", refused.reason.label());
            fields.number("status", refused.status.as_u16().into());
            if let Some(kid) = refused.kid {
                fields.text("named_kid", kid.as_str());
            }
        });
    }

    fn closed(&self, connection: &ConnectionFacts<'_>, why: Closed, open: Duration) {
        self.metrics.connections.closed.count(why.label());
        // Who was not verified and left has told nothing; who was thrown out has.
        if connection.client.is_some() || why != Closed::Peer {
            self.audit.tell("closed", connection, None, |fields| {
                fields.text("reason", why.label());
                fields.number("open_ms", u64::try_from(open.as_millis()).unwrap_or(u64::MAX));
            });
        }
    }
}
