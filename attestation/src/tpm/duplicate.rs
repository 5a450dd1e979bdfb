//! A key that is encrypted to one TPM's storage key, so that TPM2_Import takes it there and nowhere else: TPM2_Duplicate without a TPM (TCG part 1, 23.3.2.3,
//! the outer wrapper; part 3, 13.1). For secrets that a server makes for a client whose storage key it knows.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::credential::{CredentialError, EncryptionKey};
use super::hash::Hash;
use super::marshalled::sized;

/// The label of the seed's encryption (part 1, B.10.3 and C.6.3).
const DUPLICATE: &str = "DUPLICATE";

/// TPM_ALG_KEYEDHASH, TPM_ALG_HMAC, TPM_ALG_SHA256 (TCG Algorithm Registry, 6.10).
const KEYEDHASH: [u8; 2] = [0x00, 0x08];
const HMAC: [u8; 2] = [0x00, 0x05];
const SHA256: [u8; 2] = [0x00, 0x0b];

/// TPMA_OBJECT (part 2, 8.3): userWithAuth, noDA (it has no password, so there is nothing to guess), sign. Not fixed to a TPM: TPM2_Import takes no other. Without
/// a policy it can be duplicated no further.
const ATTRIBUTES: u32 = 1 << 6 | 1 << 10 | 1 << 18;

/// The longest secret, in bytes: SHA-256's block, beyond which HMAC hashes it (RFC 2104 §2).
const MOST: usize = 64;

/// A key on its way to one TPM: what TPM2_Import takes. No secret by itself. It is not signed: whoever knows the storage key's public part can make one, of a
/// secret that they know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    public: Vec<u8>,
    duplicate: Vec<u8>,
    seed: Vec<u8>,
}

impl Duplicate {
    /// TPM2B_PUBLIC, as `tpm2_import -u` takes it.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// TPM2B_PRIVATE, as `tpm2_import -i` takes it. Encrypted with what the seed gives.
    #[must_use]
    pub fn duplicate(&self) -> &[u8] {
        &self.duplicate
    }

    /// TPM2B_ENCRYPTED_SECRET, as `tpm2_import -s` takes it. The seed, encrypted to the storage key.
    #[must_use]
    pub fn seed(&self) -> &[u8] {
        &self.seed
    }
}

/// Encrypts an HMAC-SHA256 key to a storage key. It has no password and no policy.
///
/// # Errors
/// When the secret has no or more than 64 bytes, or the storage key cannot be encrypted to.
pub fn duplicate_hmac_key(to: &EncryptionKey, secret: &[u8]) -> Result<Duplicate, CredentialError> {
    if secret.is_empty() || secret.len() > MOST {
        return Err(CredentialError::Secret { len: secret.len(), most: MOST });
    }
    let mut obfuscation = Zeroizing::new(vec![0; Hash::Sha256.len()]);
    rand::fill(&mut obfuscation)?;
    // The public part is bound to the secret, and says nothing about it (part 1, 27.5.3.2).
    let unique = Hash::Sha256.digest(&[&obfuscation, secret]);
    // TPMT_PUBLIC (part 2, 12.2.4): type, name algorithm, attributes, no policy, scheme, unique.
    let area = [&KEYEDHASH[..], &SHA256, &ATTRIBUTES.to_be_bytes(), &sized(&[]), &HMAC, &SHA256, &sized(&unique)].concat();
    let name = [&SHA256[..], &Hash::Sha256.digest(&[&area])].concat();
    // TPMT_SENSITIVE (part 2, 12.3.2.4): type, no password, seed, the secret.
    let parts = [Zeroizing::new(sized(&obfuscation)), Zeroizing::new(sized(secret))];
    let sensitive = Zeroizing::new([&KEYEDHASH[..], &sized(&[]), &parts[0], &parts[1]].concat());
    let (protected, seed) = to.protect(DUPLICATE, &name, &Zeroizing::new(sized(&sensitive)))?;
    Ok(Duplicate { public: sized(&area), duplicate: sized(&protected), seed: sized(&seed) })
}
