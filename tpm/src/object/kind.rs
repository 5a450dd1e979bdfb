//! The kinds of key that this crate makes and uses.

use std::fmt;
use std::str::FromStr;

use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::structures::{EccScheme, HashScheme, HmacScheme, KeyedHashScheme, Public, PublicKeyedHashParameters, RsaScheme};

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
    /// An attestation key (TCG part 1, 31): ECC, NIST P-256, ECDSA with SHA-256 of what the TPM itself says, and of nothing else.
    AkEccP256,
    /// An attestation key: RSA, 2048 bits, RSASSA with SHA-256.
    AkRsa2048,
    /// RSA, 2048 bits, that decrypts: [`TpmKey::rsa_decrypt`](crate::TpmKey::rsa_decrypt).
    RsaDecrypt2048,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::HmacSha256,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::EccP256,
        Self::EccP384,
        Self::AkEccP256,
        Self::AkRsa2048,
        Self::RsaDecrypt2048,
    ];

    /// `hmac`, `rsa2048`, `rsa3072`, `p256`, `p384`, `ak-p256`, `ak-rsa2048`, `rsa2048-decrypt`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::EccP256 => "p256",
            Self::EccP384 => "p384",
            Self::AkEccP256 => "ak-p256",
            Self::AkRsa2048 => "ak-rsa2048",
            Self::RsaDecrypt2048 => "rsa2048-decrypt",
        }
    }

    /// Whether it signs what comes from outside the TPM.
    #[must_use]
    pub fn signs(self) -> bool {
        RSA_KEYS.contains(&self) || ECC_KEYS.contains(&self)
    }

    /// What a public area is; `None` for what this crate has no use for. Restricted keys sign nothing that comes from outside the TPM.
    pub(crate) fn of(public: &Public) -> Option<Self> {
        let attributes = public.object_attributes();
        match public {
            _ if attributes.restricted() => Self::of_attestation_key(public),
            Public::Rsa { parameters, .. } if attributes.decrypt() && !attributes.sign_encrypt() => {
                (parameters.key_bits() == RsaKeyBits::Rsa2048 && decrypts(public)).then_some(Self::RsaDecrypt2048)
            }
            _ if !attributes.sign_encrypt() => None,
            Public::KeyedHash { parameters, .. } if *parameters == hmac(HashingAlgorithm::Sha256) => Some(Self::HmacSha256),
            Public::Rsa { parameters, .. } => match (parameters.rsa_scheme(), parameters.key_bits()) {
                (RsaScheme::Null | RsaScheme::RsaSsa(_) | RsaScheme::RsaPss(_), RsaKeyBits::Rsa2048) => Some(Self::Rsa2048),
                (RsaScheme::Null | RsaScheme::RsaSsa(_) | RsaScheme::RsaPss(_), RsaKeyBits::Rsa3072) => Some(Self::Rsa3072),
                _ => None,
            },
            Public::Ecc { parameters, .. } => match (parameters.ecc_scheme(), parameters.ecc_curve()) {
                (EccScheme::Null | EccScheme::EcDsa(_), EccCurve::NistP256) => Some(Self::EccP256),
                (EccScheme::Null | EccScheme::EcDsa(_), EccCurve::NistP384) => Some(Self::EccP384),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_attestation_key(public: &Public) -> Option<Self> {
        let attributes = public.object_attributes();
        if !attributes.sign_encrypt() || attributes.decrypt() {
            return None;
        }
        let sha256 = HashScheme::new(HashingAlgorithm::Sha256);
        match public {
            Public::Ecc { parameters, .. } if parameters.ecc_curve() == EccCurve::NistP256 => {
                (parameters.ecc_scheme() == EccScheme::EcDsa(sha256)).then_some(Self::AkEccP256)
            }
            Public::Rsa { parameters, .. } if parameters.key_bits() == RsaKeyBits::Rsa2048 => {
                (parameters.rsa_scheme() == RsaScheme::RsaSsa(sha256)).then_some(Self::AkRsa2048)
            }
            _ => None,
        }
    }
}

/// Whether an RSA key decrypts what was encrypted with OAEP and SHA-256 (TCG part 3, 14.3): unrestricted, and its scheme is that one or left open.
pub(crate) fn decrypts(public: &Public) -> bool {
    let attributes = public.object_attributes();
    let oaep = RsaScheme::Oaep(HashScheme::new(HashingAlgorithm::Sha256));
    let is_open = |scheme: RsaScheme| scheme == RsaScheme::Null || scheme == oaep;
    let is_rsa = matches!(public, Public::Rsa { parameters, .. } if is_open(parameters.rsa_scheme()));
    is_rsa && attributes.decrypt() && !attributes.restricted()
}

/// Sealed data: a keyed hash that neither signs nor decrypts (TCG part 1, 27.4).
pub(crate) fn is_sealed(public: &Public) -> bool {
    let attributes = public.object_attributes();
    let is_bare = !attributes.sign_encrypt() && !attributes.decrypt() && !attributes.restricted();
    matches!(public, Public::KeyedHash { parameters, .. } if is_bare && *parameters == PublicKeyedHashParameters::new(KeyedHashScheme::Null))
}

/// What a public area is, for people: with all that limits its use.
pub(crate) fn algorithm(public: &Public) -> String {
    let attributes = public.object_attributes();
    let mut words = match public {
        Public::KeyedHash { parameters, .. } => {
            let hashes = [("SHA1", HashingAlgorithm::Sha1), ("SHA256", HashingAlgorithm::Sha256)];
            let hashes = hashes.into_iter().chain([("SHA384", HashingAlgorithm::Sha384), ("SHA512", HashingAlgorithm::Sha512)]);
            let found = hashes.filter(|(_, hash)| *parameters == hmac(*hash)).map(|(name, _)| format!("HMAC-{name}")).next();
            vec![found.unwrap_or_else(|| "sealed data, or a keyed hash of another scheme".to_owned())]
        }
        Public::Rsa { parameters, .. } => {
            let bits = match parameters.key_bits() {
                RsaKeyBits::Rsa1024 => 1024,
                RsaKeyBits::Rsa2048 => 2048,
                RsaKeyBits::Rsa3072 => 3072,
                RsaKeyBits::Rsa4096 => 4096,
            };
            let scheme = match parameters.rsa_scheme() {
                RsaScheme::Null => None,
                RsaScheme::RsaSsa(hash) => Some(format!("RSASSA with {} only", name_of(hash.hashing_algorithm()))),
                RsaScheme::RsaPss(hash) => Some(format!("RSAPSS with {} only", name_of(hash.hashing_algorithm()))),
                RsaScheme::RsaEs | RsaScheme::Oaep(_) => Some("encryption only".to_owned()),
            };
            [Some(format!("RSA-{bits}")), scheme].into_iter().flatten().collect()
        }
        Public::Ecc { parameters, .. } => {
            let curve = match parameters.ecc_curve() {
                EccCurve::NistP256 => "P-256".to_owned(),
                EccCurve::NistP384 => "P-384".to_owned(),
                other => format!("{other:?}"),
            };
            let scheme = match parameters.ecc_scheme() {
                EccScheme::Null => None,
                EccScheme::EcDsa(hash) => Some(format!("ECDSA with {} only", name_of(hash.hashing_algorithm()))),
                EccScheme::EcDaa(_) => Some("ECDAA only".to_owned()),
                EccScheme::EcDh(_) | EccScheme::EcMqv(_) => Some("key agreement only".to_owned()),
                EccScheme::Sm2(_) | EccScheme::EcSchnorr(_) => Some("another signature scheme only".to_owned()),
            };
            [Some(format!("ECC {curve}")), scheme].into_iter().flatten().collect()
        }
        Public::SymCipher { .. } => vec!["symmetric cipher".to_owned()],
    };
    match (attributes.restricted(), attributes.sign_encrypt(), attributes.decrypt()) {
        (true, false, true) => words.push("a storage key".to_owned()),
        (true, ..) => words.push("restricted: it signs only what the TPM itself made".to_owned()),
        (false, false, true) => words.push("for decryption".to_owned()),
        _ => {}
    }
    words.join(", ")
}

fn name_of(hash: HashingAlgorithm) -> String {
    format!("{hash:?}").replace("Sha", "SHA-").replace("SHA-3_", "SHA3-")
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha256 => "HMAC-SHA256",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::EccP256 => "ECC P-256",
            Self::EccP384 => "ECC P-384",
            Self::AkEccP256 => "ECC P-256 attestation",
            Self::AkRsa2048 => "RSA-2048 attestation",
            Self::RsaDecrypt2048 => "RSA-2048 decryption",
        })
    }
}

impl FromStr for KeyKind {
    type Err = UnknownKeyKind;

    fn from_str(text: &str) -> Result<Self, UnknownKeyKind> {
        // The smaller and faster one of the two, which every TPM that this crate works with has: its parents are P-256.
        let text = if text == "ak" { "ak-p256" } else { text };
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKeyKind)
    }
}

/// A text names no kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is one of hmac, rsa2048, rsa3072, p256, p384, ak (ak-p256), ak-rsa2048, rsa2048-decrypt")]
pub struct UnknownKeyKind;

pub(crate) fn hmac(hash: HashingAlgorithm) -> PublicKeyedHashParameters {
    PublicKeyedHashParameters::new(KeyedHashScheme::Hmac { hmac_scheme: HmacScheme::from(HashScheme::new(hash)) })
}
