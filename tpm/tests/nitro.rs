//! Attestation documents of a NitroTPM, from one that is none: its commands but for the vendor's run on a software TPM.

use std::sync::{Arc, Mutex};

use ekm_otp_swtpm::{NitroTpm, Swtpm};
use ekm_otp_tpm::{NitroError, NitroRequest, Settings, TpmError, TpmHandle};

fn open(tcti: &str) -> TpmHandle {
    TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread")
}

fn indices(swtpm: &Swtpm) -> String {
    swtpm.tool("tpm2_getcap", &["handles-nv-index"])
}

/// `{"Attestation": {"document": …}}`, of some 5 KiB.
fn document(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a short document").to_be_bytes();
    [&b"\xa1\x6bAttestation\xa1\x68document\x59"[..], &len, bytes].concat()
}

#[tokio::test]
async fn a_document_is_asked_for_as_aws_does_and_the_index_is_gone_afterwards() {
    let swtpm = Swtpm::start();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let made: Vec<u8> = (0..5000_u16).map(|i| i.to_be_bytes()[1]).collect();
    let answer = document(&made);
    let nitro = NitroTpm::on(&swtpm, move |request| {
        heard.lock().expect("the request").extend_from_slice(request);
        answer.clone()
    });
    let request = NitroRequest { public_key: Some(vec![7; 900]), user_data: Some(vec![8; 700]), nonce: None };
    assert_eq!(open(&nitro.tcti()).nitro_document(request).await.expect("a document"), made);
    // Longer than one write; the rest of the index was never written.
    let asked = asked.lock().expect("the request");
    let expected =
        [&b"\xa1\x6bAttestation\xa3\x69user_data\x59\x02\xbc"[..], &[8; 700], b"\x65nonce\xf6\x6apublic_key\x59\x03\x84", &[7; 900]];
    let expected = expected.concat();
    assert_eq!(asked.len(), 8192);
    assert_eq!(asked[..expected.len()], expected);
    assert!(asked[expected.len()..].iter().all(|byte| *byte == 0xff));
    assert_eq!(indices(&swtpm), "");
}

#[tokio::test]
async fn whatever_goes_wrong_is_told_and_leaves_no_index() {
    let swtpm = Swtpm::start();
    let answers: [(&[u8], NitroError); 4] = [
        (b"\xa1\x65Error\x6dInputTooLarge", NitroError::Refused("InputTooLarge".to_owned())),
        (b"\xa1\x65Error\x6fInvalidArgument", NitroError::Refused("InvalidArgument".to_owned())),
        (b"no answer", NitroError::Answer),
        // Such a command is not known.
        (b"", NitroError::NotNitro(0x143)),
    ];
    for (answer, expected) in answers {
        let nitro = NitroTpm::on(&swtpm, move |_| answer.to_vec());
        match open(&nitro.tcti()).nitro_document(NitroRequest::default()).await {
            Err(TpmError::Nitro(error)) => assert_eq!(error, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
        assert_eq!(indices(&swtpm), "", "{expected:?}");
    }
    // Longer than the index: the connection breaks before the answer.
    let nitro = NitroTpm::on(&swtpm, |_| vec![0; 9000]);
    let broken = open(&nitro.tcti()).nitro_document(NitroRequest::default()).await;
    assert!(matches!(broken, Err(TpmError::Unreachable { .. })), "{broken:?}");
    assert_eq!(indices(&swtpm), "");
    let too_long = NitroRequest { user_data: Some(vec![0; 8200]), ..NitroRequest::default() };
    let refused = open(&swtpm.tcti()).nitro_document(too_long).await;
    assert!(matches!(refused, Err(TpmError::Nitro(NitroError::TooLong))), "{refused:?}");
}

#[tokio::test]
async fn another_tpm_is_named_as_what_it_is() {
    let swtpm = Swtpm::start();
    let told = open(&swtpm.tcti()).nitro_document(NitroRequest::default()).await.expect_err("a document").to_string();
    assert!(told.contains("makes no attestation documents") && told.contains("EC2"), "{told}");
    assert_eq!(indices(&swtpm), "");
}

#[tokio::test]
async fn an_owners_password_that_is_missing_is_asked_for() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_changeauth", &["-c", "owner", "a password"]);
    let nitro = NitroTpm::on(&swtpm, |_| document(b"a document"));
    let tpm = TpmHandle::open_with(nitro.tcti().parse().expect("a TCTI string"), Settings::default()).expect("a thread");
    let refused = tpm.nitro_document(NitroRequest::default()).await.expect_err("a document").to_string();
    assert!(refused.contains("the owner hierarchy has a password"), "{refused}");
    assert_eq!(indices(&swtpm), "");
}

#[tokio::test]
async fn what_a_killed_process_left_is_taken_away_where_the_memory_is_full_and_others_indices_stay() {
    let swtpm = Swtpm::start();
    // sha256(b"EKM-OTP NitroTPM buffer"), which marks ours.
    let mark = "180e7dae35ee02d5af6c20736f569d6b2faa61e9cb32b0055b2064fd75cc88f7";
    std::fs::write(swtpm.dir().join("mark"), unhex(mark)).expect("writing");
    let define = |index: u32, size: &str, more: &[&str]| {
        let index = format!("0x{index:x}");
        let args = [&[index.as_str(), "-C", "o", "-s", size, "-a", "authread|authwrite"], more].concat();
        swtpm.try_tool("tpm2_nvdefine", &args).status.success()
    };
    assert!(define(0x0190_0000, "2048", &[]));
    let mut index = 0x0180_0000;
    for size in ["2048", "256", "1"] {
        while define(index, size, &["-L", "mark"]) {
            index += 1;
        }
    }
    let nitro = NitroTpm::on(&swtpm, |_| document(b"a document"));
    assert_eq!(open(&nitro.tcti()).nitro_document(NitroRequest::default()).await.expect("a document"), b"a document");
    assert_eq!(indices(&swtpm).trim(), "- 0x1900000");
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("digits")).collect()
}
