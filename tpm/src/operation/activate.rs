//! TPM2_ActivateCredential (TCG part 3, 12.5): a secret that opens only where an endorsement key and another key are in one TPM.

use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{EncryptedSecret, IdObject};
use zeroize::Zeroizing;

use crate::connection::device::Device;
use crate::connection::live::Live;
use crate::connection::loaded::{Loaded, Slot};
use crate::connection::parents::ParentKey;
use crate::object::blob::sized;
use crate::{KeySource, Parent, TpmError, TpmKey};

impl TpmKey {
    /// Opens a credential that somebody made (TPM2_MakeCredential, or in software) for this key's name and this TPM's endorsement key: `ek` is that, or a
    /// persistent handle. Both parts come as TPM2B, with their sizes: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`OtherCredential`](TpmError::OtherCredential) where it was made for another key or TPM.
    pub async fn activate_credential(&self, ek: Parent, id_object: &[u8], secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let part = |bytes: &[u8]| sized(bytes).map(<[u8]>::to_vec).ok_or(TpmError::OtherCredential(0));
        let (id_object, secret) = (part(id_object)?, part(secret)?);
        self.run(move |device, slot, source| device.activate(slot, source, ek, &id_object, &secret)).await
    }
}

impl Device {
    fn activate(
        &mut self,
        slot: Slot,
        source: &KeySource,
        ek: Parent,
        id_object: &[u8],
        secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            live.with_parent(ek, |live, ek| live.activate(&key, ek, id_object, secret))
        })
    }
}

impl Live {
    /// The key's administrator is asked, and the endorsement key's user: two sessions, of which one encrypts.
    fn activate(&mut self, key: &Loaded, ek: &ParentKey, id_object: &[u8], secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let damaged = |_| TpmError::OtherCredential(0);
        let id_object = IdObject::try_from(id_object.to_vec()).map_err(damaged)?;
        let secret = EncryptedSecret::try_from(secret.to_vec()).map_err(damaged)?;
        let of_ek = match self.parent_session(ek)? {
            AuthSession::PolicySession(session) => AuthSession::PolicySession(session),
            // A session authorises one key of a command: here it is the other's.
            _ => {
                return Err(TpmError::NotForThis {
                    kind: "a storage key".to_owned(),
                    operation: "open credentials: name an endorsement key",
                });
            }
        };
        self.set_encryption(of_ek, false, false)?;
        let opened = self.as_admin(key, ek, "TPM2_ActivateCredential", |c, handle| {
            let (of_key, ..) = c.sessions();
            c.execute_with_sessions((of_key, Some(of_ek), None), |c| c.activate_credential(handle, ek.handle(), id_object, secret))
        });
        self.set_encryption(of_ek, true, true)?;
        match opened {
            Ok(opened) => Ok(Zeroizing::new(opened.value().to_vec())),
            // TPM_RC_INTEGRITY: another key's name, or damaged. The others: not even of the form that this endorsement key has.
            Err(TpmError::OtherTpm(code)) => Err(TpmError::OtherCredential(code)),
            Err(TpmError::Command { code, .. }) if [0x84, 0x95, 0xa7, 0x9a].contains(&(code & 0xbf)) && code >> 16 == 0 => {
                Err(TpmError::OtherCredential(code))
            }
            Err(TpmError::OutOfOrder(code)) if self.works() => Err(TpmError::OtherCredential(code)),
            Err(other) => Err(other),
        }
    }
}
