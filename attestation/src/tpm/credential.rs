//! A credential that only one TPM can open, and only if it holds one certain key: TPM2_MakeCredential without a TPM (TCG part 1, 24; part 3, 12.6).
//!
//! Whoever knows an endorsement key to be a real TPM's learns so that an attestation key is in the same TPM: it encrypts a secret for both, and has it
//! back (TPM2_ActivateCredential).

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey, agree_ephemeral};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::{hmac, rand};
use zeroize::Zeroizing;

use super::credential_file::Credential;
use super::hash::Hash;
use super::kdf::{kdf_a, kdf_e};
use super::key::{Curve, PublicKey};
use super::marshalled::sized;
use super::public::PublicArea;

/// The label of the seed's encryption (part 1, B.10.4 and C.6.4).
const IDENTITY: &str = "IDENTITY";

/// A storage key to encrypt to: an endorsement key, or one that other keys lie under.
#[derive(Clone, Debug)]
pub struct EncryptionKey {
    key: PublicKey,
    name_hash: Hash,
    symmetric_bits: u16,
}

/// Why there is no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The public area is no storage key's.
    #[error("the key to encrypt to is no storage key: a restricted decryption key, fixed to its TPM, with AES-128 or AES-256 is wanted")]
    NotStorage,
    /// Not a name.
    #[error("the name of the attestation key is none: a hash algorithm (000b, 000c, 000d) and its digest are wanted")]
    Name,
    /// Too long.
    #[error("the secret has {len} bytes, and 1 to {most} can be encrypted to this key in this way")]
    Secret {
        /// Its length.
        len: usize,
        /// The most.
        most: usize,
    },
    /// The library refused, as it does with a point that is on no curve.
    #[error("nothing can be encrypted to this key: it is damaged, or its length is not taken")]
    Key,
}

impl From<Unspecified> for CredentialError {
    fn from(_: Unspecified) -> Self {
        Self::Key
    }
}

impl EncryptionKey {
    /// From a storage key's public area.
    ///
    /// # Errors
    /// When it is another kind of key.
    pub fn from_area(area: &PublicArea) -> Result<Self, CredentialError> {
        let symmetric_bits = area.symmetric_bits().filter(|bits| [128, 256].contains(bits)).ok_or(CredentialError::NotStorage)?;
        if !area.is_storage_key() {
            return Err(CredentialError::NotStorage);
        }
        Ok(Self { key: area.key().clone(), name_hash: area.name_hash(), symmetric_bits })
    }

    /// From an endorsement key's certificate, made from one of the default templates (TCG EK Credential Profile, B.3 and B.4): RSA-2048 and P-256 go
    /// with SHA-256 and AES-128; P-384 and longer RSA keys with SHA-384 and AES-256.
    #[must_use]
    pub fn from_default_template(key: PublicKey) -> Self {
        let is_low = match &key {
            PublicKey::Rsa { modulus, .. } => modulus.len() <= 256,
            PublicKey::Ecc { curve, .. } => *curve == Curve::P256,
        };
        let (name_hash, symmetric_bits) = if is_low { (Hash::Sha256, 128) } else { (Hash::Sha384, 256) };
        Self { key, name_hash, symmetric_bits }
    }

    /// A seed for what this label names, and how the TPM finds it: what a TPM2B_ENCRYPTED_SECRET holds.
    fn seed(&self, label: &str) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), CredentialError> {
        match &self.key {
            PublicKey::Rsa { .. } => {
                let mut seed = Zeroizing::new(vec![0; self.name_hash.len()]);
                rand::fill(&mut seed)?;
                let algorithm = match self.name_hash {
                    Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
                    Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
                    Hash::Sha512 => &OAEP_SHA512_MGF1SHA512,
                    Hash::Sha1 => return Err(CredentialError::Key),
                };
                let key = PublicEncryptingKey::from_der(&self.key.to_spki()).map_err(|_| CredentialError::Key)?;
                let key = OaepPublicEncryptingKey::new(key)?;
                let mut encrypted = vec![0; key.ciphertext_size()];
                // The label's zero is a part of it.
                let label = [label.as_bytes(), &[0]].concat();
                let len = key.encrypt(algorithm, &seed, &mut encrypted, Some(&label))?.len();
                encrypted.truncate(len);
                Ok((seed, encrypted))
            }
            PublicKey::Ecc { curve, x, .. } => {
                let algorithm = match curve {
                    Curve::P256 => &ECDH_P256,
                    Curve::P384 => &ECDH_P384,
                };
                let own = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new())?;
                let point = own.compute_public_key()?;
                let (own_x, own_y) = point.as_ref()[1..].split_at(curve.coordinate_len());
                let peer = agreement::UnparsedPublicKey::new(algorithm, self.key.point().unwrap_or_default());
                let bits = 8 * self.name_hash.len() as u16;
                let seed = agree_ephemeral(own, peer, CredentialError::Key, |z| Ok(kdf_e(self.name_hash, z, label, own_x, x, bits)))?;
                Ok((seed, [sized(own_x), sized(own_y)].concat()))
            }
        }
    }

    /// Encrypts for the object of this name (part 1, 23.3.2.3 and 24.4): HMAC, its length in front, and what it is of; then the seed's encryption.
    pub(super) fn protect(&self, label: &str, object_name: &[u8], plaintext: &[u8]) -> Result<(Vec<u8>, Vec<u8>), CredentialError> {
        let (seed, encrypted_seed) = self.seed(label)?;
        let hash = self.name_hash;
        let key = kdf_a(hash, &seed, "STORAGE", object_name, &[], self.symmetric_bits);
        let encrypted = encrypt(&key, plaintext)?;
        let mac_key = kdf_a(hash, &seed, "INTEGRITY", &[], &[], 8 * hash.len() as u16);
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hash.hmac(), &mac_key));
        mac.update(&encrypted);
        mac.update(object_name);
        Ok(([sized(mac.sign().as_ref()), encrypted].concat(), encrypted_seed))
    }
}

/// Encrypts a secret so that only the TPM with this endorsement key opens it, and only while it holds the object of this name.
///
/// # Errors
/// When name or secret are none, or the key cannot be encrypted to.
pub fn make_credential(to: &EncryptionKey, object_name: &[u8], secret: &[u8]) -> Result<Credential, CredentialError> {
    let is_name = |(id, digest): (&[u8; 2], &[u8])| Hash::from_id(u16::from_be_bytes(*id)).is_some_and(|hash| hash.len() == digest.len());
    if !object_name.split_first_chunk().is_some_and(is_name) {
        return Err(CredentialError::Name);
    }
    let most = to.name_hash.len();
    if secret.is_empty() || secret.len() > most {
        return Err(CredentialError::Secret { len: secret.len(), most });
    }
    let (protected, encrypted_secret) = to.protect(IDENTITY, object_name, &Zeroizing::new(sized(secret)))?;
    Ok(Credential::from_parts(sized(&protected), sized(&encrypted_secret)))
}

/// AES in CFB mode with an IV of zeros: each key is used once (part 1, 24.4).
fn encrypt(key: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(algorithm, key)?)?;
    let mut in_out = plaintext.to_vec();
    key.less_safe_encrypt(&mut in_out, EncryptionContext::Iv128(FixedLength::from([0; 16])))?;
    Ok(in_out)
}
