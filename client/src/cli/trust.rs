//! Which certificates are trusted.

use std::path::Path;

use ekm_otp::TlsPolicy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};

use super::CliError;

/// The roots in `ca`, or the system's.
pub(crate) fn client_config(ca: Option<&Path>, policy: &TlsPolicy) -> Result<ClientConfig, CliError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let certificates =
                CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|e| match e {
                    pem::Error::Io(e) => CliError::io("read", path, &e),
                    other => CliError::Usage(format!("--ca {}: {other}", path.display())),
                })?;
            if certificates.is_empty() {
                return Err(CliError::Usage(format!("--ca {}: the file holds no certificate (PEM)", path.display())));
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|e| CliError::Usage(format!("--ca {}: {e}", path.display())))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(CliError::Usage("no trusted certificate: name the server's CA with --ca FILE, or install ca-certificates".into()));
    }
    let config = ClientConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(policy.versions())
        .map_err(|e| CliError::Other(e.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
