//! Public areas (TPMT_PUBLIC, TCG part 2, 12.2.4) and the names that follow from them (part 1, 16).

use super::hash::Hash;
use super::key::{Curve, PublicKey};
use super::marshalled::{Damaged, Marshalled};
use super::signature::Scheme;

const TPM_ALG_RSA: u16 = 0x0001;
const TPM_ALG_ECC: u16 = 0x0023;
const TPM_ALG_NULL: u16 = 0x0010;
const TPM_ALG_AES: u16 = 0x0006;
const TPM_ALG_CFB: u16 = 0x0043;

/// TPMA_OBJECT (part 2, 8.3): the bits that matter here.
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

/// The public area of an RSA or ECC key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicArea {
    bytes: Vec<u8>,
    name_hash: Hash,
    attributes: u32,
    policy: Vec<u8>,
    /// Key bits of AES in CFB mode, for keys that others are encrypted to.
    symmetric_bits: Option<u16>,
    scheme: Option<(Scheme, Hash)>,
    key: PublicKey,
}

/// Why bytes are no public area that is known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicError {
    /// Cut off, or followed by something.
    #[error("it is no public area of a TPM's key (TPM2B_PUBLIC or TPMT_PUBLIC): cut off, damaged, or something else")]
    Damaged,
    /// Neither RSA nor ECC.
    #[error("it is a public area of a key of type 0x{0:04x}, which is neither RSA nor ECC")]
    Type(u16),
    /// Something in it is not known here.
    #[error("it is a public area with a {what} that is not known here (0x{id:04x})")]
    Unknown {
        /// What.
        what: &'static str,
        /// Its TPM_ALG_ID or TPM_ECC_CURVE.
        id: u16,
    },
}

impl From<Damaged> for PublicError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl PublicArea {
    /// From a TPM2B_PUBLIC, as tpm2_create -u writes it, or a TPMT_PUBLIC.
    ///
    /// # Errors
    /// When it is neither, or of a key that is not known here.
    pub fn read(bytes: &[u8]) -> Result<Self, PublicError> {
        match bytes {
            // A TPMT_PUBLIC begins with its type, which would be the length of next to nothing.
            [high, low, rest @ ..] if usize::from(u16::from_be_bytes([*high, *low])) == rest.len() => Self::from_tpmt(rest),
            _ => Self::from_tpmt(bytes),
        }
    }

    /// From a TPM2B_PUBLIC alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_tpm2b(bytes: &[u8]) -> Result<Self, PublicError> {
        let mut sized = Marshalled::new(bytes);
        let area = sized.sized()?;
        sized.end()?;
        Self::from_tpmt(area)
    }

    /// From a TPMT_PUBLIC alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_tpmt(bytes: &[u8]) -> Result<Self, PublicError> {
        let mut area = Marshalled::new(bytes);
        let kind = area.u16()?;
        if ![TPM_ALG_RSA, TPM_ALG_ECC].contains(&kind) {
            return Err(PublicError::Type(kind));
        }
        let id = area.u16()?;
        let name_hash = Hash::from_id(id).filter(|hash| *hash != Hash::Sha1).ok_or(PublicError::Unknown { what: "name algorithm", id })?;
        let attributes = area.u32()?;
        let policy = area.sized()?.to_vec();
        let symmetric_bits = symmetric(&mut area)?;
        let scheme = scheme(&mut area)?;
        let key = match kind {
            TPM_ALG_RSA => {
                let (_bits, exponent) = (area.u16()?, area.u32()?);
                let modulus = area.sized()?.to_vec();
                PublicKey::Rsa { modulus, exponent: if exponent == 0 { 65537 } else { exponent } }
            }
            _ => {
                let id = area.u16()?;
                let curve = Curve::from_id(id).ok_or(PublicError::Unknown { what: "curve", id })?;
                let kdf = area.u16()?;
                if kdf != TPM_ALG_NULL {
                    area.u16()?;
                }
                let (x, y) = (area.sized()?, area.sized()?);
                PublicKey::from_point(curve, x, y).ok_or(PublicError::Damaged)?
            }
        };
        area.end()?;
        Ok(Self { bytes: bytes.to_vec(), name_hash, attributes, policy, symmetric_bits, scheme, key })
    }

    /// As TPMT_PUBLIC.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name: the name algorithm, then the digest of the public area with it.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        [&self.name_hash.id().to_be_bytes()[..], &self.name_hash.digest(&[&self.bytes])].concat()
    }

    /// The name algorithm.
    #[must_use]
    pub fn name_hash(&self) -> Hash {
        self.name_hash
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The policy's digest (authPolicy); empty where there is none.
    #[must_use]
    pub fn policy(&self) -> &[u8] {
        &self.policy
    }

    /// The key bits of AES in CFB mode with which it protects what it is the parent of; `None` for keys that are no parents.
    #[must_use]
    pub fn symmetric_bits(&self) -> Option<u16> {
        self.symmetric_bits
    }

    /// The scheme that it signs with, where it has one.
    #[must_use]
    pub fn scheme(&self) -> Option<(Scheme, Hash)> {
        self.scheme
    }

    /// Whether what it signs as an attestation was made by its TPM: a restricted signing key that was made in the TPM and never leaves it (part 1, 31). What an
    /// unrestricted one signs may be anything.
    #[must_use]
    pub fn is_attestation_key(&self) -> bool {
        let wanted = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN;
        self.attributes & (wanted | DECRYPT) == wanted
    }

    /// Whether it is a restricted decryption key that never leaves its TPM, as endorsement keys are.
    #[must_use]
    pub fn is_storage_key(&self) -> bool {
        let wanted = FIXED_TPM | FIXED_PARENT | RESTRICTED | DECRYPT;
        self.attributes & (wanted | SIGN) == wanted
    }
}

/// TPMT_SYM_DEF_OBJECT
fn symmetric(area: &mut Marshalled<'_>) -> Result<Option<u16>, PublicError> {
    match area.u16()? {
        TPM_ALG_NULL => Ok(None),
        TPM_ALG_AES => {
            let (bits, mode) = (area.u16()?, area.u16()?);
            if mode == TPM_ALG_CFB { Ok(Some(bits)) } else { Err(PublicError::Unknown { what: "mode of AES", id: mode }) }
        }
        id => Err(PublicError::Unknown { what: "symmetric algorithm", id }),
    }
}

/// TPMT_RSA_SCHEME, TPMT_ECC_SCHEME: those that sign here are kept.
fn scheme(area: &mut Marshalled<'_>) -> Result<Option<(Scheme, Hash)>, PublicError> {
    const RSAES: u16 = 0x0015;
    const ECDAA: u16 = 0x001a;
    let scheme = area.u16()?;
    if [TPM_ALG_NULL, RSAES].contains(&scheme) {
        return Ok(None);
    }
    let id = area.u16()?;
    if scheme == ECDAA {
        area.u16()?;
    }
    let known = Scheme::from_id(scheme).zip(Hash::from_id(id));
    Ok(known)
}
