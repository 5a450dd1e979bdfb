//! The firmware's event log: what was measured into the registers, in order (TCG PC Client Platform Firmware Profile, 10; Linux has it at
//! `/sys/kernel/security/tpm0/binary_bios_measurements`).
//!
//! Nothing in it is authenticated. What is known of it is that it leads, event by event, to a value of a register ([`EventLog::replay`]), and that value a TPM
//! may have signed. An event's data is the firmware's word: the digest is not always the data's.

mod log;
mod parse;
mod words;

pub use log::{Event, EventLog};
pub use parse::EventLogError;
