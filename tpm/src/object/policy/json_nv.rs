//! TPM2_PolicyNV in the policy language: an NV index by its public area, of which its name is made (TCG part 2, 13.5; part 1, 16).

use sha2::{Digest as _, Sha256};

use super::json_error::PolicyJsonError;
use super::json_value::{Json, Object};
use super::tree::NvComparison;

/// TPMA_NV (TCG part 2, 13.4): the bits that have a name.
const ATTRIBUTES: [(&str, u32); 21] = [
    ("PPWRITE", 0),
    ("OWNERWRITE", 1),
    ("AUTHWRITE", 2),
    ("POLICYWRITE", 3),
    ("POLICY_DELETE", 10),
    ("WRITELOCKED", 11),
    ("WRITEALL", 12),
    ("WRITEDEFINE", 13),
    ("WRITE_STCLEAR", 14),
    ("GLOBALLOCK", 15),
    ("PPREAD", 16),
    ("OWNERREAD", 17),
    ("AUTHREAD", 18),
    ("POLICYREAD", 19),
    ("NO_DA", 25),
    ("ORDERLY", 26),
    ("CLEAR_STCLEAR", 27),
    ("READLOCKED", 28),
    ("WRITTEN", 29),
    ("PLATFORMCREATE", 30),
    ("READ_STCLEAR", 31),
];

/// TPM_EO (TCG part 2, 6.8), in its order.
const OPERATIONS: [&str; 12] = [
    "EQ",
    "NEQ",
    "SIGNED_GT",
    "UNSIGNED_GT",
    "SIGNED_LT",
    "UNSIGNED_LT",
    "SIGNED_GE",
    "UNSIGNED_GE",
    "SIGNED_LE",
    "UNSIGNED_LE",
    "BITSET",
    "BITCLEAR",
];

/// TPMS_POLICYNV
pub(super) fn nv(element: &mut Object) -> Result<NvComparison, PolicyJsonError> {
    let at = element.at.clone();
    if let Some(path) = element.take("nvPath") {
        return Err(PolicyJsonError::Path { at: at.clone(), path: path.text(&at, "nvPath")? });
    }
    let stated = element.take("nvIndex").map(|index| index.number(&at, "nvIndex")).transpose()?;
    let mut public = Object::of(element.need("nvPublic")?, &format!("{at}.nvPublic"))?;
    // TPM2B_NV_PUBLIC has it once more inside.
    if let Some(inner) = public.take("nvPublic") {
        public.take("size");
        public.finish()?;
        public = Object::of(inner, &format!("{at}.nvPublic"))?;
    }
    let (index, area) = area(&mut public)?;
    public.finish()?;
    if stated.is_some_and(|stated| stated != u64::from(index)) {
        return Err(PolicyJsonError::NvPublic(at));
    }
    let operand = element.need("operandB")?.bytes(&at, "operandB")?;
    let offset = element.take("offset").map_or(Ok(0), |offset| offset.number(&at, "offset"))?;
    let operation = match element.take("operation") {
        None => 0,
        Some(named) => operation(named, &at)?,
    };
    let offset = u16::try_from(offset).map_err(|_| PolicyJsonError::Kind { at, wanted: "a comparison within 64 KiB" })?;
    let name = [&[0x00, 0x0b][..], &Sha256::digest(&area)].concat();
    Ok(NvComparison { index, name, operand, offset, operation })
}

/// TPMS_NV_PUBLIC, marshalled.
fn area(public: &mut Object) -> Result<(u32, Vec<u8>), PolicyJsonError> {
    let at = public.at.clone();
    let wrong = || PolicyJsonError::NvPublic(at.clone());
    let index = u32::try_from(public.need("nvIndex")?.number(&at, "nvIndex")?).map_err(|_| wrong())?;
    let hash = public.need("nameAlg")?.text(&at, "nameAlg")?.to_ascii_uppercase();
    if hash.trim_start_matches("TPM2_").trim_start_matches("ALG_") != "SHA256" {
        return Err(wrong());
    }
    let attributes = match public.need("attributes")? {
        Json::List(names) => names.into_iter().map(attribute).try_fold(0, |bits, bit| Some(bits | bit?)),
        number => u32::try_from(number.number(&at, "attributes")?).ok(),
    };
    let attributes = attributes.ok_or_else(wrong)?;
    let policy = public.take("authPolicy").map_or(Ok(Vec::new()), |policy| policy.bytes(&at, "authPolicy"))?;
    let size = u16::try_from(public.need("dataSize")?.number(&at, "dataSize")?).map_err(|_| wrong())?;
    let policy_len = u16::try_from(policy.len()).map_err(|_| wrong())?;
    let head = [&index.to_be_bytes()[..], &[0x00, 0x0b], &attributes.to_be_bytes(), &policy_len.to_be_bytes()].concat();
    Ok((index, [head, policy, size.to_be_bytes().to_vec()].concat()))
}

fn attribute(named: Json) -> Option<u32> {
    let Json::Text(named) = named else { return None };
    let upper = named.to_ascii_uppercase();
    let name = upper.trim_start_matches("TPMA_").trim_start_matches("NV_");
    ATTRIBUTES.into_iter().find(|(known, _)| *known == name).map(|(_, bit)| 1 << bit)
}

/// TPM_EO
fn operation(named: Json, at: &str) -> Result<u16, PolicyJsonError> {
    let known = |text: &str| {
        let upper = text.to_ascii_uppercase();
        let name = upper.trim_start_matches("TPM2_").trim_start_matches("EO_");
        OPERATIONS.iter().position(|known| *known == name)
    };
    let number = match named {
        Json::Text(text) => known(&text),
        number => usize::try_from(number.number(at, "operation")?).ok(),
    };
    let number = number.filter(|number| *number < OPERATIONS.len()).and_then(|number| u16::try_from(number).ok());
    number
        .ok_or_else(|| PolicyJsonError::Kind { at: format!("{at}.operation"), wanted: "a comparison (TPM_EO), such as EQ or UNSIGNED_GE" })
}
