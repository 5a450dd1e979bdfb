//! TPM2_ObjectChangeAuth, and whether there is a password at all.

use tss_esapi::Context;
use tss_esapi::handles::KeyHandle;
use tss_esapi::structures::Auth;

use crate::connection::device::Device;
use crate::connection::loaded::Slot;
use crate::response_code::of_tpm;
use crate::{KeyFile, KeySource, Password, TpmError, TpmKey};

/// TPM_RC_TYPE, and for an HMAC key TPM_RC_ATTRIBUTES: what TPM2_Unseal answers for an object that is not sealed data, once its authorization
/// was found right (TCG part 3, 12.7).
const NOT_SEALED: [u32; 2] = [0x8a, 0x82];

impl TpmKey {
    /// Whether the key can be used without a password, where nothing tells: tries it once. A key with a policy tells by that.
    ///
    /// For a key that is protected against guessing, a wrong try counts. So `None`, and no try, where the TPM remembers more than
    /// `failures` wrong ones already, and where one more would lock it.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn works_without_password(&self, failures: u32) -> Result<Option<bool>, TpmError> {
        self.run(move |device, slot, source| device.works_without_password(slot, source, failures)).await
    }

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
    /// TPM2_Unseal, which is authorised as any use is, and fails for a key whatever its kind: the TPM looks at the authorization first (TCG
    /// part 3, 5.6).
    fn works_without_password(&mut self, slot: Slot, source: &KeySource, failures: u32) -> Result<Option<bool>, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let is_guarded = !key.public.object_attributes().no_da();
            if is_guarded && !live.can_spare_a_try(failures) {
                return Ok(None);
            }
            let unseal = |c: &mut Context, handle: KeyHandle| c.unseal(handle.into()).map(|_| ());
            match live.with_key(&key, source.bus(), "TPM2_Unseal", unseal) {
                Ok(()) => Ok(Some(true)),
                Err(TpmError::Command { code, .. }) if of_tpm(code).is_some_and(|code| NOT_SEALED.contains(&code)) => Ok(Some(true)),
                Err(TpmError::Auth { .. }) => Ok(Some(false)),
                Err(error) => Err(error),
            }
        })
    }

    /// TPM2_ObjectChangeAuth: the same key with another password, or without one.
    fn change_password(&mut self, slot: Slot, source: &KeySource, new: Option<&Password>) -> Result<KeyFile, TpmError> {
        let KeySource::File { file, .. } = source else {
            return Err(TpmError::NotForThis {
                kind: "a persistent key".into(),
                operation: "get another password: change it in the file, and persist that",
            });
        };
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            if file.policy().needs_password() && new.is_none() {
                return Err(TpmError::NotForThis {
                    kind: "a key with a password".into(),
                    operation: "lose a password that is part of its policy",
                });
            }
            let private = live.with_parent(file.parent(), |live, parent| {
                live.as_admin(&key, parent, "TPM2_ObjectChangeAuth", |c, handle| {
                    let auth = new.map_or(Ok(Auth::default()), Password::to_auth)?;
                    c.object_change_auth(handle.into(), parent.handle().into(), auth)
                })
            })?;
            Ok((**file).clone().with_private(private, new.is_none()))
        })
    }
}
