//! Whom a session is salted to. One place decides it, and no session starts without what it hands out: [`SaltKey`] has no other maker.
//!
//! Nothing that TPM2_CreatePrimary answers is authenticated. Somebody who sits in the bus can answer with a key of their own, and then knows
//! all that travels in a session that is salted to it. So a pinned name is compared each time the endorsement key is made.

use tss_esapi::constants::SessionType;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::SymmetricDefinition;

use super::live::Live;
use super::parents::ParentKey;
use crate::object::name::{hex, name_of};
use crate::{Parent, PrimaryAlgorithm, TpmError};

/// A key that a session may be salted to: the endorsement key, its name compared where one is pinned; a parent where none is.
pub(super) struct SaltKey {
    handle: KeyHandle,
    /// Whether it was made for this, and is to be flushed.
    is_own: bool,
}

impl Live {
    /// The parent's key where there is one and no other is pinned: it is loaded already. Else the endorsement key.
    pub(super) fn salt_key(&mut self, parent: Option<&ParentKey>) -> Result<SaltKey, TpmError> {
        match (parent, &self.settings.session_key_name) {
            (Some(parent), None) => Ok(SaltKey { handle: parent.handle(), is_own: false }),
            _ => self.endorsement_key().map(|(handle, _)| SaltKey { handle, is_own: true }),
        }
    }

    /// The endorsement key's name.
    pub(crate) fn ek_name(&mut self) -> Result<Vec<u8>, TpmError> {
        let (handle, name) = self.endorsement_key()?;
        self.flush(handle.into()).map(|()| name)
    }

    /// The endorsement key and its name. Where one is pinned, that one, be it the ECC or the RSA one, or an error.
    fn endorsement_key(&mut self) -> Result<(KeyHandle, Vec<u8>), TpmError> {
        let (handle, name) = self.made_endorsement_key(self.salt_algorithm)?;
        let Some(pinned) = self.settings.session_key_name.clone().filter(|pinned| *pinned != name) else { return Ok((handle, name)) };
        self.flush(handle.into())?;
        if self.salt_algorithm == PrimaryAlgorithm::Ecc {
            // go-tpm's tools and tpm2_createek without a flag speak of the RSA one.
            let (handle, rsa_name) = self.made_endorsement_key(PrimaryAlgorithm::Rsa)?;
            if rsa_name == pinned {
                self.salt_algorithm = PrimaryAlgorithm::Rsa;
                return Ok((handle, rsa_name));
            }
            self.flush(handle.into())?;
        }
        Err(TpmError::SessionKey { found: hex(&name) })
    }

    fn made_endorsement_key(&mut self, algorithm: PrimaryAlgorithm) -> Result<(KeyHandle, Vec<u8>), TpmError> {
        let key = self.make_primary(Parent::EndorsementKey(algorithm))?;
        match name_of(key.public()) {
            Some(name) => Ok((key.handle(), name)),
            None => self.flush(key.handle().into()).and(Err(TpmError::Contradiction("the endorsement key"))),
        }
    }

    /// TPM2_StartAuthSession
    pub(super) fn start(&mut self, salt: SaltKey, kind: SessionType) -> Result<AuthSession, TpmError> {
        let started = self.context.execute_without_session(|c| {
            c.start_auth_session(Some(salt.handle), None, None, kind, SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256)
        });
        let flushed = if salt.is_own { self.flush(salt.handle.into()) } else { Ok(()) };
        let session = started
            .map_err(|e| TpmError::of("TPM2_StartAuthSession", e))?
            .ok_or(TpmError::Command { operation: "TPM2_StartAuthSession", code: 0 })?;
        flushed.map(|()| session)
    }
}
