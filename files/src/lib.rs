//! Files that hold certificates, keys and secrets: read whole or refused by name, and only where nobody else can read them.
//!
//! With the feature `bundle`, enrolment bundles; with `settings`, what configuration files are read and their mistakes told by.
//!
//! What both binaries and the TPM's key imports share. Knows no network and no TPM.

mod access;
#[cfg(feature = "bundle")]
pub mod bundle;
pub mod pem;
#[cfg(feature = "settings")]
pub mod settings;

pub use access::{Exposed, must_be_private};
