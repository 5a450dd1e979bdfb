//! The server's certificate and its private key: read, checked, and replaced while connections go on.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ekm_otp_files::pem;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::error::LoadError;

/// Where the certificate is.
pub(super) enum Identity {
    Files { chain: PathBuf, key: PathBuf },
    Der(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    std::fs::read(path).map(Zeroizing::new).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// Reads both files.
pub(super) fn from_files(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, LoadError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Pem { path, source }
    };
    let certificates = pem::certificates(&read(chain)?).map_err(pem(chain))?;
    if std::fs::metadata(key).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o007 != 0) {
        tracing::warn!("everyone on this machine can use {0}, the TLS private key: chmod o= {0}", key.display());
    }
    let private_key = pem::tls_key(&read(key)?).map_err(pem(key))?;
    from_der(certificates, private_key, provider)
}

pub(super) fn from_der(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, LoadError> {
    CertifiedKey::from_der(chain, key, provider).map_err(LoadError::Certificate)
}

/// A certificate for other names is found out now, not by the first client.
pub(super) fn must_be_for(names: &[String], certified: &CertifiedKey) -> Result<(), LoadError> {
    let own = certified.end_entity_cert().map_err(LoadError::Certificate)?;
    let own = ParsedCertificate::try_from(own).map_err(LoadError::Certificate)?;
    for name in names {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_named = ServerName::try_from(bare).is_ok_and(|name| verify_server_name(&own, &name).is_ok());
        if !is_named {
            return Err(LoadError::OtherName { name: name.clone() });
        }
    }
    Ok(())
}

/// Gives each handshake the certificate that is the newest.
pub(super) struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    pub(super) fn new(certified: CertifiedKey) -> Self {
        Self(RwLock::new(Arc::new(certified)))
    }

    /// Whether it is another one than before.
    pub(super) fn replace(&self, certified: CertifiedKey) -> bool {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = current.cert != certified.cert;
        *current = Arc::new(certified);
        is_other
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current(..)")
    }
}
