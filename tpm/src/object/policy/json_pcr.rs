//! Registers in the policy language: TPM2_PolicyPCR.

use std::collections::BTreeMap;

use super::json_error::PolicyJsonError;
use super::json_value::{Json, Object, list, objects};
use crate::object::name::unhex;
use crate::object::pcr::{PcrBank, PcrSelection};

/// TPMS_POLICYPCR: one command, whose banks stand in the order in which they are first named, as tpm2-tss has them.
pub(super) fn pcrs(element: &mut Object) -> Result<Vec<PcrSelection>, PolicyJsonError> {
    match (element.take("pcrs"), element.take("currentPCRandBanks"), element.take("currentPCRs")) {
        (Some(pcrs), None, None) => {
            let mut banks = Vec::new();
            for mut pcr in objects(pcrs, &format!("{}.pcrs", element.at))? {
                let (register, bank) = (register(pcr.need("pcr")?, &pcr.at)?, bank(&mut pcr, "hashAlg")?);
                let digest = digest(&mut pcr, bank)?;
                add(&mut banks, bank, register, Some(digest))?;
                pcr.finish()?;
            }
            Ok(selections(banks))
        }
        (None, Some(current), None) => {
            let mut banks = Vec::new();
            for mut one in objects(current, &format!("{}.currentPCRandBanks", element.at))? {
                let bank = bank(&mut one, "hash")?;
                let at = format!("{}.pcrSelect", one.at);
                for number in list(one.need("pcrSelect")?, &at)? {
                    add(&mut banks, bank, register(number, &at)?, None)?;
                }
                one.finish()?;
            }
            Ok(selections(banks))
        }
        (None, None, Some(_)) => Err(PolicyJsonError::NoBank(element.at.clone())),
        _ => Err(PolicyJsonError::Registers(element.at.clone())),
    }
}

type Banks = Vec<(PcrBank, BTreeMap<u8, Option<Vec<u8>>>)>;

fn add(banks: &mut Banks, bank: PcrBank, register: u8, value: Option<Vec<u8>>) -> Result<(), PolicyJsonError> {
    let place = banks.iter().position(|(named, _)| *named == bank).unwrap_or_else(|| {
        banks.push((bank, BTreeMap::new()));
        banks.len() - 1
    });
    match banks[place].1.insert(register, value) {
        None => Ok(()),
        Some(_) => Err(PolicyJsonError::Twice(format!("{bank}:{register}"))),
    }
}

fn selections(banks: Banks) -> Vec<PcrSelection> {
    banks.into_iter().map(|(bank, registers)| PcrSelection::new(bank, registers)).collect()
}

pub(super) fn register(number: Json, at: &str) -> Result<u8, PolicyJsonError> {
    match number {
        Json::Number(number @ 0..24) => Ok(u8::try_from(number).unwrap_or_default()),
        _ => Err(PolicyJsonError::Register(at.to_owned())),
    }
}

/// TPM2_ALG_ID, with and without its prefix: `TPM2_ALG_SHA256`, `sha256`.
fn bank(object: &mut Object, member: &'static str) -> Result<PcrBank, PolicyJsonError> {
    let named = object.need(member)?.text(&object.at, member)?;
    known_bank(&named).ok_or_else(|| PolicyJsonError::Bank { at: object.at.clone(), named })
}

pub(super) fn known_bank(named: &str) -> Option<PcrBank> {
    let name = named.to_ascii_lowercase();
    let name = name.strip_prefix("tpm2_").or(name.strip_prefix("tpm_")).unwrap_or(&name);
    match name.strip_prefix("alg_").unwrap_or(name) {
        "sha" => Some(PcrBank::Sha1),
        name => PcrBank::ALL.into_iter().find(|bank| bank.to_string() == name),
    }
}

pub(super) fn digest(object: &mut Object, bank: PcrBank) -> Result<Vec<u8>, PolicyJsonError> {
    let text = object.need("digest")?.text(&object.at, "digest")?;
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(&text);
    let digest = unhex(hex).filter(|digest| digest.len() == bank.len());
    digest.ok_or_else(|| PolicyJsonError::Digest { at: object.at.clone(), len: bank.len(), bank })
}
