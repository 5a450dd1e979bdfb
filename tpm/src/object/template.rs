//! The public areas that this crate asks a TPM to make.

use tss_esapi::Error;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek};
use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm, SymmetricMode};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::{AesKeyBits, RsaKeyBits};
use tss_esapi::structures::{
    Digest, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, KeyedHashScheme, Public, PublicBuilder,
    PublicEccParametersBuilder, PublicKeyRsa, PublicKeyedHashParameters, PublicRsaParametersBuilder, RsaExponent, RsaScheme,
    SymmetricDefinitionObject,
};

use super::PrimaryAlgorithm;
use super::kind::{KeyKind, hmac};

/// The H-2 storage primary (TCG EK Credential Profile, template H-2; named as the default parent by "ASN.1 Specification for TPM 2.0
/// Key Files"): ECC P-256, AES-128-CFB, under the owner hierarchy, `unique` empty.
pub(crate) fn h2_parent() -> Result<Public, Error> {
    primary(PrimaryAlgorithm::Ecc, true)
}

/// What tpm2_createprimary makes if it is told no attributes: the same, but for noDA.
pub(crate) fn tools_parent(algorithm: PrimaryAlgorithm) -> Result<Public, Error> {
    primary(algorithm, false)
}

/// The endorsement key (TCG EK Credential Profile, templates L-1 and L-2).
pub(crate) fn endorsement_key(algorithm: PrimaryAlgorithm) -> Result<Public, Error> {
    let selection = match algorithm {
        PrimaryAlgorithm::Rsa => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
        PrimaryAlgorithm::Ecc => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
    };
    ek::create_ek_public_from_default_template_2(selection, None)
}

fn primary(algorithm: PrimaryAlgorithm, no_da: bool) -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(no_da)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let builder = PublicBuilder::new().with_name_hashing_algorithm(HashingAlgorithm::Sha256).with_object_attributes(attributes);
    let aes = SymmetricDefinitionObject::Aes { key_bits: AesKeyBits::Aes128, mode: SymmetricMode::Cfb };
    match algorithm {
        PrimaryAlgorithm::Rsa => {
            let parameters = PublicRsaParametersBuilder::new()
                .with_restricted(true)
                .with_is_decryption_key(true)
                .with_symmetric(aes)
                .with_scheme(RsaScheme::Null)
                .with_key_bits(RsaKeyBits::Rsa2048)
                .with_exponent(RsaExponent::default());
            builder
                .with_public_algorithm(PublicAlgorithm::Rsa)
                .with_rsa_parameters(parameters.build()?)
                .with_rsa_unique_identifier(PublicKeyRsa::default())
                .build()
        }
        PrimaryAlgorithm::Ecc => {
            let parameters = PublicEccParametersBuilder::new()
                .with_restricted(true)
                .with_is_decryption_key(true)
                .with_symmetric(aes)
                .with_ecc_scheme(EccScheme::Null)
                .with_curve(EccCurve::NistP256)
                .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null);
            builder
                .with_public_algorithm(PublicAlgorithm::Ecc)
                .with_ecc_parameters(parameters.build()?)
                .with_ecc_unique_identifier(EccPoint::default())
                .build()
        }
    }
}

/// Whether a public area is what the TPM makes of a template: all but the public key itself is the template's.
pub(crate) fn is_made_by(public: &Public, template: &Public) -> bool {
    let mut made = public.clone();
    match (&mut made, template) {
        (Public::Ecc { unique, .. }, Public::Ecc { unique: wanted, .. }) => unique.clone_from(wanted),
        (Public::Rsa { unique, .. }, Public::Rsa { unique: wanted, .. }) => unique.clone_from(wanted),
        _ => return false,
    }
    made == *template
}

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
    /// Both, each with a branch of its own.
    UseOrDuplicate([u8; 32]),
}

/// What is to be known of a key's secret and public part to make its public area.
#[derive(Clone, Debug)]
pub(crate) enum Unique {
    Unknown,
    Rsa(PublicKeyRsa, RsaExponent),
    Ecc(EccPoint),
}

/// Sealed data (TCG part 1, 27.4). Without a password there is nothing to guess.
pub(crate) fn sealed(has_password: bool, policy: AuthPolicy) -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_user_with_auth(!matches!(policy, AuthPolicy::Use(_)))
        .with_no_da(!has_password)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(auth_policy(policy)?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

fn auth_policy(policy: AuthPolicy) -> Result<Digest, Error> {
    match policy {
        AuthPolicy::None => Ok(Digest::default()),
        AuthPolicy::Use(digest) | AuthPolicy::Duplicate(digest) | AuthPolicy::UseOrDuplicate(digest) => Digest::try_from(digest.to_vec()),
    }
}

/// A key that signs, makes HMACs or decrypts. Without a password there is nothing to guess, so it is kept out of the dictionary-attack protection: else another
/// program's mistyped passwords lock this key out.
pub(crate) fn key(kind: KeyKind, origin: Origin, has_password: bool, policy: AuthPolicy, unique: Unique) -> Result<Public, Error> {
    let is_fixed = origin != Origin::Imported && !matches!(policy, AuthPolicy::Duplicate(_) | AuthPolicy::UseOrDuplicate(_));
    let is_attestation_key = matches!(kind, KeyKind::AkEccP256 | KeyKind::AkRsa2048);
    let sha256 = HashScheme::new(HashingAlgorithm::Sha256);
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(is_fixed)
        .with_fixed_parent(is_fixed)
        .with_sensitive_data_origin(origin == Origin::Tpm)
        .with_user_with_auth(!matches!(policy, AuthPolicy::Use(_) | AuthPolicy::UseOrDuplicate(_)))
        .with_no_da(!has_password)
        .with_sign_encrypt(kind != KeyKind::RsaDecrypt2048)
        .with_decrypt(kind == KeyKind::RsaDecrypt2048)
        .with_restricted(is_attestation_key)
        .build()?;
    let builder = PublicBuilder::new()
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(auth_policy(policy)?);
    match kind {
        KeyKind::HmacSha256 => builder
            .with_public_algorithm(PublicAlgorithm::KeyedHash)
            .with_keyed_hash_parameters(hmac(HashingAlgorithm::Sha256))
            .with_keyed_hash_unique_identifier(Digest::default())
            .build(),
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::AkRsa2048 | KeyKind::RsaDecrypt2048 => {
            let (modulus, exponent) = match unique {
                Unique::Rsa(modulus, exponent) => (modulus, exponent),
                _ => (PublicKeyRsa::default(), RsaExponent::default()),
            };
            let parameters = PublicRsaParametersBuilder::new()
                .with_symmetric(SymmetricDefinitionObject::Null)
                .with_scheme(if is_attestation_key { RsaScheme::RsaSsa(sha256) } else { RsaScheme::Null })
                .with_key_bits(if kind == KeyKind::Rsa3072 { RsaKeyBits::Rsa3072 } else { RsaKeyBits::Rsa2048 })
                .with_exponent(exponent)
                .with_is_signing_key(kind != KeyKind::RsaDecrypt2048)
                .with_is_decryption_key(kind == KeyKind::RsaDecrypt2048)
                .with_restricted(is_attestation_key);
            builder
                .with_public_algorithm(PublicAlgorithm::Rsa)
                .with_rsa_parameters(parameters.build()?)
                .with_rsa_unique_identifier(modulus)
                .build()
        }
        KeyKind::EccP256 | KeyKind::EccP384 | KeyKind::AkEccP256 => {
            let parameters = PublicEccParametersBuilder::new()
                .with_symmetric(SymmetricDefinitionObject::Null)
                .with_ecc_scheme(if is_attestation_key { EccScheme::EcDsa(sha256) } else { EccScheme::Null })
                .with_curve(if kind == KeyKind::EccP384 { EccCurve::NistP384 } else { EccCurve::NistP256 })
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
