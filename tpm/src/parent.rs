//! What it takes to use a parent: its password, or, for an endorsement key, the endorsement hierarchy.

use tss_esapi::handles::{AuthHandle, KeyHandle};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, Nonce, Public};

use crate::error::Protected;
use crate::live::Live;
use crate::template::EMPTY_PASSWORD;
use crate::{Parent, TpmError};

/// TPM2_PolicySecret(TPM_RH_ENDORSEMENT), as SHA-256 (TCG EK Credential Profile, B.6.2: PolicyA).
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
    0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

impl Live {
    /// A session in which the parent can be used, for one command. Salted, with both ways encrypted.
    pub(crate) fn parent_session(&mut self, parent: Parent, handle: KeyHandle) -> Result<AuthSession, TpmError> {
        let session = self.session(handle)?;
        // Read when the parent was reached.
        let (Parent::Persistent(number), Some(public)) = (parent, &self.parent_public) else { return Ok(session) };
        if public.object_attributes().user_with_auth() {
            return Ok(session);
        }
        if public.auth_policy().value() != ENDORSEMENT_POLICY {
            return Err(TpmError::ParentPolicy(number));
        }
        let policy = self.start_policy_session(handle)?;
        self.prove_endorsement(policy)?;
        Ok(AuthSession::PolicySession(policy))
    }

    pub(crate) fn read_public(&mut self, handle: KeyHandle) -> Result<Public, TpmError> {
        let read = self.context.execute_without_session(|c| c.read_public(handle));
        read.map(|(public, _, _)| public).map_err(|e| TpmError::of("TPM2_ReadPublic", e))
    }

    pub(crate) fn restart(&mut self, session: PolicySession) -> Result<(), TpmError> {
        self.context.execute_without_session(|c| c.policy_restart(session)).map_err(|e| TpmError::of("TPM2_PolicyRestart", e))
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
