//! Whether this server is to be sent requests: one check for each thing that it cannot serve without.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::sources::{Certificate, Health, RegistryState, UpstreamState};

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) is_ok: bool,
    /// What was found, for people.
    pub(crate) found: String,
}

/// What readiness is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) is_draining: bool,
    /// Whether every thread that serves has answered in time.
    pub(crate) workers_answer: bool,
    pub(crate) registry: &'a RegistryState,
    pub(crate) certificates: &'a [Certificate],
    pub(crate) upstreams: &'a [UpstreamState],
    pub(crate) now: SystemTime,
}

impl Facts<'_> {
    /// All checks. The server is ready when all are ok.
    ///
    /// A site that cannot be served makes the server not ready only when no other can be: whoever takes it out of a pool for one site takes the
    /// others with it. For single sites there are the metrics.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let check = |name, is_ok, found: &str| Check { name, is_ok, found: found.to_owned() };
        vec![
            check(
                "workers",
                self.workers_answer,
                if self.workers_answer { "all threads answer" } else { "a thread that serves has not answered in time" },
            ),
            check(
                "draining",
                !self.is_draining,
                if self.is_draining { "it stops, and takes no new connections" } else { "it takes new connections" },
            ),
            self.registry(),
            self.certificates(),
            self.upstreams(),
        ]
    }

    fn registry(&self) -> Check {
        let registry = self.registry;
        let age = registry.age.map(|age| format!(", {} s old", age.as_secs())).unwrap_or_default();
        let found = match (registry.is_loaded, registry.is_stale, registry.is_reachable) {
            (false, ..) => "not read yet".to_owned(),
            (_, true, _) => format!("what is known of it is older than max_staleness allows{age}"),
            (.., false) => format!("cannot be reached; {} keys as they were{age}", registry.keys),
            _ => format!("{} keys{age}", registry.keys),
        };
        Check { name: "registry", is_ok: registry.is_loaded && !registry.is_stale, found }
    }

    fn certificates(&self) -> Check {
        let invalid: Vec<&str> = self
            .certificates
            .iter()
            .filter(|certificate| !certificate.is_valid_at(self.now))
            .map(|certificate| &*certificate.site)
            .collect();
        let is_ok = invalid.len() < self.certificates.len();
        let found = match (self.certificates.len(), invalid.is_empty()) {
            (0, _) => "there is none".to_owned(),
            (_, true) => "valid".to_owned(),
            _ => format!("expired or not valid yet: {}", invalid.join(", ")),
        };
        Check { name: "certificates", is_ok, found }
    }

    /// Only what requests have shown to be down is taken to be so: nobody asks an upstream just to know.
    fn upstreams(&self) -> Check {
        let mut up_by_site: BTreeMap<&str, bool> = BTreeMap::new();
        for upstream in self.upstreams {
            *up_by_site.entry(&upstream.site).or_default() |= upstream.health != Health::Down;
        }
        let down: Vec<&str> = up_by_site.iter().filter(|(_, is_up)| !**is_up).map(|(site, _)| *site).collect();
        let is_ok = up_by_site.is_empty() || down.len() < up_by_site.len();
        let found = if down.is_empty() {
            "each site has one that is not known to be down".to_owned()
        } else {
            format!("all down: {}", down.join(", "))
        };
        Check { name: "upstreams", is_ok, found }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WELL: RegistryState = RegistryState {
        engine: "file",
        is_loaded: true,
        is_reachable: true,
        age: None,
        is_stale: false,
        keys: 1,
        in_overlap: 0,
        overlap: Vec::new(),
    };

    fn certificate(site: &str, now: SystemTime, from: u64, to: u64) -> Certificate {
        let day = |n: u64| now - Duration::from_secs(86_400 * 100) + Duration::from_secs(86_400 * n);
        Certificate { site: site.into(), not_before: day(from), not_after: day(to) }
    }

    fn upstream(site: &str, health: Health) -> UpstreamState {
        UpstreamState { site: site.into(), address: "http://127.0.0.1:1".into(), health, requests: 0, failures: 0 }
    }

    /// The checks that fail.
    fn failed(facts: &Facts<'_>) -> Vec<&'static str> {
        facts.checks().into_iter().filter(|check| !check.is_ok).map(|check| check.name).collect()
    }

    #[test]
    fn each_reason_not_to_be_ready_is_one_by_itself() {
        let now = SystemTime::now();
        let (valid, expired, early) = (certificate("a", now, 0, 200), certificate("b", now, 0, 99), certificate("c", now, 101, 200));
        let certificates = [valid.clone()];
        let upstreams = [upstream("a", Health::Down), upstream("a", Health::Unknown)];
        let well =
            Facts { is_draining: false, workers_answer: true, registry: &WELL, certificates: &certificates, upstreams: &upstreams, now };
        assert_eq!(failed(&well), [""; 0]);
        assert_eq!(failed(&Facts { is_draining: true, ..well }), ["draining"]);
        assert_eq!(failed(&Facts { workers_answer: false, ..well }), ["workers"]);
        let unread = RegistryState { is_loaded: false, ..WELL };
        assert_eq!(failed(&Facts { registry: &unread, ..well }), ["registry"]);
        let stale = RegistryState { is_stale: true, is_reachable: false, ..WELL };
        assert_eq!(failed(&Facts { registry: &stale, ..well }), ["registry"]);
        let away = RegistryState { is_reachable: false, ..WELL };
        assert_eq!(failed(&Facts { registry: &away, ..well }), [""; 0], "what is known is fresh enough");
        assert_eq!(failed(&Facts { certificates: &[], ..well }), ["certificates"]);
        assert_eq!(failed(&Facts { certificates: &[expired.clone(), early], ..well }), ["certificates"]);
        assert_eq!(failed(&Facts { certificates: &[expired, valid], ..well }), [""; 0], "one site can be served");
        let down = [upstream("a", Health::Down), upstream("b", Health::Down)];
        assert_eq!(failed(&Facts { upstreams: &down, ..well }), ["upstreams"]);
        assert_eq!(failed(&Facts { upstreams: &[], ..well }), [""; 0], "the demo has none");
        let found = Facts { upstreams: &[upstream("a", Health::Down), upstream("b", Health::Up)], ..well }.checks();
        assert!(found.iter().all(|check| check.is_ok) && found.iter().any(|check| check.found == "all down: a"), "{found:?}");
    }
}
