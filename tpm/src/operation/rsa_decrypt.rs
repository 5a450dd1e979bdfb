//! TPM2_RSA_Decrypt (TCG part 3, 14.3), with keys of files and handles, and with one that is made for the purpose and that no file ever holds.

use std::fmt;

use tss_esapi::Context;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{Data, HashScheme, PublicKeyRsa, RsaDecryptionScheme};
use zeroize::Zeroizing;

use crate::connection::device::Device;
use crate::connection::live::Live;
use crate::connection::loaded::{Loaded, Slot};
use crate::object::kind::decrypts;
use crate::object::public_key::public_der;
use crate::object::template::{self, AuthPolicy, Origin, Unique};
use crate::{BusEncryption, KeyDescription, KeyKind, TpmError, TpmHandle, TpmKey};

impl TpmKey {
    /// Decrypts what was encrypted to this key with RSAES-OAEP (RFC 8017 §7.1): SHA-256, also in MGF1, and no label. The plaintext travels encrypted.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`NotForThis`](TpmError::NotForThis) where the key does not decrypt, [`NotDecrypted`](TpmError::NotDecrypted) where the
    /// ciphertext was not made for it.
    pub async fn rsa_decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let ciphertext = ciphertext.to_vec();
        self.run(move |device, slot, source| {
            device.run(|live| {
                let key = live.loaded(slot, source)?;
                live.rsa_decrypt(&key, &ciphertext)
            })
        })
        .await
    }
}

impl TpmHandle {
    /// Makes an RSA key of 2048 bits that decrypts, for one message or a few: nobody can load it again, and it is gone when it is dropped, when the connection
    /// to the TPM breaks, and when the TPM restarts. It lies under a primary of the null hierarchy, so no owner's password is needed. Hardware takes up to
    /// some ten seconds for it.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn ephemeral_rsa(&self) -> Result<EphemeralRsaKey, TpmError> {
        // Dropped before it is handed out, it is unloaded, too.
        let mut key = EphemeralRsaKey { tpm: self.clone(), slot: self.new_slot(), public_der: Vec::new() };
        let slot = key.slot;
        key.public_der = self.run(move |device| device.make_ephemeral(slot)).await?;
        Ok(key)
    }
}

/// A key for decryption that no file ever holds: [`TpmHandle::ephemeral_rsa`].
pub struct EphemeralRsaKey {
    tpm: TpmHandle,
    slot: Slot,
    public_der: Vec<u8>,
}

impl EphemeralRsaKey {
    /// The public key (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7), in DER.
    #[must_use]
    pub fn public_der(&self) -> &[u8] {
        &self.public_der
    }

    /// As [`TpmKey::rsa_decrypt`].
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`Ephemeral`](TpmError::Ephemeral) where the key was lost with the connection.
    pub async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let (slot, ciphertext) = (self.slot, ciphertext.to_vec());
        self.tpm
            .run(move |device| {
                device.run(|live| {
                    let key = live.loaded_at(slot).ok_or(TpmError::Ephemeral)?;
                    live.rsa_decrypt(&key, &ciphertext)
                })
            })
            .await
    }
}

impl fmt::Debug for EphemeralRsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EphemeralRsaKey").finish_non_exhaustive()
    }
}

impl Drop for EphemeralRsaKey {
    fn drop(&mut self) {
        self.tpm.unload(self.slot);
    }
}

impl Device {
    fn make_ephemeral(&mut self, slot: Slot) -> Result<Vec<u8>, TpmError> {
        self.run(|live| {
            let template = template::key(KeyKind::RsaDecrypt2048, Origin::Tpm, false, AuthPolicy::None, Unique::Unknown);
            let key = live.make_ephemeral(slot, &template.map_err(|e| TpmError::of("describing the key", e))?)?;
            public_der(&key.public).ok_or(TpmError::Contradiction("the new key"))
        })
    }
}

impl Live {
    fn rsa_decrypt(&mut self, key: &Loaded, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        if !decrypts(&key.public) {
            let kind = KeyDescription::of(&key.public).algorithm;
            return Err(TpmError::NotForThis {
                kind,
                operation: "decrypt with RSA-OAEP and SHA-256: make one that can (`key create --kind rsa2048-decrypt`)",
            });
        }
        // Longer than any modulus that a TPM has.
        let ciphertext = PublicKeyRsa::try_from(ciphertext.to_vec()).map_err(|_| TpmError::NotDecrypted(0))?;
        let decrypt = |c: &mut Context, handle: KeyHandle| {
            let oaep = RsaDecryptionScheme::Oaep(HashScheme::new(HashingAlgorithm::Sha256));
            c.rsa_decrypt(handle, ciphertext.clone(), oaep, Data::default())
        };
        match self.with_key(key, BusEncryption::On, "TPM2_RSA_Decrypt", decrypt) {
            Ok(plaintext) => Ok(Zeroizing::new(plaintext.value().to_vec())),
            // TPM_RC_VALUE: not below the modulus, or the padding is wrong. TPM_RC_SIZE: not of the modulus's length.
            Err(TpmError::Command { code, .. }) if [0x84, 0x95].contains(&(code & 0xbf)) && code >> 16 == 0 => {
                Err(TpmError::NotDecrypted(code))
            }
            // libtpms, which swtpm and some clouds' TPMs are made of, says TPM_RC_FAILURE of wrong padding, and works on.
            Err(TpmError::OutOfOrder(code)) if self.works() => Err(TpmError::NotDecrypted(code)),
            Err(other) => Err(other),
        }
    }

    /// In failure mode a TPM tells of itself, and does nothing else (TCG part 1, 12.1.4).
    pub(super) fn works(&mut self) -> bool {
        self.context.execute_without_session(|c| c.get_random(8)).is_ok()
    }
}
