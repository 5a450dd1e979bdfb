//! Where a client's secret lives, and who makes the one MAC per connection with it.

mod error;
#[cfg(feature = "tpm")]
mod tpm;

use std::fmt;
use std::sync::Arc;

use ekm_otp::{Secret, Tag};
use futures_util::future::BoxFuture;

pub use error::SignerError;

/// Holds the shared secret and makes HMAC-SHA256 (RFC 2104) with it: a TPM, this process's memory, or what you bring (PKCS#11, a KMS).
///
/// It is asked once per connection (in the profile `go`, with a JWE: twice), and several connections may ask at once: answer in order, and with a bound on
/// those who wait. How long it takes delays new connections only.
///
/// `Debug` must not show the secret: it is shown in clients' own `Debug`.
pub trait Signer: fmt::Debug + Send + Sync {
    /// HMAC-SHA256 of `input`, which has at most 1024 bytes.
    ///
    /// # Errors
    /// When the key cannot be used. What you hand to [`SignerError`] is what people get to read.
    fn mac<'a>(&'a self, input: &'a [u8]) -> BoxFuture<'a, Result<Tag, SignerError>>;
}

/// A secret in this process's memory: for machines without a TPM. A heap dump holds it.
impl Signer for Secret {
    fn mac<'a>(&'a self, input: &'a [u8]) -> BoxFuture<'a, Result<Tag, SignerError>> {
        Box::pin(std::future::ready(Ok(Self::mac(self, input))))
    }
}

impl<S: Signer + ?Sized> Signer for Arc<S> {
    fn mac<'a>(&'a self, input: &'a [u8]) -> BoxFuture<'a, Result<Tag, SignerError>> {
        (**self).mac(input)
    }
}
