//! Event logs that a second implementation writes lead to the values that it and tpm2_eventlog come to; what is cut off or damaged is refused.

use std::collections::BTreeMap;
use std::path::Path;

use ekm_otp_attestation::event_log::{EventLog, EventLogError};
use ekm_otp_attestation::tpm::{Hash, PcrValues};
use tempfile::TempDir;

/// Bank → register → digits
type Told = BTreeMap<String, BTreeMap<u8, String>>;

/// A log in the folder, and the values that Python comes to.
fn written(folder: &Path, variants: &[&str]) -> (Vec<u8>, Told) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/attestation/event_log.py");
    let output =
        ekm_otp_swtpm::command("python3", "python3").arg(script).arg("log").args(variants).current_dir(folder).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (std::fs::read(folder.join("log")).expect("the log"), serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn flat(values: &PcrValues) -> Told {
    let mut told = Told::new();
    for (bank, register, value) in values.iter() {
        told.entry(bank.to_string()).or_default().insert(register, hex(value));
    }
    told
}

/// The part `pcrs:` of what tpm2_eventlog prints: `  sha1:`, then `    0  : 0x00…`.
fn told_by_tools(folder: &Path) -> Told {
    let output = ekm_otp_swtpm::command("tpm2_eventlog", "tpm2-tools").arg("log").current_dir(folder).output().expect("tpm2_eventlog");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut told, mut bank) = (Told::new(), String::new());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.split_once("\npcrs:\n").expect("the values").1.lines() {
        match line.trim().split_once(':') {
            Some((name, "")) => bank = name.trim().to_owned(),
            Some((register, value)) => {
                let register = register.trim().parse().expect("a register");
                told.entry(bank.clone()).or_default().insert(register, value.trim().trim_start_matches("0x").to_lowercase());
            }
            None => {}
        }
    }
    told
}

#[test]
fn a_log_leads_to_the_values_that_python_and_tpm2_eventlog_come_to() {
    for variants in [&[][..], &["insecure"], &["shim", "later"], &["legacy"]] {
        let folder = folder();
        let (log, told) = written(folder.path(), variants);
        let log = EventLog::parse(&log).expect("a log");
        assert_eq!(flat(&log.replay()), told, "{variants:?}");
        // tpm2-tools lists registers 0 to 7 of a legacy log only as far as they are measured, as is done here.
        assert_eq!(told_by_tools(folder.path()), told, "{variants:?}");
    }
}

/// tpm2-tools 5.4 knows no start-up locality.
#[test]
fn a_log_that_starts_from_another_locality_begins_with_its_number() {
    let folder = folder();
    let (log, told) = written(folder.path(), &["locality"]);
    let log = EventLog::parse(&log).expect("a log");
    assert_eq!(flat(&log.replay()), told);
    assert_eq!(log.values(Hash::Sha256, 0)[0], [&[0; 31][..], &[3]].concat());
}

#[test]
fn events_say_in_words_what_they_are() {
    let folder = folder();
    let log = EventLog::parse(&written(folder.path(), &[]).0).expect("a log");
    let words = |register| log.measured(Hash::Sha256, register).map(|event| event.in_words()).collect::<Vec<_>>();
    assert_eq!(words(0)[0], "firmware version \"2026.11\" (EV_S_CRTM_VERSION)");
    assert_eq!(words(7)[0], "the variable \"SecureBoot\" (EV_EFI_VARIABLE_DRIVER_CONFIG)");
    let of_loaders = [
        "the end of what firmware measures here (EV_SEPARATOR)",
        "\"Calling EFI Application from Boot Option\" (EV_EFI_ACTION)",
        r#"the program "\\EFI\\debian\\shimx64.efi" (EV_EFI_BOOT_SERVICES_APPLICATION)"#,
        r#"the program "\\EFI\\debian\\grubx64.efi" (EV_EFI_BOOT_SERVICES_APPLICATION)"#,
    ];
    assert_eq!(words(4), of_loaders);
    assert_eq!(words(8), ["\"kernel_cmdline: /vmlinuz root=/dev/vda1\" (EV_IPL)"]);
    assert_eq!(words(12), ["EV_EVENT_TAG"]);
}

#[test]
fn a_log_that_is_cut_off_anywhere_but_between_events_is_refused() {
    let folder = folder();
    for variants in [&[][..], &["legacy"]] {
        let (log, _) = written(folder.path(), variants);
        let whole = EventLog::parse(&log).expect("a log").events().len();
        let read: Vec<usize> = (0..log.len()).filter_map(|len| Some(EventLog::parse(&log[..len]).ok()?.events().len())).collect();
        // Each event's end, and nothing else.
        assert_eq!(read, (1..whole).collect::<Vec<_>>(), "{variants:?}");
    }
}

#[test]
fn what_is_damaged_is_refused_by_name_and_takes_no_memory() {
    let folder = folder();
    let (log, _) = written(folder.path(), &[]);
    let with = |at: usize, bytes: &[u8]| {
        let mut log = log.clone();
        log[at..at + bytes.len()].copy_from_slice(bytes);
        EventLog::parse(&log)
    };
    // The first event is 32 bytes and a header of 41: signature, 8 bytes, the count, three algorithms, no vendor's information.
    assert_eq!(with(28, &[0xff; 4]), Err(EventLogError::CutOff(0)));
    assert_eq!(with(56, &[0xff; 4]), Err(EventLogError::Header));
    assert_eq!(with(56, &[0; 4]), Err(EventLogError::Header));
    assert_eq!(with(62, &[33, 0]), Err(EventLogError::Header));
    assert_eq!(with(64, &[4, 0]), Err(EventLogError::Header));
    let second = 32 + 41;
    assert_eq!(with(second, &[24, 0, 0, 0]), Err(EventLogError::Register(1, 24)));
    assert_eq!(with(second + 8, &[0xff; 4]), Err(EventLogError::Digests(1)));
    assert_eq!(with(second + 8, &[4, 0, 0, 0]), Err(EventLogError::Digests(1)));
    assert_eq!(with(second + 12, &[0x12, 0]), Err(EventLogError::Digests(1)));
    let digests = 12 + 2 + 20 + 2 + 32 + 2 + 48;
    assert_eq!(with(second + digests, &[0xff; 4]), Err(EventLogError::CutOff(1)));
    assert_eq!(EventLog::parse(&[]), Err(EventLogError::Empty));
    assert_eq!(EventLog::parse(&vec![0; EventLog::MAX_LEN + 1]), Err(EventLogError::TooLong));
}
