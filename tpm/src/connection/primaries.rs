//! Primaries: made from a hierarchy's seed (TPM2_CreatePrimary), or, to use a key that exists, taken as a process before this one kept them
//! (TPM2_ContextSave, TPM2_ContextLoad).
//!
//! A kept one is held to what one that was made is held to: it is the template's, and the TPM says that the object that it has loaded is this one
//! (which, as the answer to TPM2_CreatePrimary, nothing authenticates). Whoever can write into the folder can have another object of this
//! TPM loaded, but not a parent whose private part they know: the template is fixed to the TPM. One that has no private part there would
//! still be shown as the TPM's own. So keys are loaded and sessions started under a kept primary, both of which take the private part; where a parent is shown, or a
//! key made, imported or moved, the primary is made anew.

use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::structures::Public;

use super::live::{EMPTY_PASSWORD, Live};
use super::parents::ParentKey;
use crate::error::Protected;
use crate::object::saved::SavedPrimary;
use crate::object::template;
use crate::{Parent, PrimaryAlgorithm, TpmError};

impl Live {
    /// As [`with_parent`](Self::with_parent), to load a key or to start a session: a primary that was kept will do, and one that is made is kept. What
    /// fails under a kept one is tried once more under one that is made.
    pub(super) fn with_kept_parent<T>(
        &mut self,
        parent: Parent,
        operation: impl Fn(&mut Self, &ParentKey) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        if self.kept.is_none() || matches!(parent, Parent::Persistent(_)) {
            return self.with_parent(parent, operation);
        }
        if let Some(key) = self.load_primary(parent)? {
            match self.use_primary(&key, &operation) {
                Err(error) if !error.is_break() => tracing::debug!(%error, "a kept primary is of no use"),
                done => return done,
            }
        }
        let key = self.make_primary(parent)?;
        self.use_primary(&key, |live, key| {
            live.keep_primary(key);
            operation(live, key)
        })
    }

    /// Runs `operation` with a primary, which is flushed afterwards, whatever happens.
    pub(super) fn use_primary<T>(
        &mut self,
        key: &ParentKey,
        operation: impl FnOnce(&mut Self, &ParentKey) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let result = operation(self, key);
        let flushed = self.flush(key.handle.into());
        result.and_then(|done| flushed.map(|()| done))
    }

    /// Runs `operation` with a storage key of the null hierarchy, whose seed ends with the TPM's next reset and which nobody owns: what is made under it
    /// needs no owner's password and is of no use later.
    pub(crate) fn with_null_primary<T>(
        &mut self,
        operation: impl FnOnce(&mut Self, &ParentKey) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let key = self.make_primary_in(Hierarchy::Null, Parent::H2Primary)?;
        self.use_primary(&key, operation)
    }

    /// TPM2_CreatePrimary
    pub(super) fn make_primary(&mut self, parent: Parent) -> Result<ParentKey, TpmError> {
        let hierarchy = if matches!(parent, Parent::EndorsementKey(_)) { Hierarchy::Endorsement } else { Hierarchy::Owner };
        self.make_primary_in(hierarchy, parent)
    }

    fn make_primary_in(&mut self, hierarchy: Hierarchy, parent: Parent) -> Result<ParentKey, TpmError> {
        let wanted = template_of(parent)?;
        let (session, protected, was_given) = match hierarchy {
            Hierarchy::Owner => (self.owner_session()?, Protected::Owner, self.settings.owner_password.is_some()),
            _ => (EMPTY_PASSWORD, Protected::Endorsement, false),
        };
        let (operation, what) = match parent {
            Parent::EndorsementKey(_) => ("TPM2_CreatePrimary for the endorsement key", "the endorsement key"),
            _ => ("TPM2_CreatePrimary", "the primary key"),
        };
        let made = self.context.execute_with_session(session, |c| c.create_primary(hierarchy, wanted.clone(), None, None, None, None));
        let made = made.map_err(|e| TpmError::of(operation, e)).map_err(|e| self.explain(protected, was_given, false, e))?;
        if template::is_made_by(&made.out_public, &wanted) {
            return Ok(ParentKey { parent, handle: made.key_handle, public: made.out_public });
        }
        self.flush(made.key_handle.into()).and(Err(TpmError::Contradiction(what)))
    }

    /// TPM2_ContextLoad. `None` where nothing was kept that is the primary.
    fn load_primary(&mut self, parent: Parent) -> Result<Option<ParentKey>, TpmError> {
        let Some(saved) = self.kept.as_ref().and_then(|kept| kept.read(file_of(parent))) else { return Ok(None) };
        if !template::is_made_by(saved.public(), &template_of(parent)?) {
            return Ok(None);
        }
        let loaded = self.context.execute_without_session(|c| c.context_load(saved.context()));
        let handle = match loaded.map_err(|e| TpmError::of("TPM2_ContextLoad", e)) {
            Ok(handle) => KeyHandle::from(handle),
            Err(error) if error.is_break() => return Err(error),
            // Another TPM's, or this one's before its reset.
            Err(error) => {
                tracing::debug!(%error, "a kept primary is of no use");
                if let Some(kept) = &self.kept {
                    kept.remove(file_of(parent));
                }
                return Ok(None);
            }
        };
        let read = self.context.execute_without_session(|c| c.read_public(handle));
        match read.map_err(|e| TpmError::of("TPM2_ReadPublic", e)) {
            Ok((public, _, _)) if public == *saved.public() => Ok(Some(ParentKey { parent, handle, public })),
            Err(error) if error.is_break() => Err(error),
            _ => self.flush(handle.into()).map(|()| None),
        }
    }

    /// TPM2_ContextSave. That it fails is no harm.
    fn keep_primary(&mut self, key: &ParentKey) {
        let saved = self.context.execute_without_session(|c| c.context_save(key.handle.into()));
        let saved = saved.map_err(|e| TpmError::of("TPM2_ContextSave", e)).inspect_err(|error| self.is_broken |= error.is_break());
        let saved = saved.ok().and_then(SavedPrimary::new).filter(|saved| *saved.public() == key.public);
        if let (Some(kept), Some(saved)) = (&self.kept, saved) {
            kept.write(file_of(key.parent), &saved);
        }
    }
}

fn template_of(parent: Parent) -> Result<Public, TpmError> {
    let template = match parent {
        Parent::ToolsPrimary(algorithm) => template::tools_parent(algorithm),
        Parent::EndorsementKey(algorithm) => template::endorsement_key(algorithm),
        _ => template::h2_parent(),
    };
    template.map_err(|e| TpmError::of("describing the primary", e))
}

fn file_of(parent: Parent) -> &'static str {
    match parent {
        Parent::ToolsPrimary(PrimaryAlgorithm::Rsa) => "tools-rsa",
        Parent::ToolsPrimary(PrimaryAlgorithm::Ecc) => "tools-ecc",
        Parent::EndorsementKey(PrimaryAlgorithm::Rsa) => "ek-rsa",
        Parent::EndorsementKey(PrimaryAlgorithm::Ecc) => "ek-ecc",
        _ => "h2",
    }
}
