//! What is in force, and can be replaced as a whole while connections go on: the sites, their certificates, and what their clients are
//! authenticated against. A connection keeps the authentication that it began with; certificates hold for new handshakes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ekm_otp::{Profile, ServerName};
use ekm_otp_tower::{Authentication, EkmAcceptor, SecretStore};

use crate::certificates::facts::{Dates, shown};
use crate::certificates::{self, Certificates};
use crate::config::{Config, Site};
use crate::error::ServerError;
use crate::operations::Certificate;
use crate::proxy::{self, Sites};
use crate::registry::Registry;

/// By the server name that clients ask for.
struct Authentications {
    by_name: HashMap<ServerName, Arc<Authentication>>,
    /// For those who ask for a name of no site: its own names refuse them.
    first: Arc<Authentication>,
}

/// One configuration, opened: all that could fail has not.
pub(crate) struct Opened {
    config: Arc<Config>,
    certificates: Arc<Certificates>,
    authentications: Arc<Authentications>,
    sites: Sites,
}

/// What is in force.
pub(crate) struct Live {
    config: Arc<Config>,
    certificates: Arc<ArcSwap<Certificates>>,
    authentications: Arc<ArcSwap<Authentications>>,
    sites: Arc<ArcSwap<Sites>>,
}

impl Opened {
    /// Reads the files that `config` names. Takes its time: not for a runtime's threads. `sites` are those in force, whose open routes are asked for.
    ///
    /// # Errors
    /// When something is not there, or wrong.
    pub(crate) fn open(config: Config, store: &Arc<Registry>, sites: &Arc<ArcSwap<Sites>>) -> Result<Self, ServerError> {
        let provider = config.general.tls.provider(rustls::crypto::aws_lc_rs::default_provider());
        let certificates = Certificates::load(&config.sites, &provider)?;
        must_fit(&config, store)?;
        let mut by_name = HashMap::new();
        let mut behind = Vec::new();
        let mut first = None;
        for site in &config.sites {
            let Some(label) = site.server_names.first() else { continue };
            let authentication = Arc::new(authentication(&config, site, Arc::clone(store) as Arc<dyn SecretStore>, sites)?);
            let proxied = Arc::new(proxy::Site::open(label.as_str(), &site.proxy)?);
            for name in &site.server_names {
                by_name.insert(name.clone(), Arc::clone(&authentication));
                behind.push((name.clone(), Arc::clone(&proxied)));
            }
            first.get_or_insert(authentication);
        }
        let first = first.ok_or_else(|| ServerError::Config("there is no site".into()))?;
        let authentications = Arc::new(Authentications { by_name, first });
        Ok(Self { config: Arc::new(config), certificates: Arc::new(certificates), authentications, sites: Sites::new(behind) })
    }
}

fn authentication(
    config: &Config,
    site: &Site,
    store: Arc<dyn SecretStore>,
    sites: &Arc<ArcSwap<Sites>>,
) -> Result<Authentication, ServerError> {
    let general = &config.general;
    let (sites, name) = (Arc::clone(sites), site.server_names.first().cloned().unwrap_or_else(ServerName::none));
    let authentication = Authentication::new(store, site.names.clone(), &general.realm)
        .map_err(|e| ServerError::Config(format!("realm: {e}")))?
        .kinds(site.kinds.iter().copied())
        .leeway(general.leeway)
        .max_age(general.max_age)
        .verified_within(config.doors.verified_within)
        .max_failures(config.doors.max_failures)
        .max_connections_per_key(config.doors.max_connections_per_key)
        // Asked for each request, so that open connections follow a reload.
        .open_to(move |method, uri| sites.load().get(&name).is_some_and(|site| site.is_open(method, uri)));
    Ok(if general.go { authentication.profile_go(general.go_default_kid.clone()) } else { authentication })
}

fn must_fit(config: &Config, store: &Registry) -> Result<(), ServerError> {
    match &config.general.go_default_kid {
        Some(kid) if !store.get(kid).is_ok_and(|key| key.is_some_and(|key| key.profile() == Profile::Go)) => {
            Err(ServerError::Config(format!("--go-default-kid {kid}: the registry holds no key with this key id and profile = \"go\"")))
        }
        _ => Ok(()),
    }
}

impl Live {
    /// Opens the first configuration and puts it into force.
    ///
    /// # Errors
    /// When something is not there, or wrong.
    pub(crate) fn open(config: Config, store: &Arc<Registry>) -> Result<Self, ServerError> {
        let sites = Arc::new(ArcSwap::from_pointee(Sites::default()));
        let opened = Opened::open(config, store, &sites)?;
        sites.store(Arc::new(opened.sites));
        Ok(Self {
            sites,
            config: opened.config,
            certificates: Arc::new(ArcSwap::new(opened.certificates)),
            authentications: Arc::new(ArcSwap::new(opened.authentications)),
        })
    }

    /// What requests meet behind the authentication; looked up for each.
    pub(crate) fn sites(&self) -> &Arc<ArcSwap<Sites>> {
        &self.sites
    }

    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// In a line, for the service manager.
    pub(crate) fn summary(&self, keys: usize) -> String {
        let names: Vec<_> = self.config.sites.iter().filter_map(|site| site.server_names.first()).map(ServerName::as_str).collect();
        format!("Serving {} to {keys} keys", names.join(", "))
    }

    /// One for each site.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        let shown =
            |(name, Dates { not_before, not_after }): (&ServerName, Dates)| Certificate { site: name.to_string(), not_before, not_after };
        self.certificates.load().dates(&self.config.sites).map(shown).collect()
    }

    /// Takes handshakes, each by what is in force when it ends.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn acceptor(&self) -> Result<EkmAcceptor, ServerError> {
        let policy = self.config.general.tls;
        let provider = policy.provider(rustls::crypto::aws_lc_rs::default_provider());
        let tls = certificates::server_config(policy, provider, Arc::clone(&self.certificates))?;
        let authentications = Arc::clone(&self.authentications);
        Ok(EkmAcceptor::by_server_name(tls, policy, move |name| {
            let authentications = authentications.load();
            Arc::clone(authentications.by_name.get(name).unwrap_or(&authentications.first))
        })
        .handshake_within(self.config.doors.handshake_within))
    }

    /// Puts another configuration into force, and logs what is different.
    pub(crate) fn replace(&mut self, opened: Opened) {
        let before = Arc::clone(&self.config);
        let old = self.certificates.swap(opened.certificates);
        self.authentications.store(opened.authentications);
        self.sites.store(Arc::new(opened.sites));
        self.config = opened.config;
        self.tell_sites(&before);
        self.tell_certificates(&old, &before);
        let waiting = self.config.only_at_start(&before);
        if !waiting.is_empty() {
            tracing::warn!(settings = waiting.join(", "), "changed, and not taken over: they hold from the next start on");
        }
    }

    fn tell_sites(&self, before: &Config) {
        let by_name = |config: &Config| -> BTreeMap<String, String> {
            // Where it stands in the file is no part of what it is.
            let shown = |site: &Site| {
                let name = site.server_names.first()?.to_string();
                Some((name, format!("{:?}", Site { lines: Default::default(), ..site.clone() })))
            };
            config.sites.iter().filter_map(shown).collect()
        };
        let (old, new) = (by_name(before), by_name(&self.config));
        for (site, settings) in &new {
            match old.get(site) {
                None => tracing::info!(%site, "site added"),
                Some(before) if before != settings => tracing::info!(%site, "site changed"),
                Some(_) => {}
            }
        }
        for site in old.keys().filter(|site| !new.contains_key(*site)) {
            tracing::info!(%site, "site removed");
        }
    }

    fn tell_certificates(&self, old: &Certificates, before: &Config) {
        let certificates = self.certificates.load();
        for site in &self.config.sites {
            let Some(name) = site.server_names.first() else { continue };
            let is_new = old.of(name).is_none_or(|old| certificates.of(name).is_none_or(|new| new.cert != old.cert));
            if is_new && before.sites.iter().any(|other| other.server_names.contains(name)) {
                let dates = certificates.of(name).and_then(|certified| certificates::facts::dates(certified.cert.first()?));
                tracing::info!(site = %name, expires = dates.map(|dates| shown(dates.not_after)), "certificate replaced");
            }
        }
    }
}
