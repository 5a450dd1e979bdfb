//! TLS towards upstreams: whom to believe, and what to show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekm_otp_files::pem;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::target::Protocol;
use crate::error::ServerError;

/// Files for TLS to upstreams.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// Certificates that alone are believed; else those that the system believes.
    pub(super) ca: Option<PathBuf>,
    /// Certificate chain and key that are shown.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// What connects, by what may be spoken.
#[derive(Clone)]
pub(crate) struct ClientTls {
    /// As the upstream's protocol has it.
    pub(super) usual: TlsConnector,
    /// HTTP/1.1, for upgrades.
    pub(super) http1: TlsConnector,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls(..)")
    }
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

impl ClientTls {
    /// Reads the files.
    pub(super) fn read(files: &TlsFiles, protocol: Protocol) -> Result<Self, ServerError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| ServerError::Other(format!("TLS to upstreams: {e}")))?
            .with_root_certificates(roots(files.ca.as_deref())?);
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((chain_file, key_file)) => {
                let (shown_chain, shown_key) = (chain_file.display(), key_file.display());
                let chain = pem::certificates(&read(chain_file)?).map_err(|e| ServerError::Config(format!("{shown_chain}: {e}")))?;
                let key = pem::tls_key(&Zeroizing::new(read(key_file)?)).map_err(|e| ServerError::Config(format!("{shown_key}: {e}")))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| {
                    ServerError::Config(format!(
                        "{shown_chain} with {shown_key}: {e}; upstream_private_key must be the key of upstream_certificate"
                    ))
                })?
            }
        };
        let mut connector = |protocols: &[&[u8]]| {
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config.clone()))
        };
        let usual = match protocol {
            Protocol::Auto => connector(&[HTTP2, HTTP1]),
            Protocol::H1 => connector(&[HTTP1]),
            Protocol::H2 => connector(&[HTTP2]),
        };
        Ok(Self { usual, http1: connector(&[HTTP1]) })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ServerError> {
    std::fs::read(path).map_err(|e| ServerError::io(&format!("cannot read {}", path.display()), &e))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, ServerError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return if roots.is_empty() {
            Err(ServerError::Config(
                "upstream_ca is missing, and this system has no certificates of its own: name the upstream's CA".into(),
            ))
        } else {
            Ok(roots)
        };
    };
    for certificate in pem::certificates(&read(path)?).map_err(|e| ServerError::Config(format!("{}: {e}", path.display())))? {
        roots.add(certificate).map_err(|e| ServerError::Config(format!("{}: {e}", path.display())))?;
    }
    Ok(roots)
}
