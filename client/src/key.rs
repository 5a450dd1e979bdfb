//! Where the client's secret lives.

use std::fmt;

use ekm_otp::{Secret, Tag};
use ekm_otp_tpm::{TpmError, TpmKey};

/// The holder of the shared secret.
#[non_exhaustive]
pub enum Key {
    /// A TPM: the secret never leaves it. One TPM2_HMAC per connection.
    Tpm(TpmKey),
    /// This process's memory: for machines without a TPM. A heap dump holds it.
    Software(Secret),
}

impl Key {
    /// HMAC-SHA256 of what a derivation asks for.
    pub(crate) async fn mac(&self, input: &[u8]) -> Result<Tag, TpmError> {
        match self {
            Self::Tpm(key) => key.hmac(input).await.map(|tag| Tag::from_bytes(*tag)),
            Self::Software(secret) => Ok(secret.mac(input)),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tpm(_) => "Key::Tpm(..)",
            Self::Software(_) => "Key::Software(..)",
        })
    }
}
