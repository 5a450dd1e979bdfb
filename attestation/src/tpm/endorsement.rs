//! Certificates of endorsement keys (TCG EK Credential Profile): the manufacturer says that a key is in a TPM of its making.

use std::time::SystemTime;

use ekm_otp_files::pem::{self, PemError};
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::ext::pkix::ExtendedKeyUsage;

use super::key::PublicKey;
use crate::chain::{Chain, ChainError, Usage};
use crate::root::Root;

/// tcg-kp-EKCertificate
const EK_CERTIFICATE: &str = "2.23.133.8.1";

/// An endorsement key's certificate, not verified yet.
#[derive(Clone, Debug, PartialEq)]
pub struct EkCertificate {
    der: Vec<u8>,
    key: PublicKey,
    says_so: bool,
}

/// An endorsement key that its manufacturer has proven to be in a TPM. There is no other way to one than [`EkCertificate::verify`].
#[derive(Clone, Debug)]
pub struct EndorsementKey {
    key: PublicKey,
    root: Root,
}

impl EndorsementKey {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The root that its certificate leads to.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }
}

/// Why a certificate does not prove a key to be a TPM's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EkError {
    /// The file.
    #[error("{0}")]
    Pem(#[from] PemError),
    /// Not a certificate.
    #[error("it is no X.509 certificate: {0}")]
    Damaged(String),
    /// A key of another kind.
    #[error("the certificate's key is neither RSA nor on P-256 or P-384")]
    Key,
    /// Not for this.
    #[error("the certificate does not say that its key is an endorsement key (extended key usage 2.23.133.8.1)")]
    Usage,
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl EkCertificate {
    /// From PEM (the first of several), DER, or the bytes of an NV index (0x01c00002 and those after it), where manufacturers leave something behind the certificate.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, EkError> {
        let der = match pem::certificates(bytes) {
            Ok(all) => all.first().map(|der| der.to_vec()).unwrap_or_default(),
            Err(PemError::Der) => bytes.to_vec(),
            // A certificate in the short form of a length, or with padding: DER will tell.
            Err(PemError::None) if bytes.first() == Some(&0x30) => bytes.to_vec(),
            Err(e) => return Err(e.into()),
        };
        let damaged = |e: x509_cert::der::Error| EkError::Damaged(e.to_string());
        let mut reader = SliceReader::new(&der).map_err(damaged)?;
        let der = reader.tlv_bytes().map_err(damaged)?.to_vec();
        let certificate = x509_cert::Certificate::from_der(&der).map_err(damaged)?;
        let info = certificate.tbs_certificate().subject_public_key_info().to_der().map_err(damaged)?;
        let key = PublicKey::from_spki(&info).map_err(|_| EkError::Key)?;
        let usage = certificate.tbs_certificate().get_extension::<ExtendedKeyUsage>().map_err(damaged)?;
        let says_so = usage.is_some_and(|(_, usage)| usage.0.iter().any(|oid| oid.to_string() == EK_CERTIFICATE));
        Ok(Self { der, key, says_so })
    }

    /// The certificate, without what stood behind it.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The endorsement key, not proven yet.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether it says that its key is an endorsement key. Those of some virtual TPMs do not, Google Cloud's for one.
    #[must_use]
    pub fn says_so(&self) -> bool {
        self.says_so
    }

    /// The endorsement key, if these certificates (DER) lead from it to one of these roots at this time, and it says that it is one.
    ///
    /// # Errors
    /// When they do not.
    pub fn verify(&self, others: &[Vec<u8>], roots: &[Root], at: SystemTime) -> Result<EndorsementKey, EkError> {
        if !self.says_so {
            return Err(EkError::Usage);
        }
        self.verify_silent(others, roots, at)
    }

    /// The same, for roots whose certificates do not say what their keys are for, and are for nothing else.
    ///
    /// # Errors
    /// When they do not lead there.
    pub fn verify_silent(&self, others: &[Vec<u8>], roots: &[Root], at: SystemTime) -> Result<EndorsementKey, EkError> {
        let chain = Chain { leaf: &self.der, intermediates: others.iter().map(Vec::as_slice).collect() };
        Ok(EndorsementKey { key: self.key.clone(), root: chain.must_lead_to(roots, at, Usage::Endorsement)? })
    }
}
