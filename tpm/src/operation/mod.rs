//! What is done with a TPM, one file for each thing: its public face and its commands.

mod activate;
mod capabilities;
mod create;
mod duplicate;
mod ek;
mod health;
mod hmac;
mod import;
mod nitro;
mod nv;
mod password;
mod pcr;
mod persistent;
mod policy;
mod prepare;
mod quote;
mod random;
mod rsa_decrypt;
mod seal;
mod sign;

pub use capabilities::{BankState, Feature};
pub use ek::{EkCertificate, EkPublic};
pub use health::{Health, HierarchyState, KeyHealth, LockoutState, Room};
pub use pcr::{PcrRights, PcrValues};
pub use persistent::PersistentKey;
pub use quote::{Attestation, Quote};
pub use rsa_decrypt::EphemeralRsaKey;
