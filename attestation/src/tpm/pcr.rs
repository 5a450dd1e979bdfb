//! Registers: which are meant, and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::hash::Hash;

/// Registers of one bank (TPMS_PCR_SELECTION, TCG part 2, 10.6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub bank: Hash,
    /// Which of it.
    pub registers: BTreeSet<u8>,
}

impl PcrSelection {
    /// `None` for an unknown bank.
    pub(super) fn from_bits(bank: u16, bits: &[u8]) -> Option<Self> {
        let is_set = |register: &u8| bits.get(usize::from(*register) / 8).is_some_and(|byte| byte >> (register % 8) & 1 == 1);
        Some(Self { bank: Hash::from_id(bank)?, registers: (0..=u8::MAX).filter(is_set).collect() })
    }
}

/// Banks in the order in which a TPM goes through them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected(pub Vec<PcrSelection>);

impl Selected {
    /// Bank and register, in the order in which their values are hashed: bank by bank, in each from the lowest.
    pub fn iter(&self) -> impl Iterator<Item = (Hash, u8)> {
        self.0.iter().flat_map(|selection| selection.registers.iter().map(|register| (selection.bank, *register)))
    }
}

impl fmt::Display for Selected {
    /// As tpm2-tools have it: `sha1:0,1+sha256:7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, selection) in self.0.iter().enumerate() {
            let registers: Vec<String> = selection.registers.iter().map(ToString::to_string).collect();
            write!(f, "{}{}:{}", if i == 0 { "" } else { "+" }, selection.bank, registers.join(","))?;
        }
        Ok(())
    }
}

/// Values of registers. Each has its bank's length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcrValues(BTreeMap<(Hash, u8), Vec<u8>>);

impl PcrValues {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. `false`, and nothing added, where its length is not the bank's or another value stands there.
    pub fn insert(&mut self, bank: Hash, register: u8, value: &[u8]) -> bool {
        let is_new = value.len() == bank.len() && self.get(bank, register).is_none_or(|known| known == value);
        if is_new {
            self.0.insert((bank, register), value.to_vec());
        }
        is_new
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, bank: Hash, register: u8) -> Option<&[u8]> {
        self.0.get(&(bank, register)).map(Vec::as_slice)
    }

    /// All, by bank and register.
    pub fn iter(&self) -> impl Iterator<Item = (Hash, u8, &[u8])> {
        self.0.iter().map(|((bank, register), value)| (*bank, *register, value.as_slice()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are selected, and the digest over them as a TPM makes it (part 3, 18.4.2).
    ///
    /// # Errors
    /// The first that is missing.
    pub(super) fn digest_of(&self, selected: &Selected, hash: Hash) -> Result<(Self, Vec<u8>), (Hash, u8)> {
        let mut of = Self::new();
        let mut parts = Vec::new();
        for (bank, register) in selected.iter() {
            let value = self.get(bank, register).ok_or((bank, register))?;
            of.insert(bank, register, value);
            parts.push(value);
        }
        Ok((of, hash.digest(&parts)))
    }
}
