//! Keys at persistent handles: they are in the TPM for good, without a file, and need no loading (TCG part 3, 28.5: TPM2_EvictControl).

use std::ops::RangeInclusive;

use tss_esapi::constants::tss::TPM2_PERSISTENT_FIRST;
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle as Handle};
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::resource_handles::Provision;

use crate::connection::device::Device;
use crate::connection::live::Live;
use crate::{KeyDescription, KeyFile, Parent, TpmError, TpmHandle};

/// The handles that the owner may use (TCG "Registry of Reserved TPM 2.0 Handles and Localities", 2.3). Those above are the platform's.
const OWNER_RANGE: RangeInclusive<u32> = 0x8100_0000..=0x817f_ffff;

/// A key at a persistent handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistentKey {
    /// The handle (0x81000000 to 0x81ffffff).
    pub handle: u32,
    /// What its public area says.
    pub description: KeyDescription,
}

impl TpmHandle {
    /// Puts a key at a persistent handle (0x81000000 to 0x817fffff), from where it is used with
    /// [`KeySource::handle`](crate::KeySource::handle) and without its file. Its password stays as it is and is not needed here; its
    /// policy is stated nowhere but in the file. The owner's password is ([`Settings::owner_password`](crate::Settings::owner_password)).
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`HandleTaken`](TpmError::HandleTaken), [`HandleRange`](TpmError::HandleRange),
    /// [`NvFull`](TpmError::NvFull), [`Auth`](TpmError::Auth) where the owner's password is missing or wrong.
    pub async fn persist(&self, file: KeyFile, handle: u32) -> Result<PersistentKey, TpmError> {
        self.run(move |device| device.persist(&file, handle)).await
    }

    /// Puts a primary at a persistent handle, so that it need not be made again, nor its hierarchy's password be shown, by whoever uses a key under it.
    ///
    /// # Errors
    /// As [`persist`](Self::persist); [`HandleTaken`](TpmError::HandleTaken), too, where the parent is at a persistent handle already.
    pub async fn persist_primary(&self, primary: Parent, handle: u32) -> Result<PersistentKey, TpmError> {
        self.run(move |device| device.persist_primary(primary, handle)).await
    }

    /// Takes the key at a persistent handle out of the TPM. Where no file holds it, it is lost. The owner's password is needed.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`NoKey`](TpmError::NoKey), [`HandleRange`](TpmError::HandleRange), [`Auth`](TpmError::Auth).
    pub async fn evict(&self, handle: u32) -> Result<(), TpmError> {
        self.run(move |device| device.evict(handle)).await
    }

    /// What is at the TPM's persistent handles, lowest first: keys of others, too. Needs no password.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn persistent(&self) -> Result<Vec<PersistentKey>, TpmError> {
        self.run(Device::persistent).await
    }
}

impl Device {
    fn persist(&mut self, file: &KeyFile, handle: u32) -> Result<PersistentKey, TpmError> {
        let target = owners(handle)?;
        self.run(|live| {
            let key = live.load(file, false)?;
            let kept = live.keep(key.into(), target, handle);
            live.flush(key.into())?;
            kept.map(|()| PersistentKey { handle, description: file.describe() })
        })
    }

    fn persist_primary(&mut self, primary: Parent, handle: u32) -> Result<PersistentKey, TpmError> {
        let target = owners(handle)?;
        if let Parent::Persistent(taken) = primary {
            return Err(TpmError::HandleTaken(taken));
        }
        self.run(|live| {
            live.with_parent(primary, |live, key| {
                live.keep(key.handle().into(), target, handle)?;
                Ok(PersistentKey { handle, description: KeyDescription::of(key.public()) })
            })
        })
    }

    fn evict(&mut self, handle: u32) -> Result<(), TpmError> {
        let target = owners(handle)?;
        self.run(|live| {
            let mut object = live.persistent(handle)?;
            match live.evict_control(object, target) {
                Ok(_) => Ok(()),
                Err(e) => live.context.tr_close(&mut object).map_err(|e| TpmError::of("closing a persistent key", e)).and(Err(e)),
            }
        })
    }

    fn persistent(&mut self) -> Result<Vec<PersistentKey>, TpmError> {
        self.run(|live| {
            let keys = live.handles(TPM2_PERSISTENT_FIRST)?.into_iter().map(|handle| match describe(live, handle) {
                // One that cannot be read hides no other.
                Err(error) if !error.is_break() => Ok(PersistentKey { handle: handle.into(), description: KeyDescription::unknown() }),
                described => described,
            });
            keys.collect()
        })
    }
}

impl Live {
    /// The key stays where it is, too.
    fn keep(&mut self, object: ObjectHandle, target: Persistent, handle: u32) -> Result<(), TpmError> {
        let mut kept = self.evict_control(object, target).map_err(|e| match e {
            // TPM_RC_NV_DEFINED
            TpmError::Command { code: 0x14c, .. } => TpmError::HandleTaken(handle),
            // TPM_RC_NV_SPACE
            TpmError::Command { code: code @ 0x14b, .. } => TpmError::NvFull(code),
            other => other,
        })?;
        self.context.tr_close(&mut kept).map_err(|e| TpmError::of("closing a persistent key", e))
    }

    fn evict_control(&mut self, object: ObjectHandle, target: Persistent) -> Result<ObjectHandle, TpmError> {
        self.as_owner("TPM2_EvictControl", |c| c.evict_control(Provision::Owner, object, target))
    }
}

fn owners(handle: u32) -> Result<Persistent, TpmError> {
    let handle = Some(handle).filter(|handle| OWNER_RANGE.contains(handle)).ok_or(TpmError::HandleRange(handle))?;
    PersistentTpmHandle::new(handle).map(Persistent::Persistent).map_err(|_| TpmError::HandleRange(handle))
}

fn describe(live: &mut Live, handle: Handle) -> Result<PersistentKey, TpmError> {
    let handle = u32::from(handle);
    let mut object = live.persistent(handle)?;
    let read = live.context.execute_without_session(|c| c.read_public(KeyHandle::from(object)));
    live.context.tr_close(&mut object).map_err(|e| TpmError::of("closing a persistent key", e))?;
    let description = match read.map_err(|e| TpmError::of("TPM2_ReadPublic", e)) {
        // The name as the TPM says it: this crate makes names with SHA-256 only.
        Ok((public, name, _)) => KeyDescription { name: name.value().to_vec(), ..KeyDescription::of(&public) },
        // tss-esapi has no type for it. The others are to be seen all the same.
        Err(TpmError::Command { code: 0, .. }) => KeyDescription::unknown(),
        Err(other) => return Err(other),
    };
    Ok(PersistentKey { handle, description })
}
