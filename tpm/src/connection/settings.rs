//! What is the same for all that is done with a TPM.

use crate::Password;

/// What is the same for all that is done with a TPM.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The owner hierarchy's password, where one is set: for the H-2 primary, and to make keys persistent.
    pub owner_password: Option<Password>,
    /// The password of persistent parents.
    pub parent_password: Option<Password>,
    /// The name of the endorsement key that sessions must be salted with ([`TpmHandle::ek_name`](crate::TpmHandle::ek_name)); the parent's key is taken where this is
    /// not set. Without it, whoever sits on the bus can pretend to be the TPM.
    pub session_key_name: Option<Vec<u8>>,
}
