//! The reader of policies in JSON, and of signed ones: what it takes, serde_json takes, too; registers and passwords come to the digest that OpenSSL's
//! SHA-256 makes of them; what is written of any policy is read again as the same.
#![no_main]

use std::collections::BTreeMap;

use ekm_otp_tpm::{PolicyPlan, SignedPolicy};
use libfuzzer_sys::fuzz_target;
use openssl::sha::sha256;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let _ = SignedPolicy::from_json(text);
    let Ok(plan) = PolicyPlan::from_json(text) else { return };
    let _ = plan.to_string();
    if let Some(again) = plan.to_json("again", &[]) {
        let again = PolicyPlan::from_json(&again).expect("what is written is read");
        assert_eq!(again.given().map(|policy| policy.digest()), plan.given().map(|policy| policy.digest()));
    }
    assert!(!plan.is_empty(), "a policy that asks for nothing");
    let json: Value = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).expect("JSON");
    let steps = list(member(&json, "policy").expect("steps"));
    let is_plain = |step| ["pcr", "authvalue", "password"].iter().any(|kind| text_of(step).ends_with(kind));
    if !steps.iter().all(is_plain) {
        return;
    }
    match plan.given() {
        Some(policy) => {
            assert_eq!(policy.digest(), steps.iter().fold([0; 32], step));
            assert_eq!(policy.needs_password(), steps.iter().any(|step| !is_pcr(step)));
        }
        None => assert!(steps.iter().any(|step| member(step, "currentPCRandBanks").is_some()), "a value is missing"),
    }
});

/// In any case; the reader refuses one that stands twice.
fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.as_object().expect("an object").iter().find(|(member, _)| member.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    member(object, name).and_then(Value::as_str).expect("a text")
}

fn text_of(step: &Value) -> String {
    text(step, "type").to_ascii_lowercase()
}

fn is_pcr(step: &Value) -> bool {
    text_of(step).ends_with("pcr")
}

/// The policy digest after one more step (TCG part 3, 23.7 and 23.17).
fn step(digest: [u8; 32], step: &Value) -> [u8; 32] {
    if !is_pcr(step) {
        return sha256(&[&digest[..], &0x16b_u32.to_be_bytes()].concat());
    }
    // TPM_ALG_ID → its registers with their values. TPML_PCR_SELECTION has the banks in the order in which they are named.
    let (mut order, mut banks) = (Vec::new(), BTreeMap::<u16, BTreeMap<u64, Vec<u8>>>::new());
    for pcr in list(member(step, "pcrs").expect("registers")) {
        let (bank, len) = match text(pcr, "hashAlg").to_ascii_lowercase() {
            name if name.ends_with("256") => (0x0b, 32),
            name if name.ends_with("384") => (0x0c, 48),
            name if name.ends_with("512") => (0x0d, 64),
            _ => (0x04, 20),
        };
        if !order.contains(&bank) {
            order.push(bank);
        }
        let hex = text(pcr, "digest");
        let hex = &hex[hex.len() - 2 * len..];
        let value = (0..len).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("digits")).collect();
        let register = member(pcr, "pcr").and_then(Value::as_u64).expect("a number");
        assert!(register < 24 && banks.entry(bank).or_default().insert(register, value).is_none(), "{register} stands twice");
    }
    let (mut selection, mut values) = (u32::try_from(order.len()).expect("few").to_be_bytes().to_vec(), Vec::new());
    for bank in order {
        let bits = banks[&bank].keys().fold(0_u32, |bits, register| bits | 1 << register);
        selection.extend([&bank.to_be_bytes()[..], &[3], &bits.to_le_bytes()[..3]].concat());
        values.extend(banks[&bank].values().flatten());
    }
    sha256(&[&digest[..], &0x17f_u32.to_be_bytes(), &selection, &sha256(&values)].concat())
}
