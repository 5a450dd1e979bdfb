//! What a quote has proven.

use std::fmt::Write as _;

use ekm_otp_attestation::tpm::VerifiedQuote;
use serde_json::{Map, Value, json};

use super::super::error::CliError;
use super::super::output;
use super::super::shown::hex;

pub(super) fn tell(verified: &VerifiedQuote, is_json: bool) -> Result<(), CliError> {
    if is_json { output::line(&format!("{:#}", as_json(verified))) } else { output::result(table(verified).as_bytes()) }
}

fn as_json(verified: &VerifiedQuote) -> Value {
    let (attest, clock) = (verified.attest(), verified.attest().clock_info());
    let mut banks = Map::new();
    for (bank, register, value) in verified.values().into_iter().flat_map(|values| values.iter()) {
        banks.entry(bank.to_string()).or_insert_with(|| json!({}))[register.to_string()] = hex(value).into();
    }
    json!({
        "verified": {
            "root": verified.key().root().map(|root| root.describe()),
            "key_name": verified.key().name().map(hex),
        },
        "extra_data": hex(attest.extra_data()),
        "qualified_signer": hex(attest.signer()),
        "clock": clock.clock,
        "reset_count": clock.reset_count,
        "restart_count": clock.restart_count,
        "safe": clock.is_safe,
        "firmware_version": format!("{:016x}", attest.firmware_version()),
        "selection": attest.selected().to_string(),
        "pcr_digest": hex(attest.digest()),
        "pcrs": if verified.values().is_some() { Value::Object(banks) } else { Value::Null },
    })
}

fn table(verified: &VerifiedQuote) -> String {
    let (attest, clock) = (verified.attest(), verified.attest().clock_info());
    let mut table = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(table, "{name:<12} {value}");
    };
    match verified.key().root() {
        Some(root) => line("proven", &format!("by a key whose certificate leads to {}", root.describe())),
        None => line("proven", "by the key that was named"),
    }
    if let Some(name) = verified.key().name() {
        line("key", &hex(name));
    }
    line("signer", &hex(attest.signer()));
    line("nonce", &hex(attest.extra_data()));
    line("resets", &format!("{}, and {} restarts since", clock.reset_count, clock.restart_count));
    line("clock", &format!("{} ms{}", clock.clock, if clock.is_safe { "" } else { ", and a later one may have been shown before" }));
    line("firmware", &format!("{:016x}", attest.firmware_version()));
    match verified.values() {
        None => line("registers", &format!("{}, their digest {} (--values shows them)", attest.selected(), hex(attest.digest()))),
        Some(values) => values.iter().for_each(|(bank, register, value)| line(&format!("{bank}:{register}"), &hex(value))),
    }
    table
}
