//! A key on its way to another TPM (TCG part 1, 23: duplication; "ASN.1 Specification for TPM 2.0 Key Files", importable keys).

use tss_esapi::structures::{EncryptedSecret, Private, Public};

use super::blob::{self, sized, with_size};
use super::file_syntax::{Boolean, IMPORTABLE_KEY, RH_OWNER, TpmKeyAsn1, octets};
use super::{KeyDescription, KeyFileError, Policy};

/// A key on its way to another TPM, encrypted to a storage key of that one: of use nowhere else, and no secret by itself. It is not
/// signed: whoever knows the storage key's public part can make one, of a secret that they know.
#[derive(Clone, Debug)]
pub struct DuplicatedKey {
    pub(crate) public: Public,
    pub(crate) duplicate: Private,
    pub(crate) secret: EncryptedSecret,
    pub(crate) empty_auth: bool,
    pub(crate) policy: Policy,
    pub(crate) description: Option<String>,
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
            public: blob::public_from(public)?,
            duplicate: blob::private_from(duplicate)?,
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
        blob::public_blob(&self.public)
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
