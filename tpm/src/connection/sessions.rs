//! Sessions: whom they are salted to, and what travels encrypted in them (TCG part 1, 19 and 21).

use tss_esapi::Context;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::SessionHandle;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};

use super::live::{EMPTY_PASSWORD, Live};
use super::loaded::Loaded;
use super::parents::ParentKey;
use crate::error::Protected;
use crate::{KeySource, Parent, TpmError};

impl Live {
    /// A password travels in no clear session: the owner's session is salted with the endorsement key.
    pub(super) fn owner_session(&mut self) -> Result<Option<AuthSession>, TpmError> {
        match self.settings.owner_password {
            None => Ok(EMPTY_PASSWORD),
            Some(_) => self.session(None).map(Some),
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

    /// The one session, where the parent is not loaded.
    pub(crate) fn session_for(&mut self, parent: Parent) -> Result<AuthSession, TpmError> {
        if self.session.is_some() || self.is_pinned() {
            return self.session(None);
        }
        self.with_kept_parent(parent, |live, parent| live.session(Some(parent)))
    }

    /// The one session. It is salted so that a listener on the bus cannot derive its keys.
    pub(crate) fn session(&mut self, parent: Option<&ParentKey>) -> Result<AuthSession, TpmError> {
        if let Some(session) = self.session {
            return Ok(session);
        }
        let salt = self.salt_key(parent)?;
        let session = self.start(salt, SessionType::Hmac)?;
        self.session = Some(session);
        self.set_encryption(session, true, true)?;
        Ok(session)
    }

    /// For a key with a policy. Salted as the other one.
    pub(crate) fn policy_session(&mut self, parent: Option<&ParentKey>) -> Result<PolicySession, TpmError> {
        if let Some(session) = self.policy_session {
            return Ok(session);
        }
        let salt = self.salt_key(parent)?;
        let session = self.start(salt, SessionType::Policy)?;
        let policy = PolicySession::try_from(session).map_err(|e| TpmError::of("TPM2_StartAuthSession", e))?;
        self.policy_session = Some(policy);
        self.set_encryption(session, true, true)?;
        Ok(policy)
    }

    /// The session for what lies under no parent that is known: salted against the H-2 primary, or where the owner's password is wanted
    /// for that and not known, against the endorsement key.
    pub(super) fn session_without_parent(&mut self) -> Result<AuthSession, TpmError> {
        match self.session_for(Parent::H2Primary) {
            Err(TpmError::Auth { what: Protected::Owner, .. }) => self.session(None),
            other => other,
        }
    }

    /// A policy session to use the key, salted as the other one.
    pub(crate) fn policy_session_for(&mut self, source: &KeySource) -> Result<PolicySession, TpmError> {
        if self.policy_session.is_some() || self.is_pinned() {
            return self.policy_session(None);
        }
        let parent = match source {
            KeySource::File { file, .. } => file.parent(),
            KeySource::Handle { .. } => Parent::H2Primary,
        };
        match (self.with_kept_parent(parent, |live, parent| live.policy_session(Some(parent))), source) {
            (Err(TpmError::Auth { what: Protected::Owner, .. }), KeySource::Handle { .. }) => self.policy_session(None),
            (started, _) => started,
        }
    }

    /// The policy session as it is, or another. The C library goes on showing passwords in a session in which one was asked for once, also after its policy
    /// was begun anew (TPM2_PolicyRestart), which the TPM then takes for a wrong one.
    pub(crate) fn policy_session_to_show(
        &mut self,
        session: PolicySession,
        key: &Loaded,
        shows_password: bool,
    ) -> Result<PolicySession, TpmError> {
        let is_spoilt = self.policy_session_shows_password && !shows_password;
        self.policy_session_shows_password = shows_password;
        if !is_spoilt {
            return Ok(session);
        }
        self.policy_session = None;
        self.flush(SessionHandle::from(AuthSession::PolicySession(session)).into())?;
        if self.is_pinned() {
            return self.policy_session(None);
        }
        self.with_kept_parent(key.parent, |live, parent| live.policy_session(Some(parent)))
    }

    /// Whether sessions are salted to a key whose name is known.
    pub(crate) fn is_pinned(&self) -> bool {
        self.settings.session_key_name.is_some()
    }

    /// Runs a command that needs no authorisation. Where a key is pinned, its answer is authenticated: in the session, as an audit session
    /// (TCG part 1, 30) or as one that encrypts the first parameter where that can be.
    pub(crate) fn ask<T>(
        &mut self,
        operation: &'static str,
        encrypts: bool,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        if !self.is_pinned() {
            return self.context.execute_without_session(command).map_err(|e| TpmError::of(operation, e));
        }
        let session = self.session(None)?;
        self.set_attributes(session, encrypts, false, !encrypts)?;
        let answer = self.context.execute_with_session(Some(session), command).map_err(|e| TpmError::of(operation, e));
        self.set_encryption(session, true, true)?;
        answer
    }

    /// Which way parameters travel encrypted.
    pub(crate) fn set_encryption(&mut self, session: AuthSession, to_tpm: bool, from_tpm: bool) -> Result<(), TpmError> {
        self.set_attributes(session, to_tpm, from_tpm, false)
    }

    fn set_attributes(&mut self, session: AuthSession, to_tpm: bool, from_tpm: bool, audit: bool) -> Result<(), TpmError> {
        let attributes = SessionAttributesBuilder::new().with_continue_session(true).with_decrypt(to_tpm).with_encrypt(from_tpm);
        let (attributes, mask) = attributes.with_audit(audit).build();
        self.context.tr_sess_set_attributes(session, attributes, mask).map_err(|e| TpmError::of("setting the session's attributes", e))
    }
}
