//! A log's events, and the values that they lead to.

use std::collections::BTreeMap;

use super::words;
use crate::tpm::{Hash, PcrValues};

/// EV_NO_ACTION (10.4.1): told, and measured into no register.
pub(super) const NO_ACTION: u32 = 3;

/// What was measured, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    pub(super) events: Vec<Event>,
    pub(super) locality: u8,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register.
    pub register: u8,
    /// TCG_EVENTTYPE (10.4.1).
    pub kind: u32,
    /// The digest that each bank was extended with, of the banks that are known here.
    pub digests: BTreeMap<Hash, Vec<u8>>,
    /// What the firmware tells of it.
    pub data: Vec<u8>,
}

impl EventLog {
    /// No log is longer: what is, is refused, and not cut off.
    pub const MAX_LEN: usize = 16 * 1024 * 1024;

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Those that were measured into a register, in a bank.
    pub fn measured(&self, bank: Hash, register: u8) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.register == register && event.kind != NO_ACTION && event.digests.contains_key(&bank))
    }

    /// What each register held after each of its events, in a bank: one more value than events, from its first value on.
    #[must_use]
    pub fn values(&self, bank: Hash, register: u8) -> Vec<Vec<u8>> {
        let mut value = vec![0; bank.len()];
        // Started from another locality, register 0 begins with its number (TCG PC Client Platform TPM Profile, 4.6.2).
        if let (0, Some(last)) = (register, value.last_mut()) {
            *last = self.locality;
        }
        let mut values = vec![value];
        for event in self.measured(bank, register) {
            if let (Some(value), Some(digest)) = (values.last(), event.digests.get(&bank)) {
                values.push(bank.digest(&[value, digest]));
            }
        }
        values
    }

    /// What the registers that anything was measured into hold where nothing but this log was.
    #[must_use]
    pub fn replay(&self) -> PcrValues {
        let mut all = PcrValues::new();
        for bank in [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            for register in 0..24 {
                let mut values = self.values(bank, register);
                if let (true, Some(value)) = (values.len() > 1, values.pop()) {
                    all.insert(bank, register, &value);
                }
            }
        }
        all
    }
}

impl Event {
    /// What it says, for people. What comes from the log steers no terminal.
    #[must_use]
    pub fn in_words(&self) -> String {
        words::of(self.kind, &self.data)
    }

    /// Its kind's name, as the TCG has it.
    #[must_use]
    pub fn kind_name(&self) -> Option<&'static str> {
        words::name_of(self.kind)
    }
}
