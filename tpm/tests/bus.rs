//! What a listener on the TPM's bus sees.

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{BusEncryption, KeyKind, KeySource, NewKey, Parent, TpmHandle};
use zeroize::Zeroizing;

// Test data, used nowhere else.
const SECRET: &[u8; 32] = b"a secret of the bus tests, only.";
const INPUT: &[u8] = b"what is MACed, and must not be seen either";

const TPM2_CC_START_AUTH_SESSION: [u8; 4] = [0, 0, 0x01, 0x76];
const TPM2_RH_NULL: u32 = 0x4000_0007;

/// tpmKey and the length of encryptedSalt of the TPM2_StartAuthSession in what was sent to the TPM (TCG part 3, 11.1).
fn session_salt(to_tpm: &[u8]) -> (u32, u16) {
    // tag TPM_ST_NO_SESSIONS, size, code; then tpmKey, bind, nonceCaller, encryptedSalt
    let at = to_tpm.windows(10).position(|w| w[..2] == [0x80, 0x01] && w[6..] == TPM2_CC_START_AUTH_SESSION).expect("a session is started");
    let u16_at = |i: usize| u16::from_be_bytes([to_tpm[i], to_tpm[i + 1]]);
    let nonce = at + 18;
    let salt = nonce + 2 + usize::from(u16_at(nonce));
    (u32::from_be_bytes(to_tpm[at + 10..at + 14].try_into().expect("4 bytes")), u16_at(salt))
}

fn open(tcti: &str) -> TpmHandle {
    TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread")
}

#[tokio::test]
async fn neither_secret_nor_input_nor_mac_appears_on_the_bus_unless_asked_for() {
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    let tpm = open(&tap.tcti());

    let file = tpm.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(SECRET.to_vec())).await.expect("create");
    let imported = tap.take();
    let (salt_key, salt_len) = session_salt(&imported.to_tpm);
    assert!(salt_key != TPM2_RH_NULL && salt_len > 0, "the session is not salted: whoever reads the bus can derive its keys");
    assert!(!imported.commands.is_empty(), "nothing was recorded");
    assert!(!imported.shows(&SECRET[..8]), "the secret is on the bus");

    let random = tpm.random(Parent::H2Primary, 32).await.expect("random");
    assert_eq!(random.len(), 32);
    assert!(!tap.take().shows(&random), "the random bytes are on the bus");

    let encrypted = tpm.load(file.clone());
    let mac = encrypted.hmac(INPUT).await.expect("hmac");
    let recording = tap.take();
    assert!(!recording.shows(INPUT) && !recording.shows(&*mac), "input or MAC are on the bus");

    // The tap sees them where they travel in clear: the test can fail.
    let plain = tpm.load(KeySource::from(file).with_bus(BusEncryption::Off));
    assert_eq!(*plain.hmac(INPUT).await.expect("hmac"), *mac);
    let recording = tap.take();
    assert!(recording.shows(INPUT) && recording.shows(&*mac), "the tap is deaf");
}

#[test]
fn the_tap_sees_a_secret_that_is_put_into_a_tpm_without_an_encrypted_session() {
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    std::fs::write(swtpm.dir().join("secret"), SECRET).expect("writing");
    swtpm.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc", "-c", "primary.ctx", "-T", &tap.tcti()]);
    swtpm.tool("tpm2_create", &["-Q", "-C", "primary.ctx", "-i", "secret", "-u", "k.pub", "-r", "k.priv", "-T", &tap.tcti()]);
    assert!(tap.take().shows(SECRET), "the tap is deaf");
}
