//! Platform configuration registers: banks, and selections of registers (TCG part 1, 17).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{PcrSelectionList, PcrSlot};
use tss_esapi::tss2_esys::{TPML_PCR_SELECTION, TPMS_PCR_SELECTION};

use super::name::unhex;

/// A bank of platform configuration registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PcrBank {
    /// SHA-1, 20 bytes a register.
    Sha1,
    /// SHA-256, 32 bytes a register.
    Sha256,
    /// SHA-384, 48 bytes a register.
    Sha384,
    /// SHA-512, 64 bytes a register.
    Sha512,
}

impl PcrBank {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// TPM_ALG_ID (TCG Algorithm Registry)
    fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// How many bytes a register has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no bank's registers are without bytes")]
    pub fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    pub(crate) fn algorithm(self) -> HashingAlgorithm {
        match self {
            Self::Sha1 => HashingAlgorithm::Sha1,
            Self::Sha256 => HashingAlgorithm::Sha256,
            Self::Sha384 => HashingAlgorithm::Sha384,
            Self::Sha512 => HashingAlgorithm::Sha512,
        }
    }
}

impl fmt::Display for PcrBank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Registers of one bank, and for some of them a value: `sha256:0,2,7`, or `sha256:7=3d45…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    bank: PcrBank,
    registers: BTreeMap<u8, Option<Vec<u8>>>,
}

impl PcrSelection {
    pub(super) fn new(bank: PcrBank, registers: BTreeMap<u8, Option<Vec<u8>>>) -> Self {
        Self { bank, registers }
    }

    /// The bank.
    #[must_use]
    pub fn bank(&self) -> PcrBank {
        self.bank
    }

    /// The registers, lowest first, and the values that are given for them.
    pub fn registers(&self) -> impl Iterator<Item = (u8, Option<&[u8]>)> {
        self.registers.iter().map(|(register, value)| (*register, value.as_deref()))
    }

    /// A selection for each register.
    pub(super) fn one_by_one(&self) -> impl Iterator<Item = Self> {
        self.registers.iter().map(|(register, value)| Self::new(self.bank, BTreeMap::from([(*register, value.clone())])))
    }
}

/// Whether nothing was measured into a register. They start at all zeros, those of a dynamic launch at all ones (TCG PC Client Platform TPM
/// Profile, 4.6).
pub(crate) fn is_empty(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == 0) || value.iter().all(|byte| *byte == 0xff)
}

impl FromStr for PcrSelection {
    type Err = PcrSelectionError;

    /// `sha256:0,2,7`, or `0,2,7` for the same, with blanks, in upper case, with ranges (`0-7`), `+` for a comma, `all`, and values (`7=3d45…`, `7=0x3d45…`).
    fn from_str(text: &str) -> Result<Self, PcrSelectionError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        let is_list = text.starts_with(|c: char| c.is_ascii_digit()) || text.starts_with("all");
        let (bank, list) = match text.split_once(':') {
            None if is_list => ("sha256", text.as_str()),
            None => return Err(PcrSelectionError::Form),
            Some(named) => named,
        };
        let bank = PcrBank::ALL.into_iter().find(|b| b.as_str() == bank).ok_or_else(|| PcrSelectionError::Bank(bank.to_owned()))?;
        if list.contains(':') {
            return Err(PcrSelectionError::SeveralBanks);
        }
        let mut registers = BTreeMap::new();
        for item in list.split([',', '+']) {
            let (named, value) = item.split_once('=').map_or((item, None), |(named, value)| (named, Some(value)));
            let numbers = numbers(named).ok_or_else(|| PcrSelectionError::Register(named.to_owned()))?;
            let value = match value {
                None => None,
                Some(_) if numbers.len() > 1 => return Err(PcrSelectionError::Register(named.to_owned())),
                Some(hex) => {
                    let value = unhex(hex.strip_prefix("0x").unwrap_or(hex)).filter(|value| value.len() == bank.len());
                    Some(value.ok_or(PcrSelectionError::Value(*numbers.start(), bank.len()))?)
                }
            };
            for number in numbers {
                if registers.insert(number, value.clone()).is_some() {
                    return Err(PcrSelectionError::Twice(number));
                }
            }
        }
        Ok(Self { bank, registers })
    }
}

/// `7`, `0-7` or `all`.
fn numbers(text: &str) -> Option<RangeInclusive<u8>> {
    // No sign and no blank: `parse` would take a plus.
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u8>().ok()).flatten().filter(|n| *n < 24);
    match text.split_once('-') {
        _ if text == "all" => Some(0..=23),
        None => number(text).map(|n| n..=n),
        Some((first, last)) => Some(number(first)?..=number(last)?).filter(|range| !range.is_empty()),
    }
}

/// Without values.
impl fmt::Display for PcrSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registers: Vec<String> = self.registers.keys().map(u8::to_string).collect();
        write!(f, "{}:{}", self.bank, registers.join(","))
    }
}

/// Why a text names no registers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrSelectionError {
    /// Not `bank:list`.
    #[error("write it as BANK:LIST, such as sha256:0,7")]
    Form,
    /// More than one bank.
    #[error("registers of several banks are not taken: name one, such as sha256:0,7")]
    SeveralBanks,
    /// One bank is named twice.
    #[error("the bank {0} stands twice: name its registers once")]
    BankTwice(PcrBank),
    /// Not a bank that is known here.
    #[error("{0:?} is no bank: use sha1, sha256, sha384 or sha512")]
    Bank(String),
    /// Not a register's number.
    #[error("{0:?} is no register and no range of them: they are numbered 0 to 23")]
    Register(String),
    /// A register is listed twice.
    #[error("register {0} stands twice")]
    Twice(u8),
    /// A value is not hexadecimal, or of another length than the bank's.
    #[error("the value of register {0} is not {1} bytes of hexadecimal digits")]
    Value(u8, usize),
}

/// Banks, and which of their registers.
type Registers = Vec<(PcrBank, Vec<u8>)>;

/// A register and its value.
type RegisterValue = (u8, Vec<u8>);

/// What a TPM2_PolicyPCR asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PcrCommand {
    /// SHA-256 over the registers' values, bank by bank in the selection's order, lowest number first.
    pub(crate) digest: Vec<u8>,
    pub(crate) selection: Registers,
}

impl PcrCommand {
    /// Of registers with their values, in ascending order within each bank.
    pub(super) fn of_all(banks: Vec<(PcrBank, Vec<RegisterValue>)>) -> Self {
        let values = banks.iter().flat_map(|(_, values)| values);
        let digest = values.fold(Sha256::new(), |hash, (_, value)| hash.chain_update(value)).finalize().to_vec();
        let registers = |(bank, values): (_, Vec<(u8, _)>)| (bank, values.into_iter().map(|(register, _)| register).collect());
        Self { digest, selection: banks.into_iter().map(registers).collect() }
    }

    /// In the selection's order, which the digest and the policy depend on.
    pub(crate) fn list(&self) -> Result<PcrSelectionList, tss_esapi::Error> {
        selection_list(&self.selection)
    }

    /// TPML_PCR_SELECTION (TCG part 2, 10.9.7)
    pub(super) fn marshalled_selection(&self) -> Vec<u8> {
        let mut bytes = u32::try_from(self.selection.len()).unwrap_or_default().to_be_bytes().to_vec();
        for (bank, registers) in &self.selection {
            bytes.extend_from_slice(&bank.id().to_be_bytes());
            bytes.push(3);
            bytes.extend_from_slice(&bits(registers));
        }
        bytes
    }

    /// The parameters as the command takes them, TPM2B_DIGEST and TPML_PCR_SELECTION (TCG part 3, 23.7), or the other way round, as some
    /// writers have them. No bytes are both: a selection begins with its small count in 32 bits, which is no digest with a selection behind it.
    pub(super) fn parse(parameters: &[u8]) -> Option<Self> {
        let digest_first = || {
            let (digest, rest) = digest(parameters)?;
            Some((digest, selection(rest).filter(|(_, rest)| rest.is_empty())?.0))
        };
        let selection_first = || {
            let (selection, rest) = selection(parameters)?;
            Some((digest(rest).filter(|(_, rest)| rest.is_empty())?.0, selection))
        };
        let (digest, selection) = digest_first().or_else(selection_first)?;
        Some(Self { digest: digest.to_vec(), selection })
    }
}

/// TPM2B_DIGEST, and what stands behind it.
fn digest(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}

/// TPML_PCR_SELECTION, and what stands behind it: at most 16 banks, of 24 registers each.
fn selection(bytes: &[u8]) -> Option<(Registers, &[u8])> {
    let (count, mut rest) = bytes.split_first_chunk::<4>()?;
    let count = Some(u32::from_be_bytes(*count)).filter(|count| *count <= 16)?;
    let mut selection = Vec::new();
    for _ in 0..count {
        let (id, after) = rest.split_first_chunk::<2>()?;
        let bank = PcrBank::ALL.into_iter().find(|bank| bank.id() == u16::from_be_bytes(*id))?;
        let (len, after) = after.split_first()?;
        let (bits, after) = after.split_at_checked(usize::from(*len))?;
        // Registers beyond 24 are not known here: a map that is longer must have none of them.
        let (known, beyond) = bits.split_at(bits.len().min(3));
        if beyond.iter().any(|byte| *byte != 0) {
            return None;
        }
        let registers =
            known.iter().zip(0_u8..).flat_map(|(byte, i)| (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| i * 8 + bit));
        selection.push((bank, registers.collect()));
        rest = after;
    }
    Some((selection, rest))
}

impl fmt::Display for PcrCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let banks = self.selection.iter().map(|(bank, registers)| {
            let registers: Vec<String> = registers.iter().map(u8::to_string).collect();
            format!("{bank}:{}", registers.join(","))
        });
        f.write_str(&banks.collect::<Vec<_>>().join("+"))
    }
}

/// TPMS_PCR_SELECT, of registers below 24
fn bits(registers: &[u8]) -> [u8; 3] {
    let mut bits = [0; 3];
    for register in registers {
        bits[usize::from(register / 8)] |= 1 << (register % 8);
    }
    bits
}

/// In the order in which they are named: tss-esapi's builder keeps none.
pub(crate) fn selection_list(banks: &[(PcrBank, Vec<u8>)]) -> Result<PcrSelectionList, tss_esapi::Error> {
    let mut list = TPML_PCR_SELECTION { count: u32::try_from(banks.len()).unwrap_or_default(), ..Default::default() };
    for (to, (bank, registers)) in list.pcrSelections.iter_mut().zip(banks) {
        let [a, b, c] = bits(registers);
        *to = TPMS_PCR_SELECTION { hash: bank.id(), sizeofSelect: 3, pcrSelect: [a, b, c, 0] };
    }
    PcrSelectionList::try_from(list)
}

pub(crate) fn one_register(bank: PcrBank, register: u8) -> Result<PcrSelectionList, tss_esapi::Error> {
    some_registers(bank, &[register])
}

pub(crate) fn some_registers(bank: PcrBank, registers: &[u8]) -> Result<PcrSelectionList, tss_esapi::Error> {
    let slots: Result<Vec<PcrSlot>, _> = registers.iter().map(|register| PcrSlot::try_from(1_u32 << u32::from(*register))).collect();
    PcrSelectionList::builder().with_selection(bank.algorithm(), &slots?).build()
}

/// The register that a bit of a selection stands for.
pub(crate) fn register_of(slot: PcrSlot) -> Option<u8> {
    u8::try_from(u32::from(slot).trailing_zeros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_read_and_shown() {
        let value = "ab".repeat(32);
        let read: PcrSelection = format!("sha256:7={value},0,2").parse().expect("a selection");
        assert_eq!(read.to_string(), "sha256:0,2,7");
        assert_eq!(read.registers().map(|(n, v)| (n, v.is_some())).collect::<Vec<_>>(), [(0, false), (2, false), (7, true)]);
        for faulty in ["", "sha256", "sha256:", "sm3:7", "sha256:24", "sha256:7,7", "sha256:7=ab", "sha1:7=zz", "sha256:-1"] {
            assert!(faulty.parse::<PcrSelection>().is_err(), "{faulty}");
        }
    }

    #[test]
    fn a_selection_is_taken_as_people_write_it_or_refused_by_name() {
        let value = "ab".repeat(32);
        for (text, shown) in [
            ("SHA256:0,2, 7", "sha256:0,2,7"),
            ("sha256: 0-3", "sha256:0,1,2,3"),
            ("sha256:0+7", "sha256:0,7"),
            ("23", "sha256:23"),
            ("0, 23", "sha256:0,23"),
            ("sha1:16-16,23", "sha1:16,23"),
            ("sha256:all", "sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23"),
            (&format!("sha256:7=0x{}", value.to_uppercase()), "sha256:7"),
        ] {
            assert_eq!(text.parse::<PcrSelection>().expect(text).to_string(), shown, "{text}");
        }
        for (text, refused) in [
            ("sha256:0,2+sha1:7", PcrSelectionError::SeveralBanks),
            ("sha256:7-0", PcrSelectionError::Register("7-0".into())),
            ("sha256:0-24", PcrSelectionError::Register("0-24".into())),
            ("sha256:0-7,3", PcrSelectionError::Twice(3)),
            ("sha256:", PcrSelectionError::Register(String::new())),
            (&format!("sha256:0-1={value}"), PcrSelectionError::Register("0-1".into())),
            ("sha256:7=0xabc", PcrSelectionError::Value(7, 32)),
            ("sm3:0", PcrSelectionError::Bank("sm3".into())),
        ] {
            assert_eq!(text.parse::<PcrSelection>(), Err(refused), "{text}");
        }
    }

    #[test]
    fn parameters_are_read_in_either_order_and_registers_beyond_24_are_refused() {
        let digest = [&[0, 32][..], &[7; 32]].concat();
        let list = |bits: &[u8]| [&[0, 0, 0, 1, 0, 0x0b, u8::try_from(bits.len()).expect("a size")][..], bits].concat();
        let wanted = PcrCommand { digest: vec![7; 32], selection: vec![(PcrBank::Sha256, vec![0, 7, 16])] };
        let selection = list(&[0x81, 0, 1]);
        assert_eq!(PcrCommand::parse(&[&digest[..], &selection].concat()), Some(wanted.clone()));
        assert_eq!(PcrCommand::parse(&[&selection[..], &digest].concat()), Some(wanted.clone()));
        assert_eq!(PcrCommand::parse(&[&digest[..], &list(&[0x81, 0, 1, 0])].concat()), Some(wanted));
        // Their numbers would not fit into a byte.
        assert_eq!(PcrCommand::parse(&[&digest[..], &list(&[0xff; 255])].concat()), None);
        assert_eq!(PcrCommand::parse(&[&digest[..], &selection, &[0]].concat()), None);
    }
}
