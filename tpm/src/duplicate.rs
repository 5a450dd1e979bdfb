//! Keys on their way from one TPM to another (TCG part 1, 23: duplication; "ASN.1 Specification for TPM 2.0 Key Files", importable keys).

use sha2::{Digest as _, Sha256};
use tss_esapi::constants::CommandCode;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{EncryptedSecret, Private, Public, SymmetricDefinitionObject};

use crate::actor::{KeySource, Slot};
use crate::device::Device;
use crate::error::Protected;
use crate::keyfile::{self, Boolean, IMPORTABLE_KEY, RH_OWNER, TpmKeyAsn1, octets, sized, with_size};
use crate::live::{Live, Loaded};
use crate::{KeyDescription, KeyFile, KeyFileError, Parent, Policy, TpmError, TpmHandle, TpmKey};

/// TPM_CC_PolicyAuthValue, TPM_CC_PolicyCommandCode, TPM_CC_Duplicate (TCG part 2, 6.5.2)
const CC_POLICY_AUTH_VALUE: u32 = 0x16b;
const CC_POLICY_COMMAND_CODE: u32 = 0x16c;
const CC_DUPLICATE: u32 = 0x14b;

/// The authPolicy of a movable key: TPM2_PolicyCommandCode(TPM2_Duplicate). Ours ask for TPM2_PolicyAuthValue before: TPM2_Duplicate by
/// itself takes no password, so that who has the file and the TPM could take a password's key out without it. Key files do not
/// state it: what they state is replayed for each use, which this policy forbids.
pub(crate) fn duplication_digest(with_auth_value: bool) -> [u8; 32] {
    let mut digest = [0; 32];
    if with_auth_value {
        digest = Sha256::new().chain_update(digest).chain_update(CC_POLICY_AUTH_VALUE.to_be_bytes()).finalize().into();
    }
    let command = Sha256::new().chain_update(digest).chain_update(CC_POLICY_COMMAND_CODE.to_be_bytes());
    command.chain_update(CC_DUPLICATE.to_be_bytes()).finalize().into()
}

/// A key on its way to another TPM, encrypted to a storage key of that one: of use nowhere else, and no secret by itself. It is not
/// signed: whoever knows the storage key's public part can make one, of a secret that they know.
#[derive(Clone, Debug)]
pub struct DuplicatedKey {
    public: Public,
    duplicate: Private,
    secret: EncryptedSecret,
    empty_auth: bool,
    policy: Policy,
    description: Option<String>,
}

impl DuplicatedKey {
    /// Reads a `-----BEGIN TSS2 PRIVATE KEY-----` file with an importable key (2.23.133.10.1.4).
    ///
    /// # Errors
    /// When the text is no such file, or its key is not encrypted to a storage key.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let key = TpmKeyAsn1::read(text)?;
        if key.oid != IMPORTABLE_KEY {
            return Err(KeyFileError::NotImportable(key.oid.to_string()));
        }
        let secret = key.secret.as_ref().ok_or(KeyFileError::Secret)?;
        let read = Self::from_blobs(key.public.as_bytes(), key.private.as_bytes(), secret.as_bytes())?;
        let (policy, empty_auth) = (key.policy()?, key.empty_auth.is_some_and(|empty| empty.0));
        Ok(Self { policy, empty_auth, description: key.description, ..read })
    }

    /// Writes the file's text. The parent that it notes is the owner's primary: where it goes is said when it is imported.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn to_pem(&self) -> Result<String, KeyFileError> {
        let mut key = TpmKeyAsn1::new(IMPORTABLE_KEY, RH_OWNER, self.public_blob()?, self.duplicate_blob(), &self.policy)?;
        key.empty_auth = Some(Boolean(self.empty_auth));
        key.description.clone_from(&self.description);
        key.secret = Some(octets(self.secret_blob())?);
        key.write()
    }

    /// What `tpm2_duplicate -G null` makes of a key: its TPM2B_PUBLIC, the TPM2B_PRIVATE (`-r`) and the TPM2B_ENCRYPTED_SECRET (`-s`; TCG
    /// part 2, 11.4.33).
    ///
    /// # Errors
    /// When a blob is damaged, or not of the length that it states; when the secret is empty, so that the key is in clear.
    pub fn from_blobs(public: &[u8], duplicate: &[u8], secret: &[u8]) -> Result<Self, KeyFileError> {
        let secret = sized(secret).filter(|bytes| !bytes.is_empty()).and_then(|bytes| EncryptedSecret::try_from(bytes.to_vec()).ok());
        Ok(Self {
            public: keyfile::public_from(public)?,
            duplicate: keyfile::private_from(duplicate)?,
            secret: secret.ok_or(KeyFileError::Secret)?,
            empty_auth: false,
            policy: Policy::default(),
            description: None,
        })
    }

    /// TPM2B_PUBLIC, as `tpm2_import -u` takes it.
    ///
    /// # Errors
    /// When the public area cannot be encoded.
    pub fn public_blob(&self) -> Result<Vec<u8>, KeyFileError> {
        keyfile::public_blob(&self.public)
    }

    /// TPM2B_PRIVATE, as `tpm2_import -i` takes it. Encrypted with the secret's seed.
    #[must_use]
    pub fn duplicate_blob(&self) -> Vec<u8> {
        with_size(self.duplicate.value())
    }

    /// TPM2B_ENCRYPTED_SECRET, as `tpm2_import -s` takes it. The seed, encrypted to the new parent.
    #[must_use]
    pub fn secret_blob(&self) -> Vec<u8> {
        with_size(self.secret.value())
    }

    /// What the public area says. Needs no TPM.
    #[must_use]
    pub fn describe(&self) -> KeyDescription {
        KeyDescription::of(&self.public)
    }

    /// The text for people, if there is one.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }
}

impl TpmHandle {
    /// A storage key's public area (TPM2B_PUBLIC): what another TPM needs to send a key here ([`TpmKey::duplicate`]). Compare its name
    /// ([`KeyDescription::from_public_blob`]) at both ends: who swaps it on its way gets the key.
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
            keyfile::public_from(new_parent).map_err(|_| TpmError::NewParent("its public area is damaged, or of an unknown kind"))?;
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
            let public = live.with_parent(parent, Live::read_public)?;
            must_be_storage_key(&public)?;
            Ok(keyfile::public_blob(&public)?)
        })
    }

    fn import_duplicate(&mut self, parent: Parent, key: &DuplicatedKey) -> Result<KeyFile, TpmError> {
        self.run(|live| {
            live.with_parent(parent, |live, handle| {
                let session = live.parent_session(parent, handle)?;
                let imported = live.context.execute_with_session(Some(session), |c| {
                    let (public, duplicate, secret) = (key.public.clone(), key.duplicate.clone(), key.secret.clone());
                    c.import(handle.into(), None, public, duplicate, secret, SymmetricDefinitionObject::Null)
                });
                let private = imported.map_err(|e| match TpmError::of("TPM2_Import", e) {
                    TpmError::OtherTpm(code) => TpmError::Duplicate(code),
                    // Format one, about a parameter (TCG part 2, 6.6.2).
                    TpmError::Command { code, .. } if code >> 16 == 0 && code & 0xc0 == 0xc0 => TpmError::Duplicate(code),
                    other => live.explain_parent(parent, other),
                })?;
                let file = KeyFile::new(parent, key.public.clone(), private, key.empty_auth, key.policy.clone());
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
            let asks_for_password = asks_for_password(&key.public)?;
            let session = live.policy_session_for(source)?;
            let load = live.context.execute_without_session(|c| c.load_external_public(new_parent.clone(), Hierarchy::Null));
            let parent = load.map_err(|e| TpmError::of("TPM2_LoadExternal for the new parent", e))?;
            let duplicated = live.duplicate(&key, parent, session, asks_for_password);
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

/// Whether the policy under which the key may be duplicated asks for its password.
fn asks_for_password(public: &Public) -> Result<bool, TpmError> {
    let attributes = public.object_attributes();
    if attributes.fixed_tpm() || attributes.fixed_parent() {
        let why = "it is fixed to this one (fixedtpm, fixedparent), for good. Only a key that was made movable can be moved";
        return Err(TpmError::NotMovable(why));
    }
    if attributes.encrypted_duplication() {
        return Err(TpmError::NotMovable("it wants one more key to be encrypted with (encryptedduplication)"));
    }
    let policy = public.auth_policy().value();
    [true, false].into_iter().find(|with_auth_value| policy == duplication_digest(*with_auth_value)).ok_or(TpmError::NotMovable(
        "it has no policy that allows it, or one that is not known here: only TPM2_PolicyCommandCode(TPM2_Duplicate) is, with or without \
         TPM2_PolicyAuthValue before. Only a key that was made movable can be moved",
    ))
}

impl Live {
    /// TPM2_Duplicate, encrypted to the parent by what the TPM makes up (the outer wrapper), and by nothing more.
    fn duplicate(
        &mut self,
        key: &Loaded,
        parent: KeyHandle,
        session: PolicySession,
        asks_for_password: bool,
    ) -> Result<(Private, EncryptedSecret), TpmError> {
        self.restart(session)?;
        if asks_for_password {
            let asked = self.context.execute_without_session(|c| c.policy_auth_value(session));
            asked.map_err(|e| TpmError::of("TPM2_PolicyAuthValue", e))?;
        }
        let told = self.context.execute_without_session(|c| c.policy_command_code(session, CommandCode::Duplicate));
        told.map_err(|e| TpmError::of("TPM2_PolicyCommandCode", e))?;
        let duplicated = self.context.execute_with_session(Some(AuthSession::PolicySession(session)), |c| {
            c.duplicate(key.handle.into(), parent.into(), None, SymmetricDefinitionObject::Null)
        });
        let duplicated = duplicated.map(|(_, duplicate, secret)| (duplicate, secret)).map_err(|e| TpmError::of("TPM2_Duplicate", e));
        let is_guarded = !key.public.object_attributes().no_da();
        duplicated.map_err(|e| self.explain(Protected::Key, key.has_password, is_guarded, e))
    }
}
