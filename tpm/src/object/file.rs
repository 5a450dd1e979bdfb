//! TSS2 PEM key files ("ASN.1 Specification for TPM 2.0 Key Files", draft-bottomley-tpm2-keys).
//!
//! Such a file is no secret by itself: the private part is encrypted to its parent inside one TPM.

use tss_esapi::structures::{Private, Public};

use super::blob::{self, private_from, public_from, with_size};
use super::file_syntax::{Boolean, IMPORTABLE_KEY, LOADABLE_KEY, RH_ENDORSEMENT, RH_OWNER, SEALED_DATA, TpmKeyAsn1};
use super::kind::is_sealed;
use super::public_key::public_pem;
use super::{KeyDescription, KeyFileError, Policy};

/// A loadable key, as a TSS2 PEM file holds it.
#[derive(Clone, Debug)]
pub struct KeyFile {
    parent: Parent,
    public: Public,
    private: Private,
    /// As the file says it. Never trusted: tpm2-tools 5.4 writes FALSE whether there is a password or not.
    empty_auth: bool,
    policy: Policy,
    description: Option<String>,
}

/// Under which key of the TPM the private part is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The H-2 storage primary, made anew from the owner hierarchy's seed when needed.
    H2Primary,
    /// Another primary of the owner hierarchy: what `tpm2_createprimary -C o` makes if nothing more is said, which takes part in the protection
    /// against guessing. A key file does not tell it from the H-2 primary ([`with_parent`](KeyFile::with_parent)).
    ToolsPrimary(PrimaryAlgorithm),
    /// The endorsement key, made anew from its hierarchy's seed (TCG EK Credential Profile, template L-1 for RSA, L-2 for ECC), and used under its policy. A key file
    /// does not tell the template: it is taken for L-1, as go-tpm's tools make it ([`with_parent`](KeyFile::with_parent)).
    EndorsementKey(PrimaryAlgorithm),
    /// A persistent key of this TPM (0x81000000 to 0x81ffffff).
    Persistent(u32),
}

/// What a primary key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryAlgorithm {
    /// RSA of 2048 bits: tpm2-tools' default, `-G rsa`.
    Rsa,
    /// P-256: `-G ecc`.
    Ecc,
}

impl KeyFile {
    pub(crate) fn new(parent: Parent, public: Public, private: Private, empty_auth: bool, policy: Policy) -> Self {
        Self { parent, public, private, empty_auth, policy, description: None }
    }

    /// The same key with another private part, as TPM2_ObjectChangeAuth makes it.
    pub(crate) fn with_private(mut self, private: Private, empty_auth: bool) -> Self {
        (self.private, self.empty_auth) = (private, empty_auth);
        self
    }

    /// Adds a text for people, such as the key id.
    #[must_use]
    pub fn with_description(mut self, description: &str) -> Self {
        self.description = Some(description.to_owned());
        self
    }

    /// Reads a `-----BEGIN TSS2 PRIVATE KEY-----` file.
    ///
    /// # Errors
    /// When the text is no such file, or the key in it is of a kind that is not read here.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let key = TpmKeyAsn1::read(text)?;
        if key.oid == IMPORTABLE_KEY {
            return Err(KeyFileError::Importable);
        }
        if key.oid != LOADABLE_KEY && key.oid != SEALED_DATA {
            return Err(KeyFileError::NotLoadable(key.oid.to_string()));
        }
        let policy = key.policy()?;
        if key.rsa_parent.is_some_and(|is_rsa| is_rsa.0) {
            return Err(KeyFileError::RsaParent);
        }
        let parent = match key.parent.0 {
            0x8100_0000..=0x81ff_ffff => Parent::Persistent(key.parent.0),
            // Some writers note the transient handle (0x80ffffff and below) that the primary had when the key was made.
            // Older ones note 0 for the owner hierarchy.
            0 | RH_OWNER | 0x8000_0000..=0x80ff_ffff => Parent::H2Primary,
            RH_ENDORSEMENT => Parent::EndorsementKey(PrimaryAlgorithm::Rsa),
            other => return Err(KeyFileError::Parent(other)),
        };
        let (public, private) = (public_from(key.public.as_bytes())?, private_from(key.private.as_bytes())?);
        // The other way round is what tpm2_encodeobject and tpm2-pytss write.
        if key.oid == SEALED_DATA && !is_sealed(&public) {
            return Err(KeyFileError::NotSealed);
        }
        // Of another length, it is of another name algorithm: the TPM tells.
        let asked = public.auth_policy().value();
        if !policy.is_empty() && asked.len() == 32 && asked != policy.digest() {
            return Err(KeyFileError::PolicyDigest);
        }
        let empty_auth = key.empty_auth.is_some_and(|empty| empty.0);
        Ok(Self { parent, public, private, empty_auth, policy, description: key.description })
    }

    /// Writes the file's text.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn to_pem(&self) -> Result<String, KeyFileError> {
        let parent = match self.parent {
            Parent::H2Primary | Parent::ToolsPrimary(_) => RH_OWNER,
            Parent::EndorsementKey(_) => RH_ENDORSEMENT,
            Parent::Persistent(handle) => handle,
        };
        let oid = if self.is_sealed() { SEALED_DATA } else { LOADABLE_KEY };
        let mut key = TpmKeyAsn1::new(oid, parent, self.public_blob()?, self.private_blob(), &self.policy)?;
        key.empty_auth = Some(Boolean(self.empty_auth));
        key.description = self.description.clone();
        key.write()
    }

    /// A key that tpm2-tools keep in two files, `.pub` and `.priv` (TPM2B_PUBLIC and TPM2B_PRIVATE; TCG part 2, 12.2.5 and 12.3.7). They
    /// tell neither whether it has a password ([`with_empty_auth`](Self::with_empty_auth)) nor its policy's commands
    /// ([`with_policy`](Self::with_policy)).
    ///
    /// # Errors
    /// When a blob is damaged, or not of the length that it states.
    pub fn from_blobs(parent: Parent, public: &[u8], private: &[u8]) -> Result<Self, KeyFileError> {
        Ok(Self::new(parent, public_from(public)?, private_from(private)?, false, Policy::default()))
    }

    /// States whether the key is without a password, where its source does not tell.
    #[must_use]
    pub fn with_empty_auth(mut self, empty_auth: bool) -> Self {
        self.empty_auth = empty_auth;
        self
    }

    /// States where the private part can be decrypted, where the file does not tell.
    #[must_use]
    pub fn with_parent(mut self, parent: Parent) -> Self {
        self.parent = parent;
        self
    }

    /// The public key as PEM (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7). Needs no TPM. `None` for keys that have none.
    #[must_use]
    pub fn public_pem(&self) -> Option<String> {
        public_pem(&self.public)
    }

    /// Where the private part can be decrypted.
    #[must_use]
    pub fn parent(&self) -> Parent {
        self.parent
    }

    /// The text for people, if there is one.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Whether it is no key but data that [`TpmKey::unseal`](crate::TpmKey::unseal) gives back.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        is_sealed(&self.public)
    }

    /// What must be fulfilled to use it.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// States the policy of a file that lacks it: tpm2-tools write none.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether it needs a password, or may need one: a file of tpm2-tools does not tell
    /// ([`works_without_password`](crate::TpmKey::works_without_password) does). [`policy`](Self::policy) knows whether it surely does.
    #[must_use]
    pub fn may_need_password(&self) -> bool {
        self.policy.needs_password() || !self.empty_auth && self.policy.is_empty()
    }

    /// What the public area says. Needs no TPM.
    #[must_use]
    pub fn describe(&self) -> KeyDescription {
        KeyDescription::of(&self.public)
    }

    /// TPM2B_PUBLIC, as tpm2-tools keeps it in a `.pub` file.
    ///
    /// # Errors
    /// When the public area cannot be encoded.
    pub fn public_blob(&self) -> Result<Vec<u8>, KeyFileError> {
        blob::public_blob(&self.public)
    }

    /// TPM2B_PRIVATE, as tpm2-tools keeps it in a `.priv` file. Encrypted to the parent.
    #[must_use]
    pub fn private_blob(&self) -> Vec<u8> {
        with_size(self.private.value())
    }

    pub(crate) fn empty_auth(&self) -> bool {
        self.empty_auth
    }

    pub(crate) fn public(&self) -> &Public {
        &self.public
    }

    pub(crate) fn private(&self) -> &Private {
        &self.private
    }
}
