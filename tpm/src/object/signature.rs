//! Signature schemes, and signatures as others write them (RFC 8017, RFC 3279 §2.2.3).

use der::asn1::UintRef;
use der::{Decode as _, Sequence};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{
    EccParameter, EccScheme, EccSignature, HashScheme, Public, PublicKeyRsa, RsaScheme, RsaSignature, Signature,
    SignatureScheme as TpmScheme,
};

use super::KeyKind;
use super::kind::{ECC_KEYS, RSA_KEYS};

/// How to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureScheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaSsa,
    /// RSASSA-PSS (RFC 8017 §8.1), with the salt length that the TPM takes.
    RsaPss,
    /// ECDSA (FIPS 186-5), as `SEQUENCE { r, s }` in DER (RFC 3279 §2.2.3).
    Ecdsa,
}

/// What the digest was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl DigestAlgorithm {
    pub(crate) fn to_tpm(self) -> HashingAlgorithm {
        match self {
            Self::Sha256 => HashingAlgorithm::Sha256,
            Self::Sha384 => HashingAlgorithm::Sha384,
            Self::Sha512 => HashingAlgorithm::Sha512,
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// Ecdsa-Sig-Value (RFC 3279 §2.2.3)
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl SignatureScheme {
    /// Whether a key lets this be signed so: some are made for one scheme and hash.
    pub(crate) fn is_allowed_by(self, digest: DigestAlgorithm, public: &Public) -> bool {
        let fixed = match public {
            Public::Rsa { parameters, .. } => match parameters.rsa_scheme() {
                RsaScheme::RsaSsa(hash) => Some((Self::RsaSsa, hash.hashing_algorithm())),
                RsaScheme::RsaPss(hash) => Some((Self::RsaPss, hash.hashing_algorithm())),
                _ => None,
            },
            Public::Ecc { parameters, .. } => match parameters.ecc_scheme() {
                EccScheme::EcDsa(hash) => Some((Self::Ecdsa, hash.hashing_algorithm())),
                _ => None,
            },
            _ => None,
        };
        fixed.is_none_or(|fixed| fixed == (self, digest.to_tpm()))
    }

    pub(crate) fn kinds(self) -> (&'static [KeyKind], &'static str) {
        match self {
            Self::RsaSsa => (&RSA_KEYS, "sign with RSASSA"),
            Self::RsaPss => (&RSA_KEYS, "sign with RSAPSS"),
            Self::Ecdsa => (&ECC_KEYS, "sign with ECDSA"),
        }
    }

    pub(crate) fn to_tpm(self, digest: DigestAlgorithm) -> TpmScheme {
        let hash_scheme = HashScheme::new(digest.to_tpm());
        match self {
            Self::RsaSsa => TpmScheme::RsaSsa { hash_scheme },
            Self::RsaPss => TpmScheme::RsaPss { hash_scheme },
            Self::Ecdsa => TpmScheme::EcDsa { hash_scheme },
        }
    }

    pub(crate) fn encode(signature: &Signature) -> Option<Vec<u8>> {
        match signature {
            Signature::RsaSsa(signature) | Signature::RsaPss(signature) => Some(signature.signature().value().to_vec()),
            Signature::EcDsa(signature) => {
                let (r, s) = (UintRef::new(signature.signature_r().value()).ok()?, UintRef::new(signature.signature_s().value()).ok()?);
                der::Encode::to_der(&EcdsaSignature { r, s }).ok()
            }
            _ => None,
        }
    }

    /// `None` for what is no signature of this scheme.
    pub(crate) fn decode(self, digest: DigestAlgorithm, signature: &[u8]) -> Option<Signature> {
        let rsa = || RsaSignature::create(digest.to_tpm(), PublicKeyRsa::try_from(signature.to_vec()).ok()?).ok();
        match self {
            Self::RsaSsa => rsa().map(Signature::RsaSsa),
            Self::RsaPss => rsa().map(Signature::RsaPss),
            Self::Ecdsa => {
                let EcdsaSignature { r, s } = EcdsaSignature::from_der(signature).ok()?;
                let parameter = |x: UintRef<'_>| EccParameter::try_from(x.as_bytes().to_vec()).ok();
                EccSignature::create(digest.to_tpm(), parameter(r)?, parameter(s)?).ok().map(Signature::EcDsa)
            }
        }
    }
}
