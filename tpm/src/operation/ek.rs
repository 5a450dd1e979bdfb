//! The endorsement key's name, to be pinned.

use crate::connection::device::Device;
use crate::object::name::hex;
use crate::{TpmError, TpmHandle};

impl TpmHandle {
    /// The name of the TPM's endorsement key (template L-2, ECC P-256; the RSA one's where that is pinned), in hexadecimal digits: to be pinned
    /// with [`Settings::session_key_name`](crate::Settings::session_key_name).
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn ek_name(&self) -> Result<String, TpmError> {
        self.run(Device::ek_name).await
    }
}

impl Device {
    fn ek_name(&mut self) -> Result<String, TpmError> {
        self.run(|live| live.ek_name().map(|name| hex(&name)))
    }
}
