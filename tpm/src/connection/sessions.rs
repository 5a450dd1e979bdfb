//! Sessions: whom they are salted to, and what travels encrypted in them (TCG part 1, 19 and 21).

use tss_esapi::Context;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek};
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::SymmetricDefinition;

use super::live::Live;
use crate::error::Protected;
use crate::object::name::{hex, name_of};
use crate::{KeySource, Parent, TpmError};

/// The authorisation for objects without an auth value, where nothing that travels needs hiding.
pub(crate) const EMPTY_PASSWORD: Option<AuthSession> = Some(AuthSession::Password);

impl Live {
    /// A password travels in no clear session: the owner's session is salted with the endorsement key.
    pub(super) fn owner_session(&mut self) -> Result<Option<AuthSession>, TpmError> {
        match self.settings.owner_password {
            None => Ok(EMPTY_PASSWORD),
            Some(_) => self.session_with_ek().map(Some),
        }
    }

    /// Runs a command of the owner that has no parameter to encrypt.
    pub(crate) fn as_owner<T>(
        &mut self,
        operation: &'static str,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let was_given = self.settings.owner_password.is_some();
        let session = self.owner_session()?;
        if let (Some(session), true) = (session, was_given) {
            self.set_encryption(session, false, false)?;
        }
        let result = self.context.execute_with_session(session, command).map_err(|e| TpmError::of(operation, e));
        if let (Some(session), true) = (session, was_given) {
            self.set_encryption(session, true, true)?;
        }
        result.map_err(|e| self.explain(Protected::Owner, was_given, false, e))
    }

    pub(crate) fn session_for(&mut self, parent: Parent) -> Result<AuthSession, TpmError> {
        match self.session {
            Some(session) => Ok(session),
            None => self.with_parent(parent, Self::session),
        }
    }

    /// The one session, salted against a storage key of this TPM so that a listener on the bus cannot derive its keys; against the
    /// endorsement key where that is pinned.
    pub(crate) fn session(&mut self, salt_key: KeyHandle) -> Result<AuthSession, TpmError> {
        match self.session {
            Some(session) => Ok(session),
            None if self.settings.session_key_name.is_some() => self.session_with_ek(),
            None => self.start_session(salt_key),
        }
    }

    fn session_with_ek(&mut self) -> Result<AuthSession, TpmError> {
        if let Some(session) = self.session {
            return Ok(session);
        }
        let (key, name) = self.ek()?;
        let session = match &self.settings.session_key_name {
            Some(pinned) if *pinned != name => Err(TpmError::SessionKey { found: hex(&name) }),
            _ => self.start_session(key),
        };
        let flushed = self.flush(key.into());
        session.and_then(|session| flushed.map(|()| session))
    }

    /// The endorsement key (TCG EK Credential Profile, template L-2: ECC P-256) and its name.
    pub(crate) fn ek(&mut self) -> Result<(KeyHandle, Vec<u8>), TpmError> {
        let selection = AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256);
        let created = self.context.execute_with_session(EMPTY_PASSWORD, |c| {
            c.create_primary(Hierarchy::Endorsement, ek::create_ek_public_from_default_template_2(selection, None)?, None, None, None, None)
        });
        let created = created
            .map_err(|e| TpmError::of("TPM2_CreatePrimary for the endorsement key", e))
            .map_err(|e| self.explain(Protected::Endorsement, false, false, e))?;
        let name = name_of(&created.out_public).ok_or(TpmError::Command { operation: "naming the endorsement key", code: 0 })?;
        Ok((created.key_handle, name))
    }

    fn start_session(&mut self, salt_key: KeyHandle) -> Result<AuthSession, TpmError> {
        let session = self.start(salt_key, SessionType::Hmac)?;
        self.set_encryption(session, true, true)?;
        self.session = Some(session);
        Ok(session)
    }

    fn start(&mut self, salt_key: KeyHandle, kind: SessionType) -> Result<AuthSession, TpmError> {
        let started = self.context.execute_without_session(|c| {
            c.start_auth_session(Some(salt_key), None, None, kind, SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256)
        });
        started
            .map_err(|e| TpmError::of("TPM2_StartAuthSession", e))?
            .ok_or(TpmError::Command { operation: "TPM2_StartAuthSession", code: 0 })
    }

    /// For a key with a policy. Salted as the other one.
    pub(crate) fn start_policy_session(&mut self, parent: KeyHandle) -> Result<PolicySession, TpmError> {
        if let Some(session) = self.policy_session {
            return Ok(session);
        }
        let started = match self.settings.session_key_name {
            None => self.start(parent, SessionType::Policy),
            Some(_) => {
                // The HMAC session has checked the endorsement key's name.
                let (key, _) = self.ek()?;
                let started = self.start(key, SessionType::Policy);
                let flushed = self.flush(key.into());
                started.and_then(|session| flushed.map(|()| session))
            }
        };
        let session = started?;
        self.set_encryption(session, true, true)?;
        let policy = PolicySession::try_from(session).map_err(|e| TpmError::of("TPM2_StartAuthSession", e))?;
        self.policy_session = Some(policy);
        Ok(policy)
    }

    /// The session for what lies under no parent that is known: salted against the H-2 primary, or where the owner's password is wanted
    /// for that and not known, against the endorsement key.
    pub(super) fn session_without_parent(&mut self) -> Result<AuthSession, TpmError> {
        match self.session_for(Parent::H2Primary) {
            Err(TpmError::Auth { what: Protected::Owner, .. }) => self.session_with_ek(),
            other => other,
        }
    }

    /// A policy session to use the key, salted as the other one.
    pub(crate) fn policy_session_for(&mut self, source: &KeySource) -> Result<PolicySession, TpmError> {
        let parent = match source {
            KeySource::File { file, .. } => file.parent(),
            KeySource::Handle { .. } => Parent::H2Primary,
        };
        match (self.with_parent(parent, Self::start_policy_session), source) {
            (Err(TpmError::Auth { what: Protected::Owner, .. }), KeySource::Handle { .. }) => {
                let (key, _) = self.ek()?;
                let session = self.start_policy_session(key);
                self.flush(key.into()).and(session)
            }
            (started, _) => started,
        }
    }

    pub(crate) fn set_encryption(&mut self, session: AuthSession, to_tpm: bool, from_tpm: bool) -> Result<(), TpmError> {
        let (attributes, mask) =
            SessionAttributesBuilder::new().with_continue_session(true).with_decrypt(to_tpm).with_encrypt(from_tpm).build();
        self.context.tr_sess_set_attributes(session, attributes, mask).map_err(|e| TpmError::of("setting the session's attributes", e))
    }
}
