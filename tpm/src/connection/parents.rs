//! Parents: how they are reached, and what it takes to use one: its password, or, for an endorsement key, the endorsement hierarchy.

use tss_esapi::handles::{AuthHandle, KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, Nonce, Public};

use super::live::{EMPTY_PASSWORD, Live};
use crate::error::Protected;
use crate::{Parent, TpmError};

/// TPM2_PolicySecret(TPM_RH_ENDORSEMENT), as SHA-256 (TCG EK Credential Profile, B.6.2: PolicyA).
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
    0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// A parent that is reached: it is one, as far as its public area tells. That the TPM has it is shown by each command under it: the
/// session's HMAC covers its name, and TPM2_Create, TPM2_Load and TPM2_Import want its private part.
pub(crate) struct ParentKey {
    pub(super) parent: Parent,
    pub(super) handle: KeyHandle,
    pub(super) public: Public,
}

impl ParentKey {
    pub(crate) fn parent(&self) -> Parent {
        self.parent
    }

    pub(crate) fn handle(&self) -> KeyHandle {
        self.handle
    }

    pub(crate) fn public(&self) -> &Public {
        &self.public
    }
}

impl Live {
    /// Runs `operation` with the parent; a primary is flushed afterwards, whatever happens.
    pub(crate) fn with_parent<T>(
        &mut self,
        parent: Parent,
        operation: impl FnOnce(&mut Self, &ParentKey) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        match parent {
            Parent::H2Primary | Parent::ToolsPrimary(_) | Parent::EndorsementKey(_) => {
                let key = self.make_primary(parent)?;
                self.use_primary(&key, operation)
            }
            Parent::Persistent(handle) => {
                let mut object = self.persistent(handle).map_err(|e| match e {
                    TpmError::NoKey { handle, code } => TpmError::NoParent { handle, code },
                    other => other,
                })?;
                let result = self.persistent_parent(handle, object).and_then(|key| operation(self, &key));
                let closed = self.context.tr_close(&mut object).map_err(|e| TpmError::of("closing the parent", e));
                result.and_then(|done| closed.map(|()| done))
            }
        }
    }

    /// A key at a persistent handle that can be a parent, and gets the password that is known.
    fn persistent_parent(&mut self, number: u32, object: ObjectHandle) -> Result<ParentKey, TpmError> {
        let public = self.read_public(object.into())?;
        let attributes = public.object_attributes();
        if !(attributes.fixed_tpm() && attributes.restricted() && attributes.decrypt()) {
            return Err(TpmError::NotAParent(number));
        }
        if let Some(password) = self.settings.parent_password.clone() {
            self.set_auth(object, &password)?;
        }
        Ok(ParentKey { parent: Parent::Persistent(number), handle: object.into(), public })
    }

    /// What is at a persistent handle.
    pub(crate) fn persistent(&mut self, handle: u32) -> Result<ObjectHandle, TpmError> {
        let not_there = |e| match TpmError::of("TPM2_ReadPublic", e) {
            TpmError::Command { code, .. } if code >> 16 == 0 => TpmError::NoKey { handle, code },
            other => other,
        };
        let tpm_handle = PersistentTpmHandle::new(handle).map_err(not_there)?;
        self.context.execute_without_session(|c| c.tr_from_tpm_public(TpmHandle::Persistent(tpm_handle))).map_err(not_there)
    }

    /// What fails for want of the parent's password names it.
    pub(crate) fn explain_parent(&mut self, key: &ParentKey, error: TpmError) -> TpmError {
        let is_persistent = matches!(key.parent, Parent::Persistent(_));
        let was_given = is_persistent && self.settings.parent_password.is_some();
        // Whether its wrong passwords are counted.
        let is_guarded = is_persistent && !key.public.object_attributes().no_da();
        let error = if is_guarded { error.with_unproven_password() } else { error };
        self.explain(Protected::Parent, was_given, is_guarded, error)
    }

    pub(crate) fn has_parent_password(&self) -> bool {
        self.settings.parent_password.is_some()
    }

    /// A session in which the parent can be used, for one command. Salted, with both ways encrypted.
    pub(crate) fn parent_session(&mut self, key: &ParentKey) -> Result<AuthSession, TpmError> {
        let session = self.session(Some(key))?;
        if key.public.object_attributes().user_with_auth() {
            return Ok(session);
        }
        match key.parent {
            Parent::Persistent(number) if key.public.auth_policy().value() != ENDORSEMENT_POLICY => {
                return Err(TpmError::ParentPolicy(number));
            }
            _ => {}
        }
        let policy = self.policy_session(Some(key))?;
        self.prove_endorsement(policy)?;
        Ok(AuthSession::PolicySession(policy))
    }

    /// The authorisation for TPM2_Load, which carries no secret: the key's private part is encrypted to the parent. A primary has no password,
    /// and where nobody's name is pinned its own answer was not authenticated either. Each use of the loaded key in a session covers its name.
    /// So that command goes without a session there: the C library sets up OpenSSL afresh eight times for one that encrypts.
    pub(super) fn load_session(&mut self, key: &ParentKey) -> Result<Option<AuthSession>, TpmError> {
        match key.parent {
            Parent::H2Primary | Parent::ToolsPrimary(_) if !self.is_pinned() => Ok(EMPTY_PASSWORD),
            _ => self.parent_session(key).map(Some),
        }
    }

    fn prove_endorsement(&mut self, policy: PolicySession) -> Result<(), TpmError> {
        self.restart(policy)?;
        let proven = self.context.execute_with_session(EMPTY_PASSWORD, |c| {
            c.policy_secret(policy, AuthHandle::Endorsement, Nonce::default(), Digest::default(), Nonce::default(), None)
        });
        let proven = proven.map(|_| ()).map_err(|e| TpmError::of("TPM2_PolicySecret", e));
        proven.map_err(|e| self.explain(Protected::Endorsement, false, false, e))
    }
}
