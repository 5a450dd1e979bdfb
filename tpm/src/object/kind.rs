//! The kinds of key that this crate makes and uses.

use std::fmt;
use std::str::FromStr;

use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::structures::{HashScheme, HmacScheme, KeyedHashScheme, Public, PublicKeyedHashParameters};

pub(crate) const RSA_KEYS: [KeyKind; 2] = [KeyKind::Rsa2048, KeyKind::Rsa3072];
pub(crate) const ECC_KEYS: [KeyKind; 2] = [KeyKind::EccP256, KeyKind::EccP384];

/// What a key is, and so what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// HMAC with SHA-256: [`TpmKey::hmac`](crate::TpmKey::hmac).
    HmacSha256,
    /// RSA, 2048 bits: signatures with RSASSA or RSAPSS.
    Rsa2048,
    /// RSA, 3072 bits: signatures with RSASSA or RSAPSS.
    Rsa3072,
    /// ECC, NIST P-256: signatures with ECDSA.
    EccP256,
    /// ECC, NIST P-384: signatures with ECDSA.
    EccP384,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::HmacSha256, Self::Rsa2048, Self::Rsa3072, Self::EccP256, Self::EccP384];

    /// `hmac`, `rsa2048`, `rsa3072`, `p256`, `p384`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::EccP256 => "p256",
            Self::EccP384 => "p384",
        }
    }

    /// What a public area is; `None` for what this crate has no use for.
    pub(crate) fn of(public: &Public) -> Option<Self> {
        match public {
            Public::KeyedHash { parameters, .. } if *parameters == hmac_sha256() => Some(Self::HmacSha256),
            Public::Rsa { parameters, object_attributes, .. } if object_attributes.sign_encrypt() => match parameters.key_bits() {
                RsaKeyBits::Rsa2048 => Some(Self::Rsa2048),
                RsaKeyBits::Rsa3072 => Some(Self::Rsa3072),
                _ => None,
            },
            Public::Ecc { parameters, object_attributes, .. } if object_attributes.sign_encrypt() => match parameters.ecc_curve() {
                EccCurve::NistP256 => Some(Self::EccP256),
                EccCurve::NistP384 => Some(Self::EccP384),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha256 => "HMAC-SHA256",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::EccP256 => "ECC P-256",
            Self::EccP384 => "ECC P-384",
        })
    }
}

impl FromStr for KeyKind {
    type Err = UnknownKeyKind;

    fn from_str(text: &str) -> Result<Self, UnknownKeyKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKeyKind)
    }
}

/// A text names no kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is one of hmac, rsa2048, rsa3072, p256, p384")]
pub struct UnknownKeyKind;

pub(crate) fn hmac_sha256() -> PublicKeyedHashParameters {
    PublicKeyedHashParameters::new(KeyedHashScheme::Hmac { hmac_scheme: HmacScheme::from(HashScheme::new(HashingAlgorithm::Sha256)) })
}
