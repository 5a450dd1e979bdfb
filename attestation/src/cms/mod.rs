//! Secrets on their way to a key: EnvelopedData (RFC 5652 §6) with one recipient, RSAES-OAEP on SHA-256 (RFC 8017 §7.1) and AES-256 in CBC mode
//! (RFC 3565). So AWS KMS answers a request with an attestation document; OpenSSL's `cms` opens and makes the same.
//!
//! The private key may be anywhere, in a TPM for one: [`Enveloped`] tells what it has to decrypt, and takes the content key that comes of it.
//!
//! ```
//! # use ekm_otp_attestation::cms::{CmsError, Enveloped, Recipient, SoftwareKey, encrypt};
//! # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/attestation/");
//! # let (public, private) = (std::fs::read([dir, "rsa.pub"].concat())?, std::fs::read([dir, "rsa.pem"].concat())?);
//! let message = encrypt(&Recipient::read(&public)?, b"a secret")?;
//!
//! let enveloped = Enveloped::parse(&message)?;
//! let content_key = SoftwareKey::read(&private)?.decrypt(enveloped.encrypted_key())?;
//! assert_eq!(*enveloped.open(&content_key)?, b"a secret");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing in it tells who has made a message, or whether it was changed on its way: that is for what it travels in, TLS as a rule.

mod ber;
mod der;
mod encrypt;
mod enveloped;
mod error;
mod oid;
mod software;

pub use encrypt::{Recipient, encrypt};
pub use enveloped::{Enveloped, RecipientId};
pub use error::CmsError;
pub use software::SoftwareKey;
