//! TPM2_Duplicate and TPM2_Import: keys from one TPM to another (TCG part 1, 23).

use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{EncryptedSecret, Private, Public, SymmetricDefinitionObject};

use crate::connection::device::Device;
use crate::connection::live::Live;
use crate::connection::loaded::{Loaded, Slot};
use crate::connection::parents::ParentKey;
use crate::connection::route::Route;
use crate::error::Protected;
use crate::object::blob;
use crate::object::policy::duplication;
use crate::object::template::{self, AuthPolicy, Origin, Unique};
use crate::{DuplicatedKey, KeyFile, KeyKind, KeySource, Parent, Policy, TpmError, TpmHandle, TpmKey};

impl TpmHandle {
    /// A storage key's public area (TPM2B_PUBLIC): what another TPM needs to send a key here ([`TpmKey::duplicate`]). Compare its name
    /// ([`KeyDescription::from_public_blob`](crate::KeyDescription::from_public_blob)) at both ends: who swaps it on its way gets the key.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn parent_public(&self, parent: Parent) -> Result<Vec<u8>, TpmError> {
        self.run(move |device| device.parent_public(parent)).await
    }

    /// Takes in a key that another TPM has encrypted to this parent (TPM2_Import). Its password comes with it.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`Duplicate`](TpmError::Duplicate) where it was made for another parent, or is damaged.
    pub async fn import_duplicate(&self, parent: Parent, key: DuplicatedKey) -> Result<KeyFile, TpmError> {
        self.run(move |device| device.import_duplicate(parent, &key)).await
    }
}

impl TpmKey {
    /// Encrypts the key to the storage key of another TPM (TPM2_Duplicate), whose public area [`TpmHandle::parent_public`] tells there.
    /// The key stays here, too: to move it, delete its file, and evict it. Whether the public area is that of a TPM is for the caller to
    /// know: one that somebody made up gets the secret out.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`NotMovable`](TpmError::NotMovable), [`NewParent`](TpmError::NewParent), [`Auth`](TpmError::Auth) where the
    /// key's password is missing or wrong.
    pub async fn duplicate(&self, new_parent: &[u8]) -> Result<DuplicatedKey, TpmError> {
        let new_parent =
            blob::public_from(new_parent).map_err(|_| TpmError::NewParent("its public area is damaged, or of an unknown kind"))?;
        must_be_storage_key(&new_parent)?;
        self.run(move |device, slot, source| device.duplicate(slot, source, &new_parent)).await
    }
}

fn must_be_storage_key(public: &Public) -> Result<(), TpmError> {
    let attributes = public.object_attributes();
    match public {
        Public::Rsa { .. } | Public::Ecc { .. } if attributes.restricted() && attributes.decrypt() && !attributes.sign_encrypt() => Ok(()),
        _ => Err(TpmError::NewParent("it is no storage key (RSA or ECC, restricted|decrypt)")),
    }
}

impl Device {
    fn parent_public(&mut self, parent: Parent) -> Result<Vec<u8>, TpmError> {
        self.run(|live| {
            let public = live.with_parent(parent, |live, parent| {
                live.prove(parent)?;
                Ok(parent.public().clone())
            })?;
            must_be_storage_key(&public)?;
            Ok(blob::public_blob(&public)?)
        })
    }

    fn import_duplicate(&mut self, parent: Parent, key: &DuplicatedKey) -> Result<KeyFile, TpmError> {
        self.run(|live| {
            live.with_parent(parent, |live, parent| {
                let session = live.parent_session(parent)?;
                let imported = live.context.execute_with_session(Some(session), |c| {
                    let (public, duplicate, secret) = (key.public.clone(), key.duplicate.clone(), key.secret.clone());
                    c.import(parent.handle().into(), None, public, duplicate, secret, SymmetricDefinitionObject::Null)
                });
                let private = imported.map_err(|e| match TpmError::of("TPM2_Import", e) {
                    TpmError::OtherTpm(code) => TpmError::Duplicate(code),
                    // Format one, about a parameter (TCG part 2, 6.6.2).
                    TpmError::Command { code, .. } if code >> 16 == 0 && code & 0xc0 == 0xc0 => TpmError::Duplicate(code),
                    other => live.explain_parent(parent, other),
                })?;
                let file = KeyFile::new(parent.parent(), key.public.clone(), private, key.empty_auth, key.policy.clone());
                Ok(match &key.description {
                    Some(description) => file.with_description(description),
                    None => file,
                })
            })
        })
    }

    fn duplicate(&mut self, slot: Slot, source: &KeySource, new_parent: &Public) -> Result<DuplicatedKey, TpmError> {
        self.run(|live| {
            let key = live.loaded(slot, source)?;
            let policy = may_be_moved(&key, source)?;
            let session = live.policy_session_for(source)?;
            let route = live.route_through(&policy, &key, "TPM2_Duplicate")?;
            let session = live.policy_session_to_show(session, &key, route.needs_password())?;
            let load = live.context.execute_without_session(|c| c.load_external_public(new_parent.clone(), Hierarchy::Null));
            let parent = load.map_err(|e| TpmError::of("TPM2_LoadExternal for the new parent", e))?;
            let named = live.must_be_named(parent.into(), new_parent);
            let duplicated = named.and_then(|()| live.duplicate(&key, parent, session, route));
            live.flush(parent.into())?;
            let (duplicate, secret) = duplicated?;
            let (empty_auth, policy, description) = match source {
                KeySource::File { file, .. } => (file.empty_auth(), file.policy().clone(), file.description().map(str::to_owned)),
                KeySource::Handle { policy, password, .. } => (password.is_none(), policy.clone(), None),
            };
            Ok(DuplicatedKey { public: key.public, duplicate, secret, empty_auth, policy, description })
        })
    }
}

/// The policy under which the key may be duplicated: the one that its file states, or ours, which no file does.
fn may_be_moved(key: &Loaded, source: &KeySource) -> Result<Policy, TpmError> {
    let attributes = key.public.object_attributes();
    if attributes.fixed_tpm() || attributes.fixed_parent() {
        let why = "it is fixed to this one (fixedtpm, fixedparent), for good. Only a key that was made movable can be moved";
        return Err(TpmError::NotMovable(why));
    }
    if attributes.encrypted_duplication() {
        return Err(TpmError::NotMovable("it wants one more key to be encrypted with (encryptedduplication)"));
    }
    if !source.policy().is_empty() {
        return Ok(source.policy().clone());
    }
    let asked = key.public.auth_policy().value();
    [true, false].map(duplication).into_iter().find(|policy| asked == policy.digest()).ok_or(TpmError::NotMovable(
        "it has no policy that allows it, or one that is not known here: only TPM2_PolicyCommandCode(TPM2_Duplicate) is, with or without \
         TPM2_PolicyAuthValue before. Only a key that was made movable can be moved",
    ))
}

impl Live {
    /// That the TPM has the parent, where somebody in the bus may claim it: a key that is thrown away is made under it, which takes its private
    /// part, in a session that they do not know. Somebody will encrypt a secret to it.
    fn prove(&mut self, parent: &ParentKey) -> Result<(), TpmError> {
        if !self.is_pinned() {
            return Ok(());
        }
        let session = self.parent_session(parent)?;
        let made = self.context.execute_with_session(Some(session), |c| {
            let public = template::key(KeyKind::HmacSha256, Origin::Tpm, false, AuthPolicy::None, Unique::Unknown)?;
            c.create(parent.handle(), public, None, None, None, None)
        });
        made.map(drop).map_err(|e| TpmError::of("TPM2_Create", e)).map_err(|e| self.explain_parent(parent, e))
    }

    /// TPM2_Duplicate, encrypted to the parent by what the TPM makes up (the outer wrapper), and by nothing more.
    fn duplicate(
        &mut self,
        key: &Loaded,
        parent: KeyHandle,
        session: PolicySession,
        route: Route,
    ) -> Result<(Private, EncryptedSecret), TpmError> {
        self.follow(session, key, route)?;
        let duplicated = self.context.execute_with_session(Some(AuthSession::PolicySession(session)), |c| {
            c.duplicate(key.handle.into(), parent.into(), None, SymmetricDefinitionObject::Null)
        });
        let duplicated = duplicated.map(|(_, duplicate, secret)| (duplicate, secret)).map_err(|e| TpmError::of("TPM2_Duplicate", e));
        let is_guarded = !key.public.object_attributes().no_da();
        duplicated.map_err(|e| self.explain(Protected::Key, key.has_password, is_guarded, e))
    }
}
