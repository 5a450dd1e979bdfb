//! Whether this server is to be sent requests: one check for each thing that it cannot serve without.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::sources::{Certificate, Health, RegistryState, UpstreamState};

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) is_ok: bool,
    /// Whether the server is ready only if it is ok.
    pub(crate) decides: bool,
    /// What was found, for people.
    pub(crate) found: String,
}

impl Check {
    /// How it came out.
    pub(crate) fn word(&self) -> &'static str {
        match (self.is_ok, self.decides) {
            (true, _) => "ok",
            (false, true) => "FAILS",
            (false, false) => "NOTE",
        }
    }
}

impl RegistryState {
    /// Whether what is served is what it says now. Not knowing is no yes.
    pub(crate) fn is_up(&self) -> bool {
        self.is_reachable && self.fault.is_none() && self.age < SILENT
    }
}

/// How long a registry that answers may be misunderstood. Whoever writes a file in place, or rotates the registry's own key, needs a moment.
const MISUNDERSTOOD: Duration = Duration::from_secs(5);
/// How old what is known may be when nobody has told why. It is asked several times a second, and each question has a deadline.
const SILENT: Duration = Duration::from_secs(120);

/// What readiness is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) is_draining: bool,
    /// Whether the last reload was taken over.
    pub(crate) is_current: bool,
    /// Whether every thread that serves has answered in time.
    pub(crate) workers_answer: bool,
    pub(crate) registry: &'a RegistryState,
    pub(crate) certificates: &'a [Certificate],
    pub(crate) upstreams: &'a [UpstreamState],
    pub(crate) now: SystemTime,
}

impl Facts<'_> {
    /// All checks. The server is ready when all that decide are ok.
    ///
    /// A site that cannot be served makes the server not ready only when no other can be: whoever takes it out of a pool for one site takes the
    /// others with it. For single sites there are the metrics.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let check = |name, is_ok, found: &str| Check { name, is_ok, decides: true, found: found.to_owned() };
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
            Check {
                name: "configuration",
                is_ok: self.is_current,
                decides: false,
                found: if self.is_current {
                    "as it was last read"
                } else {
                    "the last reload was refused (the log says why): as it was before. A server that starts now may not"
                }
                .to_owned(),
            },
        ]
    }

    /// A registry that does not answer takes nobody down: what is known of it is served as long as `max_staleness` allows. One that answers what
    /// cannot be understood, or that nobody looks at any more, does: it may have revoked keys that are let in here, while others read it well.
    fn registry(&self) -> Check {
        let registry = self.registry;
        let is_silent = registry.fault.is_none() && registry.age >= SILENT;
        let is_misunderstood = registry.fault.is_some() && !registry.is_away;
        let is_for_long = is_misunderstood && registry.age >= MISUNDERSTOOD;
        let is_ok = !(registry.is_stale || is_silent || is_for_long);
        let why = registry.fault.as_deref().unwrap_or("nobody has looked at it since").replace(char::is_control, " ");
        let age = registry.age.as_secs();
        let keys = match registry.unreadable {
            0 => format!("{} keys", registry.keys),
            unreadable => format!("{} keys, and {unreadable} that cannot be read and are refused", registry.keys),
        };
        let found = if registry.is_stale {
            format!("what is known of it is older than max_staleness allows: {age} s ({why})")
        } else if is_misunderstood {
            format!("it answers, and cannot be understood: {why}; {keys} as they were {age} s ago")
        } else if !registry.is_up() {
            format!("cannot be reached: {why}; {keys} as they were {age} s ago")
        } else {
            format!("{keys}, {age} s old")
        };
        Check { name: "registry", is_ok, decides: true, found }
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
        Check { name: "certificates", is_ok, decides: true, found }
    }

    /// Only what requests have shown to be down is taken to be so: nobody asks an upstream just to know. So it decides nothing: a server that is kept
    /// from requests because its upstream was away would never find out that it is back; all servers before one upstream would go at once, and with
    /// them the answers of those who have another one; and who can make the upstream fail could turn them all.
    fn upstreams(&self) -> Check {
        let mut up_by_site: BTreeMap<&str, bool> = BTreeMap::new();
        for upstream in self.upstreams {
            *up_by_site.entry(&upstream.site).or_default() |= upstream.health != Health::Down;
        }
        let down: Vec<&str> = up_by_site.iter().filter(|(_, is_up)| !**is_up).map(|(site, _)| *site).collect();
        let found = if down.is_empty() {
            "each site has one that is not known to be down".to_owned()
        } else {
            format!("all down when last tried: {}", down.join(", "))
        };
        Check { name: "upstreams", is_ok: down.is_empty(), decides: false, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: RegistryState = RegistryState {
        engine: "file",
        is_reachable: true,
        fault: None,
        is_away: false,
        age: Duration::ZERO,
        is_stale: false,
        keys: 1,
        unreadable: 0,
        in_overlap: 0,
        overlap: Vec::new(),
    };

    fn certificate(site: &str, now: SystemTime, from: u64, to: u64) -> Certificate {
        let day = |n: u64| now - Duration::from_secs(86_400 * 100) + Duration::from_secs(86_400 * n);
        Certificate { site: site.into(), not_before: day(from), not_after: day(to) }
    }

    fn well<'a>(
        registry: &'a RegistryState,
        certificates: &'a [Certificate],
        upstreams: &'a [UpstreamState],
        now: SystemTime,
    ) -> Facts<'a> {
        Facts { is_draining: false, is_current: true, workers_answer: true, registry, certificates, upstreams, now }
    }

    fn upstream(site: &str, health: Health) -> UpstreamState {
        UpstreamState { site: site.into(), address: "http://127.0.0.1:1".into(), health, requests: 0, failures: 0 }
    }

    /// The checks that fail.
    fn failed(facts: &Facts<'_>) -> Vec<&'static str> {
        facts.checks().into_iter().filter(|check| !check.is_ok && check.decides).map(|check| check.name).collect()
    }

    #[test]
    fn each_reason_not_to_be_ready_is_one_by_itself() {
        let now = SystemTime::now();
        let (valid, expired, early) = (certificate("a", now, 0, 200), certificate("b", now, 0, 99), certificate("c", now, 101, 200));
        let certificates = [valid.clone()];
        let upstreams = [upstream("a", Health::Down), upstream("a", Health::Unknown)];
        let registry = WELL;
        let well = well(&registry, &certificates, &upstreams, now);
        assert_eq!(failed(&well), [""; 0]);
        assert_eq!(failed(&Facts { is_draining: true, ..well }), ["draining"]);
        assert_eq!(failed(&Facts { workers_answer: false, ..well }), ["workers"]);
        assert_eq!(failed(&Facts { certificates: &[], ..well }), ["certificates"]);
        assert_eq!(failed(&Facts { certificates: &[expired.clone(), early], ..well }), ["certificates"]);
        assert_eq!(failed(&Facts { certificates: &[expired, valid], ..well }), [""; 0], "one site can be served");
    }

    #[test]
    fn a_registry_that_is_away_is_told_and_one_that_is_misunderstood_or_that_nobody_looks_at_fails() {
        let registry = |fault: Option<&str>, is_away, age| RegistryState {
            is_reachable: fault.is_none() && age < SILENT,
            fault: fault.map(str::to_owned),
            is_away,
            age,
            ..WELL
        };
        let check = |registry: &RegistryState| {
            let facts = well(registry, &[], &[], SystemTime::now());
            (facts.registry().is_ok, registry.is_up(), facts.registry().found)
        };
        let (day, second) = (Duration::from_secs(86_400), Duration::from_secs(1));
        assert_eq!(check(&registry(None, false, second)), (true, true, "1 keys, 1 s old".to_owned()));
        let (is_ok, is_up, found) = check(&registry(Some("no\nroute"), true, day));
        assert_eq!((is_ok, is_up, &*found), (true, false, "cannot be reached: no route; 1 keys as they were 86400 s ago"));
        let (is_ok, is_up, found) = check(&registry(Some("no such key"), false, second));
        assert!(is_ok && !is_up && found.contains("cannot be understood: no such key"), "a moment is given: {found}");
        let (is_ok, is_up, _) = check(&registry(Some("no such key"), false, MISUNDERSTOOD));
        assert_eq!((is_ok, is_up), (false, false));
        let (is_ok, is_up, found) = check(&registry(None, false, SILENT));
        assert!(!is_ok && !is_up && found.contains("nobody has looked at it"), "its thread is gone: {found}");
        let (is_ok, _, found) = check(&RegistryState { is_stale: true, ..registry(Some("no route"), true, day) });
        assert!(!is_ok && found.contains("max_staleness"), "{found}");
        let (is_ok, is_up, found) = check(&RegistryState { unreadable: 2, ..WELL });
        assert!(is_ok && is_up && found.contains("2 that cannot be read"), "{found}");
    }

    #[test]
    fn upstreams_are_told_and_decide_nothing() {
        let now = SystemTime::now();
        let certificates = [certificate("a", now, 0, 200)];
        let upstreams = [upstream("a", Health::Down), upstream("b", Health::Up), upstream("c", Health::Unknown)];
        let registry = WELL;
        let facts = well(&registry, &certificates, &upstreams, now);
        assert_eq!(failed(&facts), [""; 0]);
        let found = facts.upstreams();
        assert_eq!((found.word(), &*found.found), ("NOTE", "all down when last tried: a"));
        assert_eq!(Facts { upstreams: &upstreams[1..], ..facts }.upstreams().word(), "ok");
        assert_eq!(Facts { upstreams: &[], ..facts }.upstreams().word(), "ok", "the demo has none");
    }
}
