//! Quotes: what a TPM's attestation key has signed of its registers, verified.

use std::time::SystemTime;

use x509_cert::der::{Decode as _, Encode as _};

use super::attest::Attest;
use super::hash::Hash;
use super::key::PublicKey;
use super::pcr::PcrValues;
use super::public::PublicArea;
use super::signature::{Scheme, Signature};
use crate::chain::{Chain, ChainError, Usage};
use crate::root::Root;
use crate::same::same;

/// The key that a quote has to be signed by, and why that is believed to be in a TPM.
#[derive(Clone, Debug)]
pub struct AttestationKey {
    key: PublicKey,
    scheme: Option<(Scheme, Hash)>,
    name: Option<Vec<u8>>,
    root: Option<Root>,
}

/// Why there is nothing that could be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// The public area is of another key.
    #[error(
        "the key is no attestation key (fixedtpm, fixedparent, sensitivedataorigin, restricted, sign): what it signs need not come from a TPM"
    )]
    NotAttestation,
    /// The certificate has a key of another kind.
    #[error("the attestation key's certificate has a key that is neither RSA nor on P-256 or P-384")]
    Key,
    /// The certificate's chain.
    #[error("the attestation key's certificate: {0}")]
    Chain(#[from] ChainError),
}

impl AttestationKey {
    /// A key by its public area, which says that it is an attestation key. That the area is of a real TPM, the caller knows: from a credential that was
    /// activated (see [`make_credential`](super::make_credential)), say.
    ///
    /// # Errors
    /// When it is no restricted signing key of a TPM's own.
    pub fn from_area(area: &PublicArea) -> Result<Self, QuoteError> {
        if !area.is_attestation_key() {
            return Err(QuoteError::NotAttestation);
        }
        Ok(Self { key: area.key().clone(), scheme: area.scheme(), name: Some(area.name()), root: None })
    }

    /// A key alone. That it is an attestation key in a real TPM, the caller knows.
    #[must_use]
    pub fn from_key(key: PublicKey) -> Self {
        Self { key, scheme: None, name: None, root: None }
    }

    /// A key by its certificate (DER), from which others lead to one of these roots, at this time.
    ///
    /// # Errors
    /// When they do not.
    pub fn from_certificate(leaf: &[u8], others: &[Vec<u8>], roots: &[Root], at: SystemTime) -> Result<Self, QuoteError> {
        let root = Chain { leaf, intermediates: others.iter().map(Vec::as_slice).collect() }.must_lead_to(roots, at, Usage::Attestation)?;
        let certificate = x509_cert::Certificate::from_der(leaf).map_err(|_| QuoteError::Key)?;
        let info = certificate.tbs_certificate().subject_public_key_info().to_der().map_err(|_| QuoteError::Key)?;
        let key = PublicKey::from_spki(&info).map_err(|_| QuoteError::Key)?;
        Ok(Self { key, scheme: None, name: None, root: Some(root) })
    }

    /// The same key, with what is known of it from two sides: its public area, say, and its certificate. `None` where they are different keys.
    #[must_use]
    pub fn and(self, other: Self) -> Option<Self> {
        let is_same = self.key == other.key;
        let Self { key, scheme, name, root } = self;
        is_same.then(|| Self { key, scheme: scheme.or(other.scheme), name: name.or(other.name), root: root.or(other.root) })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Its name, where its public area is known.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }

    /// The scheme that it signs with, where that is known.
    #[must_use]
    pub fn scheme(&self) -> Option<(Scheme, Hash)> {
        self.scheme
    }

    /// The root that its certificate leads to; `None` where it is believed without.
    #[must_use]
    pub fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }
}

/// A quote and its signature, not proven yet.
#[derive(Clone, Debug)]
pub struct Quote {
    /// What is signed.
    pub attest: Attest,
    /// By whom, the key tells.
    pub signature: Signature,
}

/// What a quote has to show.
#[derive(Clone, Debug)]
pub struct QuoteExpected {
    key: AttestationKey,
    nonce: Option<Vec<u8>>,
    values: Option<PcrValues>,
    pcrs: PcrValues,
}

impl QuoteExpected {
    /// That this key has signed it.
    #[must_use]
    pub fn by(key: AttestationKey) -> Self {
        Self { key, nonce: None, values: None, pcrs: PcrValues::new() }
    }

    /// And this nonce; without it the quote may be an old one.
    #[must_use]
    pub fn nonce(self, nonce: &[u8]) -> Self {
        Self { nonce: Some(nonce.to_vec()), ..self }
    }

    /// And that these are the values of the registers that it quotes. Others that are given are not proven by it, and not in what is verified.
    #[must_use]
    pub fn values(self, values: PcrValues) -> Self {
        Self { values: Some(values), ..self }
    }

    /// And that these registers are quoted with these values.
    #[must_use]
    pub fn pcrs(self, pcrs: PcrValues) -> Self {
        Self { pcrs, ..self }
    }
}

/// A quote that has been proven. There is no other way to one than [`Quote::verify`].
#[derive(Clone, Debug)]
pub struct VerifiedQuote {
    attest: Attest,
    key: AttestationKey,
    values: Option<PcrValues>,
}

impl VerifiedQuote {
    /// What was signed.
    #[must_use]
    pub fn attest(&self) -> &Attest {
        &self.attest
    }

    /// The key that has signed it.
    #[must_use]
    pub fn key(&self) -> &AttestationKey {
        &self.key
    }

    /// The values of the registers that are quoted, and of no others; `None` where none were given.
    #[must_use]
    pub fn values(&self) -> Option<&PcrValues> {
        self.values.as_ref()
    }
}

/// Why a quote proves nothing of what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteNotProven {
    /// Another scheme than the key's own.
    #[error("it is signed with another scheme or hash than the attestation key has")]
    Scheme,
    /// The signature.
    #[error("its signature is wrong: it was changed after it was signed, or signed by another key")]
    Signature,
    /// The nonce.
    #[error("its nonce is another one, or missing: it was made for somebody else, or before")]
    Nonce,
    /// No value for a register.
    #[error("the register {0}:{1} is quoted, and its value is not given")]
    Missing(Hash, u8),
    /// The values.
    #[error("the values of the registers that are given are not those that are quoted")]
    Digest,
    /// A register is expected, and not quoted.
    #[error("the register {0}:{1} is expected, and the quote says nothing of it")]
    NotQuoted(Hash, u8),
    /// A register is expected, and no values are given.
    #[error("registers are expected, and a quote has the digest of their values alone: the values have to be given, too")]
    NoValues,
    /// Registers have other values.
    #[error("the register {} has another value than expected", .0.iter().map(|(bank, register)| format!("{bank}:{register}")).collect::<Vec<_>>().join(", "))]
    Pcrs(Vec<(Hash, u8)>),
}

impl Quote {
    /// Verifies it.
    ///
    /// # Errors
    /// When something is not as expected.
    pub fn verify(self, expected: &QuoteExpected) -> Result<VerifiedQuote, QuoteNotProven> {
        let Self { attest, signature } = self;
        let used = (signature.scheme(), signature.hash());
        if expected.key.scheme.is_some_and(|scheme| scheme != used) {
            return Err(QuoteNotProven::Scheme);
        }
        if !signature.is_right(&expected.key.key, attest.as_bytes()) {
            return Err(QuoteNotProven::Signature);
        }
        if expected.nonce.as_ref().is_some_and(|nonce| !same(attest.extra_data(), nonce)) {
            return Err(QuoteNotProven::Nonce);
        }
        let values = match &expected.values {
            None => None,
            Some(given) => {
                let of_quoted = given.digest_of(attest.selected(), signature.hash());
                let (values, digest) = of_quoted.map_err(|(bank, register)| QuoteNotProven::Missing(bank, register))?;
                if !same(attest.digest(), &digest) {
                    return Err(QuoteNotProven::Digest);
                }
                Some(values)
            }
        };
        let mut others = Vec::new();
        for (bank, register, wanted) in expected.pcrs.iter() {
            let values = values.as_ref().ok_or(QuoteNotProven::NoValues)?;
            let value = values.get(bank, register).ok_or(QuoteNotProven::NotQuoted(bank, register))?;
            if !same(value, wanted) {
                others.push((bank, register));
            }
        }
        if others.is_empty() { Ok(VerifiedQuote { attest, key: expected.key.clone(), values }) } else { Err(QuoteNotProven::Pcrs(others)) }
    }
}
