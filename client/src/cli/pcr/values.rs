//! Registers with their values: selections as people write them, the JSON that is saved, and what each register usually holds.

use std::collections::BTreeMap;

use ekm_otp_tpm::{PcrBank, PcrSelection, PcrValues};
use serde_json::{Map, Value, json};

use crate::cli::secret_file::unhex;
use crate::cli::shown::hex;

/// Bank → register → value
pub(super) type Banks = BTreeMap<PcrBank, BTreeMap<u8, Vec<u8>>>;

/// An argument with one or several selections.
#[derive(Clone, Debug)]
pub(crate) struct Selection(pub(crate) Vec<PcrSelection>);

impl Selection {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        selections(text).map(Self)
    }
}

/// `sha256:0,7`, several of these with `+` between them, or a bank alone, which means all of it.
fn selections(text: &str) -> Result<Vec<PcrSelection>, String> {
    let mut named: Vec<String> = Vec::new();
    for piece in text.split('+') {
        let is_bank = piece.contains(':') || PcrBank::ALL.iter().any(|bank| bank.to_string().eq_ignore_ascii_case(piece.trim()));
        match named.last_mut() {
            // `sha256:0+7` is one selection.
            Some(last) if !is_bank => *last += &format!("+{piece}"),
            _ => named.push(piece.to_owned()),
        }
    }
    let read = |text: String| {
        let text =
            if PcrBank::ALL.iter().any(|bank| bank.to_string() == text.trim().to_ascii_lowercase()) { format!("{text}:all") } else { text };
        text.parse::<PcrSelection>().map_err(|e| e.to_string())
    };
    named.into_iter().map(read).collect()
}

/// What `pcr read --json` writes and `pcr diff` reads.
pub(super) fn to_json(values: &PcrValues) -> String {
    let mut banks = Map::new();
    for (bank, registers) in &values.banks {
        let registers: Map<String, Value> = registers.iter().map(|(n, value)| (n.to_string(), hex(value).into())).collect();
        banks.insert(bank.to_string(), registers.into());
    }
    let file = json!({"pcrs": banks, "update_counter": values.update_counter, "one_moment": values.is_one_moment});
    format!("{file:#}\n")
}

/// Members that are not known are passed over; what is known is read to its end, or refused.
pub(super) fn from_json(bytes: &[u8]) -> Result<Banks, String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|e| format!("it is no JSON: {e}"))?;
    let saved = file["pcrs"].as_object().filter(|banks| !banks.is_empty());
    let mut banks = Banks::new();
    for (name, registers) in saved.ok_or("it has no member pcrs with banks in it, as `pcr read --json` writes it")? {
        let bank = PcrBank::ALL.into_iter().find(|bank| bank.to_string() == *name).ok_or_else(|| format!("{name:?} is no bank"))?;
        for (register, value) in registers.as_object().ok_or_else(|| format!("{name} holds no registers"))? {
            let number = register.parse::<u8>().ok().filter(|n| *n < 24).ok_or_else(|| format!("{register:?} is no register"))?;
            let value = value.as_str().and_then(unhex).filter(|value| value.len() == bank.len());
            let value = value.ok_or_else(|| format!("{bank}:{number} is not {} bytes of hexadecimal digits", bank.len()))?;
            banks.entry(bank).or_default().insert(number, value);
        }
    }
    Ok(banks)
}

/// What is usually measured into a register (TCG PC Client Platform Firmware Profile, 3.3.4; UAPI Group "Linux TPM PCR Registry").
pub(super) fn usually(register: u8) -> &'static str {
    match register {
        0 => "the firmware's code",
        1 => "the firmware's settings, the machine's configuration",
        2 => "code of plug-in cards and drivers",
        3 => "their settings and data",
        4 => "the boot loader: all programs that firmware started",
        5 => "the boot loader's settings, the disk's table of partitions",
        6 => "the machine's maker",
        7 => "Secure Boot: its state, its keys, which of them allowed what was started",
        8 => "GRUB: its commands, the kernel's command line",
        9 => "GRUB: the files that it read; Linux: the initrd",
        10 => "Linux: what IMA measured",
        11 => "systemd: the parts of the unified kernel image, the phases of the boot",
        12 => "systemd: the kernel's command line, credentials",
        13 => "systemd: extensions of the system",
        14 => "shim: the machine owner's keys (MOK)",
        15 => "systemd: the machine's identity, its encrypted disks",
        16 => "for trying things out",
        17..=22 => "a dynamic launch (DRTM)",
        _ => "programs' own",
    }
}

/// Whether nothing was measured into it: all zeros, or, in registers of a dynamic launch, all ones.
pub(super) fn is_empty(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == 0) || value.iter().all(|byte| *byte == 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_read_as_tpm2_tools_take_them() {
        for (text, read) in [
            ("sha256:0,7", &["sha256:0,7"][..]),
            ("sha1:0+sha256:1,2", &["sha1:0", "sha256:1,2"]),
            ("sha256:0+7", &["sha256:0,7"]),
            ("0,7", &["sha256:0,7"]),
            ("SHA1:3-5", &["sha1:3,4,5"]),
        ] {
            let shown: Vec<String> = selections(text).expect(text).iter().map(ToString::to_string).collect();
            assert_eq!(shown, read, "{text}");
        }
        assert_eq!(selections("sha384").expect("a bank")[0].to_string().split(',').count(), 24);
        for faulty in ["", "sha256:", "md5:0", "sha256:0+sha256", "sha256:0+md5:1"].iter().filter(|text| !text.ends_with("sha256")) {
            assert!(selections(faulty).is_err(), "{faulty}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_refused() {
        let banks = Banks::from([(PcrBank::Sha1, BTreeMap::from([(0, vec![1; 20]), (23, vec![2; 20])]))]);
        let values = PcrValues { update_counter: 7, is_one_moment: true, banks: banks.clone() };
        let text = to_json(&values);
        assert_eq!(from_json(text.as_bytes()), Ok(banks));
        for (from, to) in [("\"sha1\"", "\"md5\""), ("\"23\"", "\"24\""), ("0101", "01"), ("pcrs", "values"), ("0202", "zz02")] {
            assert!(from_json(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
        assert!(from_json(&text.as_bytes()[..text.len() / 2]).is_err());
    }
}
