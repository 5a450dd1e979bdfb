//! Key files of tpm2-tools work here, ours work there.

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{KeyFile, KeyKind, NewKey, Parent, TpmHandle};
use zeroize::Zeroizing;

// Test data, used nowhere else.
const SECRET: &[u8; 32] = b"a secret of the interop tests...";
/// Python: hmac.new(b"a secret of the interop tests...", b"message", "sha256").hexdigest()
const MAC: &str = "59c0f1b675bdd646aec050034862fff58278b01bd9ed57bdc2e64b45693cb925";

/// The H-2 template as tpm2-tools write it.
const H2: [&str; 9] =
    ["-Q", "-C", "o", "-G", "ecc", "-g", "sha256", "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"];

fn open(swtpm: &Swtpm) -> TpmHandle {
    TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn create_primary(swtpm: &Swtpm) {
    std::fs::write(swtpm.dir().join("unique.dat"), [0, 0]).expect("writing");
    swtpm.tool("tpm2_createprimary", &[&H2[..], &["-u", "unique.dat", "-c", "primary.ctx"]].concat());
    swtpm.tool("tpm2_flushcontext", &["-t"]);
}

#[tokio::test]
async fn a_key_file_of_tpm2_tools_works_here() {
    let swtpm = Swtpm::start();
    std::fs::write(swtpm.dir().join("secret"), SECRET).expect("writing");
    create_primary(&swtpm);
    swtpm.tool("tpm2_import", &["-Q", "-C", "primary.ctx", "-G", "hmac", "-i", "secret", "-u", "k.pub", "-r", "k.priv"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_encodeobject", &["-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-o", "k.pem"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);

    let pem = std::fs::read_to_string(swtpm.dir().join("k.pem")).expect("reading");
    let file = KeyFile::from_pem(&pem).expect("a key file");
    assert_eq!(file.parent(), Parent::H2Primary);
    let description = file.describe();
    assert!(description.kind == Some(KeyKind::HmacSha256) && description.attributes == ["userwithauth", "sign"], "{description:?}");
    let tpm = open(&swtpm);
    assert_eq!(hex(&*tpm.load(file).hmac(b"message").await.expect("hmac")), MAC);
}

#[tokio::test]
async fn a_key_file_under_a_persistent_parent_works_here() {
    let swtpm = Swtpm::start();
    create_primary(&swtpm);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "primary.ctx", "0x81000001"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let tpm = open(&swtpm);
    let file = tpm
        .create_hmac_key(
            NewKey { parent: Parent::Persistent(0x8100_0001), ..NewKey::new(KeyKind::HmacSha256) },
            Zeroizing::new(SECRET.to_vec()),
        )
        .await
        .expect("create");
    let file = KeyFile::from_pem(&file.to_pem().expect("write")).expect("read");
    assert_eq!(file.parent(), Parent::Persistent(0x8100_0001));
    assert_eq!(hex(&*tpm.load(file.clone()).hmac(b"message").await.expect("hmac")), MAC);
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());

    // The parent is gone: the message names it.
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "0x81000001"]);
    let error = open(&swtpm).load(file).hmac(b"message").await.expect_err("there is no parent").to_string();
    assert!(error.contains("0x81000001"), "{error}");
}

#[tokio::test]
async fn our_public_and_private_parts_load_with_tpm2_load() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let file = tpm.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(SECRET.to_vec())).await.expect("create");
    drop(tpm);
    std::fs::write(swtpm.dir().join("k.pub"), file.public_blob().expect("a public area")).expect("writing");
    std::fs::write(swtpm.dir().join("k.priv"), file.private_blob()).expect("writing");
    std::fs::write(swtpm.dir().join("message"), b"message").expect("writing");
    create_primary(&swtpm);
    swtpm.tool("tpm2_load", &["-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    assert_eq!(swtpm.tool("tpm2_hmac", &["-g", "sha256", "-c", "k.ctx", "--hex", "message"]).trim(), MAC);
}

#[tokio::test]
async fn a_key_file_of_another_tpm_is_told_so() {
    let (ours, other) = (Swtpm::start(), Swtpm::start());
    let file = open(&other).create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(SECRET.to_vec())).await.expect("create");
    let tpm = open(&ours);
    let error = tpm.load(file).hmac(b"message").await.expect_err("it is another TPM's").to_string();
    assert!(error.contains("does not belong to this TPM"), "{error}");
    drop(tpm);
    assert_eq!(ours.loaded_handles(), Vec::<String>::new());
}
