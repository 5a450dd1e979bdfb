//! What the watching asks of the registry, and the sites, in its own words.

use crate::operations::{Health, OldKey, RegistryState, UpstreamState};
use crate::proxy;
use crate::registry::Registry;

/// How many rotated keys are told of one by one.
const OLD_KEYS: usize = 200;

/// How the registry is.
pub(crate) fn registry(registry: &Registry) -> RegistryState {
    let health = registry.health();
    let mut overlap = if health.in_overlap > 0 { registry.overlaps() } else { Vec::new() };
    overlap.sort_by_key(|key| std::cmp::Reverse(key.last_use));
    let old = |key: crate::registry::Overlap| OldKey {
        kid: key.kid.to_string(),
        client: key.client,
        not_after: key.not_after,
        last_used: key.last_use,
    };
    RegistryState {
        engine: health.engine.as_str(),
        is_reachable: health.is_reachable,
        is_away: health.is_away,
        fault: health.fault,
        age: health.age,
        is_stale: health.is_stale,
        keys: health.keys as u64,
        unreadable: health.unreadable as u64,
        in_overlap: health.in_overlap as u64,
        overlap: overlap.into_iter().take(OLD_KEYS).map(old).collect(),
    }
}

/// How a site's upstreams are.
pub(crate) fn upstreams(site: &proxy::Site) -> Vec<UpstreamState> {
    let state = |upstream: proxy::UpstreamHealth| UpstreamState {
        site: site.label().as_str().to_owned(),
        address: upstream.address.to_string(),
        health: Health::of(upstream.is_out),
        requests: upstream.requests,
        failures: upstream.failures,
    };
    site.upstreams().map(state).collect()
}
