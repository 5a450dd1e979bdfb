//! What a listener on the TPM's bus sees.

use ekm_otp_swtpm::{Recording, Swtpm, Tap};
use ekm_otp_tpm::{
    BusEncryption, DigestAlgorithm, KeyFile, KeyKind, KeySource, NewKey, Parent, Password, PrivateKey, Settings, SignatureScheme, TpmHandle,
};
use zeroize::Zeroizing;

// Test data, used nowhere else.
const SECRET: &[u8; 32] = b"a secret of the bus tests, only.";
const INPUT: &[u8] = b"what is MACed, and must not be seen either";

const TPM2_CC_START_AUTH_SESSION: u32 = 0x176;
const TPM2_RH_NULL: u32 = 0x4000_0007;
const PARENT: u32 = 0x8100_0001;

const KEY_PASSWORD: &str = "test password of a key";
const NEW_PASSWORD: &str = "test password, changed";
const WRONG_PASSWORD: &str = "test password, mistyped";
const PARENT_PASSWORD: &str = "test password of the parent";
const OWNER_PASSWORD: &str = "test password of the owner";

/// What a session is for (TPM_SE, TCG part 2, 6.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Hmac,
    Policy,
}

/// The sessions that were started (TPM2_StartAuthSession, TCG part 3, 11.1). Each must be salted: else whoever reads the bus can derive its
/// keys.
fn salted_sessions(recording: &Recording) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut rest = recording.to_tpm.as_slice();
    // tag (2 bytes), size (4), code (4); then tpmKey (4), bind (4), nonceCaller, encryptedSalt, sessionType
    while let Some(size) = rest.get(2..6) {
        let size = u32::from_be_bytes(size.try_into().expect("4 bytes"));
        let (command, after) = rest.split_at(usize::try_from(size).expect("a size"));
        rest = after;
        let u32_at = |i: usize| u32::from_be_bytes(command[i..i + 4].try_into().expect("4 bytes"));
        let u16_at = |i: usize| usize::from(u16::from_be_bytes([command[i], command[i + 1]]));
        if u32_at(6) == TPM2_CC_START_AUTH_SESSION {
            let salt = 20 + u16_at(18);
            assert!(u32_at(10) != TPM2_RH_NULL && u16_at(salt) > 0, "a session is not salted");
            sessions.push(if command[salt + 2 + u16_at(salt)] == 1 { Session::Policy } else { Session::Hmac });
        }
    }
    sessions
}

/// No 8 bytes of it passed.
fn hides(recording: &Recording, what: &str, secret: &[u8]) {
    let shown = secret.windows(8).find(|window| recording.shows(window));
    assert_eq!(shown, None, "of {what}");
}

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text.into()).expect("a password"))
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
    assert_eq!(salted_sessions(&imported), [Session::Hmac]);
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

/// The owner's password is set, and a parent with a password made persistent.
fn with_passwords() -> Swtpm {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=100", "--recovery-time=9", "--lockout-recovery-time=9"]);
    swtpm.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc", "-p", PARENT_PASSWORD, "-c", "primary.ctx"]);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "primary.ctx", &format!("{PARENT:#x}")]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_changeauth", &["-Q", "-c", "o", OWNER_PASSWORD]);
    swtpm
}

fn settings() -> Settings {
    Settings { owner_password: password(OWNER_PASSWORD), parent_password: password(PARENT_PASSWORD), ..Settings::default() }
}

#[tokio::test]
async fn no_password_appears_on_the_bus() {
    let swtpm = with_passwords();
    let tap = Tap::on(&swtpm);
    let ek_name = open(&tap.tcti()).ek_name().await.expect("a name");
    let ek_name: Vec<u8> = (0..ek_name.len()).step_by(2).map(|i| u8::from_str_radix(&ek_name[i..i + 2], 16).expect("digits")).collect();
    for session_key_name in [None, Some(ek_name)] {
        for parent in [Parent::H2Primary, Parent::Persistent(PARENT)] {
            for pcrs in [None, Some("sha256:0,16".parse().expect("registers"))] {
                let _ = tap.take();
                let settings = Settings { session_key_name: session_key_name.clone(), ..settings() };
                let tpm = TpmHandle::open_with(tap.tcti().parse().expect("a TCTI string"), settings).expect("a thread");
                let has_policy = pcrs.is_some();
                let new = |kind| NewKey { kind, parent, password: password(KEY_PASSWORD), policy: pcrs.clone(), movable: false };
                let with = |file: &KeyFile, text| KeySource::from(file.clone()).with_password(password(text));

                let hmac = tpm.create_hmac_key(new(KeyKind::HmacSha256), Zeroizing::new(SECRET.to_vec())).await.expect("create");
                for bus in [BusEncryption::On, BusEncryption::Off] {
                    tpm.load(with(&hmac, KEY_PASSWORD).with_bus(bus)).hmac(INPUT).await.expect("hmac");
                }
                tpm.load(with(&hmac, WRONG_PASSWORD)).hmac(INPUT).await.expect_err("a wrong password");
                let changed = tpm.load(with(&hmac, KEY_PASSWORD)).change_password(password(NEW_PASSWORD)).await.expect("changed");
                tpm.load(with(&changed, NEW_PASSWORD)).hmac(INPUT).await.expect("hmac");
                let ecc = tpm.create_key(new(KeyKind::EccP256)).await.expect("create");
                tpm.load(with(&ecc, KEY_PASSWORD)).sign(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &[7; 32]).await.expect("sign");
                drop(tpm);

                let recording = tap.take();
                let sessions = salted_sessions(&recording);
                assert_eq!(sessions.contains(&Session::Policy), has_policy, "{sessions:?}");
                assert!(sessions.contains(&Session::Hmac), "{sessions:?}");
                for text in [KEY_PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, PARENT_PASSWORD, OWNER_PASSWORD] {
                    hides(&recording, text, text.as_bytes());
                }
                hides(&recording, "the secret", SECRET);
                // Where a password is shown, nothing travels in clear, even where it was not asked for.
                hides(&recording, "the input", INPUT);
            }
        }
    }
}

#[tokio::test]
async fn nothing_of_an_imported_private_key_appears_on_the_bus() {
    let swtpm = with_passwords();
    let tap = Tap::on(&swtpm);
    let tpm = TpmHandle::open_with(tap.tcti().parse().expect("a TCTI string"), settings()).expect("a thread");
    for (kind, algorithm) in [(KeyKind::Rsa2048, ["RSA", "rsa_keygen_bits:2048"]), (KeyKind::EccP256, ["EC", "ec_paramgen_curve:P-256"])] {
        for parent in [Parent::H2Primary, Parent::Persistent(PARENT)] {
            swtpm.tool("openssl", &["genpkey", "-out", "key.pem", "-algorithm", algorithm[0], "-pkeyopt", algorithm[1]]);
            let pem = swtpm.tool("openssl", &["pkey", "-in", "key.pem", "-traditional"]);
            let (_, der) = der::pem::decode_vec(pem.as_bytes()).expect("PEM");
            let secrets: Vec<Vec<u8>> = match kind {
                KeyKind::Rsa2048 => {
                    let key: pkcs1::RsaPrivateKeyRef = der::Decode::from_der(&der).expect("an RSA key");
                    let parts = [key.prime1, key.prime2, key.private_exponent, key.exponent1, key.exponent2, key.coefficient];
                    parts.into_iter().map(|part| part.as_bytes().to_vec()).collect()
                }
                _ => {
                    let key: sec1::EcPrivateKey = der::Decode::from_der(&der).expect("an EC key");
                    vec![key.private_key.to_vec()]
                }
            };
            let _ = tap.take();
            let new = NewKey { kind, parent, password: password(KEY_PASSWORD), policy: None, movable: false };
            let file = tpm.import_key(new, PrivateKey::from_pem(&pem).expect("a key")).await.expect("import");
            let key = tpm.load(KeySource::from(file.clone()).with_password(password(KEY_PASSWORD)));
            key.prepare().await.expect("load");

            let recording = tap.take();
            for secret in &secrets {
                hides(&recording, "the private key", secret);
            }
            for line in pem.lines() {
                hides(&recording, "the PEM file", line.as_bytes());
            }
            for text in [KEY_PASSWORD, PARENT_PASSWORD, OWNER_PASSWORD] {
                hides(&recording, text, text.as_bytes());
            }
            // Its public part passed: this is the recording of the import.
            assert!(recording.shows(&file.public_blob().expect("a public area")), "the tap is deaf");
        }
    }
}

/// tpm2-tools prove passwords in a session, too, but send a new key's in clear.
#[test]
fn the_tap_sees_a_password_that_is_given_to_a_key_in_clear() {
    let swtpm = with_passwords();
    let tap = Tap::on(&swtpm);
    let parent = format!("{PARENT:#x}");
    let args = ["-Q", "-C", &parent, "-P", PARENT_PASSWORD, "-G", "hmac", "-p", KEY_PASSWORD, "-u", "k.pub", "-r", "k.priv"];
    swtpm.tool("tpm2_create", &[&args[..], &["-T", &tap.tcti()]].concat());
    assert!(tap.take().shows(KEY_PASSWORD.as_bytes()), "the tap is deaf");
}
