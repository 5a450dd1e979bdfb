//! Registers, read, extended and reset next to tpm2-tools.

use std::collections::BTreeMap;

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{PcrBank, PcrSelection, PcrValues, TpmError, TpmHandle};
use sha2::{Digest as _, Sha256};

fn open(swtpm: &Swtpm) -> TpmHandle {
    TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What tpm2_pcrread tells: a line `sha256:` for each bank, lines `0 : 0x00…` below it.
fn told_by_tools(swtpm: &Swtpm) -> BTreeMap<(String, u8), String> {
    let (mut bank, mut told) = (String::new(), BTreeMap::new());
    for line in swtpm.tool("tpm2_pcrread", &[]).lines() {
        match line.split_once(':') {
            Some((name, "")) => bank = name.trim().to_owned(),
            Some((register, value)) => {
                let value = value.trim().trim_start_matches("0x").to_lowercase();
                told.insert((bank.clone(), register.trim().parse().expect("a number")), value);
            }
            None => {}
        }
    }
    told
}

fn flat(values: &PcrValues) -> BTreeMap<(String, u8), String> {
    let of = |(bank, registers): (&PcrBank, &BTreeMap<u8, Vec<u8>>)| {
        let bank = bank.to_string();
        registers.iter().map(move |(register, value)| ((bank.clone(), *register), hex(value))).collect::<Vec<_>>()
    };
    values.banks.iter().flat_map(of).collect()
}

#[tokio::test]
async fn every_register_of_every_bank_is_read_as_tpm2_pcrread_reads_it() {
    let swtpm = Swtpm::start();
    for (register, bank, len) in [(0, "sha256", 32), (7, "sha1", 20), (16, "sha384", 48), (23, "sha512", 64)] {
        swtpm.tool("tpm2_pcrextend", &[&format!("{register}:{bank}={}", "ab".repeat(len))]);
    }
    let values = open(&swtpm).read_pcrs(&[]).await.expect("registers");
    let told = told_by_tools(&swtpm);
    assert_eq!(told.len(), 4 * 24, "{told:?}");
    assert_eq!(flat(&values), told);
    assert!(values.is_one_moment);
    let some: Vec<PcrSelection> = ["sha256:0,7", "sha512:23"].map(|text| text.parse().expect("registers")).to_vec();
    let some = open(&swtpm).read_pcrs(&some).await.expect("registers");
    assert_eq!(flat(&some).into_keys().map(|(bank, n)| format!("{bank}:{n}")).collect::<Vec<_>>(), ["sha256:0", "sha256:7", "sha512:23"]);
}

#[tokio::test]
async fn a_bank_that_is_switched_off_is_left_out_and_refused_by_name() {
    let mut swtpm = Swtpm::start();
    swtpm.tool("tpm2_pcrallocate", &["sha1:none+sha256:all+sha384:none+sha512:none"]);
    swtpm.restart();
    let tpm = open(&swtpm);
    assert_eq!(tpm.pcr_banks().await.expect("banks"), [(PcrBank::Sha256, (0..24).collect())]);
    assert_eq!(tpm.read_pcrs(&[]).await.expect("registers").banks.keys().collect::<Vec<_>>(), [&PcrBank::Sha256]);
    let refused = tpm.read_pcrs(&["sha1:0".parse().expect("registers")]).await;
    assert!(matches!(refused, Err(TpmError::NoBank(PcrBank::Sha1))), "{refused:?}");
}

#[tokio::test]
async fn a_register_is_extended_in_the_banks_that_are_named_and_reset_in_all() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let digest = Sha256::digest(b"an event");
    tpm.extend_pcr(16, vec![(PcrBank::Sha256, digest.to_vec())]).await.expect("an extension");
    let told = told_by_tools(&swtpm);
    assert_eq!(told[&("sha256".to_owned(), 16)], hex(&Sha256::digest([&[0; 32][..], &digest].concat())));
    assert_eq!(told[&("sha1".to_owned(), 16)], "00".repeat(20));
    tpm.reset_pcr(16).await.expect("a reset");
    assert_eq!(told_by_tools(&swtpm)[&("sha256".to_owned(), 16)], "00".repeat(32));
}

#[tokio::test]
async fn a_register_that_is_the_firmwares_is_refused_with_those_that_may_be_changed() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let refused = tpm.reset_pcr(7).await.expect_err("register 7 is reset").to_string();
    assert!(refused.contains("register (PCR) 7 cannot be reset from here") && refused.contains("are 16, 23"), "{refused}");
    let refused = tpm.extend_pcr(17, vec![(PcrBank::Sha256, vec![1; 32])]).await.expect_err("register 17 is extended").to_string();
    assert!(refused.contains("register (PCR) 17 cannot be extended") && refused.contains("0, 1, 2, 3"), "{refused}");
    let rights = tpm.pcr_rights().await.expect("rights");
    assert_eq!(rights.reset, [16, 23]);
    assert!(rights.extend.contains(&7) && !rights.extend.contains(&17), "{rights:?}");
}
