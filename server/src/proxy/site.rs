//! A site: what stands behind one or several server names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ekm_otp::ServerName;
use http::{HeaderValue, Method, Uri};

use super::balance::Balance;
use super::identity::IdentityNames;
use super::open::OpenRoutes;
use super::settings::SiteConfig;
use super::target::Target;
use super::tls::ClientTls;
use super::upstream::Upstream;
use crate::allow::AllowList;
use crate::error::ServerError;
use crate::operations::SiteLabel;
use crate::tcp;

/// What a request needs to know of where it goes.
#[derive(Debug)]
pub(crate) struct Site {
    /// What it is called in logs and metrics.
    pub(super) label: SiteLabel,
    pub(super) behind: Behind,
    /// Where clients may have tunnels to.
    pub(super) tcp: tcp::Targets,
    pub(super) allow: AllowList,
    open: OpenRoutes,
    pub(super) names: Arc<IdentityNames>,
    /// `Host` as the upstream gets it, if not as it was received.
    pub(super) host: Option<HeaderValue>,
    pub(super) response_timeout: Duration,
    pub(super) idle_timeout: Duration,
}

/// Who answers a site's requests.
#[derive(Debug)]
pub(super) enum Behind {
    App(Balance),
    Demo,
    /// It is there for tunnels only.
    Nobody,
}

impl Site {
    /// Reads the files that the settings name. `label`: the site's first server name.
    pub(crate) fn open(label: &str, config: &SiteConfig) -> Result<Self, ServerError> {
        let needs_tls = config.targets.iter().any(Target::is_tls);
        let tls = needs_tls.then(|| ClientTls::read(&config.tls, config.protocol)).transpose()?;
        let upstream = |target: &Target| {
            let tls = tls.clone().filter(|_| target.is_tls());
            Arc::new(Upstream::new(target.clone(), config.protocol, tls, config.connect_timeout))
        };
        Ok(Self {
            label: SiteLabel::new(label),
            behind: match config.targets.as_slice() {
                [] => Behind::Nobody,
                _ if config.is_demo() => Behind::Demo,
                targets => Behind::App(Balance::new(targets.iter().map(upstream).collect())),
            },
            tcp: tcp::Targets::new(&config.tcp),
            allow: config.allow.clone(),
            open: config.open.clone(),
            names: Arc::new(config.names.clone()),
            host: config.host.clone(),
            response_timeout: config.response_timeout,
            idle_timeout: config.idle_timeout,
        })
    }

    /// Whether a request passes without a credential: for `Authentication::open_to`.
    pub(crate) fn is_open(&self, method: &Method, uri: &Uri) -> bool {
        self.open.contain(method, uri)
    }

    /// What it is called in logs and metrics.
    pub(crate) fn label(&self) -> &SiteLabel {
        &self.label
    }

    /// How its upstreams do; none where there is no app.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = UpstreamHealth> {
        let balance = if let Behind::App(balance) = &self.behind { Some(balance) } else { None };
        balance.into_iter().flat_map(Balance::all).map(|upstream| {
            let (requests, failures) = upstream.health.counts();
            UpstreamHealth { address: Arc::clone(&upstream.label), is_out: upstream.health.is_out(), requests, failures }
        })
    }
}

/// How one upstream does.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamHealth {
    /// As configured.
    pub(crate) address: Arc<str>,
    /// Whether it is left out for now; `None` before its first request.
    pub(crate) is_out: Option<bool>,
    /// How many requests it was tried for.
    pub(crate) requests: u64,
    /// How many of them failed.
    pub(crate) failures: u64,
}

/// All sites, by the server names that clients ask for in TLS.
#[derive(Debug, Default)]
pub(crate) struct Sites(HashMap<ServerName, Arc<Site>>);

impl Sites {
    /// Each server name belongs to one site; the last wins.
    pub(crate) fn new(sites: impl IntoIterator<Item = (ServerName, Arc<Site>)>) -> Self {
        Self(sites.into_iter().collect())
    }

    /// Each of them once, in any order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Site>> {
        let mut seen = HashSet::new();
        self.0.values().filter(move |site| seen.insert(Arc::as_ptr(site)))
    }

    /// The site that a connection for this name leads to.
    pub(crate) fn get(&self, name: &ServerName) -> Option<&Arc<Site>> {
        self.0.get(name)
    }
}
