//! TPM2_Create of sealed data, and TPM2_Unseal (TCG part 1, 27.4; part 3, 12.7).

use tss_esapi::structures::SensitiveData;
use zeroize::Zeroizing;

use super::policy::policy_of;
use crate::connection::device::Device;
use crate::connection::loaded::Slot;
use crate::object::kind::is_sealed;
use crate::object::template;
use crate::{BusEncryption, KeyDescription, KeyFile, KeySource, NewSealed, Password, TpmError, TpmHandle, TpmKey};

impl TpmHandle {
    /// The longest data that a TPM seals (TCG part 2, 11.1.13: MAX_SYM_DATA): seal a key, and encrypt the rest with it.
    pub const MAX_SEALED: usize = 128;

    /// Seals data to this TPM (TPM2_Create): at most [`MAX_SEALED`](Self::MAX_SEALED) bytes, at least one. Encrypted on the bus.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn seal(&self, new: NewSealed, data: Zeroizing<Vec<u8>>) -> Result<KeyFile, TpmError> {
        if !(1..=Self::MAX_SEALED).contains(&data.len()) {
            return Err(TpmError::NotForThis { kind: "data of no byte, or of more than 128".into(), operation: "be sealed by a TPM" });
        }
        self.run(move |device| device.seal(&new, &data)).await
    }
}

impl TpmKey {
    /// What was sealed (TPM2_Unseal). Encrypted on the bus.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`PcrChanged`](TpmError::PcrChanged), [`PolicyClosed`](TpmError::PolicyClosed) or
    /// [`Auth`](TpmError::Auth) where what it takes is not there.
    pub async fn unseal(&self) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.run(|device, slot, source| device.unseal(slot, source)).await
    }
}

impl Device {
    fn seal(&mut self, new: &NewSealed, data: &[u8]) -> Result<KeyFile, TpmError> {
        self.run(|live| {
            let (policy, auth_policy) = policy_of(live, new.policy.as_ref(), new.password.is_some(), false)?;
            live.with_parent(new.parent, |live, parent| {
                let session = live.parent_session(parent)?;
                let created = live.context.execute_with_session(Some(session), |c| {
                    let public = template::sealed(new.password.is_some(), auth_policy)?;
                    let auth = new.password.as_ref().map(Password::to_auth).transpose()?;
                    c.create(parent.handle(), public, auth, Some(SensitiveData::try_from(data.to_vec())?), None, None)
                });
                let created = created.map_err(|e| TpmError::of("TPM2_Create", e)).map_err(|e| live.explain_parent(parent, e))?;
                Ok(KeyFile::new(new.parent, created.out_public, created.out_private, new.password.is_none(), policy.clone()))
            })
        })
    }

    fn unseal(&mut self, slot: Slot, source: &KeySource) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            if !is_sealed(&key.public) {
                return Err(TpmError::NotForThis {
                    kind: KeyDescription::of(&key.public).algorithm,
                    operation: "be unsealed: it is no sealed data",
                });
            }
            let data = live.with_key(&key, BusEncryption::On, "TPM2_Unseal", |c, handle| c.unseal(handle.into()))?;
            Ok(Zeroizing::new(data.value().to_vec()))
        })
    }
}
