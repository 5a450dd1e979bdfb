//! One site: the names that clients ask for, the certificate that they are shown, and what they must show themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, ServerName, ServerNames};
use serde::Deserialize;

use super::credentials::{CERTIFICATE, PRIVATE_KEY, credential};
use crate::proxy::{SiteConfig, SiteSettings};
use crate::settings::{Mistakes, Settings, named, one_or_many, rebase, some_one_or_many};

#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(super) struct SiteKeys {
    /// Certificate chain (PEM), the server's own certificate first
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    certificate: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    private_key: Option<PathBuf>,
    /// File key: `server_names`. Name that clients may ask for in TLS (SNI); an IP address stands for clients that send none. Repeat for more
    #[arg(long = "server-name", value_name = "NAME", help_heading = "TLS")]
    #[serde(deserialize_with = "one_or_many")]
    server_names: Vec<String>,
    /// File key: `authorities`, a table of lists. Further authority (host or host:port) whose requests are taken on connections for NAME;
    /// may be repeated
    #[arg(long = "authority", id = "authorities", value_name = "NAME=AUTHORITY", help_heading = "TLS")]
    #[serde(skip)]
    authority: Vec<String>,
    #[arg(skip)]
    authorities: BTreeMap<String, Vec<String>>,
    /// File key: `credentials`. Kind of credential that is accepted; repeat for more. The registry may ask for more from a key id
    /// [default: otp, jws, jwe]
    #[arg(long = "credential", value_name = "KIND", value_parser = PossibleValuesParser::new(CredentialKind::ALL.map(CredentialKind::as_str)), help_heading = "Registry and credentials")]
    #[serde(deserialize_with = "some_one_or_many")]
    credentials: Option<Vec<String>>,
}

impl Settings for SiteKeys {
    fn relative_to(&mut self, folder: &Path) {
        rebase(&mut self.certificate, folder);
        rebase(&mut self.private_key, folder);
    }
}

/// What of a site this program's TLS and its clients' credentials are made from.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// In the order of the configuration. The first one names the site.
    pub(crate) server_names: Vec<ServerName>,
    pub(crate) names: ServerNames,
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
    pub(crate) kinds: Vec<CredentialKind>,
    /// What requests meet behind the authentication.
    pub(crate) proxy: SiteConfig,
    /// The names as they are written: an IP address is no server name, but stands in certificates.
    pub(crate) hosts: Vec<String>,
    /// Where its keys stand in the file; all 0 where they are flags.
    pub(crate) lines: Lines,
}

/// For what is found out once files are opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lines {
    pub(crate) server_names: usize,
    pub(crate) certificate: usize,
    pub(crate) upstream: usize,
    pub(crate) tcp: usize,
}

impl SiteKeys {
    /// `None` where a certificate, a key or a name is missing or wrong.
    pub(super) fn resolve(self, proxy: SiteSettings, mistakes: &mut Mistakes) -> Option<Site> {
        let proxy = proxy.resolve(mistakes);
        let mut names = ServerNames::new();
        let mut server_names = Vec::new();
        for (at, name) in self.server_names.iter().enumerate() {
            match names.allow_host(name).and_then(|()| ServerName::from_host(name)) {
                Ok(server_name) => server_names.push(server_name),
                Err(e) => mistakes.add_at("server_names", at, e.to_string()),
            }
        }
        if self.server_names.is_empty() {
            mistakes.add("server_names", "is missing: the name that clients ask for");
        }
        let mut authorities: Vec<(String, String)> =
            self.authorities.into_iter().flat_map(|(name, list)| list.into_iter().map(move |a| (name.clone(), a))).collect();
        if !self.authority.is_empty() {
            authorities.clear();
            for pair in &self.authority {
                match pair.split_once('=') {
                    Some((name, authority)) => authorities.push((name.to_owned(), authority.to_owned())),
                    None => mistakes.add("authorities", format!("{pair}: write it as NAME=HOST[:PORT]")),
                }
            }
        }
        for (name, authority) in &authorities {
            match (ServerName::from_host(name), Authority::parse(authority)) {
                (Ok(server_name), Ok(parsed)) if names.accepts(&server_name) => names.allow_authority(server_name, parsed),
                (Ok(_), Ok(_)) => {
                    mistakes.add("authorities", format!("{name}={authority}: {name} is no configured server name: name it there, too"));
                }
                (Err(e), _) => mistakes.add("authorities", format!("{name}: {e}")),
                (_, Err(e)) => mistakes.add("authorities", format!("{authority:?}: {e}")),
            }
        }
        let mut kinds = Vec::new();
        if self.credentials.as_ref().is_some_and(Vec::is_empty) {
            mistakes.add("credentials", "names no kind: take it out to accept all of them, or name some of otp, jws and jwe");
        }
        for (at, text) in self.credentials.iter().flatten().enumerate() {
            match text.parse::<CredentialKind>() {
                Ok(kind) => kinds.push(kind),
                Err(e) => mistakes.add_at("credentials", at, format!("{}{e}", named(text))),
            }
        }
        if kinds.is_empty() {
            kinds = CredentialKind::ALL.to_vec();
        }
        let certificate = self.certificate.or_else(|| credential(CERTIFICATE));
        let private_key = self.private_key.or_else(|| credential(PRIVATE_KEY));
        for (key, path) in [("certificate", &certificate), ("private_key", &private_key)] {
            if path.is_none() {
                mistakes.add(key, "is missing");
            }
        }
        let (certificate, private_key) = certificate.zip(private_key)?;
        (!server_names.is_empty()).then_some(Site {
            server_names,
            names,
            certificate,
            private_key,
            kinds,
            proxy,
            hosts: self.server_names,
            lines: Lines::default(),
        })
    }
}
