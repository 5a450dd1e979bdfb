//! The key in the TPM computes what HMAC-SHA256 is, in one command, and nothing is left behind.

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{BusEncryption, KeyFile, KeyKind, KeySource, NewKey, TpmHandle};
use zeroize::Zeroizing;

const TPM2_CC_HMAC: u32 = 0x0000_0155;

fn open(tcti: &str) -> TpmHandle {
    TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread")
}

/// RFC 4231, test case 1 (key of 20 bytes) and test case 3 (50 bytes of 0xdd).
#[tokio::test]
async fn rfc_4231_vectors_come_out_of_the_tpm() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    for (secret, input, mac) in [
        (vec![0x0b; 20], b"Hi There".to_vec(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (vec![0xaa; 20], vec![0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    ] {
        let file = tpm.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(secret)).await.expect("create");
        let file = KeyFile::from_pem(&file.to_pem().expect("write")).expect("read");
        for bus in [BusEncryption::On, BusEncryption::Off] {
            let key = tpm.load(KeySource::from(file.clone()).with_bus(bus));
            let tag = key.hmac(&input).await.expect("hmac");
            assert_eq!(tag.iter().map(|b| format!("{b:02x}")).collect::<String>(), mac);
        }
    }
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn one_more_hmac_is_one_tpm_command() {
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    let tpm = open(&tap.tcti());
    let file = tpm.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(vec![7; 32])).await.expect("create");
    for bus in [BusEncryption::On, BusEncryption::Off] {
        let key = tpm.load(KeySource::from(file.clone()).with_bus(bus));
        key.prepare().await.expect("load");
        let _ = tap.take();
        for _ in 0..3 {
            key.hmac(b"input").await.expect("hmac");
            assert_eq!(tap.take().commands, [TPM2_CC_HMAC], "{bus:?}");
        }
    }
}
