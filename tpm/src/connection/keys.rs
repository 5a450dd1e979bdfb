//! Keys in the TPM: loaded once, used in a session that shows what their use wants.

use tss_esapi::Context;
use tss_esapi::handles::{KeyHandle, ObjectHandle};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::Public;

use super::live::{EMPTY_PASSWORD, Live};
use super::loaded::{Loaded, Slot};
use super::parents::ParentKey;
use crate::error::Protected;
use crate::object::name::hex;
use crate::object::template::is_made_by;
use crate::{BusEncryption, KeySource, Parent, Policy, TpmError};

impl Live {
    /// The key of `slot`, which is loaded first where it is not yet.
    pub(crate) fn loaded(&mut self, slot: Slot, source: &KeySource) -> Result<Loaded, TpmError> {
        if let Some(key) = self.keys.get(&slot) {
            return Ok(key.clone());
        }
        let key = match source {
            KeySource::File { file, .. } => {
                let has_password = source.password().is_some();
                let handle = self.load(file, has_password || source.bus() == BusEncryption::On)?;
                let (parent, policy) = (file.parent(), file.policy().clone());
                Loaded { handle, parent, public: file.public().clone(), policy, has_password, is_proven: false, is_persistent: false }
            }
            KeySource::Handle { handle, name, policy, .. } => {
                let object = self.persistent(*handle)?;
                self.must_be_pinned(*handle, object, name.as_deref())?;
                self.session_without_parent()?;
                if !policy.is_empty() {
                    self.policy_session_for(source)?;
                }
                let public = self.read_public(object.into())?;
                let (handle, parent, policy) = (object.into(), Parent::H2Primary, policy.clone());
                let has_password = source.password().is_some();
                Loaded { handle, parent, public, policy, has_password, is_proven: false, is_persistent: true }
            }
        };
        if let Some(password) = source.password() {
            self.set_auth(key.handle.into(), password)?;
        }
        self.keys.insert(slot, key.clone());
        Ok(key)
    }

    /// TPM2_Load, and the sessions that the key's use wants, while the parent is there to salt them. The caller flushes the key.
    pub(crate) fn load(&mut self, file: &crate::KeyFile, wants_session: bool) -> Result<KeyHandle, TpmError> {
        self.with_kept_parent(file.parent(), |live, parent| {
            let has_policy = !file.policy().is_empty();
            if wants_session || has_policy {
                live.session(Some(parent))?;
            }
            if has_policy {
                live.policy_session(Some(parent))?;
            }
            let session = live.load_session(parent)?;
            let load = |c: &mut Context| c.load(parent.handle(), file.private().clone(), file.public().clone());
            let loaded = live.context.execute_with_session(session, load).map_err(|e| TpmError::of("TPM2_Load", e));
            let loaded = loaded.map_err(|e| match (live.explain_parent(parent, e), parent.parent()) {
                (TpmError::OtherTpm(code), Parent::H2Primary | Parent::ToolsPrimary(_) | Parent::EndorsementKey(_)) => {
                    TpmError::OtherPrimary(code)
                }
                (error, _) => error,
            })?;
            match live.must_be_named(loaded.into(), file.public()) {
                Ok(()) => Ok(loaded),
                Err(error) => live.flush(loaded.into()).and(Err(error)),
            }
        })
    }

    /// Makes a key that is in the TPM for now, and that no file holds: TPM2_Create and TPM2_Load under a primary of the null hierarchy. What TPM2_Create
    /// answers travels encrypted, and is forgotten here.
    pub(crate) fn make_ephemeral(&mut self, slot: Slot, template: &Public) -> Result<Loaded, TpmError> {
        let (handle, public) = self.with_null_primary(|live, parent| {
            let session = Some(live.session(Some(parent))?);
            let created =
                live.context.execute_with_session(session, |c| c.create(parent.handle(), template.clone(), None, None, None, None));
            let created = created.map_err(|e| TpmError::of("TPM2_Create", e))?;
            if !is_made_by(&created.out_public, template) {
                return Err(TpmError::Contradiction("the new key"));
            }
            let (private, public) = (created.out_private, created.out_public);
            let loaded = live.context.execute_with_session(session, |c| c.load(parent.handle(), private, public.clone()));
            let loaded = loaded.map_err(|e| TpmError::of("TPM2_Load", e))?;
            match live.must_be_named(loaded.into(), &public) {
                Ok(()) => Ok((loaded, public)),
                Err(error) => live.flush(loaded.into()).and(Err(error)),
            }
        })?;
        let (parent, policy) = (Parent::H2Primary, Policy::default());
        let key = Loaded { handle, parent, public, policy, has_password: false, is_proven: true, is_persistent: false };
        self.keys.insert(slot, key.clone());
        Ok(key)
    }

    /// The key of `slot`, where it is loaded.
    pub(crate) fn loaded_at(&self, slot: Slot) -> Option<Loaded> {
        self.keys.get(&slot).cloned()
    }

    /// What is at a persistent handle is the key whose name its user knows.
    fn must_be_pinned(&mut self, handle: u32, object: ObjectHandle, pinned: Option<&[u8]>) -> Result<(), TpmError> {
        let Some(pinned) = pinned else { return Ok(()) };
        let name = self.context.tr_get_name(object).map_err(|e| TpmError::of("asking for a key's name", e))?;
        if name.value() == pinned { Ok(()) } else { Err(TpmError::OtherKey { handle, found: hex(name.value()) }) }
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
        // A register may change between the policy's command and the key's: then once more.
        for is_last in [false, true] {
            let result = match self.policy_session.filter(|_| !key.policy.is_empty()) {
                Some(session) => self.under_policy(session, key, operation, |c| command(c, key.handle))?,
                None => {
                    let session = match bus {
                        // A password never travels in clear, so with one the session stays.
                        BusEncryption::Off if !key.has_password => EMPTY_PASSWORD,
                        _ => Some(self.session_for(key.parent)?),
                    };
                    self.context.execute_with_session(session, |c| command(c, key.handle))
                }
            };
            let result = result.map_err(|e| TpmError::of(operation, e));
            match result {
                Err(TpmError::Command { code: 0x128, .. }) if !is_last => {}
                result => return self.judge(key, result),
            }
        }
        Err(TpmError::Command { operation, code: 0 })
    }

    /// Fulfils the policy and runs the command. Parameters of a policy session are encrypted with the key's password, too, whatever the policy asks for (TCG
    /// part 1, 21.3, sessionValue), and where that is not known, the TPM takes and gives something else without an error. So a policy that
    /// does not ask for it leaves the encryption to the other session, which belongs to no key.
    fn under_policy<T>(
        &mut self,
        session: PolicySession,
        key: &Loaded,
        operation: &'static str,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<tss_esapi::Result<T>, TpmError> {
        let route = self.route(key, operation)?;
        let session = self.policy_session_to_show(session, key, route.needs_password())?;
        let policy = AuthSession::PolicySession(session);
        if route.needs_password() {
            self.follow(session, key, route)?;
            return Ok(self.context.execute_with_session(Some(policy), command));
        }
        let encrypting = self.session_for(key.parent)?;
        self.follow(session, key, route)?;
        self.set_encryption(policy, false, false)?;
        let result = self.context.execute_with_sessions((Some(policy), Some(encrypting), None), command);
        self.set_encryption(policy, true, true)?;
        Ok(result)
    }

    /// Runs a command that only the key's administrator may run: with its password, whatever its policy (adminWithPolicy is clear).
    pub(crate) fn as_admin<T>(
        &mut self,
        key: &Loaded,
        parent: &ParentKey,
        operation: &'static str,
        command: impl FnOnce(&mut Context, KeyHandle) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let session = self.session(Some(parent))?;
        let result = self.context.execute_with_session(Some(session), |c| command(c, key.handle)).map_err(|e| TpmError::of(operation, e));
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
}
