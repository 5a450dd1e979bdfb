//! The certificates that clients are shown, by the name that they ask for (SNI, RFC 6066 section 3); replaced while the server runs.
//!
//! Who asks for a name of no site, or for none, is shown the first site's, so that the handshake ends in an answer that says what is wrong: each of
//! its requests is answered 401 (docs/protocol.md, rule N).

pub(crate) mod facts;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ekm_otp::{ServerName, TlsPolicy};
use ekm_otp_files::pem;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use self::facts::Dates;
use crate::config::Site;
use crate::error::ServerError;

/// A chain and its key, by the names of the sites that show it.
#[derive(Debug)]
pub(crate) struct Certificates {
    by_name: HashMap<ServerName, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads each site's. Sites that name the same files share what is read.
    ///
    /// # Errors
    /// When one cannot be read, or a key does not belong to its certificate.
    pub(crate) fn load(sites: &[Site], provider: &CryptoProvider) -> Result<Self, ServerError> {
        let mut read: HashMap<(&Path, &Path), Arc<CertifiedKey>> = HashMap::new();
        let mut by_name = HashMap::new();
        let mut first = None;
        for site in sites {
            let files = (site.certificate.as_path(), site.private_key.as_path());
            let certified = match read.get(&files) {
                Some(certified) => Arc::clone(certified),
                None => Arc::clone(read.entry(files).or_insert(Arc::new(certified_key(files.0, files.1, provider)?))),
            };
            by_name.extend(site.server_names.iter().map(|name| (name.clone(), Arc::clone(&certified))));
            first.get_or_insert(certified);
        }
        let first = first.ok_or_else(|| ServerError::Config("there is no site".into()))?;
        Ok(Self { by_name, first })
    }

    /// When each site's certificate stops being good: (the site's first name, its dates).
    pub(crate) fn dates<'a>(&'a self, sites: &'a [Site]) -> impl Iterator<Item = (&'a ServerName, Dates)> {
        sites.iter().filter_map(|site| {
            let name = site.server_names.first()?;
            Some((name, facts::dates(self.by_name.get(name)?.cert.first()?)?))
        })
    }

    /// The one of a site, by one of its names.
    pub(crate) fn of(&self, name: &ServerName) -> Option<&CertifiedKey> {
        self.by_name.get(name).map(AsRef::as_ref)
    }

    /// The one that is shown to who asks for `name`.
    fn shown_to(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let asked = ServerName::from_sni(name).ok();
        Arc::clone(asked.and_then(|name| self.by_name.get(&name)).unwrap_or(&self.first))
    }
}

/// Reads a chain and its key, and compares the two.
pub(crate) fn certified_key(certificate: &Path, private_key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, ServerError> {
    let (chain_file, key_file) = (certificate.display(), private_key.display());
    let read = |path: &Path| fs::read(path).map_err(|e| ServerError::io(&format!("cannot read {}", path.display()), &e));
    let chain = pem::certificates(&read(certificate)?).map_err(|e| ServerError::Config(format!("{chain_file}: {e}")))?;
    if is_for_everyone(private_key) {
        tracing::warn!("everyone on this machine can use {key_file}, the TLS private key: chmod o= {key_file}");
    }
    let key = pem::tls_key(&Zeroizing::new(read(private_key)?)).map_err(|e| ServerError::Config(format!("{key_file}: {e}")))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            ServerError::Config(format!("the private key in {key_file} does not belong to the certificate in {chain_file}"))
        }
        other => ServerError::Config(format!("{chain_file} with {key_file}: {other}")),
    })
}

/// Whether everyone on this machine may use a private key's file.
pub(crate) fn is_for_everyone(private_key: &Path) -> bool {
    fs::metadata(private_key).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o007 != 0)
}

/// What rustls asks at each handshake.
#[derive(Debug)]
pub(crate) struct Shown(Arc<ArcSwap<Certificates>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().shown_to(hello.server_name()))
    }
}

/// rustls' configuration, whose certificates are those that are in `certificates` at the time of a handshake.
pub(crate) fn server_config(
    policy: TlsPolicy,
    provider: Arc<CryptoProvider>,
    certificates: Arc<ArcSwap<Certificates>>,
) -> Result<ServerConfig, ServerError> {
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(policy.versions());
    let builder = builder.map_err(|e| ServerError::Other(format!("cannot set up TLS: {e}")))?;
    let mut tls = builder.with_no_client_auth().with_cert_resolver(Arc::new(Shown(certificates)));
    // One session ticket, not two: rustls keeps 256 sessions, so that twice as many clients can resume theirs, and each ticket takes the
    // server 2 % of a handshake.
    tls.send_tls13_tickets = 1;
    Ok(tls)
}
