//! EKM-OTP protocol v1, sans-IO.
//!
//! A client and a server share a [`Secret`] per [`KeyId`]. On every TLS connection both export the same keying material
//! ([`Ekm`], RFC 5705 / RFC 8446 §7.5), the holder of the secret computes one HMAC over it, and both ends expand that HMAC
//! with HKDF into an [`Otp`] and a [`ServerProof`] that fit this connection and no other.
//!
//! The normative text is `docs/protocol.md`; names here are the names there.
//!
//! ```
//! # use ekm_otp::{Derivation, Ekm, KeyId, Secret, ServerName};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let ekm = Ekm::from_bytes([7; 48]);
//! let kid = KeyId::new("client1")?;
//! let server_name = ServerName::from_host("api.example.test")?;
//!
//! // `Derivation` says what must be MACed; whoever holds the secret (a TPM, an HSM, memory) MACs it; it finishes.
//! let derivation = Derivation::new(&ekm, &kid, &server_name);
//! let secret = Secret::new(vec![1; 32])?;
//! let tag = secret.mac(derivation.mac_input());
//! let prk = derivation.finish(tag);
//! assert_eq!(prk.otp().encode().len(), 43);
//! # Ok(()) }
//! ```
//!
//! The feature `jose` adds the credentials that sign each request (`jose`, with josekit and so OpenSSL).
//!
//! This crate does no I/O, reads no clock and knows no TPM.

mod authority;
mod base64url;
mod derivation;
mod ekm;
pub mod field;
#[cfg(feature = "jose")]
pub mod go;
#[cfg(feature = "jose")]
pub mod jose;
mod kid;
mod profile;
mod secret;
mod server_name;
mod target;
mod tls;
pub mod tunnel;

pub use authority::{Authority, AuthorityError, ServerNames};
pub use derivation::{Derivation, Otp, PresentedOtp, PresentedProof, Prk, ServerProof, Tag};
pub use ekm::{Channel, EXPORTER_LABEL, Ekm};
pub use kid::{KeyId, KeyIdError};
pub use profile::{Profile, UnknownProfile};
pub use secret::{Secret, SecretError};
pub use server_name::{ServerName, ServerNameError};
pub use target::origin_form;
pub use tls::{Handshake, TlsError, TlsFacts, TlsPolicy};

/// The authentication scheme's name (RFC 9110 §11.1), compared without regard to case.
pub const SCHEME: &str = "EKM-OTP";

/// Where a client asks for the server's proof before it sends anything else (RFC 8615). The layer answers it, never the application.
pub const WELL_KNOWN_PATH: &str = "/.well-known/ekm-otp";

/// Whether `path` is the server's own: [`WELL_KNOWN_PATH`] or anything below it. No application answers there, and a credential is always needed.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    path.strip_prefix(WELL_KNOWN_PATH).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}
