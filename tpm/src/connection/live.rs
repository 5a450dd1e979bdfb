//! One connection to the TPM: its context, its sessions, the keys that are loaded through it. Lost together.

use std::collections::HashMap;

use tss_esapi::Context;
use tss_esapi::constants::{CapabilityType, PropertyTag, tss};
use tss_esapi::handles::{KeyHandle, ObjectHandle, TpmHandle};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{CapabilityData, Public};

use super::kept::Kept;
use super::loaded::{Loaded, Slot};
use super::tcti::Kind;
use super::{Settings, Tcti};
use crate::error::Protected;
use crate::object::name::name_of;
use crate::object::pcr::one_register;
use crate::{PrimaryAlgorithm, TpmError};

/// The authorisation for objects without an auth value, where nothing that travels needs hiding.
pub(crate) const EMPTY_PASSWORD: Option<AuthSession> = Some(AuthSession::Password);

pub(crate) struct Live {
    pub(crate) context: Context,
    pub(super) settings: Settings,
    pub(super) kept: Option<Kept>,
    pub(super) session: Option<AuthSession>,
    pub(super) policy_session: Option<PolicySession>,
    /// Whether a policy that was fulfilled in it asked for a password.
    pub(super) policy_session_shows_password: bool,
    /// The endorsement key's that sessions are salted with: RSA once a pinned name was found to be that one's.
    pub(super) salt_algorithm: PrimaryAlgorithm,
    pub(super) keys: HashMap<Slot, Loaded>,
    /// Whether the connection broke where that is not the error to be told.
    pub(crate) is_broken: bool,
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
            kept: Kept::of(tcti, settings),
            session: None,
            policy_session: None,
            policy_session_shows_password: false,
            salt_algorithm: PrimaryAlgorithm::Ecc,
            keys: HashMap::new(),
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

    /// Whether at most `failures` wrong passwords are remembered, and one more does not lock the TPM.
    pub(crate) fn can_spare_a_try(&mut self, failures: u32) -> bool {
        let is_remembered = self.property(PropertyTag::LockoutCounter).is_some_and(|remembered| remembered <= failures);
        is_remembered && self.tries_left().is_some_and(|left| left > 1)
    }

    /// What the TPM says of an object. Its name is the one that the session's HMAC covers from then on (TCG part 1, 19.3.4: cpHash).
    pub(crate) fn read_public(&mut self, handle: KeyHandle) -> Result<Public, TpmError> {
        let read = self.context.execute_without_session(|c| c.read_public(handle));
        let (public, _, _) = read.map_err(|e| TpmError::of("TPM2_ReadPublic", e))?;
        self.must_be_named(handle.into(), &public)?;
        Ok(public)
    }

    /// The object behind a handle is the one with this public area, by the name that commands are authorised for.
    pub(crate) fn must_be_named(&mut self, handle: ObjectHandle, public: &Public) -> Result<(), TpmError> {
        let name = self.context.tr_get_name(handle).map_err(|e| TpmError::of("asking for a key's name", e))?;
        // Names of other algorithms than SHA-256 are not made here.
        match name_of(public) {
            Some(wanted) if wanted != name.value() => Err(TpmError::Contradiction("a key")),
            _ => Ok(()),
        }
    }

    pub(crate) fn read_pcr(&mut self, bank: crate::PcrBank, register: u8) -> Result<Vec<u8>, TpmError> {
        let (_, _, values) = self.ask("TPM2_PCR_Read", false, |c| c.pcr_read(one_register(bank, register)?))?;
        values.value().first().map(|value| value.value().to_vec()).ok_or(TpmError::NoBank(bank))
    }
}
