//! What a client's builder is given, checked and read: the origin, files with certificates and secrets.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ekm_otp::{Authority, AuthorityError, KeyIdError, Secret, SecretError, TlsPolicy};
use ekm_otp_files::pem::{self, PemError};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The origin is none.
    #[error("{origin}: write the origin as https://HOST[:PORT]{why}")]
    Origin {
        /// What was given.
        origin: String,
        /// What is wrong, where it is not its form.
        why: String,
    },
    /// The key id is none.
    #[error("the key id: {0}")]
    Kid(#[from] KeyIdError),
    /// No key id was given.
    #[error("no key id: name it with kid()")]
    NoKid,
    /// No key was given.
    #[error("no key: give one with key_file(), tpm_key(), secret(), secret_file() or signer()")]
    NoKey,
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Others can read a secret.
    #[error("{path} holds a secret, and others can read it: {why}", path = path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Who, and what to do.
        why: String,
    },
    /// A file with a secret does not hold one.
    #[error("{path}: {source}", path = path.display())]
    Secret {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: SecretError,
    },
    /// A file with certificates does not hold any.
    #[error("{path}: {source}", path = path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: PemError,
    },
    /// A certificate is none.
    #[error("a trusted certificate is not usable: {0}")]
    Certificate(rustls::Error),
    /// Nobody is trusted.
    #[error("no trusted certificate: name the server's CA with ca_file() or roots(), or install ca-certificates")]
    NoRoots,
    /// The TLS configuration contradicts the policy.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The key file is none, or the TPM cannot be used.
    #[cfg(feature = "tpm")]
    #[error("{path}: {source}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The Go original's servers prove nothing.
    #[cfg(feature = "jose")]
    #[error("in the profile go the server proves nothing: mutual(Mutual::Require) cannot be fulfilled")]
    GoProvesNothing,
}

pub(super) fn origin_of(text: &str) -> Result<Authority, BuildError> {
    let bad = |why: String| BuildError::Origin { origin: text.to_owned(), why };
    let uri: http::Uri = text.parse().map_err(|_| bad(String::new()))?;
    let authority = uri.authority().ok_or_else(|| bad(String::new()))?;
    if uri.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return Err(bad(" (a credential never travels without TLS)".into()));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(bad(" (without a path: that is each request's)".into()));
    }
    Authority::parse(authority.as_str()).map_err(|error: AuthorityError| bad(format!(" ({error})")))
}

pub(super) fn trusting(roots: Option<RootCertStore>, policy: TlsPolicy) -> Result<ClientConfig, BuildError> {
    let roots = roots.unwrap_or_else(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    if roots.is_empty() {
        return Err(BuildError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(policy.versions())
        .map_err(BuildError::Tls)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

pub(super) fn secret_of(path: &Path) -> Result<Secret, BuildError> {
    /// Longer files are none.
    const LIMIT: u64 = 4096;
    let unread = |source| BuildError::File { path: path.to_owned(), source };
    let bad = |source| BuildError::Secret { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unread)?;
    if let Err(exposed) = ekm_otp_files::must_be_private(&file).map_err(unread)? {
        let advice = exposed.advice(&path.display().to_string());
        return Err(BuildError::Exposed { path: path.to_owned(), why: format!("{exposed} ({advice})") });
    }
    // With its final capacity at once: one that grows leaves pieces of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(LIMIT as usize + 1));
    file.take(LIMIT + 1).read_to_string(&mut text).map_err(unread)?;
    let mut word = Zeroizing::new(String::with_capacity(text.len()));
    word.extend(text.chars().filter(|c| !c.is_ascii_whitespace()));
    Secret::new(Secret::decode_base64(&word).map_err(bad)?).map_err(bad)
}

pub(super) fn certificates_of(path: &Path) -> Result<RootCertStore, BuildError> {
    let file = std::fs::read(path).map_err(|source| BuildError::File { path: path.to_owned(), source })?;
    let certificates = pem::certificates(&file).map_err(|source| BuildError::Pem { path: path.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(BuildError::Certificate)?;
    }
    Ok(roots)
}
