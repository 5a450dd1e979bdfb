//! What is the same for all that is done with a TPM.

use std::path::PathBuf;

use crate::Password;

/// What is the same for all that is done with a TPM.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The owner hierarchy's password, where one is set: for the H-2 primary, and to make keys persistent.
    pub owner_password: Option<Password>,
    /// The password of persistent parents.
    pub parent_password: Option<Password>,
    /// The name of the endorsement key that sessions must be salted with ([`TpmHandle::ek_name`](crate::TpmHandle::ek_name), or that of the RSA one, template L-1, which
    /// costs more to make); the parent's key is taken where this is not set. Without it, whoever sits on the bus can pretend to be the TPM.
    pub session_key_name: Option<Vec<u8>>,
    /// A folder in which primaries, as the TPM encrypts them (TPM2_ContextSave), are kept for the next process, so that it need not make them anew:
    /// some hundred milliseconds on hardware. Only in a folder of this user's that nobody else can enter, such as `$XDG_RUNTIME_DIR`; it is made there.
    /// Not with an owner's password, which a kept primary would pass by.
    pub kept_primaries: Option<PathBuf>,
}
