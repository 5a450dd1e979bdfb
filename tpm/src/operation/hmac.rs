//! TPM2_HMAC

use tss_esapi::handles::ObjectHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{MaxBuffer, Public};
use zeroize::Zeroizing;

use crate::connection::device::Device;
use crate::connection::loaded::Slot;
use crate::{KeyKind, KeySource, TpmError, TpmKey};

impl TpmKey {
    /// HMAC-SHA256 of `input` (at most 1024 bytes) in one TPM2_HMAC; with a policy, that is replayed before.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn hmac(&self, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        let input = Zeroizing::new(input.to_vec());
        self.run(move |device, slot, source| device.hmac(slot, source, &input)).await
    }
}

impl Device {
    /// TPM2_HMAC with the key of `slot`.
    fn hmac(&mut self, slot: Slot, source: &KeySource, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let is_hash = matches!(key.public, Public::KeyedHash { .. });
            key.must_be(&[KeyKind::HmacSha256], if is_hash { "make HMACs with SHA-256" } else { "make HMACs" })?;
            let digest = live.with_key(&key, source.bus(), "TPM2_HMAC", |c, handle| {
                c.hmac(ObjectHandle::from(handle), MaxBuffer::try_from(input.to_vec())?, HashingAlgorithm::Null)
            })?;
            <[u8; 32]>::try_from(digest.value()).map(Zeroizing::new).map_err(|_| TpmError::Command { operation: "TPM2_HMAC", code: 0 })
        })
    }
}
