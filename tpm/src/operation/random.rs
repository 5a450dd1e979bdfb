//! TPM2_GetRandom

use zeroize::Zeroizing;

use crate::connection::device::Device;
use crate::{Parent, TpmError, TpmHandle};

impl TpmHandle {
    /// Random bytes from the TPM (at most 32), encrypted on the bus in a session that is salted against `salt_key`.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn random(&self, salt_key: Parent, len: usize) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.run(move |device| device.random(salt_key, len.min(32))).await
    }
}

impl Device {
    fn random(&mut self, salt_key: Parent, len: usize) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.run(|live| {
            let session = live.session_for(salt_key)?;
            live.set_encryption(session, false, true)?;
            let bytes =
                live.context.execute_with_session(Some(session), |c| c.get_random(len)).map_err(|e| TpmError::of("TPM2_GetRandom", e));
            live.set_encryption(session, true, true)?;
            Ok(Zeroizing::new(bytes?.value().to_vec()))
        })
    }
}
