//! Signatures: TPMT_SIGNATURE (TCG part 2, 11.3.4) and plain ones (RFC 8017, RFC 3279 §2.2.3).

use aws_lc_rs::signature::{self as aws, RsaParameters, RsaPssSaltLength, UnparsedPublicKey, VerificationAlgorithm};
use der::asn1::UintRef;
use der::{Decode as _, Encode as _, Sequence};

use super::hash::Hash;
use super::key::{Curve, PublicKey};
use super::marshalled::{Damaged, Marshalled};

/// How it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaSsa,
    /// RSASSA-PSS (RFC 8017 §8.1).
    RsaPss,
    /// ECDSA (FIPS 186-5).
    Ecdsa,
}

impl Scheme {
    pub(super) fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0014 => Some(Self::RsaSsa),
            0x0016 => Some(Self::RsaPss),
            0x0018 => Some(Self::Ecdsa),
            _ => None,
        }
    }
}

/// A signature, not verified yet. That of ECDSA is kept as `SEQUENCE { r, s }` in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    scheme: Scheme,
    hash: Hash,
    value: Vec<u8>,
}

/// Why bytes are no signature that is known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Cut off, or followed by something.
    #[error("the signature is cut off or damaged")]
    Damaged,
    /// Another algorithm.
    #[error("the signature's scheme 0x{0:04x} is not known here: RSASSA, RSAPSS and ECDSA are")]
    Scheme(u16),
    /// Another hash, or SHA-1.
    #[error("the signature's hash 0x{0:04x} is not taken: SHA-256, SHA-384 and SHA-512 are")]
    Hash(u16),
}

impl From<Damaged> for SignatureError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// Ecdsa-Sig-Value (RFC 3279 §2.2.3)
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// A TPM takes the digest's length for the salt, or the longest that there is room for (TCG part 1, B.7).
static PSS_SHA256_MAX: RsaParameters = aws::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
static PSS_SHA384_MAX: RsaParameters = aws::RSA_PSS_2048_8192_SHA384.with_pss_salt_length(RsaPssSaltLength::Max);
static PSS_SHA512_MAX: RsaParameters = aws::RSA_PSS_2048_8192_SHA512.with_pss_salt_length(RsaPssSaltLength::Max);

impl Signature {
    /// From a TPMT_SIGNATURE, as tpm2_quote -s writes it.
    ///
    /// # Errors
    /// When it is none that is known here.
    pub fn from_tpmt(bytes: &[u8]) -> Result<Self, SignatureError> {
        let mut reader = Marshalled::new(bytes);
        let id = reader.u16()?;
        let scheme = Scheme::from_id(id).ok_or(SignatureError::Scheme(id))?;
        let id = reader.u16()?;
        let hash = Hash::from_id(id).filter(|hash| *hash != Hash::Sha1).ok_or(SignatureError::Hash(id))?;
        let value = match scheme {
            Scheme::RsaSsa | Scheme::RsaPss => reader.sized()?.to_vec(),
            Scheme::Ecdsa => ecdsa(reader.sized()?, reader.sized()?)?,
        };
        reader.end()?;
        Ok(Self { scheme, hash, value })
    }

    /// From a plain one, as tpm2_quote -f plain writes it: the bytes of RSA's, or ECDSA's in DER or as r ‖ s.
    ///
    /// # Errors
    /// When ECDSA's is neither, or the hash is SHA-1.
    pub fn plain(scheme: Scheme, hash: Hash, bytes: &[u8]) -> Result<Self, SignatureError> {
        if hash == Hash::Sha1 {
            return Err(SignatureError::Hash(hash.id()));
        }
        let value = match scheme {
            Scheme::RsaSsa | Scheme::RsaPss => bytes.to_vec(),
            Scheme::Ecdsa if EcdsaSignature::from_der(bytes).is_ok() => bytes.to_vec(),
            Scheme::Ecdsa if [64, 96].contains(&bytes.len()) => {
                let (r, s) = bytes.split_at(bytes.len() / 2);
                ecdsa(r, s)?
            }
            Scheme::Ecdsa => return Err(SignatureError::Damaged),
        };
        Ok(Self { scheme, hash, value })
    }

    /// How it was signed.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What the message was hashed with; a quote's registers, too.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether the holder of this key has signed this message.
    #[must_use]
    pub fn is_right(&self, key: &PublicKey, message: &[u8]) -> bool {
        let verify = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, &self.value).is_ok()
        };
        match (key, self.scheme, self.hash) {
            (PublicKey::Rsa { .. }, Scheme::RsaSsa, Hash::Sha256) => verify(&aws::RSA_PKCS1_2048_8192_SHA256, &key.to_spki()),
            (PublicKey::Rsa { .. }, Scheme::RsaSsa, Hash::Sha384) => verify(&aws::RSA_PKCS1_2048_8192_SHA384, &key.to_spki()),
            (PublicKey::Rsa { .. }, Scheme::RsaSsa, Hash::Sha512) => verify(&aws::RSA_PKCS1_2048_8192_SHA512, &key.to_spki()),
            (PublicKey::Rsa { .. }, Scheme::RsaPss, hash) => {
                let both: [&'static dyn VerificationAlgorithm; 2] = match hash {
                    Hash::Sha256 => [&aws::RSA_PSS_2048_8192_SHA256, &PSS_SHA256_MAX],
                    Hash::Sha384 => [&aws::RSA_PSS_2048_8192_SHA384, &PSS_SHA384_MAX],
                    Hash::Sha512 => [&aws::RSA_PSS_2048_8192_SHA512, &PSS_SHA512_MAX],
                    Hash::Sha1 => return false,
                };
                both.into_iter().any(|algorithm| verify(algorithm, &key.to_spki()))
            }
            (PublicKey::Ecc { curve, .. }, Scheme::Ecdsa, hash) => {
                let algorithm: &'static dyn VerificationAlgorithm = match (curve, hash) {
                    (Curve::P256, Hash::Sha256) => &aws::ECDSA_P256_SHA256_ASN1,
                    (Curve::P256, Hash::Sha384) => &aws::ECDSA_P256_SHA384_ASN1,
                    (Curve::P256, Hash::Sha512) => &aws::ECDSA_P256_SHA512_ASN1,
                    (Curve::P384, Hash::Sha256) => &aws::ECDSA_P384_SHA256_ASN1,
                    (Curve::P384, Hash::Sha384) => &aws::ECDSA_P384_SHA384_ASN1,
                    (Curve::P384, Hash::Sha512) => &aws::ECDSA_P384_SHA512_ASN1,
                    (_, Hash::Sha1) => return false,
                };
                key.point().is_some_and(|point| verify(algorithm, &point))
            }
            _ => false,
        }
    }
}

fn ecdsa(r: &[u8], s: &[u8]) -> Result<Vec<u8>, SignatureError> {
    let encode = || EcdsaSignature { r: UintRef::new(r)?, s: UintRef::new(s)? }.to_der();
    encode().map_err(|_: der::Error| SignatureError::Damaged)
}
