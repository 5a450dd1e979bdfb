//! What a site can be set to, and what that means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::identity::IdentityNames;
use super::open::OpenRoutes;
use super::target::{Protocol, Security, Target};
use super::tls::TlsFiles;
use crate::allow::{AllowList, AllowSettings};
use crate::settings::{Mistakes, Settings, named, one_or_many, rebase};
use crate::tcp;

/// Keys of the configuration file, at its top level or in a `[[site]]`; most are flags, too.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(crate) struct SiteSettings {
    /// Where the app is: http://127.0.0.1:3000, https://app.internal:8443, unix:/run/app.sock, or demo for an origin that shows who asks. Repeat for
    /// more: each gets its turn, one that fails is left out for a while
    #[arg(long, value_name = "URL", help_heading = "Upstream")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) upstream: Vec<String>,
    /// Which HTTP the upstream speaks: auto is HTTP/1.1, or over TLS whichever both agree on; h2 without TLS is by prior knowledge [default: auto]
    #[arg(long, value_enum, value_name = "PROTOCOL", help_heading = "Upstream")]
    pub(crate) upstream_protocol: Option<Protocol>,
    /// Certificates (PEM) that an https upstream's must come from [default: those that the system believes]
    #[arg(long, value_name = "FILE", help_heading = "Upstream")]
    pub(crate) upstream_ca: Option<PathBuf>,
    /// Certificate chain (PEM) that an https upstream is shown
    #[arg(long, value_name = "FILE", help_heading = "Upstream")]
    pub(crate) upstream_certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Upstream")]
    pub(crate) upstream_private_key: Option<PathBuf>,
    /// Host that the upstream is asked for [default: as the client asked]
    #[arg(long, value_name = "HOST", help_heading = "Upstream")]
    pub(crate) upstream_host: Option<String>,
    /// How long a connection to an upstream may take, in seconds [default: 5]
    #[arg(long, value_name = "SECONDS", help_heading = "Upstream")]
    pub(crate) connect_timeout: Option<u64>,
    /// How long an upstream may take to begin its answer, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Upstream")]
    pub(crate) response_timeout: Option<u64>,
    /// How long an answer or a websocket may be silent, in seconds [default: 300]
    #[arg(long, value_name = "SECONDS", help_heading = "Upstream")]
    pub(crate) idle_timeout: Option<u64>,
    /// Plain HTTP to upstreams beyond this machine: anyone on the way can read it and forge identities
    #[arg(long, hide_short_help = true, help_heading = "Upstream")]
    #[serde(skip)]
    pub(crate) unsafe_upstream: bool,
    #[arg(skip)]
    pub(crate) allow: Option<Vec<AllowSettings>>,
    #[arg(skip)]
    pub(crate) tcp: Vec<tcp::TargetSettings>,
    /// Route that needs no credential, such as GET=^/healthz$: a pattern for the whole path, without the query. Repeat for more
    #[arg(long, value_name = "METHOD=PATTERN", help_heading = "Upstream")]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) open: Vec<String>,
    /// Field that tells the app the client's name [default: Ekm-Otp-Client]
    #[arg(long, value_name = "NAME", help_heading = "Upstream")]
    pub(crate) identity_client: Option<String>,
    /// Field that tells the app the key id [default: Ekm-Otp-Key-Id]
    #[arg(long, value_name = "NAME", help_heading = "Upstream")]
    pub(crate) identity_kid: Option<String>,
    /// Field that tells the app a token's further claims [default: Ekm-Otp-Claims]
    #[arg(long, value_name = "NAME", help_heading = "Upstream")]
    pub(crate) identity_claims: Option<String>,
}

impl Settings for SiteSettings {
    fn relative_to(&mut self, folder: &Path) {
        for file in [&mut self.upstream_ca, &mut self.upstream_certificate, &mut self.upstream_private_key] {
            rebase(file, folder);
        }
        for upstream in &mut self.upstream {
            if let Some(path) = upstream.strip_prefix("unix:") {
                *upstream = format!("unix:{}", folder.join(path).display());
            }
        }
        for target in &mut self.tcp {
            target.relative_to(folder);
        }
    }
}

/// A site's settings, checked. Nothing of it has been opened.
#[derive(Clone, Debug)]
pub(crate) struct SiteConfig {
    pub(super) targets: Vec<Target>,
    pub(super) protocol: Protocol,
    pub(super) tls: TlsFiles,
    pub(super) host: Option<HeaderValue>,
    pub(super) allow: AllowList,
    pub(super) open: OpenRoutes,
    pub(super) names: IdentityNames,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) tcp: Vec<tcp::TargetConfig>,
}

impl SiteConfig {
    /// The files that are read when the site is opened.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.tls.ca.iter().chain(self.tls.identity.iter().flat_map(|(chain, key)| [chain, key]))
    }

    /// Hosts whose every address must be this machine's own, since nothing protects what goes there; with their ports.
    pub(crate) fn hosts_on_this_machine(&self) -> impl Iterator<Item = (&str, u16)> {
        self.targets.iter().filter_map(|target| match target {
            Target::Tcp { host, port, security: Security::Loopback } => Some((host.as_str(), *port)),
            _ => None,
        })
    }

    /// Where tunnels lead to, as it is written, and its host and port where it has those.
    pub(crate) fn tcp_hosts(&self) -> impl Iterator<Item = (&str, u16)> {
        self.tcp.iter().filter_map(tcp::TargetConfig::host)
    }

    pub(super) fn is_demo(&self) -> bool {
        self.targets.contains(&Target::Demo)
    }
}

impl SiteSettings {
    /// What they mean. What is wrong is added to `mistakes`; the result is not to be used then.
    pub(crate) fn resolve(self, mistakes: &mut Mistakes) -> SiteConfig {
        let targets = self.targets(mistakes);
        let identity = match (self.upstream_certificate, self.upstream_private_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => {
                mistakes.add("upstream_certificate", "needs upstream_private_key, its key");
                None
            }
            (None, Some(_)) => {
                mistakes.add("upstream_private_key", "needs upstream_certificate, which it is the key of");
                None
            }
            (None, None) => None,
        };
        let tls = TlsFiles { ca: self.upstream_ca, identity };
        if !targets.iter().any(Target::is_tls) {
            if tls.ca.is_some() {
                mistakes.add("upstream_ca", "is for https upstreams, and there is none");
            }
            if tls.identity.is_some() {
                mistakes.add("upstream_certificate", "is for https upstreams, and there is none");
            }
        }
        let allow = AllowList::of(self.allow.as_deref(), |index, what| match index {
            Some(index) => mistakes.add_at("allow", index, what),
            None => mistakes.add("allow", what),
        });
        let mut open = OpenRoutes::default();
        for (index, route) in self.open.iter().enumerate() {
            if let Err(e) = open.add(route) {
                mistakes.add_at("open", index, format!("{route} {e}"));
            }
        }
        let mut name = |key, text: Option<String>, default: &'static str| {
            HeaderName::try_from(text.as_deref().unwrap_or(default)).unwrap_or_else(|_| {
                mistakes.add(key, format!("is no field name: write something like {default}"));
                HeaderName::from_static("ekm-otp-unusable")
            })
        };
        let names = IdentityNames::new(
            name("identity_client", self.identity_client, IdentityNames::CLIENT),
            name("identity_kid", self.identity_kid, IdentityNames::KID),
            name("identity_claims", self.identity_claims, IdentityNames::CLAIMS),
        );
        if let Some((key, why)) = names.unusable() {
            mistakes.add(key, why);
        }
        let host = self.upstream_host.and_then(|host| {
            let authority = host.parse::<http::uri::Authority>().ok().filter(|authority| !authority.as_str().contains('@'));
            if authority.is_none() {
                mistakes.add("upstream_host", "is no host: write app.internal, or app.internal:8443");
            }
            HeaderValue::try_from(authority?.as_str()).ok()
        });
        let mut seconds = |key, value: Option<u64>, default| match value.unwrap_or(default) {
            seconds @ 1..=86_400 => Duration::from_secs(seconds),
            _ => {
                mistakes.add(key, "must be 1 to 86400 seconds");
                Duration::from_secs(default)
            }
        };
        let connect_timeout = seconds("connect_timeout", self.connect_timeout, 5);
        SiteConfig {
            connect_timeout,
            response_timeout: seconds("response_timeout", self.response_timeout, 60),
            idle_timeout: seconds("idle_timeout", self.idle_timeout, 300),
            targets,
            protocol: self.upstream_protocol.unwrap_or_default(),
            tls,
            host,
            allow,
            open,
            names,
            tcp: tcp::resolve(&self.tcp, connect_timeout, mistakes),
        }
    }

    fn targets(&self, mistakes: &mut Mistakes) -> Vec<Target> {
        // Who has tunnels only needs no app.
        if self.upstream.is_empty() && self.tcp.is_empty() {
            mistakes.add("upstream", "is missing: where the app is, such as http://127.0.0.1:3000 or unix:/run/app.sock, or demo");
        }
        let mut targets = Vec::new();
        for (index, text) in self.upstream.iter().enumerate() {
            match Target::parse(text, self.unsafe_upstream) {
                Ok(target) if targets.contains(&target) => mistakes.add_at("upstream", index, format!("{target} is named twice")),
                Ok(target) => targets.push(target),
                // It may hold a password.
                Err(e) => mistakes.add_at("upstream", index, format!("{}{e}", named(text))),
            }
        }
        if targets.len() > 1 && targets.contains(&Target::Demo) {
            mistakes.add("upstream", "has demo beside others: it can only stand alone");
        }
        targets
    }
}
