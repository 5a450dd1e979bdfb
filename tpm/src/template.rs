//! The public areas that this crate asks a TPM to make, and what a key file's public area says.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use tss_esapi::Error;
use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::{AesKeyBits, RsaKeyBits};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Digest, EccPoint, EccScheme, HashScheme, HmacScheme, KeyDerivationFunctionScheme, KeyedHashScheme, Public, PublicBuilder,
    PublicEccParametersBuilder, PublicKeyRsa, PublicKeyedHashParameters, PublicRsaParametersBuilder, RsaExponent, RsaScheme,
    SymmetricDefinitionObject,
};
use tss_esapi::traits::Marshall as _;

/// The H-2 storage primary (TCG EK Credential Profile, template H-2; named as the default parent by "ASN.1 Specification for TPM 2.0
/// Key Files"): ECC P-256, AES-128-CFB, under the owner hierarchy, `unique` empty.
pub(crate) fn h2_parent() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(
            PublicEccParametersBuilder::new()
                .with_restricted(true)
                .with_is_decryption_key(true)
                .with_symmetric(SymmetricDefinitionObject::Aes {
                    key_bits: AesKeyBits::Aes128,
                    mode: tss_esapi::interface_types::algorithm::SymmetricMode::Cfb,
                })
                .with_ecc_scheme(EccScheme::Null)
                .with_curve(EccCurve::NistP256)
                .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
                .build()?,
        )
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

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

/// Where a key's private part comes from, which decides what its attributes may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The TPM makes it.
    Tpm,
    /// It is handed to TPM2_Create, and fixed to this TPM from then on.
    Given,
    /// It is handed to TPM2_Import, which takes none that is fixed to a TPM.
    Imported,
}

/// What a key's authPolicy is for (TCG part 1, 19.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthPolicy {
    /// There is none.
    None,
    /// To use it. The password alone must not do (userWithAuth clear).
    Use([u8; 32]),
    /// To move it to another TPM: it is not fixed to this one. Used with its password, as one without a policy.
    Duplicate([u8; 32]),
}

/// What is to be known of a key's secret and public part to make its public area.
#[derive(Clone, Debug)]
pub(crate) enum Unique {
    Unknown,
    Rsa(PublicKeyRsa, RsaExponent),
    Ecc(EccPoint),
}

/// A key that signs. Without a password there is nothing to guess, so it is kept out of the dictionary-attack protection: else another
/// program's mistyped passwords lock this key out.
pub(crate) fn key(kind: KeyKind, origin: Origin, has_password: bool, policy: AuthPolicy, unique: Unique) -> Result<Public, Error> {
    let is_fixed = origin != Origin::Imported && !matches!(policy, AuthPolicy::Duplicate(_));
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(is_fixed)
        .with_fixed_parent(is_fixed)
        .with_sensitive_data_origin(origin == Origin::Tpm)
        .with_user_with_auth(!matches!(policy, AuthPolicy::Use(_)))
        .with_no_da(!has_password)
        .with_sign_encrypt(true)
        .build()?;
    let builder = PublicBuilder::new()
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(match policy {
            AuthPolicy::None => Digest::default(),
            AuthPolicy::Use(digest) | AuthPolicy::Duplicate(digest) => Digest::try_from(digest.to_vec())?,
        });
    match kind {
        KeyKind::HmacSha256 => builder
            .with_public_algorithm(PublicAlgorithm::KeyedHash)
            .with_keyed_hash_parameters(hmac_sha256())
            .with_keyed_hash_unique_identifier(Digest::default())
            .build(),
        KeyKind::Rsa2048 | KeyKind::Rsa3072 => {
            let (modulus, exponent) = match unique {
                Unique::Rsa(modulus, exponent) => (modulus, exponent),
                _ => (PublicKeyRsa::default(), RsaExponent::default()),
            };
            let parameters = PublicRsaParametersBuilder::new()
                .with_symmetric(SymmetricDefinitionObject::Null)
                .with_scheme(RsaScheme::Null)
                .with_key_bits(if kind == KeyKind::Rsa2048 { RsaKeyBits::Rsa2048 } else { RsaKeyBits::Rsa3072 })
                .with_exponent(exponent)
                .with_is_signing_key(true)
                .with_is_decryption_key(false)
                .with_restricted(false);
            builder
                .with_public_algorithm(PublicAlgorithm::Rsa)
                .with_rsa_parameters(parameters.build()?)
                .with_rsa_unique_identifier(modulus)
                .build()
        }
        KeyKind::EccP256 | KeyKind::EccP384 => {
            let parameters = PublicEccParametersBuilder::new()
                .with_symmetric(SymmetricDefinitionObject::Null)
                .with_ecc_scheme(EccScheme::Null)
                .with_curve(if kind == KeyKind::EccP256 { EccCurve::NistP256 } else { EccCurve::NistP384 })
                // Not said to be a signing key: tss-esapi would insist on a fixed scheme. The object's attributes say it.
                .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null);
            builder
                .with_public_algorithm(PublicAlgorithm::Ecc)
                .with_ecc_parameters(parameters.build()?)
                .with_ecc_unique_identifier(match unique {
                    Unique::Ecc(point) => point,
                    _ => EccPoint::default(),
                })
                .build()
        }
    }
}

/// The authorisation for objects without an auth value, where nothing that travels needs hiding.
pub(crate) const EMPTY_PASSWORD: Option<AuthSession> = Some(AuthSession::Password);

/// What a key's public area says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDescription {
    /// What this crate can do with it; `None` where that is nothing.
    pub kind: Option<KeyKind>,
    /// Its algorithm, for people.
    pub algorithm: String,
    /// The object attributes as tpm2-tools names them (TCG part 2, 8.3).
    pub attributes: Vec<&'static str>,
    /// The name algorithm.
    pub name_algorithm: String,
    /// The authorisation policy's digest, if one is set.
    pub auth_policy: Option<Vec<u8>>,
    /// The name (TCG part 1, 16): algorithm and digest of the public area.
    pub name: Vec<u8>,
}

impl KeyDescription {
    pub(crate) fn unknown() -> Self {
        Self {
            kind: None,
            algorithm: "not known here".to_owned(),
            attributes: Vec::new(),
            name_algorithm: "not known here".to_owned(),
            auth_policy: None,
            name: Vec::new(),
        }
    }

    /// What a TPM2B_PUBLIC says, such as the storage key of another TPM: whoever encrypts a key to it first compares its name with what
    /// is shown there.
    ///
    /// # Errors
    /// When the blob is damaged, or not of the length that it states.
    pub fn from_public_blob(public: &[u8]) -> Result<Self, crate::KeyFileError> {
        crate::keyfile::public_from(public).map(|public| Self::of(&public))
    }

    /// The name in hexadecimal digits.
    #[must_use]
    pub fn name_hex(&self) -> String {
        hex(&self.name)
    }

    pub(crate) fn of(public: &Public) -> Self {
        let kind = KeyKind::of(public);
        let algorithm = match (kind, public) {
            (Some(kind), _) => kind.to_string(),
            (None, Public::KeyedHash { .. }) => "keyed hash, another scheme".to_owned(),
            (None, Public::Rsa { parameters, .. }) => format!("RSA, {:?}", parameters.key_bits()),
            (None, Public::Ecc { parameters, .. }) => format!("ECC, {:?}", parameters.ecc_curve()),
            (None, Public::SymCipher { .. }) => "symmetric cipher".to_owned(),
        };
        let policy = public.auth_policy().value();
        Self {
            kind,
            algorithm,
            attributes: attribute_names(public.object_attributes()),
            name_algorithm: format!("{:?}", public.name_hashing_algorithm()).to_lowercase(),
            auth_policy: (!policy.is_empty()).then(|| policy.to_vec()),
            name: name_of(public).unwrap_or_default(),
        }
    }
}

impl fmt::Display for KeyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kind:        {}", self.algorithm)?;
        writeln!(f, "attributes:  {}", self.attributes.join("|"))?;
        writeln!(f, "name:        {}", hex(&self.name))?;
        writeln!(f, "name-alg:    {}", self.name_algorithm)?;
        write!(f, "auth policy: {}", self.auth_policy.as_deref().map_or_else(|| "none".to_owned(), hex))
    }
}

/// The name of an object whose name algorithm is SHA-256 (TCG part 1, 16): TPM_ALG_SHA256, then the digest of the public area.
pub(crate) fn name_of(public: &Public) -> Option<Vec<u8>> {
    let area = public.marshall().ok()?;
    (public.name_hashing_algorithm() == HashingAlgorithm::Sha256).then(|| [&[0x00, 0x0b][..], &Sha256::digest(&area)].concat())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac_sha256() -> PublicKeyedHashParameters {
    PublicKeyedHashParameters::new(KeyedHashScheme::Hmac { hmac_scheme: HmacScheme::from(HashScheme::new(HashingAlgorithm::Sha256)) })
}

fn attribute_names(attributes: ObjectAttributes) -> Vec<&'static str> {
    [
        (attributes.fixed_tpm(), "fixedtpm"),
        (attributes.st_clear(), "stclear"),
        (attributes.fixed_parent(), "fixedparent"),
        (attributes.sensitive_data_origin(), "sensitivedataorigin"),
        (attributes.user_with_auth(), "userwithauth"),
        (attributes.admin_with_policy(), "adminwithpolicy"),
        (attributes.no_da(), "noda"),
        (attributes.encrypted_duplication(), "encryptedduplication"),
        (attributes.restricted(), "restricted"),
        (attributes.decrypt(), "decrypt"),
        (attributes.sign_encrypt(), "sign"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}
