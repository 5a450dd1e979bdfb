//! How the TPM is reached: the connection, its sessions, parents and loaded keys.

pub(crate) mod device;
mod fulfil;
mod kept;
mod keys;
pub(crate) mod live;
pub(crate) mod loaded;
pub(crate) mod parents;
mod presence;
mod primaries;
mod raw;
pub(crate) mod route;
mod salt;
mod sessions;
mod settings;
mod tcti;

pub use settings::{PolicySigner, Settings};
pub use tcti::{Tcti, TctiError};
