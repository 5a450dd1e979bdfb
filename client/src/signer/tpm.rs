//! A key in a TPM: the secret never leaves it. One TPM2_HMAC per connection; connections that are made at once wait in the TPM's queue, in order.

use ekm_otp::Tag;
use ekm_otp_tpm::{TpmError, TpmKey};
use futures_util::future::BoxFuture;

use super::{Signer, SignerError};

impl Signer for TpmKey {
    fn mac<'a>(&'a self, input: &'a [u8]) -> BoxFuture<'a, Result<Tag, SignerError>> {
        Box::pin(async move { self.hmac(input).await.map(|tag| Tag::from_bytes(*tag)).map_err(SignerError::from) })
    }
}

impl From<TpmError> for SignerError {
    fn from(error: TpmError) -> Self {
        match error {
            TpmError::Unreachable { .. }
            | TpmError::Deadline(_)
            | TpmError::Busy(_)
            | TpmError::Crowded
            | TpmError::NotStarted(_)
            | TpmError::NotReady(_)
            | TpmError::OutOfOrder(_)
            | TpmError::Interrupted(_)
            | TpmError::Full(_) => Self::temporary(error),
            other => Self::new(other),
        }
    }
}
