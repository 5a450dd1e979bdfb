//! Credentials in the file of tpm2_makecredential and tpm2_activatecredential, and apart.

use super::marshalled::{Damaged, Marshalled};

/// The tools' magic number and version.
const MAGIC: u32 = 0xbadc_c0de;
const VERSION: u32 = 1;

/// A credential: what TPM2_ActivateCredential takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    id_object: Vec<u8>,
    encrypted_secret: Vec<u8>,
}

/// Why bytes are no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialFileError {
    /// Cut off, or followed by something.
    #[error("the file is cut off or damaged: it is no credential")]
    Damaged,
    /// Another file.
    #[error("the file does not begin as tpm2_makecredential's do (badcc0de, version 1): it is no credential")]
    Magic,
}

impl From<Damaged> for CredentialFileError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl Credential {
    pub(super) fn from_parts(id_object: Vec<u8>, encrypted_secret: Vec<u8>) -> Self {
        Self { id_object, encrypted_secret }
    }

    /// The TPM2B_ID_OBJECT (TCG part 2, 12.4.3), its length in front.
    #[must_use]
    pub fn id_object(&self) -> &[u8] {
        &self.id_object
    }

    /// The TPM2B_ENCRYPTED_SECRET (part 2, 11.4.33), its length in front.
    #[must_use]
    pub fn encrypted_secret(&self) -> &[u8] {
        &self.encrypted_secret
    }

    /// As tpm2_makecredential writes it.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        [&MAGIC.to_be_bytes()[..], &VERSION.to_be_bytes(), &self.id_object, &self.encrypted_secret].concat()
    }

    /// As tpm2_makecredential writes it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_file(bytes: &[u8]) -> Result<Self, CredentialFileError> {
        let mut file = Marshalled::new(bytes);
        if (file.u32()?, file.u32()?) != (MAGIC, VERSION) {
            return Err(CredentialFileError::Magic);
        }
        let parts = file.rest();
        let first = file.sized()?.len() + 2;
        file.sized()?;
        file.end()?;
        let (id_object, encrypted_secret) = parts.split_at(first);
        Ok(Self::from_parts(id_object.to_vec(), encrypted_secret.to_vec()))
    }
}
