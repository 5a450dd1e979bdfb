//! TPM2_PCR_Read, TPM2_PCR_Extend, TPM2_PCR_Reset (TCG part 3, 22).

use std::collections::BTreeMap;

use tss_esapi::constants::{CapabilityType, PcrPropertyTag};
use tss_esapi::handles::PcrHandle;
use tss_esapi::structures::{CapabilityData, Digest, DigestValues, PcrSlot};

use crate::connection::device::Device;
use crate::connection::live::{EMPTY_PASSWORD, Live};
use crate::object::pcr::{register_of, some_registers};
use crate::{PcrBank, PcrSelection, TpmError, TpmHandle};

/// How often the registers are read anew where one changed meanwhile.
const TRIES: usize = 4;

/// What registers held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    /// How many times registers were changed since the TPM's start, but for those that are not counted (16 and 23 on a PC).
    pub update_counter: u32,
    /// Whether all were read with none changed in between, as far as changes are counted.
    pub is_one_moment: bool,
    /// Bank → register → value.
    pub banks: BTreeMap<PcrBank, BTreeMap<u8, Vec<u8>>>,
}

/// What may be done to registers by whom this process is to the TPM (locality 0), as the TPM says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcrRights {
    /// Those that may be extended.
    pub extend: Vec<u8>,
    /// Those that may be reset.
    pub reset: Vec<u8>,
}

impl TpmHandle {
    /// What registers hold: those of the selections, or all that the TPM has.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`NoBank`](TpmError::NoBank) where a bank or register is not there.
    pub async fn read_pcrs(&self, selections: &[PcrSelection]) -> Result<PcrValues, TpmError> {
        let asked: Vec<(PcrBank, Vec<u8>)> =
            selections.iter().map(|one| (one.bank(), one.registers().map(|(register, _)| register).collect())).collect();
        self.run(move |device| device.read_pcrs(&asked)).await
    }

    /// What may be done to registers.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn pcr_rights(&self) -> Result<PcrRights, TpmError> {
        self.run(|device| device.run(Live::pcr_rights)).await
    }

    /// The banks that the TPM has, and their registers.
    ///
    /// # Errors
    /// As [`TpmError`] tells.
    pub async fn pcr_banks(&self) -> Result<Vec<(PcrBank, Vec<u8>)>, TpmError> {
        self.run(|device| device.run(Live::allocated)).await
    }

    /// Extends a register with a digest in each of these banks: it holds the hash of its value and the digest from then on, until the machine's next start.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`PcrNotAllowed`](TpmError::PcrNotAllowed) where this register is not for programs.
    pub async fn extend_pcr(&self, register: u8, digests: Vec<(PcrBank, Vec<u8>)>) -> Result<(), TpmError> {
        self.run(move |device| device.extend_pcr(register, &digests)).await
    }

    /// Puts a register back to its first value, in all banks.
    ///
    /// # Errors
    /// As [`TpmError`] tells: [`PcrNotAllowed`](TpmError::PcrNotAllowed) for most registers.
    pub async fn reset_pcr(&self, register: u8) -> Result<(), TpmError> {
        self.run(move |device| {
            device.change(register, "TPM2_PCR_Reset", "reset", |live| {
                let handle = PcrHandle::try_from(u32::from(register));
                live.context.execute_with_session(EMPTY_PASSWORD, |c| c.pcr_reset(handle?))
            })
        })
        .await
    }
}

impl Device {
    fn read_pcrs(&mut self, asked: &[(PcrBank, Vec<u8>)]) -> Result<PcrValues, TpmError> {
        self.run(|live| {
            let asked = if asked.is_empty() { live.allocated()? } else { asked.to_vec() };
            let mut values = live.read_banks(&asked)?;
            for _ in 1..TRIES {
                if values.is_one_moment {
                    break;
                }
                values = live.read_banks(&asked)?;
            }
            Ok(values)
        })
    }

    fn extend_pcr(&mut self, register: u8, digests: &[(PcrBank, Vec<u8>)]) -> Result<(), TpmError> {
        self.change(register, "TPM2_PCR_Extend", "extended", |live| {
            let mut values = DigestValues::new();
            for (bank, digest) in digests {
                values.set(bank.algorithm(), Digest::try_from(digest.clone())?);
            }
            let handle = PcrHandle::try_from(u32::from(register));
            live.context.execute_with_session(EMPTY_PASSWORD, |c| c.pcr_extend(handle?, values))
        })
    }

    /// Changes a register. Never twice by itself: nobody knows whether the first time went through where its answer was lost.
    fn change(
        &mut self,
        register: u8,
        operation: &'static str,
        done: &'static str,
        change: impl Fn(&mut Live) -> tss_esapi::Result<()>,
    ) -> Result<(), TpmError> {
        // What reaches the TPM, and takes an old connection's faults away.
        self.run(|live| live.handles(tss_esapi::constants::tss::TPM2_PCR_FIRST).map(|_| ()))?;
        self.once(|live| {
            change(live).map_err(|e| TpmError::of(operation, e)).map_err(|error| match error {
                // TPM_RC_LOCALITY
                TpmError::Command { code: 0x907, .. } => {
                    let rights = live.pcr_rights().unwrap_or_default();
                    let allowed = if done == "reset" { rights.reset } else { rights.extend };
                    TpmError::PcrNotAllowed { register, done, allowed }
                }
                other => other,
            })
        })
    }
}

impl Live {
    /// The banks that are switched on, and which registers they have.
    fn allocated(&mut self) -> Result<Vec<(PcrBank, Vec<u8>)>, TpmError> {
        let Some(CapabilityData::AssignedPcr(list)) = self.capability_of_banks()? else {
            // A bank that the library does not know stands among them: then each is tried.
            return self.tried_banks();
        };
        let of = |bank: PcrBank| {
            let slots = list.get_selections().iter().filter(|one| one.hashing_algorithm() == bank.algorithm());
            let mut registers: Vec<u8> = slots.flat_map(|one| one.selected()).filter_map(register_of).filter(|n| *n < 24).collect();
            registers.sort_unstable();
            (bank, registers)
        };
        Ok(PcrBank::ALL.into_iter().map(of).filter(|(_, registers)| !registers.is_empty()).collect())
    }

    fn tried_banks(&mut self) -> Result<Vec<(PcrBank, Vec<u8>)>, TpmError> {
        let mut banks = Vec::new();
        for bank in PcrBank::ALL {
            match self.read_pcr(bank, 0) {
                Ok(_) => banks.push((bank, (0..24).collect())),
                Err(TpmError::Command { code, .. }) if code >> 16 == 0 && code != 0 => {}
                Err(TpmError::NoBank(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(banks)
    }

    /// A TPM answers with at most eight values at a time.
    pub(super) fn read_banks(&mut self, asked: &[(PcrBank, Vec<u8>)]) -> Result<PcrValues, TpmError> {
        let mut counters = Vec::new();
        let mut banks = BTreeMap::<PcrBank, BTreeMap<u8, Vec<u8>>>::new();
        for (bank, registers) in asked {
            for some in registers.chunks(8) {
                let (counter, found) = self.read_some(*bank, some)?;
                counters.push(counter);
                banks.entry(*bank).or_default().extend(found);
            }
        }
        let is_one_moment = counters.windows(2).all(|pair| pair[0] == pair[1]);
        Ok(PcrValues { update_counter: counters.last().copied().unwrap_or_default(), is_one_moment, banks })
    }

    fn read_some(&mut self, bank: PcrBank, registers: &[u8]) -> Result<(u32, BTreeMap<u8, Vec<u8>>), TpmError> {
        let (counter, read, values) = self.ask("TPM2_PCR_Read", false, |c| c.pcr_read(some_registers(bank, registers)?))?;
        let mut of: Vec<u8> = read.get_selections().iter().flat_map(|one| one.selected()).filter_map(register_of).collect();
        of.sort_unstable();
        let values = values.value();
        if of != registers && of.iter().all(|register| registers.contains(register)) {
            return Err(TpmError::NoBank(bank));
        }
        if of != registers || values.len() != registers.len() || values.iter().any(|value| value.len() != bank.len()) {
            return Err(TpmError::Contradiction("the registers"));
        }
        Ok((counter, registers.iter().copied().zip(values.iter().map(|value| value.value().to_vec())).collect()))
    }

    fn pcr_rights(&mut self) -> Result<PcrRights, TpmError> {
        let answer = self.context.execute_without_session(|c| c.get_capability(CapabilityType::PcrProperties, 0, 32));
        let CapabilityData::PcrProperties(properties) = answer.map_err(|e| TpmError::of("TPM2_GetCapability", e))?.0 else {
            return Err(TpmError::Contradiction("the registers"));
        };
        let of = |tag| {
            let slots = properties.find(tag).map(|property| property.selected_pcrs()).unwrap_or_default();
            let mut registers: Vec<u8> = slots.into_iter().filter_map(|slot: PcrSlot| register_of(slot)).collect();
            registers.sort_unstable();
            registers
        };
        Ok(PcrRights { extend: of(PcrPropertyTag::ExtendL0), reset: of(PcrPropertyTag::ResetL0) })
    }
}
