//! Attestation documents of AWS's Nitro system: NitroTPM's, and those of Nitro Enclaves.
//!
//! Both are COSE_Sign1 with ES384 over a map in CBOR ("Nitro Enclaves Attestation Document", AWS), whose leaf certificate leads to one root of AWS.

mod document;
mod expected;
mod image;
mod kms;
mod shown;
mod states;

pub use document::{Document, DocumentError, Kind};
pub use expected::{Expected, Mismatch, NotProven, VerifiedDocument};
pub use image::{ImageError, ImageMeasurements};
pub use kms::{KmsPolicy, KmsPolicyError};
pub use states::{States, StatesError};

/// Registers by number.
pub type Pcrs = std::collections::BTreeMap<u8, Vec<u8>>;
/// The length of a register in a document: SHA-384.
pub const PCR_LEN: usize = 48;
