//! The public areas that this crate asks a TPM to make, and what a key file's public area says.

use std::fmt;

use tss_esapi::Error;
use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::AesKeyBits;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    EccPoint, EccScheme, HashScheme, HmacScheme, KeyDerivationFunctionScheme, KeyedHashScheme, Public, PublicBuilder,
    PublicEccParametersBuilder, PublicKeyedHashParameters, SymmetricDefinitionObject,
};

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

/// A keyed-hash object that signs with HMAC-SHA256. Without an auth value there is nothing to guess, so it is kept out of the
/// dictionary-attack protection: else another program's mistyped passwords lock this key out.
pub(crate) fn hmac_key() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_sign_encrypt(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_keyed_hash_parameters(hmac_sha256())
        .with_keyed_hash_unique_identifier(Default::default())
        .build()
}

/// The authorisation for objects without an auth value, where nothing that travels needs hiding.
pub(crate) const EMPTY_PASSWORD: Option<AuthSession> = Some(AuthSession::Password);

/// What a key file's public area says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDescription {
    /// Kind of key: `HMAC-SHA256`, or what else it is.
    pub kind: &'static str,
    /// Whether [`TpmKey::hmac`](crate::TpmKey::hmac) can use it.
    pub is_hmac_sha256: bool,
    /// The object attributes as tpm2-tools names them (TCG part 2, 8.3).
    pub attributes: Vec<&'static str>,
    /// The name algorithm.
    pub name_algorithm: String,
    /// Whether an authorisation policy is set in the public area.
    pub has_policy: bool,
}

impl KeyDescription {
    pub(crate) fn of(public: &Public) -> Self {
        let (kind, is_hmac_sha256) = match public {
            Public::KeyedHash { parameters, .. } if *parameters == hmac_sha256() => ("HMAC-SHA256", true),
            Public::KeyedHash { .. } => ("keyed hash, another scheme", false),
            Public::Rsa { .. } => ("RSA", false),
            Public::Ecc { .. } => ("ECC", false),
            Public::SymCipher { .. } => ("symmetric cipher", false),
        };
        Self {
            kind,
            is_hmac_sha256,
            attributes: attribute_names(public.object_attributes()),
            name_algorithm: format!("{:?}", public.name_hashing_algorithm()).to_lowercase(),
            has_policy: !public.auth_policy().value().is_empty(),
        }
    }
}

impl fmt::Display for KeyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kind:        {}", self.kind)?;
        writeln!(f, "attributes:  {}", self.attributes.join("|"))?;
        writeln!(f, "name-alg:    {}", self.name_algorithm)?;
        write!(f, "auth policy: {}", if self.has_policy { "set" } else { "none" })
    }
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
