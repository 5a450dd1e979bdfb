//! The key in the TPM computes what HMAC-SHA256 is, in one command, and nothing is left behind.

use ekm_otp_swtpm::{Recording, Swtpm, Tap};
use ekm_otp_tpm::{
    BusEncryption, DigestAlgorithm, KeyFile, KeyKind, KeySource, NewKey, Parent, Password, PrimaryAlgorithm, Settings, SignatureScheme,
    TpmHandle,
};
use zeroize::Zeroizing;

const TPM2_CC_HMAC: u32 = 0x0000_0155;
const TPM2_CC_LOAD: u32 = 0x0000_0157;
const TPM2_CC_START_AUTH_SESSION: u32 = 0x0000_0176;
/// Not a session: the password itself, which is empty.
const TPM_RS_PW: u32 = 0x4000_0009;

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

/// The handle that authorises each command with this code (TCG part 1, 18.4: code, one handle, the authorization area's size, its first session).
fn authorised_by(recording: &Recording, wanted: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut rest = recording.to_tpm.as_slice();
    let u32_at = |bytes: &[u8], i: usize| u32::from_be_bytes(bytes[i..i + 4].try_into().expect("4 bytes"));
    while rest.len() >= 10 {
        let (command, after) = rest.split_at(usize::try_from(u32_at(rest, 2)).expect("a size"));
        if u32_at(command, 6) == wanted {
            found.push(u32_at(command, 18));
        }
        rest = after;
    }
    found
}

/// It costs more than all the rest of loading, and hides nothing there. Where a pinned key authenticates what the TPM answers, it stays.
#[tokio::test]
async fn a_key_under_a_primary_is_loaded_in_a_session_only_where_the_endorsement_key_is_pinned() {
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    let name = open(&swtpm.tcti()).ek_name().await.expect("a name");
    let name = (0..name.len()).step_by(2).map(|i| u8::from_str_radix(&name[i..i + 2], 16).expect("hexadecimal")).collect::<Vec<_>>();
    for parent in [Parent::H2Primary, Parent::ToolsPrimary(PrimaryAlgorithm::Ecc)] {
        let new = NewKey { parent, ..NewKey::new(KeyKind::HmacSha256) };
        let file = open(&swtpm.tcti()).create_hmac_key(new, Zeroizing::new(vec![7; 32])).await.expect("create");
        for session_key_name in [None, Some(name.clone())] {
            let is_pinned = session_key_name.is_some();
            let settings = Settings { session_key_name, ..Settings::default() };
            let tpm = TpmHandle::open_with(tap.tcti().parse().expect("a TCTI string"), settings).expect("a thread");
            let _ = tap.take();
            tpm.load(file.clone()).hmac(b"input").await.expect("hmac");
            let recording = tap.take();
            let [load, hmac] = [TPM2_CC_LOAD, TPM2_CC_HMAC].map(|code| authorised_by(&recording, code));
            assert_eq!((load.len(), hmac.len()), (1, 1), "{:x?}", recording.commands);
            assert_eq!(load[0] != TPM_RS_PW, is_pinned, "{parent:?}");
            assert_ne!(hmac[0], TPM_RS_PW, "{parent:?}");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_used_in_clear_gets_a_session_for_what_never_travels_in_clear() {
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    let maker = open(&swtpm.tcti());
    let hmac = maker.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(vec![7; 32])).await.expect("create");
    let signer = maker.create_key(NewKey::new(KeyKind::EccP256)).await.expect("create");
    drop(maker);
    let in_clear = |file: &KeyFile| open(&tap.tcti()).load(KeySource::from(file.clone()).with_bus(BusEncryption::Off));

    let key = in_clear(&hmac);
    key.hmac(b"input").await.expect("hmac");
    assert!(!tap.take().commands.contains(&TPM2_CC_START_AUTH_SESSION), "a session that nothing needs");
    let password = b"test password";
    let new = Some(Password::new(password.to_vec()).expect("a password"));
    key.change_password(new).await.expect("a password");
    let recording = tap.take();
    assert!(recording.commands.contains(&TPM2_CC_START_AUTH_SESSION) && !recording.shows(password), "{:x?}", recording.commands);
    drop(key);

    let key = in_clear(&signer);
    let _ = tap.take();
    key.sign(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &[7; 32]).await.expect("sign");
    assert!(!tap.take().shows(&[7; 32]), "the digest is on the bus");
    drop(key);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}
