//! TPM2_ObjectChangeAuth

use tss_esapi::structures::Auth;

use crate::connection::device::Device;
use crate::connection::loaded::Slot;
use crate::{KeyFile, KeySource, Password, TpmError, TpmKey};

impl TpmKey {
    /// Gives the key another password, or takes it away (TPM2_ObjectChangeAuth). The old file goes on working with the old password:
    /// delete it.
    ///
    /// # Errors
    /// As [`TpmError`] tells; persistent keys, and a password that is part of the policy and would be taken away, are refused.
    pub async fn change_password(&self, new: Option<Password>) -> Result<KeyFile, TpmError> {
        self.run(move |device, slot, source| device.change_password(slot, source, new.as_ref())).await
    }
}

impl Device {
    /// TPM2_ObjectChangeAuth: the same key with another password, or without one.
    fn change_password(&mut self, slot: Slot, source: &KeySource, new: Option<&Password>) -> Result<KeyFile, TpmError> {
        let KeySource::File { file, .. } = source else {
            return Err(TpmError::NotForThis {
                kind: "persistent".into(),
                operation: "change their password: change it in the file, and persist that",
            });
        };
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            if file.policy().needs_password() && new.is_none() {
                return Err(TpmError::NotForThis {
                    kind: "password-protected".into(),
                    operation: "lose a password that is part of their policy",
                });
            }
            let private = live.with_parent(file.parent(), |live, parent| {
                live.as_admin(&key, "TPM2_ObjectChangeAuth", |c, handle| {
                    let auth = new.map_or(Ok(Auth::default()), Password::to_auth)?;
                    c.object_change_auth(handle.into(), parent.handle().into(), auth)
                })
            })?;
            Ok((**file).clone().with_private(private, new.is_none()))
        })
    }
}
