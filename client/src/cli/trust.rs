//! Which certificates are trusted.

use std::path::Path;

use ekm_otp::TlsPolicy;
use ekm_otp_files::pem;
use rustls::{ClientConfig, RootCertStore};

use super::error::CliError;
use super::shown::shown;

/// The roots in `ca`, or the system's.
pub(crate) fn client_config(ca: Option<&Path>, policy: &TlsPolicy) -> Result<ClientConfig, CliError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let file = std::fs::read(path).map_err(|e| CliError::io("read", path, &e))?;
            let certificates = pem::certificates(&file).map_err(|e| CliError::Usage(format!("--ca {}: {e}", shown(path))))?;
            for certificate in certificates {
                roots.add(certificate).map_err(|e| CliError::Usage(format!("--ca {}: {e}", shown(path))))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    config_of(roots, policy)
}

/// The same of these roots.
pub(crate) fn config_of(roots: RootCertStore, policy: &TlsPolicy) -> Result<ClientConfig, CliError> {
    if roots.is_empty() {
        return Err(CliError::Usage("no trusted certificate: name the server's CA with --ca FILE, or install ca-certificates".into()));
    }
    let config = ClientConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(policy.versions())
        .map_err(|e| CliError::Other(e.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
