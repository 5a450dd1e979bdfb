//! Files that hold certificates, keys and secrets: read whole or refused by name, and only where nobody else can read them.
//!
//! What both binaries and the TPM's key imports share. Knows no network and no TPM.

mod access;
#[cfg(feature = "bundle")]
pub mod bundle;
pub mod pem;

pub use access::{Exposed, must_be_private};
