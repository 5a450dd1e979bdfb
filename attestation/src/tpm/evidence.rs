//! A quote with all that belongs to it in one file: nonce, registers, attestation key, quote. In our JSON, with the TPM's structures as they are (`message`,
//! `signature`, `ak_public`), or in that of the public project vaportpm, with Google Cloud's certificates.

use serde_json::Value;

use super::attest::{Attest, AttestError};
use super::hash::Hash;
use super::key::{Curve, PublicKey};
use super::pcr::PcrValues;
use super::public::PublicArea;
use super::quote::Quote;
use super::signature::{Scheme, Signature, SignatureError};
use crate::hex::unhex;

/// What such a file holds. Nothing of it is proven.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The quote.
    pub quote: Quote,
    /// The nonce that the file says it was made for. Whoever has chosen one compares with that.
    pub nonce: Vec<u8>,
    /// The registers.
    pub values: PcrValues,
    /// The attestation key.
    pub key: PublicKey,
    /// The attestation key's certificates in PEM, where there are any.
    pub certificates: Option<String>,
}

/// Why there is no such file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// Not JSON.
    #[error("it is no JSON: {0}")]
    Syntax(String),
    /// A member is missing, or no hexadecimal digits.
    #[error("its {0} is missing or damaged")]
    Member(&'static str),
    /// The quote.
    #[error("its quote: {0}")]
    Attest(#[from] AttestError),
    /// The signature.
    #[error("its quote: {0}")]
    Signature(#[from] SignatureError),
}

impl Evidence {
    /// Reads it.
    ///
    /// # Errors
    /// When something is missing.
    pub fn from_json(json: &[u8]) -> Result<Self, EvidenceError> {
        let file: Value = serde_json::from_slice(json).map_err(|e| EvidenceError::Syntax(e.to_string()))?;
        let hex = |value: &Value, name| value.as_str().and_then(unhex).ok_or(EvidenceError::Member(name));
        let (key, attest, signature) = if file["message"].is_null() {
            let point = &file["ak_pubkeys"]["ecc_p256"];
            let (x, y) = (hex(&point["x"], "ak_pubkeys.ecc_p256.x")?, hex(&point["y"], "ak_pubkeys.ecc_p256.y")?);
            let key = PublicKey::from_point(Curve::P256, &x, &y).ok_or(EvidenceError::Member("ak_pubkeys.ecc_p256"))?;
            let quote = &file["attestation"]["tpm"]["ecc_p256"];
            let attest = Attest::read(&hex(&quote["attest_data"], "attestation.tpm.ecc_p256.attest_data")?)?;
            let signature = hex(&quote["signature"], "attestation.tpm.ecc_p256.signature")?;
            (key, attest, Signature::plain(Scheme::Ecdsa, Hash::Sha256, &signature)?)
        } else {
            let area = PublicArea::from_tpm2b(&hex(&file["ak_public"], "ak_public")?).map_err(|_| EvidenceError::Member("ak_public"))?;
            let (message, signature) = (hex(&file["message"], "message")?, hex(&file["signature"], "signature")?);
            (area.key().clone(), Attest::read(&message)?, Signature::from_tpmt(&signature)?)
        };
        let mut values = PcrValues::new();
        for (bank, registers) in file["pcrs"].as_object().ok_or(EvidenceError::Member("pcrs"))? {
            let bank: Hash = bank.parse().map_err(|_| EvidenceError::Member("pcrs"))?;
            for (register, value) in registers.as_object().ok_or(EvidenceError::Member("pcrs"))? {
                let register = register.parse().map_err(|_| EvidenceError::Member("pcrs"))?;
                if !values.insert(bank, register, &hex(value, "pcrs")?) {
                    return Err(EvidenceError::Member("pcrs"));
                }
            }
        }
        let certificates = file["attestation"]["gcp"]["ak_cert_chain"].as_str().map(str::to_owned);
        Ok(Self { quote: Quote { attest, signature }, nonce: hex(&file["nonce"], "nonce")?, values, key, certificates })
    }
}
