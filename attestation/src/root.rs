//! Roots that chains are believed to end in: pinned, or given by the caller.

use std::fmt;

use ekm_otp_files::pem::{self, PemError};
use x509_cert::der::Decode as _;

use crate::hex::hex;

/// The root of AWS's Nitro attestation (`AWS_NitroEnclaves_Root-G1`), for enclaves and NitroTPM alike.
const AWS_NITRO: &[u8] = include_bytes!("root/aws-nitro-root.pem");
/// The root of the endorsement and attestation keys in Google Cloud's virtual TPMs.
const GOOGLE_CLOUD: &[u8] = include_bytes!("root/gcp-ekak-root.pem");

/// A certificate that is believed because it is this one.
#[derive(Clone, PartialEq, Eq)]
pub struct Root {
    der: Vec<u8>,
}

/// Why bytes are no root certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The file.
    #[error("{0}")]
    Pem(#[from] PemError),
    /// The certificate.
    #[error("the root is no X.509 certificate: {0}")]
    Certificate(String),
}

impl Root {
    /// AWS's root of Nitro attestation, as AWS publishes it; SHA-256 `641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b`.
    #[must_use]
    pub fn aws_nitro() -> Self {
        Self::pinned(AWS_NITRO)
    }

    /// Google's root of the keys in Google Cloud's virtual TPMs.
    #[must_use]
    pub fn google_cloud() -> Self {
        Self::pinned(GOOGLE_CLOUD)
    }

    /// A pin that could not be read would be a root that nothing leads to.
    fn pinned(pem: &[u8]) -> Self {
        Self { der: Self::read_all(pem).ok().and_then(|roots| roots.into_iter().next()).map(|root| root.der).unwrap_or_default() }
    }

    /// From DER.
    ///
    /// # Errors
    /// When it is no certificate, or something follows it.
    pub fn from_der(der: &[u8]) -> Result<Self, RootError> {
        x509_cert::Certificate::from_der(der).map_err(|e| RootError::Certificate(e.to_string()))?;
        Ok(Self { der: der.to_vec() })
    }

    /// All of a file: PEM, or one in DER.
    ///
    /// # Errors
    /// When there is none, or one that is damaged.
    pub fn read_all(file: &[u8]) -> Result<Vec<Self>, RootError> {
        match pem::certificates(file) {
            Ok(all) => all.iter().map(|der| Self::from_der(der)).collect(),
            Err(PemError::Der) => Self::from_der(file).map(|root| vec![root]),
            Err(e) => Err(e.into()),
        }
    }

    /// In DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Its subject and the SHA-256 of its DER.
    #[must_use]
    pub fn describe(&self) -> String {
        let subject = x509_cert::Certificate::from_der(&self.der).map(|root| root.tbs_certificate().subject().to_string());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        format!("{} (SHA-256 {})", subject.unwrap_or_default(), hex(digest.as_ref()))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.describe()).finish()
    }
}
