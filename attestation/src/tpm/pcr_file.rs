//! Values of registers in the files of tpm2-tools (tpm2_quote -o, tpm2_pcrread -o).
//!
//! `serialized` is the tools' own memory: TPML_PCR_SELECTION, a count, then so many TPML_DIGEST, each structure at its full size with the padding of C, all
//! numbers little-endian. `values` is the values alone, in the order of the selection.

use super::hash::Hash;
use super::pcr::{PcrSelection, PcrValues, Selected};

/// TPML_PCR_SELECTION: a count, and 16 times hash (2), length (1), bits (4), padding (1).
const SELECTION_LEN: usize = 4 + 16 * 8;
/// TPML_DIGEST: a count, and 8 times length (2) and 64 bytes.
const DIGESTS_LEN: usize = 4 + 8 * DIGEST_LEN;
const DIGEST_LEN: usize = 2 + 64;

/// Why a file holds no values of the registers that are quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrFileError {
    /// Neither form.
    #[error("the file of registers is neither what tpm2_quote -o writes (serialized) nor the values of {0} alone: it has {1} bytes")]
    Length(String, usize),
    /// Numbers in it that cannot be.
    #[error("the file of registers is damaged")]
    Damaged,
    /// Other registers.
    #[error("the file of registers holds {file}, and {quoted} is quoted")]
    Selection {
        /// What the file holds.
        file: String,
        /// What is quoted.
        quoted: String,
    },
}

/// The values of the registers that are quoted, from either form.
///
/// # Errors
/// When the file is neither, or of other registers. That the values are the quoted ones, the quote's digest tells.
pub fn read_pcr_file(file: &[u8], quoted: &Selected) -> Result<PcrValues, PcrFileError> {
    let of_quoted: usize = quoted.iter().map(|(bank, _)| bank.len()).sum();
    if file.len() == of_quoted {
        return values(pieces(file, quoted), quoted);
    }
    let is_serialized = file.len().checked_sub(SELECTION_LEN + 4).is_some_and(|rest| rest.is_multiple_of(DIGESTS_LEN));
    if !is_serialized {
        return Err(PcrFileError::Length(quoted.to_string(), file.len()));
    }
    let (selection, rest) = file.split_at(SELECTION_LEN);
    let selected = selection_of(selection)?;
    if selected != *quoted {
        return Err(PcrFileError::Selection { file: selected.to_string(), quoted: quoted.to_string() });
    }
    let (count, lists) = rest.split_at(4);
    if usize::try_from(u32_of(count)).ok() != Some(lists.len() / DIGESTS_LEN) {
        return Err(PcrFileError::Damaged);
    }
    let mut digests = Vec::new();
    for list in lists.chunks(DIGESTS_LEN) {
        let count = usize::try_from(u32_of(&list[..4])).ok().filter(|count| *count <= 8).ok_or(PcrFileError::Damaged)?;
        for digest in list[4..].chunks(DIGEST_LEN).take(count) {
            let len = usize::from(u16_of(digest));
            digests.push(digest.get(2..2 + len).ok_or(PcrFileError::Damaged)?);
        }
    }
    values(digests, quoted)
}

/// The same, as tpm2_quote -o writes it (serialized). `None` where a value is missing, or there are more banks than the tools have room for.
#[must_use]
pub fn write_pcr_file(selected: &Selected, values: &PcrValues) -> Option<Vec<u8>> {
    if selected.0.len() > 16 {
        return None;
    }
    let mut file = u32::try_from(selected.0.len()).ok()?.to_le_bytes().to_vec();
    for selection in &selected.0 {
        let mut bits = [0_u8; 3];
        for register in &selection.registers {
            *bits.get_mut(usize::from(register / 8))? |= 1 << (register % 8);
        }
        file.extend_from_slice(&selection.bank.id().to_le_bytes());
        file.extend_from_slice(&[3, bits[0], bits[1], bits[2], 0, 0]);
    }
    file.resize(SELECTION_LEN, 0);
    let digests: Vec<&[u8]> = selected.iter().map(|(bank, register)| values.get(bank, register)).collect::<Option<_>>()?;
    file.extend_from_slice(&u32::try_from(digests.len().div_ceil(8)).ok()?.to_le_bytes());
    for list in digests.chunks(8) {
        let end = file.len() + DIGESTS_LEN;
        file.extend_from_slice(&u32::try_from(list.len()).ok()?.to_le_bytes());
        for digest in list {
            file.extend_from_slice(&u16::try_from(digest.len()).ok()?.to_le_bytes());
            let end = file.len() + DIGEST_LEN - 2;
            file.extend_from_slice(digest);
            file.resize(end, 0);
        }
        file.resize(end, 0);
    }
    Some(file)
}

/// One after the other, each as long as its bank's hash.
fn pieces<'a>(mut file: &'a [u8], selected: &Selected) -> Vec<&'a [u8]> {
    let next = |(bank, _): (Hash, u8)| {
        let (value, rest) = file.split_at_checked(bank.len())?;
        file = rest;
        Some(value)
    };
    selected.iter().map_while(next).collect()
}

fn values(values: Vec<&[u8]>, selected: &Selected) -> Result<PcrValues, PcrFileError> {
    let mut all = PcrValues::new();
    if values.len() != selected.iter().count() {
        return Err(PcrFileError::Damaged);
    }
    for ((bank, register), value) in selected.iter().zip(values) {
        if !all.insert(bank, register, value) {
            return Err(PcrFileError::Damaged);
        }
    }
    Ok(all)
}

fn selection_of(bytes: &[u8]) -> Result<Selected, PcrFileError> {
    let count = usize::try_from(u32_of(bytes)).ok().filter(|count| *count <= 16).ok_or(PcrFileError::Damaged)?;
    let one = |entry: &[u8]| {
        let bits = entry.get(3..3 + usize::from(entry[2])).filter(|bits| bits.len() <= 4)?;
        PcrSelection::from_bits(u16_of(entry), bits)
    };
    let banks: Option<Vec<_>> = bytes[4..].chunks(8).take(count).map(one).collect();
    banks.map(Selected).ok_or(PcrFileError::Damaged)
}

fn u16_of(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
