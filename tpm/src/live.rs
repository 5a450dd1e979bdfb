//! One connection to the TPM: its context, its sessions, the keys that are loaded through it. Lost together.

use std::collections::HashMap;

use tss_esapi::Context;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek};
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::{CapabilityType, PropertyTag, SessionType, tss};
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{CapabilityData, Digest, Public, SymmetricDefinition};

use crate::actor::{BusEncryption, KeySource, Settings, Slot};
use crate::error::Protected;
use crate::policy::{PcrCommand, PolicyCommand, one_register};
use crate::tcti::Kind;
use crate::template::{self, EMPTY_PASSWORD, KeyKind, hex, name_of};
use crate::{Parent, Policy, Tcti, TpmError};

pub(crate) struct Live {
    pub(crate) context: Context,
    settings: Settings,
    session: Option<AuthSession>,
    policy_session: Option<PolicySession>,
    keys: HashMap<Slot, Loaded>,
    /// The public area of the persistent parent in use; a primary's is known.
    pub(crate) parent_public: Option<Public>,
    /// Whether the connection broke where that is not the error to be told.
    pub(crate) is_broken: bool,
}

/// A key in the TPM.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) handle: KeyHandle,
    pub(crate) public: Public,
    policy: Policy,
    pub(crate) has_password: bool,
    /// Whether its password, or that it has none, was found right.
    is_proven: bool,
    is_persistent: bool,
}

impl Loaded {
    pub(crate) fn kind(&self) -> Option<KeyKind> {
        KeyKind::of(&self.public)
    }
}

impl Live {
    pub(crate) fn connect(tcti: &Tcti, settings: &Settings) -> Result<Self, TpmError> {
        let name_conf = tcti.to_name_conf().map_err(|e| TpmError::of("reading the TCTI", e))?;
        let context = Context::new(name_conf).map_err(|e| {
            let hint = match tcti.kind {
                Kind::Swtpm { .. } => "does something else listen there?",
                Kind::Tabrmd => "is tpm2-abrmd running, and libtss2-tcti-tabrmd0 installed?",
                Kind::Device(_) => "is another program using it? /dev/tpmrm0 can be shared, /dev/tpm0 cannot",
            };
            TpmError::Unreachable { tcti: tcti.clone(), why: format!("{hint} [0x{:x}]", crate::error::code_of(e)) }
        })?;
        let mut live = Self {
            context,
            settings: settings.clone(),
            session: None,
            policy_session: None,
            keys: HashMap::new(),
            parent_public: None,
            is_broken: false,
        };
        if let Some(password) = &settings.owner_password {
            live.set_auth(ObjectHandle::Owner, password)?;
        }
        Ok(live)
    }

    pub(crate) fn flush_leftovers(&mut self) -> Result<(), TpmError> {
        for first in [tss::TPM2_TRANSIENT_FIRST, tss::TPM2_LOADED_SESSION_FIRST] {
            for handle in self.handles(first)? {
                let leftover = self.context.execute_without_session(|c| c.tr_from_tpm_public(handle));
                let leftover = leftover.map_err(|e| TpmError::of("looking at a handle that was left behind", e))?;
                match self.flush(leftover) {
                    // tss-esapi counts policy sessions among what is closed, not flushed: it complains once it has flushed one.
                    Err(TpmError::Command { code: 0, .. })
                        if matches!(handle, TpmHandle::PolicySession(_) | TpmHandle::SavedSession(_)) => {}
                    flushed => flushed?,
                }
                tracing::debug!(?handle, "flushed a handle that a killed process left in the TPM");
            }
        }
        Ok(())
    }

    /// The handles from `first` on (TPM2_GetCapability).
    pub(crate) fn handles(&mut self, first: u32) -> Result<Vec<TpmHandle>, TpmError> {
        let answer = self.context.execute_without_session(|c| c.get_capability(CapabilityType::Handles, first, 254));
        match answer.map_err(|e| TpmError::of("TPM2_GetCapability", e))? {
            (CapabilityData::Handles(handles), _) => Ok(handles.into_inner()),
            _ => Ok(Vec::new()),
        }
    }

    pub(crate) fn property(&mut self, tag: PropertyTag) -> Option<u32> {
        let answer = self.context.execute_without_session(|c| c.get_capability(CapabilityType::TpmProperties, tag.into(), 1));
        let answer = answer.map_err(|e| self.is_broken |= TpmError::of("TPM2_GetCapability", e).is_break()).ok()?;
        match answer.0 {
            CapabilityData::TpmProperties(properties) => properties.find(tag).map(|property| property.value()),
            _ => None,
        }
    }

    pub(crate) fn flush(&mut self, handle: ObjectHandle) -> Result<(), TpmError> {
        self.context.execute_without_session(|c| c.flush_context(handle)).map_err(|e| TpmError::of("TPM2_FlushContext", e))
    }

    pub(crate) fn set_auth(&mut self, handle: ObjectHandle, password: &crate::Password) -> Result<(), TpmError> {
        let set = password.to_auth().and_then(|auth| self.context.tr_set_auth(handle, auth));
        set.map_err(|e| TpmError::of("setting a password", e))
    }

    /// What a failed command means when this was protected: whose password it is, and how many tries there are.
    pub(crate) fn explain(&mut self, what: Protected, was_given: bool, is_guarded: bool, error: TpmError) -> TpmError {
        match error {
            TpmError::Auth { code, .. } => {
                let tries_left = is_guarded.then(|| self.tries_left()).flatten();
                TpmError::Auth { what, was_given, is_counted: is_guarded, tries_left, code }
            }
            TpmError::Lockout { code, .. } => TpmError::Lockout { seconds: self.property(PropertyTag::LockoutInterval), code },
            other => other,
        }
    }

    fn tries_left(&mut self) -> Option<u32> {
        let allowed = self.property(PropertyTag::MaxAuthFail)?;
        Some(allowed.saturating_sub(self.property(PropertyTag::LockoutCounter)?))
    }

    /// Runs `operation` with the parent's handle; a primary is flushed afterwards, whatever happens.
    pub(crate) fn with_parent<T>(
        &mut self,
        parent: Parent,
        operation: impl FnOnce(&mut Self, KeyHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        match parent {
            Parent::H2Primary => {
                self.parent_public = None;
                let session = self.owner_session()?;
                let primary = self
                    .context
                    .execute_with_session(session, |c| c.create_primary(Hierarchy::Owner, template::h2_parent()?, None, None, None, None));
                let was_given = self.settings.owner_password.is_some();
                let primary = primary
                    .map_err(|e| TpmError::of("TPM2_CreatePrimary", e))
                    .map_err(|e| self.explain(Protected::Owner, was_given, false, e))?
                    .key_handle;
                let result = operation(self, primary);
                let flushed = self.flush(primary.into());
                result.and_then(|done| flushed.map(|()| done))
            }
            Parent::Persistent(handle) => {
                let mut object = self.persistent(handle).map_err(|e| match e {
                    TpmError::NoKey { handle, code } => TpmError::NoParent { handle, code },
                    other => other,
                })?;
                self.parent_public = Some(self.read_public(object.into())?);
                if let Some(password) = self.settings.parent_password.clone() {
                    self.set_auth(object, &password)?;
                }
                let result = operation(self, KeyHandle::from(object));
                let closed = self.context.tr_close(&mut object).map_err(|e| TpmError::of("closing the parent", e));
                result.and_then(|done| closed.map(|()| done))
            }
        }
    }

    /// A password travels in no clear session: the owner's session is salted with the endorsement key.
    fn owner_session(&mut self) -> Result<Option<AuthSession>, TpmError> {
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
    pub(crate) fn explain_parent(&mut self, parent: Parent, error: TpmError) -> TpmError {
        let was_given = matches!(parent, Parent::Persistent(_)) && self.settings.parent_password.is_some();
        // Whether its wrong passwords are counted.
        let is_guarded = self.parent_public.as_ref().is_some_and(|public| !public.object_attributes().no_da());
        let error = if is_guarded { error.with_unproven_password() } else { error };
        self.explain(Protected::Parent, was_given, is_guarded, error)
    }

    pub(crate) fn has_parent_password(&self) -> bool {
        self.settings.parent_password.is_some()
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
    fn session_without_parent(&mut self) -> Result<AuthSession, TpmError> {
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

    /// The key of `slot`, which is loaded first where it is not yet.
    pub(crate) fn loaded(&mut self, slot: Slot, source: &KeySource) -> Result<Loaded, TpmError> {
        if let Some(key) = self.keys.get(&slot) {
            return Ok(key.clone());
        }
        let key = match source {
            KeySource::File { file, .. } => {
                let (handle, policy) = (self.load(file)?, file.policy().clone());
                let has_password = source.password().is_some();
                Loaded { handle, public: file.public().clone(), policy, has_password, is_proven: false, is_persistent: false }
            }
            KeySource::Handle { handle, policy, .. } => {
                let object = self.persistent(*handle)?;
                self.session_without_parent()?;
                if !policy.is_empty() {
                    self.policy_session_for(source)?;
                }
                let public = self.read_public(object.into())?;
                let has_password = source.password().is_some();
                Loaded { handle: object.into(), public, policy: policy.clone(), has_password, is_proven: false, is_persistent: true }
            }
        };
        if let Some(password) = source.password() {
            self.set_auth(key.handle.into(), password)?;
        }
        self.keys.insert(slot, key.clone());
        Ok(key)
    }

    /// TPM2_Load, and a policy session where the key's use wants one. The caller flushes the key.
    pub(crate) fn load(&mut self, file: &crate::KeyFile) -> Result<KeyHandle, TpmError> {
        self.with_parent(file.parent(), |live, parent| {
            if !file.policy().is_empty() {
                live.session(parent)?;
                live.start_policy_session(parent)?;
            }
            let session = live.parent_session(file.parent(), parent)?;
            let load = |c: &mut Context| c.load(parent, file.private().clone(), file.public().clone());
            let loaded = live.context.execute_with_session(Some(session), load).map_err(|e| TpmError::of("TPM2_Load", e));
            loaded.map_err(|e| live.explain_parent(file.parent(), e))
        })
    }

    pub(crate) fn unload(&mut self, slot: Slot) -> Result<(), TpmError> {
        match self.keys.remove(&slot) {
            None => Ok(()),
            Some(key) if key.is_persistent => {
                self.context.tr_close(&mut key.handle.into()).map_err(|e| TpmError::of("closing a persistent key", e))
            }
            Some(key) => self.flush(key.handle.into()),
        }
    }

    /// Runs a command that the key's user may run, in a session that fulfils its policy.
    pub(crate) fn with_key<T>(
        &mut self,
        key: &Loaded,
        bus: BusEncryption,
        operation: &'static str,
        command: impl Fn(&mut Context, KeyHandle) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let missing = TpmError::Command { operation, code: 0 };
        // A register may change between the policy's command and the key's: then once more.
        for is_last in [false, true] {
            let session = match (self.policy_session, self.session, bus) {
                (Some(session), _, _) if !key.policy.is_empty() => {
                    self.replay(session, key)?;
                    Some(AuthSession::PolicySession(session))
                }
                // A password never travels in clear, so with one the session stays.
                (_, _, BusEncryption::Off) if !key.has_password => EMPTY_PASSWORD,
                (_, Some(session), _) => Some(session),
                _ => return Err(missing),
            };
            let result = self.context.execute_with_session(session, |c| command(c, key.handle)).map_err(|e| TpmError::of(operation, e));
            match result {
                Err(TpmError::Command { code: 0x128, .. }) if !is_last => {}
                result => return self.judge(key, result),
            }
        }
        Err(missing)
    }

    /// Runs a command that only the key's administrator may run: with its password, whatever its policy (adminWithPolicy is clear).
    pub(crate) fn as_admin<T>(
        &mut self,
        key: &Loaded,
        operation: &'static str,
        command: impl FnOnce(&mut Context, KeyHandle) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let result = self.context.execute_with_session(self.session, |c| command(c, key.handle)).map_err(|e| TpmError::of(operation, e));
        self.judge(key, result)
    }

    /// What came of a command for which a key's password was shown, or the empty one.
    fn judge<T>(&mut self, key: &Loaded, result: Result<T, TpmError>) -> Result<T, TpmError> {
        let is_guarded = !key.public.object_attributes().no_da();
        match result {
            Ok(done) => {
                self.keys.values_mut().filter(|loaded| loaded.handle == key.handle).for_each(|loaded| loaded.is_proven = true);
                Ok(done)
            }
            Err(error) if is_guarded && !key.is_proven => {
                Err(self.explain(Protected::Key, key.has_password, is_guarded, error.with_unproven_password()))
            }
            Err(error) => Err(self.explain(Protected::Key, key.has_password, is_guarded, error)),
        }
    }

    /// Fulfils the key's policy anew: a policy session is good for one command.
    fn replay(&mut self, session: PolicySession, key: &Loaded) -> Result<(), TpmError> {
        self.restart(session)?;
        for command in &key.policy.0 {
            let done = self.context.execute_without_session(|c| match command {
                PolicyCommand::Pcr(pcr) => c.policy_pcr(session, Digest::try_from(pcr.digest.clone())?, pcr.list()?),
                PolicyCommand::AuthValue | PolicyCommand::Password => c.policy_auth_value(session),
            });
            done.map_err(|e| match (TpmError::of("TPM2_PolicyPCR", e), command) {
                // TPM_RC_VALUE: the registers do not hash to the digest.
                (TpmError::Command { code, .. }, PolicyCommand::Pcr(_)) if code & 0xbf == 0x84 => TpmError::PcrChanged(self.changed(key)),
                (other, _) => other,
            })?;
        }
        Ok(())
    }

    /// Which registers are not as the policy wants them, as far as that can be known: one by one where they were asked for one by one.
    fn changed(&mut self, key: &Loaded) -> String {
        let changed: Vec<String> = key.policy.pcrs().filter(|pcr| !self.is_fulfilled(pcr)).map(ToString::to_string).collect();
        changed.join(", ")
    }

    pub(crate) fn is_fulfilled(&mut self, pcr: &PcrCommand) -> bool {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for (bank, registers) in &pcr.selection {
            for register in registers {
                match self.read_pcr(*bank, *register) {
                    Ok(value) => hash.update(&value),
                    Err(_) => return false,
                }
            }
        }
        hash.finalize()[..] == pcr.digest
    }

    pub(crate) fn read_pcr(&mut self, bank: crate::PcrBank, register: u8) -> Result<Vec<u8>, TpmError> {
        let read = self.context.execute_without_session(|c| c.pcr_read(one_register(bank, register)?));
        let (_, _, values) = read.map_err(|e| TpmError::of("TPM2_PCR_Read", e))?;
        values.value().first().map(|value| value.value().to_vec()).ok_or(TpmError::NoBank(bank))
    }
}
