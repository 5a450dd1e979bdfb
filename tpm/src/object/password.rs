//! Passwords: auth values of the TPM's objects (TCG part 1, 19.4).

use std::fmt;

use zeroize::Zeroizing;

/// The password of a key, a parent, or a hierarchy. Wiped when dropped; its `Debug` shows nothing.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// The longest password, in bytes: the size of a SHA-256 digest, since the keys' names are made with that.
    pub const MAX_LEN: usize = 32;

    /// Takes 1 to 32 bytes.
    ///
    /// # Errors
    /// When there is none or there are more, or the last one is 0 (the TPM would drop it, TCG part 1, 19.4).
    pub fn new(bytes: Vec<u8>) -> Result<Self, PasswordError> {
        let bytes = Zeroizing::new(bytes);
        match bytes.as_slice() {
            [] => Err(PasswordError::Empty),
            [.., 0] => Err(PasswordError::TrailingZero),
            _ if bytes.len() > Self::MAX_LEN => Err(PasswordError::TooLong(bytes.len())),
            _ => Ok(Self(bytes)),
        }
    }

    pub(crate) fn to_auth(&self) -> Result<tss_esapi::structures::Auth, tss_esapi::Error> {
        tss_esapi::structures::Auth::try_from(self.0.to_vec())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Why bytes are no password. Tells lengths, never bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// No bytes at all.
    #[error("the password is empty")]
    Empty,
    /// More than a TPM takes.
    #[error("the password has {0} bytes, at most 32 are taken")]
    TooLong(usize),
    /// A TPM drops trailing zeros.
    #[error("the password ends in a zero byte, which a TPM would drop")]
    TrailingZero,
}
