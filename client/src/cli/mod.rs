//! The command line: what flags mean, what errors exit with.

mod arguments;
#[cfg(feature = "cloud")]
pub(crate) mod aws;
#[cfg(feature = "cloud")]
pub(crate) mod azure;
mod certify;
#[cfg(feature = "cloud")]
mod cloud;
pub(crate) mod cms;
pub(crate) mod connect;
mod create;
mod credential;
pub(crate) mod doctor;
pub(crate) mod ek;
mod encoded;
pub(crate) mod enroll;
mod error;
mod file_lock;
#[cfg(feature = "cloud")]
pub(crate) mod gcp;
mod handle;
mod key_file;
pub(crate) mod keys;
#[cfg(feature = "cloud")]
pub(crate) mod kms;
pub(crate) mod manual;
mod moment;
mod moving;
mod new_key;
pub(crate) mod nitro;
mod opener;
mod origin;
pub(crate) mod output;
mod parent;
mod password;
pub(crate) mod pcr;
mod pieces;
pub(crate) mod plaintext;
pub(crate) mod policies;
mod policy;
pub(crate) mod profiles;
mod progress;
pub(crate) mod prompt;
mod proxy;
pub(crate) mod quote;
pub(crate) mod request;
pub(crate) mod reseal;
pub(crate) mod rotate;
pub(crate) mod seal;
mod sealed_file;
mod secret_file;
mod shown;
pub(crate) mod sidecar;
mod signing;
mod trust;
pub(crate) mod unseal;

pub(crate) use error::CliError;
