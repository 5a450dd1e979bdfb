//! `/status.json`: what the status page shows, for programs.

use std::time::SystemTime;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::metrics::shards::Distribution;
use super::metrics::sites::CLASSES;
use super::snapshot::Snapshot;

/// In UTC, to the second (RFC 3339).
pub(crate) fn timestamp(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_else(|_| "unknown".to_owned())
}

pub(crate) fn json(snapshot: &Snapshot) -> Value {
    let it = snapshot;
    let requests = |by_class: &[u64]| -> Value {
        CLASSES
            .iter()
            .zip(by_class)
            .map(|(class, count)| ((*class).to_owned(), Value::from(*count)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "at": timestamp(it.at),
        "started": timestamp(it.started),
        "version": env!("CARGO_PKG_VERSION"),
        "ready": it.is_ready(),
        "checks": it.checks.iter().map(|check| json!({
            "name": check.name, "ok": check.is_ok, "decides": check.decides, "found": check.found,
        })).collect::<Vec<_>>(),
        "connections": {
            "handshaking": it.open.handshaking, "unverified": it.open.unverified, "verified": it.open.verified,
            "opened": it.opened, "closed": it.closed, "handshakes_failed": it.handshakes_failed,
            "handshake_seconds": times(&it.handshakes),
        },
        "refusals": it.refusals,
        "refused_in_last_hour": it.refused_in_last_hour.as_slice(),
        "sites": it.sites.iter().map(|site| json!({
            "name": site.name, "requests": requests(&site.by_class), "bytes_in": site.bytes_in, "bytes_out": site.bytes_out,
            "head_seconds": times(&site.head), "duration_seconds": times(&site.whole),
        })).collect::<Vec<_>>(),
        "clients": it.clients.iter().map(|(name, requests)| json!({ "name": name, "requests": requests })).collect::<Vec<_>>(),
        "requests_of_other_clients": it.requests_of_other_clients,
        "certificates": it.certificates.iter().map(|certificate| json!({
            "site": certificate.site, "not_before": timestamp(certificate.not_before), "not_after": timestamp(certificate.not_after),
        })).collect::<Vec<_>>(),
        "registry": {
            "engine": it.registry.engine, "up": it.registry.is_up(), "away": it.registry.is_away, "fault": it.registry.fault,
            "stale": it.registry.is_stale, "age_seconds": it.registry.age.as_secs(), "keys": it.registry.keys,
            "unreadable": it.registry.unreadable, "in_overlap": it.registry.in_overlap,
            "overlap": it.registry.overlap.iter().map(|key| json!({
                "kid": key.kid, "client": key.client,
                "not_after": key.not_after.map(timestamp), "last_used": key.last_used.map(timestamp),
            })).collect::<Vec<_>>(),
        },
        "reloads": { "taken": it.reloads.taken, "refused": it.reloads.refused, "current": !it.reloads.is_refused },
        "upstreams": it.upstreams.iter().map(|upstream| json!({
            "site": upstream.site, "address": upstream.address, "health": upstream.health.as_str(),
            "requests": upstream.requests, "failures": upstream.failures,
        })).collect::<Vec<_>>(),
        "logs": it.logs.iter().map(|(log, lost)| json!({ "log": log, "no_room": lost.no_room, "not_written": lost.not_written })).collect::<Vec<_>>(),
        "process": {
            "resident_bytes": it.process.resident_bytes, "open_files": it.process.open_files, "max_files": it.process.max_files,
            "cpu_seconds": it.process.cpu, "threads": it.process.threads,
        },
    })
}

fn times(distribution: &Distribution) -> Value {
    json!({ "count": distribution.count, "sum": distribution.sum, "p50_at_most": distribution.at_most(0.5), "p99_at_most": distribution.at_most(0.99) })
}
