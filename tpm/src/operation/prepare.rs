//! TPM2_Load, ahead of the first use.

use crate::connection::device::Device;
use crate::connection::loaded::Slot;
use crate::{KeyDescription, KeySource, TpmError, TpmKey};

impl TpmKey {
    /// Loads the key now rather than on first use, so that the first use is one command too. Tells what it is.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn prepare(&self) -> Result<KeyDescription, TpmError> {
        self.run(|device, slot, source| device.load(slot, source)).await
    }
}

impl Device {
    fn load(&mut self, slot: Slot, source: &KeySource) -> Result<KeyDescription, TpmError> {
        self.run(|live| live.loaded(slot, source).map(|key| KeyDescription::of(&key.public)))
    }
}
