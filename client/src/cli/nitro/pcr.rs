//! Registers on the command line.

use ekm_otp_attestation::nitro::{PCR_LEN, Pcrs};

use super::super::error::CliError;
use super::super::secret_file::unhex;

/// `4=HEX`
#[derive(Clone, Debug)]
pub(super) struct Pcr {
    number: u8,
    value: Vec<u8>,
}

pub(super) fn pcr(text: &str) -> Result<Pcr, String> {
    let wanted = || "NUMBER=HEX is wanted, with a register from 0 to 31 and its value (SHA-384, 96 digits)".to_owned();
    let (number, value) = text.split_once('=').ok_or_else(wanted)?;
    let number = number.strip_prefix("PCR").unwrap_or(number).parse().ok().filter(|number| *number < 32).ok_or_else(wanted)?;
    Ok(Pcr { number, value: unhex(value.strip_prefix("0x").unwrap_or(value)).ok_or_else(wanted)? })
}

/// All of them. One register cannot have two values, and a value has its length.
pub(super) fn all(given: &[Pcr]) -> Result<Pcrs, CliError> {
    let mut pcrs = Pcrs::new();
    for Pcr { number, value } in given {
        if value.len() != PCR_LEN {
            let digits = 2 * value.len();
            return Err(CliError::Usage(format!("--pcr {number}: the value has {digits} digits, and SHA-384 has {}", 2 * PCR_LEN)));
        }
        if pcrs.insert(*number, value.clone()).is_some_and(|before| before != *value) {
            return Err(CliError::Usage(format!("--pcr {number} is given twice, with different values")));
        }
    }
    Ok(pcrs)
}
