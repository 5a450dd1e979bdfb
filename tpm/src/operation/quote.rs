//! TPM2_Quote and TPM2_Certify (TCG part 3, 18): what the TPM itself says, signed by an attestation key.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tss_esapi::Context;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{Attest, AttestInfo, Data, EccScheme, Public, RsaScheme, Signature, SignatureScheme as TpmScheme};
use tss_esapi::traits::Marshall as _;

use crate::connection::device::Device;
use crate::connection::live::{EMPTY_PASSWORD, Live};
use crate::connection::loaded::{Loaded, Slot};
use crate::object::pcr::selection_list;
use crate::{BusEncryption, KeyDescription, KeySource, PcrBank, PcrSelection, TpmError, TpmKey};

/// How often a quote is made anew where a register changed between it and the reading of the values.
const TRIES: usize = 4;
/// TPM2B_DATA holds a TPMT_HA: an algorithm and 64 bytes.
const MAX_NONCE: usize = 64;

/// What a TPM says, and its attestation key's signature of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// TPMS_ATTEST (TCG part 2, 10.12.12), as it was signed.
    pub message: Vec<u8>,
    /// TPMT_SIGNATURE (TCG part 2, 11.3.4).
    pub signature: Vec<u8>,
}

/// A quote, and the values of the registers that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// What was signed.
    pub attestation: Attestation,
    /// The values whose hash was signed: bank by bank in the selection's order, lowest register first.
    pub values: Vec<(PcrBank, BTreeMap<u8, Vec<u8>>)>,
}

impl TpmKey {
    /// Has the TPM say what these registers hold, signed by this attestation key. `nonce` (at most 64 bytes) comes from whoever is to believe it: it tells
    /// this quote from older ones.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`NotForThis`](TpmError::NotForThis) for keys that sign other things, too, so that their signature says nothing about who speaks.
    pub async fn quote(&self, selections: &[PcrSelection], nonce: &[u8]) -> Result<Quote, TpmError> {
        let (asked, nonce) = (banks_of(selections), nonce.to_vec());
        self.run(move |device, slot, source| device.quote(slot, source, &asked, &nonce)).await
    }

    /// Has the TPM say that it holds this other key, signed by this attestation key. The other key must have no password.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn certify(&self, other: &Self, nonce: &[u8]) -> Result<Attestation, TpmError> {
        let (other_slot, other_source, nonce) = (other.slot, std::sync::Arc::clone(&other.source), nonce.to_vec());
        self.run(move |device, slot, source| device.certify((slot, source), (other_slot, &other_source), &nonce)).await
    }
}

type Registers = Vec<(PcrBank, Vec<u8>)>;
type Values = Vec<(PcrBank, BTreeMap<u8, Vec<u8>>)>;

/// A bank stands once: whoever reads a quote may take a second one for an addition, or for a replacement.
fn banks_of(selections: &[PcrSelection]) -> Registers {
    let mut banks = Registers::new();
    for (bank, register) in selections.iter().flat_map(|one| one.registers().map(|(register, _)| (one.bank(), register))) {
        let at = banks.iter().position(|(known, _)| *known == bank).unwrap_or_else(|| {
            banks.push((bank, Vec::new()));
            banks.len() - 1
        });
        if !banks[at].1.contains(&register) {
            banks[at].1.push(register);
            banks[at].1.sort_unstable();
        }
    }
    banks
}

impl Device {
    fn quote(&mut self, slot: Slot, source: &KeySource, asked: &Registers, nonce: &[u8]) -> Result<Quote, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let hash = hash_of(&key)?;
            let nonce = data(nonce)?;
            for _ in 0..TRIES {
                let quote = |c: &mut Context, handle: KeyHandle| c.quote(handle, nonce.clone(), TpmScheme::Null, selection_list(asked)?);
                let (message, signature) = live.with_key(&key, BusEncryption::On, "TPM2_Quote", quote)?;
                let AttestInfo::Quote { info } = message.attested() else { return Err(TpmError::Contradiction("the registers")) };
                let values = live.values_in_order(asked)?;
                let all: Vec<u8> = values.iter().flat_map(|(_, values)| values.values()).flatten().copied().collect();
                if hash(&all) == info.pcr_digest().value() {
                    return Ok(Quote { attestation: encoded(message, signature)?, values });
                }
            }
            Err(TpmError::RestlessPcrs)
        })
    }

    fn certify(&mut self, ak: (Slot, &KeySource), other: (Slot, &KeySource), nonce: &[u8]) -> Result<Attestation, TpmError> {
        self.run(|live| {
            let key = live.loaded(ak.0, ak.1)?;
            hash_of(&key)?;
            let object = live.loaded(other.0, other.1)?;
            if object.has_password {
                let kind = "a key with a password".to_owned();
                return Err(TpmError::NotForThis { kind, operation: "be certified here: certify the key before it gets its password" });
            }
            let nonce = data(nonce)?;
            let certify = |c: &mut Context, handle: KeyHandle| {
                // The attestation key's session is there already; the other key's authorisation goes before it.
                let (first, second, _) = c.sessions();
                c.execute_with_sessions((EMPTY_PASSWORD, first, second), |c| {
                    c.certify(object.handle.into(), handle, nonce.clone(), TpmScheme::Null)
                })
            };
            let (message, signature) = live.with_key(&key, BusEncryption::On, "TPM2_Certify", certify)?;
            encoded(message, signature)
        })
    }
}

impl Live {
    fn values_in_order(&mut self, asked: &Registers) -> Result<Values, TpmError> {
        let mut read = self.read_banks(asked)?;
        Ok(asked.iter().filter_map(|(bank, _)| Some((*bank, read.banks.remove(bank)?))).collect())
    }
}

fn data(nonce: &[u8]) -> Result<Data, TpmError> {
    let too_long = TpmError::NotForThis { kind: "a nonce of more than 64 bytes".to_owned(), operation: "be signed by a TPM" };
    if nonce.len() > MAX_NONCE { Err(too_long) } else { Data::try_from(nonce.to_vec()).map_err(|e| TpmError::of("reading the nonce", e)) }
}

type Hash = fn(&[u8]) -> Vec<u8>;

/// What an attestation key hashes registers with: the hash of its scheme. Only a restricted key is one: it signs nothing that comes from outside and looks
/// like the TPM's own (TCG part 1, 31.2).
fn hash_of(key: &Loaded) -> Result<Hash, TpmError> {
    let attributes = key.public.object_attributes();
    let scheme = match &key.public {
        _ if !attributes.restricted() || !attributes.sign_encrypt() || attributes.decrypt() => None,
        Public::Rsa { parameters, .. } => match parameters.rsa_scheme() {
            RsaScheme::RsaSsa(hash) | RsaScheme::RsaPss(hash) => Some(hash.hashing_algorithm()),
            _ => None,
        },
        Public::Ecc { parameters, .. } => match parameters.ecc_scheme() {
            EccScheme::EcDsa(hash) => Some(hash.hashing_algorithm()),
            _ => None,
        },
        _ => None,
    };
    match scheme {
        Some(HashingAlgorithm::Sha256) => Ok(|bytes| Sha256::digest(bytes).to_vec()),
        Some(HashingAlgorithm::Sha384) => Ok(|bytes| Sha384::digest(bytes).to_vec()),
        Some(HashingAlgorithm::Sha512) => Ok(|bytes| Sha512::digest(bytes).to_vec()),
        _ => {
            let operation = "speak for the TPM: make an attestation key (`key create --kind ak`; restricted|sign, ECDSA or RSA with SHA-2)";
            Err(TpmError::NotForThis { kind: KeyDescription::of(&key.public).algorithm, operation })
        }
    }
}

fn encoded(message: Attest, signature: Signature) -> Result<Attestation, TpmError> {
    let written = |e| TpmError::of("writing what the TPM signed", e);
    Ok(Attestation { message: message.marshall().map_err(written)?, signature: signature.marshall().map_err(written)? })
}
