//! What a key is: its kind, public area, file, policy, password. Needs no TPM.

pub(crate) mod blob;
mod description;
pub(crate) mod duplicated;
pub(crate) mod file;
mod file_error;
pub(crate) mod file_syntax;
pub(crate) mod kind;
pub(crate) mod name;
pub(crate) mod nsm;
mod oid;
mod password;
pub(crate) mod pcr;
pub(crate) mod policy;
pub(crate) mod private_key;
pub(crate) mod public_key;
pub(crate) mod saved;
pub(crate) mod signature;
mod source;
pub(crate) mod template;

pub use description::KeyDescription;
pub use duplicated::DuplicatedKey;
pub use file::{KeyFile, Parent, PrimaryAlgorithm};
pub use file_error::KeyFileError;
pub use kind::{KeyKind, UnknownKeyKind};
pub use nsm::{NitroError, NitroRequest};
pub use password::{Password, PasswordError};
pub use pcr::{PcrBank, PcrSelection, PcrSelectionError};
pub use policy::{CommandCode, Policy, PolicyJsonError, PolicyPlan, SignedPolicy, UnknownCommand, VerifyingKey, VerifyingKeyError};
pub use private_key::{PrivateKey, PrivateKeyError};
pub use signature::{DigestAlgorithm, SignatureScheme};
pub use source::{BusEncryption, KeySource, NewKey, NewSealed};
