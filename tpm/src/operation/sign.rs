//! TPM2_Sign, TPM2_VerifySignature, and the public key that goes with them.

use tss_esapi::Context;
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::structures::{Digest, HashcheckTicket, Public};
use tss_esapi::tss2_esys::TPMT_TK_HASHCHECK;

use crate::connection::device::Device;
use crate::connection::loaded::Slot;
use crate::object::blob::public_blob;
use crate::object::public_key::{public_der, public_pem};
use crate::{BusEncryption, DigestAlgorithm, KeyDescription, KeySource, SignatureScheme, TpmError, TpmKey};

impl TpmKey {
    /// Signs a digest.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`TpmError::NotForThis`] where key and scheme do not fit.
    pub async fn sign(&self, scheme: SignatureScheme, algorithm: DigestAlgorithm, digest: &[u8]) -> Result<Vec<u8>, TpmError> {
        let digest = digest.to_vec();
        self.run(move |device, slot, source| device.sign(slot, source, scheme, algorithm, &digest)).await
    }

    /// Whether this is a signature of this digest by this key.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn verify(
        &self,
        scheme: SignatureScheme,
        algorithm: DigestAlgorithm,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<bool, TpmError> {
        let (digest, signature) = (digest.to_vec(), signature.to_vec());
        self.run(move |device, slot, source| device.verify(slot, source, scheme, algorithm, &digest, &signature)).await
    }

    /// Whether the key signs so: some are made for one scheme and hash.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn allows(&self, scheme: SignatureScheme, algorithm: DigestAlgorithm) -> Result<bool, TpmError> {
        self.run(move |device, slot, source| {
            device.run(|live| {
                let key = live.loaded(slot, source)?;
                Ok(key.kind().is_some_and(|kind| scheme.kinds().0.contains(&kind)) && scheme.is_allowed_by(algorithm, &key.public))
            })
        })
        .await
    }

    /// The public key as PEM (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    /// As [`TpmError`] tells: an HMAC key has none.
    pub async fn public_pem(&self) -> Result<String, TpmError> {
        self.run(|device, slot, source| device.public(slot, source, public_pem)).await
    }

    /// Its public area (TPM2B_PUBLIC), as tpm2-tools keeps it in a `.pub` file.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn public_blob(&self) -> Result<Vec<u8>, TpmError> {
        self.run(|device, slot, source| device.public(slot, source, |public| public_blob(public).ok())).await
    }

    /// The same in DER.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn public_der(&self) -> Result<Vec<u8>, TpmError> {
        self.run(|device, slot, source| device.public(slot, source, public_der)).await
    }
}

impl Device {
    fn sign(
        &mut self,
        slot: Slot,
        source: &KeySource,
        scheme: SignatureScheme,
        algorithm: DigestAlgorithm,
        digest: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let (kinds, operation) = scheme.kinds();
            key.must_be(kinds, operation)?;
            if !scheme.is_allowed_by(algorithm, &key.public) {
                return Err(TpmError::NotForThis {
                    kind: KeyDescription::of(&key.public).algorithm,
                    operation: "sign with another scheme or hash than that",
                });
            }
            if digest.len() != algorithm.len() {
                return Err(TpmError::NotForThis {
                    kind: key.kind().map_or_else(String::new, |kind| kind.to_string()),
                    operation: "sign a digest of another length than its algorithm's",
                });
            }
            let signature = live.with_key(&key, BusEncryption::On, "TPM2_Sign", |c, handle| {
                c.sign(handle, Digest::try_from(digest.to_vec())?, scheme.to_tpm(algorithm), no_ticket()?)
            })?;
            SignatureScheme::encode(&signature).ok_or(TpmError::Command { operation: "TPM2_Sign", code: 0 })
        })
    }

    fn verify(
        &mut self,
        slot: Slot,
        source: &KeySource,
        scheme: SignatureScheme,
        algorithm: DigestAlgorithm,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<bool, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let (kinds, operation) = scheme.kinds();
            key.must_be(kinds, operation)?;
            let Some(signature) = scheme.decode(algorithm, signature).filter(|_| digest.len() == algorithm.len()) else { return Ok(false) };
            let verify = |c: &mut Context| c.verify_signature(key.handle, Digest::try_from(digest.to_vec())?, signature);
            match live.ask("TPM2_VerifySignature", true, verify) {
                Ok(_) => Ok(true),
                // TPM_RC_SIGNATURE: not this key's. TPM_RC_SIZE, TPM_RC_VALUE: not even of its size.
                Err(TpmError::Command { code, .. }) if [0x9b, 0x95, 0x84].contains(&(code & 0xbf)) => Ok(false),
                Err(other) => Err(other),
            }
        })
    }

    fn public<T>(&mut self, slot: Slot, source: &KeySource, encoded: fn(&Public) -> Option<T>) -> Result<T, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let nothing = || TpmError::NotForThis { kind: KeyDescription::of(&key.public).algorithm, operation: "show a public key" };
            encoded(&key.public).ok_or_else(nothing)
        })
    }
}

/// The digest was not made by the TPM: unrestricted keys sign it all the same (TCG part 3, 20.2).
fn no_ticket() -> tss_esapi::Result<HashcheckTicket> {
    HashcheckTicket::try_from(TPMT_TK_HASHCHECK { tag: TPM2_ST_HASHCHECK, hierarchy: TPM2_RH_NULL, digest: Default::default() })
}
