//! Certificates (RFC 5280) that go with a key: the key's own, and those that lead from it to a root.

use std::time::SystemTime;

use ekm_otp_files::pem::{self, PemError};
use openssl::bn::BigNum;
use openssl::x509::X509;
use sha2::{Digest as _, Sha256};
use x509_cert::der::{Decode as _, Encode as _};

use crate::key::PublicKey;
use crate::utc;

/// The key's own certificate first, then what leads from it to a root.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The key's own.
    pub leaf: Certificate,
    /// Each issued by the next, the first of them the leaf's issuer; may be empty.
    pub chain: Vec<Certificate>,
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
}

impl Certificates {
    /// From the bytes of a file: PEM with the key's own certificate first, or one certificate in DER. Other blocks, such as a private key, are not
    /// looked at.
    ///
    /// # Errors
    /// When there is no certificate, or one that is damaged.
    pub fn read(file: &[u8]) -> Result<Self, CertificateError> {
        let mut all = Certificate::read_all(file)?.into_iter();
        let leaf = all.next().ok_or(CertificateError::Damaged)?;
        Self::sorted(leaf, all.collect())
    }

    /// The same, with more of those that lead to a root.
    ///
    /// # Errors
    /// When one of them does not.
    pub fn with_intermediates(self, more: Vec<Certificate>) -> Result<Self, CertificateError> {
        Self::sorted(self.leaf, [self.chain, more].concat())
    }

    /// In the order in which one issues the other. Roots are left out: whoever verifies has them, or does not believe them. So are the others of a CA
    /// that has several certificates, for a key that it had before or will have: of two for the same key the first is taken.
    fn sorted(leaf: Certificate, mut others: Vec<Certificate>) -> Result<Self, CertificateError> {
        others.retain(|certificate| certificate.issuer() != certificate.subject() && certificate.der != leaf.der);
        let mut chain: Vec<Certificate> = Vec::new();
        loop {
            let last = chain.last().unwrap_or(&leaf);
            let Some(next) = others.iter().position(|other| last.is_issued_by(other)) else { break };
            chain.push(others.remove(next));
        }
        others.retain(|other| chain.iter().all(|known| known.subject() != other.subject()));
        match others.first() {
            Some(stray) => Err(CertificateError::Stray(stray.subject())),
            None => Ok(Self { leaf, chain }),
        }
    }
}

impl Certificate {
    /// All that a file holds, PEM or DER, in its order.
    ///
    /// # Errors
    /// When there is none, or one that is damaged.
    pub fn read_all(file: &[u8]) -> Result<Vec<Self>, CertificateError> {
        // A SEQUENCE (X.690 §8.9) of more than 127 bytes.
        if file.starts_with(&[0x30, 0x82]) {
            return Self::from_der(file).map(|certificate| vec![certificate]);
        }
        pem::certificates(file).map_err(CertificateError::Pem)?.iter().map(|der| Self::from_der(der)).collect()
    }

    /// From DER.
    ///
    /// # Errors
    /// When it is damaged, or something follows it.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| CertificateError::Damaged)?;
        Ok(Self { der: der.to_vec(), parsed })
    }

    /// In DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The public key that it certifies. `None` for what is neither RSA nor P-256 nor P-384.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        PublicKey::from_der(&self.parsed.tbs_certificate().subject_public_key_info().to_der().ok()?)
    }

    /// The serial number's bytes, big-endian, without the sign's zero.
    fn serial(&self) -> &[u8] {
        let bytes = self.parsed.tbs_certificate().serial_number().as_bytes();
        match bytes {
            [0, rest @ ..] if !rest.is_empty() => rest,
            bytes => bytes,
        }
    }

    /// Whether it names the other's subject, and is signed by the other's key.
    fn is_issued_by(&self, issuer: &Self) -> bool {
        let is_signed = || X509::from_der(&self.der)?.verify(&*X509::from_der(&issuer.der)?.public_key()?);
        self.issuer() == issuer.subject() && is_signed().unwrap_or(false)
    }

    /// Whether it certifies this key.
    ///
    /// # Errors
    /// When it does not.
    pub fn must_certify(&self, key: &PublicKey) -> Result<(), CertificateError> {
        if self.public_key().as_ref() == Some(key) { Ok(()) } else { Err(CertificateError::OtherKey(self.subject())) }
    }

    /// Whether it is valid at this time.
    ///
    /// # Errors
    /// When it is not yet, or not any more.
    pub fn must_be_valid(&self, at: SystemTime) -> Result<(), CertificateError> {
        let (from, to) = self.validity();
        match () {
            () if at < from => Err(CertificateError::NotYetValid(utc(from))),
            () if at > to => Err(CertificateError::Expired(utc(to))),
            () => Ok(()),
        }
    }

    /// From when to when it is valid.
    #[must_use]
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        let validity = self.parsed.tbs_certificate().validity();
        (SystemTime::UNIX_EPOCH + validity.not_before.to_unix_duration(), SystemTime::UNIX_EPOCH + validity.not_after.to_unix_duration())
    }

    /// The serial number, in decimal digits.
    #[must_use]
    pub fn serial_text(&self) -> String {
        let text = BigNum::from_slice(self.serial()).and_then(|serial| serial.to_dec_str());
        text.map_or_else(|_| String::new(), |text| text.to_string())
    }

    /// From when to when it is valid, as RFC 3339 writes times.
    #[must_use]
    pub fn validity_text(&self) -> (String, String) {
        let (from, to) = self.validity();
        (utc(from), utc(to))
    }

    /// SHA-256 of the DER: `x5t#S256` (RFC 7515 §4.1.8).
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The subject, as RFC 4514 writes names.
    #[must_use]
    pub fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// The issuer, as RFC 4514 writes names.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.parsed.tbs_certificate().issuer().to_string()
    }
}

/// Why a file holds no certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No PEM file, or one without a certificate.
    #[error(transparent)]
    Pem(PemError),
    /// Not the structure of a certificate.
    #[error("a certificate is damaged")]
    Damaged,
    /// One that issued none of the others.
    #[error(
        "the certificate of {0:?} does not lead from the key's own to a root: the key's own comes first, and each other issued one of them"
    )]
    Stray(String),
    /// It certifies another key.
    #[error("the certificate of {0:?} certifies another key than this one")]
    OtherKey(String),
    /// It is valid from this time on.
    #[error("the certificate is not valid before {0}: is the clock of this machine right?")]
    NotYetValid(String),
    /// It was valid until this time.
    #[error("the certificate expired at {0}: have a new one issued for the same key")]
    Expired(String),
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn parameters(name: &str, is_ca: bool) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
        parameters
    }

    #[test]
    fn of_a_ca_with_two_keys_the_certificate_of_the_one_that_signed_is_taken() {
        let key = || KeyPair::generate().expect("a key");
        let (root_key, old_key, new_key) = (key(), key(), key());
        let root = Issuer::new(parameters("root", true), root_key);
        let issued = |key: &KeyPair| parameters("intermediate", true).signed_by(key, &root).expect("a certificate").pem();
        let (old, new) = (issued(&old_key), issued(&new_key));
        let leaf = parameters("leaf", false).signed_by(&key(), &Issuer::new(parameters("intermediate", true), new_key)).expect("it").pem();
        let der = |pem: &str| Certificate::read_all(pem.as_bytes()).expect("a certificate").remove(0).der;
        for file in [[leaf.as_str(), &old, &new].concat(), [leaf.as_str(), &new, &old, &new].concat()] {
            let read = Certificates::read(file.as_bytes()).expect("certificates");
            assert_eq!((read.leaf.der, read.chain.iter().map(|one| one.der.clone()).collect::<Vec<_>>()), (der(&leaf), vec![der(&new)]));
        }
        // Of the other key alone nothing leads from the leaf.
        let stray = Certificates::read([leaf.as_str(), &old].concat().as_bytes());
        assert_eq!(stray.map(|read| read.chain.len()), Err(CertificateError::Stray("CN=intermediate".into())));
    }
}
