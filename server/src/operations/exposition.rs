//! `/metrics`: the numbers in Prometheus' text format, as OpenMetrics 1.0 writes it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::clients::OTHERS;
use super::metrics::shards::Distribution;
use super::metrics::sites::CLASSES;
use super::snapshot::{Snapshot, unix_seconds};
use super::sources::Health;

/// What the answer's `Content-Type` says.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The whole answer.
pub(crate) fn write(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(snapshot)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Exposition(Snapshot);

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes families.
struct Families<'e, 'w>(&'e mut DescriptorEncoder<'w>);

impl Families<'_, '_> {
    fn family<'a, V>(
        &mut self,
        (name, unit, kind): (&str, Option<Unit>, MetricType),
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, V)>,
        write: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        // A family without a value says nothing.
        if values.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in values {
            // A set of no labels would leave its braces behind.
            if labels.is_empty() { write(&mut family, value)? } else { write(&mut family.encode_family(&labels)?, value)? }
        }
        Ok(())
    }

    /// Counts, whose name gets `_total`.
    fn counter<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, u64)>) -> fmt::Result {
        self.family((name, None, MetricType::Counter), help, values, |metric, value| {
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn gauge<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, u64)>) -> fmt::Result {
        self.family((name, None, MetricType::Gauge), help, values, |metric, value| metric.encode_gauge(&value))
    }

    /// Times, and points in time, whose name gets `_seconds`.
    fn seconds<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, f64)>) -> fmt::Result {
        self.family((name, Some(Unit::Seconds), MetricType::Gauge), help, values, |metric, value| metric.encode_gauge(&value))
    }

    fn bytes<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, u64)>) -> fmt::Result {
        self.family((name, Some(Unit::Bytes), MetricType::Gauge), help, values, |metric, value| metric.encode_gauge(&value))
    }

    fn histogram<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, &'a Distribution)>) -> fmt::Result {
        self.family((name, Some(Unit::Seconds), MetricType::Histogram), help, values, |metric, times| {
            metric.encode_histogram::<NoLabelSet>(times.sum, times.count, &times.buckets, None)
        })
    }
}

fn one<'a, V>(value: V) -> [(Labels<'a>, V); 1] {
    [(Vec::new(), value)]
}

fn some<'a, V>(value: Option<V>) -> Option<(Labels<'a>, V)> {
    value.map(|value| (Vec::new(), value))
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(&mut encoder);
        self.server(&mut families)?;
        self.connections(&mut families)?;
        self.requests(&mut families)?;
        self.keys(&mut families)?;
        self.upstreams(&mut families)?;
        self.tunnels(&mut families)?;
        self.process(&mut families)
    }
}

impl Exposition {
    fn server(&self, to: &mut Families<'_, '_>) -> fmt::Result {
        let it = &self.0;
        to.family(("ekm_otp_build", None, MetricType::Info), "The version that runs", one(()), |metric, ()| {
            metric.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
        })?;
        to.gauge(
            "ekm_otp_ready",
            "Whether each check of /readyz is ok (1) or not (0)",
            it.checks.iter().filter(|check| check.decides).map(|check| (vec![("check", check.name)], check.is_ok.into())),
        )?;
        to.counter(
            "ekm_otp_reloads",
            "How often configuration and certificates were read again, and taken over or refused",
            [(vec![("result", "taken")], it.reloads.taken), (vec![("result", "refused")], it.reloads.refused)],
        )?;
        to.gauge(
            "ekm_otp_configuration_current",
            "Whether the last reload was taken over (1) or refused (0)",
            one((!it.reloads.is_refused).into()),
        )?;
        let lost = it.logs.iter().flat_map(|(log, lost)| {
            let labels = |reason| vec![("log", *log), ("reason", reason)];
            [(labels("no_room"), lost.no_room), (labels("not_written"), lost.not_written)]
        });
        to.counter("ekm_otp_log_lines_lost", "Lines that did not reach a log: it was taken too slowly, or could not be written", lost)?;
        let expiry = it.certificates.iter().map(|c| (vec![("site", &*c.site)], unix_seconds(c.not_after)));
        to.seconds("ekm_otp_certificate_expiry_timestamp", "When each site's certificate expires, since 1970", expiry)
    }

    fn connections(&self, to: &mut Families<'_, '_>) -> fmt::Result {
        let it = &self.0;
        let open = [("handshaking", it.open.handshaking), ("unverified", it.open.unverified), ("verified", it.open.verified)];
        to.gauge("ekm_otp_connections", "Connections that are open", open.map(|(state, count)| (vec![("state", state)], count as u64)))?;
        to.counter(
            "ekm_otp_connections_closed",
            "Connections that have ended after their handshake, by why",
            it.closed.iter().map(|(reason, count)| (vec![("reason", *reason)], *count)),
        )?;
        let failed = it.handshakes_failed.iter().map(|(reason, count)| (vec![("result", *reason)], *count));
        to.counter(
            "ekm_otp_handshakes",
            "TLS handshakes, by how they ended",
            [(vec![("result", "ok")], it.opened)].into_iter().chain(failed),
        )?;
        to.histogram("ekm_otp_handshake_duration", "How long finished TLS handshakes took, waiting included", one(&it.handshakes))
    }

    fn requests(&self, to: &mut Families<'_, '_>) -> fmt::Result {
        let it = &self.0;
        to.counter(
            "ekm_otp_refusals",
            "Requests that were refused, by why",
            it.refusals.iter().map(|(reason, count)| (vec![("reason", *reason)], *count)),
        )?;
        let by_class = it.sites.iter().flat_map(|site| {
            let counts = CLASSES.iter().zip(site.by_class).filter(|(_, count)| *count > 0);
            counts.map(|(class, count)| (vec![("site", &*site.name), ("status", *class)], count))
        });
        to.counter("ekm_otp_requests", "Requests that were let in, by site and status class; none: there was no answer", by_class)?;
        let clients = it.clients.iter().map(|(client, count)| (vec![("client", &**client)], *count));
        let others = [(vec![("client", OTHERS)], it.requests_of_other_clients)];
        to.counter(
            "ekm_otp_client_requests",
            "Requests that were let in, by client; at most 100 clients are told apart, the rest is other",
            clients.chain(others),
        )?;
        let sites = || it.sites.iter().map(|numbers| (vec![("site", &*numbers.name)], numbers));
        to.histogram("ekm_otp_response_head", "Time to the head of the answer", sites().map(|(labels, s)| (labels, &s.head)))?;
        to.histogram("ekm_otp_request_duration", "Time to the end of the answer", sites().map(|(labels, s)| (labels, &s.whole)))?;
        to.counter("ekm_otp_request_body_bytes", "Content of requests", sites().map(|(labels, s)| (labels, s.bytes_in)))?;
        to.counter("ekm_otp_response_body_bytes", "Content of answers", sites().map(|(labels, s)| (labels, s.bytes_out)))
    }

    fn keys(&self, to: &mut Families<'_, '_>) -> fmt::Result {
        let registry = &self.0.registry;
        let engine = || vec![("engine", registry.engine)];
        to.gauge("ekm_otp_registry_up", "Whether the registry could be read lately (1) or not (0)", [(engine(), registry.is_up().into())])?;
        to.gauge(
            "ekm_otp_registry_stale",
            "Whether what is served is older than allowed (1) or not (0)",
            [(engine(), registry.is_stale.into())],
        )?;
        to.seconds("ekm_otp_registry_age", "Since what is served was known to be the registry's", one(registry.age.as_secs_f64()))?;
        to.gauge("ekm_otp_registry_keys", "Keys that are known", one(registry.keys))?;
        to.gauge("ekm_otp_registry_keys_unreadable", "Keys that are refused because they cannot be read", one(registry.unreadable))?;
        to.gauge("ekm_otp_registry_keys_in_overlap", "Keys that were rotated and still hold", one(registry.in_overlap))?;
        let used = registry
            .overlap
            .iter()
            .filter_map(|key| Some((vec![("client", &*key.client), ("kid", &*key.kid)], unix_seconds(key.last_used?))));
        to.seconds("ekm_otp_overlap_key_last_used_timestamp", "When a rotated key was last used, since 1970", used)?;
        let ends = registry
            .overlap
            .iter()
            .filter_map(|key| Some((vec![("client", &*key.client), ("kid", &*key.kid)], unix_seconds(key.not_after?))));
        to.seconds("ekm_otp_overlap_key_expiry_timestamp", "Until when a rotated key holds, since 1970", ends)
    }

    fn upstreams(&self, to: &mut Families<'_, '_>) -> fmt::Result {
        let upstreams = &self.0.upstreams;
        let labelled = || upstreams.iter().map(|upstream| (vec![("site", &*upstream.site), ("upstream", &*upstream.address)], upstream));
        let known = labelled().filter(|(_, upstream)| upstream.health != Health::Unknown);
        to.gauge(
            "ekm_otp_upstream_up",
            "Whether an upstream answered the last requests (1) or not (0); left out until one was sent",
            known.map(|(labels, upstream)| (labels, (upstream.health == Health::Up).into())),
        )?;
        to.counter(
            "ekm_otp_upstream_requests",
            "Requests sent to an upstream, tries included",
            labelled().map(|(labels, u)| (labels, u.requests)),
        )?;
        to.counter(
            "ekm_otp_upstream_failures",
            "Of those: the ones that it did not answer",
            labelled().map(|(labels, u)| (labels, u.failures)),
        )
    }

    fn tunnels(&self, to: &mut Families<'_, '_>) -> fmt::Result {
        let labelled = || self.0.tunnels.iter().map(|tunnels| (vec![("site", &*tunnels.site), ("target", &*tunnels.target)], tunnels));
        to.gauge("ekm_otp_tunnels", "TCP tunnels that are open", labelled().map(|(labels, t)| (labels, t.open)))?;
        to.counter("ekm_otp_tunnels_opened", "TCP tunnels that were opened", labelled().map(|(labels, t)| (labels, t.opened)))?;
        to.counter(
            "ekm_otp_tunnels_failed",
            "TCP tunnels that were not opened, since their target was not reached",
            labelled().map(|(labels, t)| (labels, t.failed)),
        )?;
        let moved = labelled().flat_map(|(labels, t)| {
            let of = |direction| labels.iter().cloned().chain([("direction", direction)]).collect::<Labels<'_>>();
            [(of("to_target"), t.to_target), (of("from_target"), t.from_target)]
        });
        to.counter("ekm_otp_tunnel_bytes", "What TCP tunnels that have ended have moved", moved)
    }

    fn process(&self, to: &mut Families<'_, '_>) -> fmt::Result {
        let process = &self.0.process;
        to.bytes("process_resident_memory", "Memory that is resident", some(process.resident_bytes))?;
        to.bytes("process_virtual_memory", "Memory that is mapped", some(process.virtual_bytes))?;
        to.gauge("process_open_fds", "File descriptors that are open", some(process.open_files))?;
        to.gauge("process_max_fds", "File descriptors that may be open", some(process.max_files))?;
        to.gauge("process_threads", "Threads", some(process.threads))?;
        to.family(
            ("process_cpu", Some(Unit::Seconds), MetricType::Counter),
            "Time on the processors",
            some(process.cpu),
            |metric, value| metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        )?;
        to.seconds("process_start_time", "When the process started, since 1970", one(unix_seconds(self.0.started)))
    }
}
