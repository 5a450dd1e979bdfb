//! What a cloud's credentials are made from: a MAC, or a signature, of somebody who holds the key.

use std::error::Error;
use std::fmt;
use std::pin::Pin;

use ekm_otp_files::pem;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Verifier};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

/// What a key answers with, some time.
pub type KeyFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeyError>> + Send + 'a>>;

/// A key for HMAC-SHA256 (RFC 2104).
pub trait MacKey: Send + Sync {
    /// The MAC of `input`, which has at most 1024 bytes: one TPM2_HMAC.
    fn mac<'a>(&'a self, input: &'a [u8]) -> KeyFuture<'a, Zeroizing<[u8; 32]>>;
}

/// A private key that signs.
pub trait SigningKey: Send + Sync {
    /// Its public half.
    fn public_key(&self) -> &PublicKey;

    /// Whether it signs so: keys in a TPM may be made for one scheme and hash.
    fn allows(&self, algorithm: SignatureAlgorithm) -> bool;

    /// The signature of `message`. [`sign`] asks for it, and verifies it.
    fn sign_unverified<'a>(&'a self, algorithm: SignatureAlgorithm, message: &'a [u8]) -> KeyFuture<'a, Vec<u8>>;
}

/// How a message is hashed and signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §8.2).
    RsaSsaSha256,
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256 and 32 bytes of salt (RFC 8017 §8.1, RFC 7518 §3.5).
    RsaPssSha256,
    /// ECDSA with SHA-256 (FIPS 186-5), as `SEQUENCE { r, s }` in DER (RFC 3279 §2.2.3).
    EcdsaSha256,
    /// ECDSA with SHA-384, in DER.
    EcdsaSha384,
}

/// The kinds of public key that the clouds take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyKind {
    /// RSA, of 2048 to 8192 bits.
    Rsa,
    /// ECC, NIST P-256.
    P256,
    /// ECC, NIST P-384.
    P384,
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: PublicKeyKind,
    der: Vec<u8>,
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

impl PublicKey {
    /// From DER (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7). `None` for what is neither RSA nor P-256 nor P-384.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
        let kind = match (info.algorithm.oid, info.algorithm.parameters_oid().ok()) {
            (RSA_ENCRYPTION, _) => PublicKeyKind::Rsa,
            (EC_PUBLIC_KEY, Some(SECP256R1)) => PublicKeyKind::P256,
            (EC_PUBLIC_KEY, Some(SECP384R1)) => PublicKeyKind::P384,
            _ => return None,
        };
        Some(Self { kind, der: info.to_der().ok()? })
    }

    /// From PEM (`PUBLIC KEY`).
    #[must_use]
    pub fn from_pem(text: &str) -> Option<Self> {
        let blocks = pem::blocks(text.as_bytes()).ok()?;
        blocks.iter().find(|block| block.label == "PUBLIC KEY").and_then(|block| Self::from_der(&block.bytes))
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> PublicKeyKind {
        self.kind
    }

    /// SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Whether this is a signature of `message` by the private half.
    #[must_use]
    pub fn verifies(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let fits = match algorithm {
            SignatureAlgorithm::RsaSsaSha256 | SignatureAlgorithm::RsaPssSha256 => self.kind == PublicKeyKind::Rsa,
            SignatureAlgorithm::EcdsaSha256 | SignatureAlgorithm::EcdsaSha384 => self.kind != PublicKeyKind::Rsa,
        };
        fits && self.openssl_verifies(algorithm, message, signature).unwrap_or(false)
    }

    fn openssl_verifies(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
        let key = PKey::public_key_from_der(&self.der)?;
        let mut verifier = Verifier::new(algorithm.digest(), &key)?;
        if algorithm == SignatureAlgorithm::RsaPssSha256 {
            verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
            // Not whatever the signature says: the clouds take this one only.
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
        }
        verifier.verify_oneshot(signature, message)
    }
}

impl SignatureAlgorithm {
    pub(crate) fn digest(self) -> MessageDigest {
        match self {
            Self::RsaSsaSha256 | Self::RsaPssSha256 | Self::EcdsaSha256 => MessageDigest::sha256(),
            Self::EcdsaSha384 => MessageDigest::sha384(),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A signature that is the key's: what comes from elsewhere, or with another length of salt, is no answer.
///
/// # Errors
/// When the key does not answer, or not with a signature of its own.
pub async fn sign(key: &dyn SigningKey, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let signature = key.sign_unverified(algorithm, message).await?;
    if key.public_key().verifies(algorithm, message, &signature) { Ok(signature) } else { Err(KeyError::Unverified) }
}

/// Why there is no signature, or no MAC.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// In the words of whoever holds the key.
    #[error(transparent)]
    Holder(Box<dyn Error + Send + Sync>),
    /// What the key answered is no signature of its own: somebody else answered, or, for RSASSA-PSS, the salt has another length than the clouds take.
    #[error("the key answered with a signature that its public half does not verify")]
    Unverified,
}

impl KeyError {
    /// From the error of whoever holds the key.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Holder(error.into())
    }
}
