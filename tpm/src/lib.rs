//! Keys in a TPM 2.0: make, import, use, guard, move. The only crate that sees tss-esapi.
//!
//! One thread owns the TPM's context; everyone else holds a [`TpmHandle`] to it. A key is loaded once, and each
//! [`TpmKey::hmac`] is one TPM2_HMAC. What is lost with a restarted TPM (the connection, the session, the loaded key) is
//! made anew on the next use. When the last handle is dropped, nothing of ours is left in the TPM.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ekm_otp_tpm::{KeyFile, Tcti, TpmHandle};
//!
//! let tpm = TpmHandle::open("device:/dev/tpmrm0".parse::<Tcti>()?)?;
//! let key = tpm.load(KeyFile::from_pem(&std::fs::read_to_string("client1.pem")?)?);
//! let tag = key.hmac(b"message").await?; // 32 bytes, wiped when dropped
//! # Ok(()) }
//! ```

mod actor;
mod connection;
mod error;
mod object;
mod operation;
mod response_code;

pub use actor::{TpmHandle, TpmKey};
pub use connection::{PolicySigner, Settings, Tcti, TctiError};
pub use error::{Protected, TpmError};
pub use object::{
    BusEncryption, CommandCode, DigestAlgorithm, DuplicatedKey, KeyDescription, KeyFile, KeyFileError, KeyKind, KeySource, NewKey,
    NewSealed, NitroError, NitroRequest, Parent, Password, PasswordError, PcrBank, PcrSelection, PcrSelectionError, Policy,
    PolicyJsonError, PolicyPlan, PrimaryAlgorithm, PrivateKey, PrivateKeyError, SignatureScheme, SignedPolicy, UnknownCommand,
    UnknownKeyKind, VerifyingKey, VerifyingKeyError,
};
pub use operation::{
    Attestation, BankState, EkCertificate, EkPublic, EphemeralRsaKey, Feature, Health, HierarchyState, KeyHealth, LockoutState, PcrRights,
    PcrValues, PersistentKey, Quote, Room,
};
