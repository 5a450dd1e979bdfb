//! Enrolment bundles: one text that takes a key to its client, by mail if need be. `ekm-otp-server key add --bundle-out` writes it, `ekm-otp-client enroll` takes it in.
//!
//! What counts stands in one piece: within an age file under a passphrase, or in plain JSON where the secret is wrapped to the storage key of the client's TPM. Lines
//! before it tell a person what the file is; nothing believes them. A passphrase also says who made the bundle. A wrapped one without a passphrase says that only
//! by its fingerprint: whoever knows the storage key's public part can make one.

mod content;
mod error;
mod passphrase;
mod text;

pub use content::{Bundle, BundleSecret};
pub use error::BundleError;
pub use passphrase::Passphrase;
pub use text::{BundleFile, SealedBundle, Written, read, seal, write_wrapped};
