//! What a TPM 2.0 attests, without one (TCG "Trusted Platform Module Library", part 2, structures): quotes over registers, public areas and their names, the
//! certificates of its keys, and credentials that only one TPM can open.

mod attest;
mod credential;
mod credential_file;
mod duplicate;
mod endorsement;
mod evidence;
mod hash;
mod kdf;
mod key;
mod marshalled;
mod pcr;
mod pcr_file;
mod public;
mod quote;
mod signature;

pub use attest::{Attest, AttestError, ClockInfo};
pub use credential::{CredentialError, EncryptionKey, make_credential};
pub use credential_file::{Credential, CredentialFileError};
pub use duplicate::{Duplicate, duplicate_hmac_key};
pub use endorsement::{EkCertificate, EkError, EndorsementKey};
pub use evidence::{Evidence, EvidenceError};
pub use hash::Hash;
pub use key::{Curve, KeyError, PublicKey};
pub use pcr::{PcrSelection, PcrValues, Selected};
pub use pcr_file::{PcrFileError, read_pcr_file, write_pcr_file};
pub use public::{PublicArea, PublicError};
pub use quote::{AttestationKey, Quote, QuoteError, QuoteExpected, QuoteNotProven, VerifiedQuote};
pub use signature::{Scheme, Signature, SignatureError};
