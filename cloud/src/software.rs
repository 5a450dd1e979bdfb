//! Keys in this process's memory, for machines without a TPM. A heap dump holds them.

use std::fmt;

use ekm_otp_files::pem::{self, PemError};
use hmac::{Hmac, KeyInit as _, Mac as _};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::{KeyError, KeyFuture, MacKey, PublicKey, PublicKeyKind, SignatureAlgorithm, SigningKey};

/// A secret for HMAC-SHA256. Wiped when dropped.
pub struct SoftwareMac(Zeroizing<Vec<u8>>);

impl SoftwareMac {
    /// From its bytes.
    #[must_use]
    pub fn new(secret: Zeroizing<Vec<u8>>) -> Self {
        Self(secret)
    }
}

impl MacKey for SoftwareMac {
    fn mac<'a>(&'a self, input: &'a [u8]) -> KeyFuture<'a, Zeroizing<[u8; 32]>> {
        Box::pin(async move {
            let mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(KeyError::new)?;
            Ok(Zeroizing::new(mac.chain_update(input).finalize().into_bytes().into()))
        })
    }
}

impl fmt::Debug for SoftwareMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SoftwareMac(..)")
    }
}

/// A private key: RSA of 2048 bits or more, P-256 or P-384.
pub struct SoftwareSigner {
    key: PKey<Private>,
    public: PublicKey,
}

impl SoftwareSigner {
    /// From PEM: PKCS#8, PKCS#1 or SEC 1, not encrypted.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn from_pem(file: &[u8]) -> Result<Self, SoftwareKeyError> {
        let block = pem::private_key(file).map_err(SoftwareKeyError::Pem)?;
        let key = PKey::private_key_from_der(&block.bytes).map_err(|_| SoftwareKeyError::Algorithm)?;
        let public = key.public_key_to_der().ok().and_then(|der| PublicKey::from_der(&der)).ok_or(SoftwareKeyError::Algorithm)?;
        if public.kind() == PublicKeyKind::Rsa && key.bits() < 2048 {
            return Err(SoftwareKeyError::Algorithm);
        }
        Ok(Self { key, public })
    }

    fn signature(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let mut signer = Signer::new(algorithm.digest(), &self.key)?;
        if algorithm == SignatureAlgorithm::RsaPssSha256 {
            signer.set_rsa_padding(Padding::PKCS1_PSS)?;
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
        }
        signer.sign_oneshot_to_vec(message)
    }
}

impl SigningKey for SoftwareSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn allows(&self, algorithm: SignatureAlgorithm) -> bool {
        let is_for_rsa = matches!(algorithm, SignatureAlgorithm::RsaSsaSha256 | SignatureAlgorithm::RsaPssSha256);
        is_for_rsa == (self.public.kind() == PublicKeyKind::Rsa)
    }

    fn sign_unverified<'a>(&'a self, algorithm: SignatureAlgorithm, message: &'a [u8]) -> KeyFuture<'a, Vec<u8>> {
        Box::pin(async move {
            if !self.allows(algorithm) {
                return Err(KeyError::new("the key does not sign so"));
            }
            self.signature(algorithm, message).map_err(KeyError::new)
        })
    }
}

impl fmt::Debug for SoftwareSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwareSigner").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Why a file holds no private key that signs. Shows nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SoftwareKeyError {
    /// No PEM file, or one without a private key.
    #[error(transparent)]
    Pem(PemError),
    /// Damaged, or of another algorithm.
    #[error("it is damaged, or neither RSA of 2048 bits or more nor P-256 nor P-384")]
    Algorithm,
}
