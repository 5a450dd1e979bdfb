//! Verifying what TPMs and clouds attest.
//!
//! Bytes in, verdicts out: this crate knows no TPM, no network and no clock. The time at which something is judged is passed in, roots are pinned or
//! given by the caller, and a check returns a value that cannot be built otherwise.
//!
//! - [`nitro`]: attestation documents of AWS NitroTPM and Nitro Enclaves.
//! - [`tpm`]: quotes, public areas, certificates of endorsement and attestation keys, and credentials that only one TPM opens.
//! - [`event_log`]: what firmware measured into a TPM's registers.
//! - [`cms`]: EnvelopedData, in which KMS hands a secret to whoever has shown a document.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use ekm_otp_attestation::nitro::{Document, Expected};
//!
//! # let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/attestation/nitrotpm-document.json"))?;
//! # let file: serde_json::Value = serde_json::from_slice(&file)?;
//! # let hex = |text: &str| (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16)).collect::<Result<Vec<u8>, _>>();
//! # let bytes = hex(file["attestation"]["nitro"]["document"].as_str().ok_or("none")?)?;
//! # let pcr4 = hex(file["pcrs"]["sha384"]["4"].as_str().ok_or("none")?)?;
//! let document = Document::decode(&bytes)?;
//! // The sample's leaf certificate lived for three hours; elsewhere this is SystemTime::now().
//! let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_770_113_522);
//! let verified = document.verify(&Expected::at(at).pcr(4, &pcr4))?;
//! assert_eq!(verified.document().module_id(), "i-01cfb383223e42522-tpm0000000000000000");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod cbor;
mod chain;
pub mod cms;
mod cose;
pub mod event_log;
mod hex;
mod json;
pub mod nitro;
mod root;
mod same;
pub mod tpm;

pub use cbor::{CborError, Value};
pub use chain::ChainError;
pub use cose::CoseError;
pub use root::{Root, RootError};
