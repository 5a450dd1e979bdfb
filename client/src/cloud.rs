//! Keys in the TPM for [`ekm_otp_cloud`].

use ekm_otp_cloud::{KeyError, KeyFuture, MacKey, PublicKey, SignatureAlgorithm, SigningKey};
use ekm_otp_tpm::{DigestAlgorithm, SignatureScheme, TpmError, TpmKey};
use sha2::{Digest as _, Sha256, Sha384};
use zeroize::Zeroizing;

/// An HMAC key in the TPM.
#[derive(Debug)]
pub struct TpmMac(pub TpmKey);

impl MacKey for TpmMac {
    fn mac<'a>(&'a self, input: &'a [u8]) -> KeyFuture<'a, Zeroizing<[u8; 32]>> {
        Box::pin(async move { self.0.hmac(input).await.map_err(KeyError::new) })
    }
}

/// An RSA or ECC key in the TPM, loaded.
#[derive(Debug)]
pub struct TpmSigner {
    key: TpmKey,
    public: PublicKey,
    allowed: Vec<SignatureAlgorithm>,
}

impl TpmSigner {
    /// Loads it, and asks what it can do.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`TpmError::NotForThis`] for a key that signs nothing.
    pub async fn new(key: TpmKey) -> Result<Self, TpmError> {
        let pem = key.public_pem().await?;
        let unknown = || TpmError::NotForThis { kind: "a key of this algorithm".into(), operation: "sign for a cloud" };
        let public = PublicKey::from_pem(&pem).ok_or_else(unknown)?;
        let mut allowed = Vec::new();
        for algorithm in [
            SignatureAlgorithm::RsaSsaSha256,
            SignatureAlgorithm::RsaPssSha256,
            SignatureAlgorithm::EcdsaSha256,
            SignatureAlgorithm::EcdsaSha384,
        ] {
            let (scheme, digest) = in_tpm_terms(algorithm);
            if key.allows(scheme, digest).await? {
                allowed.push(algorithm);
            }
        }
        Ok(Self { key, public, allowed })
    }
}

impl SigningKey for TpmSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn allows(&self, algorithm: SignatureAlgorithm) -> bool {
        self.allowed.contains(&algorithm)
    }

    fn sign_unverified<'a>(&'a self, algorithm: SignatureAlgorithm, message: &'a [u8]) -> KeyFuture<'a, Vec<u8>> {
        Box::pin(async move {
            let (scheme, hash) = in_tpm_terms(algorithm);
            let digest = match hash {
                DigestAlgorithm::Sha384 => Sha384::digest(message).to_vec(),
                _ => Sha256::digest(message).to_vec(),
            };
            self.key.sign(scheme, hash, &digest).await.map_err(KeyError::new)
        })
    }
}

fn in_tpm_terms(algorithm: SignatureAlgorithm) -> (SignatureScheme, DigestAlgorithm) {
    match algorithm {
        SignatureAlgorithm::RsaSsaSha256 => (SignatureScheme::RsaSsa, DigestAlgorithm::Sha256),
        SignatureAlgorithm::RsaPssSha256 => (SignatureScheme::RsaPss, DigestAlgorithm::Sha256),
        SignatureAlgorithm::EcdsaSha256 => (SignatureScheme::Ecdsa, DigestAlgorithm::Sha256),
        SignatureAlgorithm::EcdsaSha384 => (SignatureScheme::Ecdsa, DigestAlgorithm::Sha384),
    }
}
