//! Keys that are put elsewhere: at a persistent handle, into another TPM, into the files of tpm2-tools, under an endorsement key. All
//! secrets are test data.

mod blobs;
mod duplicate;
mod endorsement;
mod persistent;

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{DigestAlgorithm, KeyFile, KeyKind, KeySource, NewKey, Parent, Password, Settings, SignatureScheme, TpmHandle};
use zeroize::Zeroizing;

const SECRET: &[u8; 32] = b"a secret of the interop tests...";
/// Python: hmac.new(b"a secret of the interop tests...", b"message", "sha256").hexdigest()
const MAC: &str = "59c0f1b675bdd646aec050034862fff58278b01bd9ed57bdc2e64b45693cb925";
/// The H-2 template as tpm2-tools write it, into primary.ctx.
const H2: [&str; 13] = [
    "-Q",
    "-C",
    "o",
    "-G",
    "ecc",
    "-g",
    "sha256",
    "-a",
    "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt",
    "-u",
    "unique.dat",
    "-c",
    "primary.ctx",
];

fn open(tcti: &str) -> TpmHandle {
    TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread")
}

/// On a TPM whose owner has a password.
fn open_as_owner(tcti: &str, owner: &str) -> TpmHandle {
    let settings = Settings { owner_password: password(owner), ..Settings::default() };
    TpmHandle::open_with(tcti.parse().expect("a TCTI string"), settings).expect("a thread")
}

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text.into()).expect("a password"))
}

/// As it would be read from a file.
fn written(file: &KeyFile) -> KeyFile {
    KeyFile::from_pem(&file.to_pem().expect("written")).expect("read")
}

async fn hmac_key(tpm: &TpmHandle, new: NewKey) -> KeyFile {
    let file = tpm.create_hmac_key(new, Zeroizing::new(SECRET.to_vec())).await.unwrap_or_else(|e| panic!("create: {e}"));
    written(&file)
}

async fn mac(tpm: &TpmHandle, source: impl Into<KeySource>) -> String {
    let mac = tpm.load(source).hmac(b"message").await.unwrap_or_else(|e| panic!("hmac: {e}"));
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key signs, and OpenSSL verifies that with the public key of the file.
async fn signs(swtpm: &Swtpm, tpm: &TpmHandle, source: impl Into<KeySource>, file: &KeyFile) {
    let scheme = match file.describe().kind {
        Some(KeyKind::Rsa2048 | KeyKind::Rsa3072) => SignatureScheme::RsaSsa,
        _ => SignatureScheme::Ecdsa,
    };
    let message = <sha2::Sha256 as sha2::Digest>::digest(b"message");
    let signature = tpm.load(source).sign(scheme, DigestAlgorithm::Sha256, &message).await.unwrap_or_else(|e| panic!("sign: {e}"));
    write(swtpm, "signature", &signature);
    write(swtpm, "message", b"message");
    write(swtpm, "public.pem", file.public_pem().expect("a public key").as_bytes());
    let verified = swtpm.tool("openssl", &["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "message"]);
    assert!(verified.contains("Verified OK"), "{verified}");
}

fn write(swtpm: &Swtpm, name: &str, bytes: &[u8]) {
    std::fs::write(swtpm.dir().join(name), bytes).expect("writing");
}

fn read(swtpm: &Swtpm, name: &str) -> Vec<u8> {
    std::fs::read(swtpm.dir().join(name)).expect("reading")
}

/// Makes the H-2 primary with tpm2-tools: primary.ctx, and nothing that stays loaded.
fn create_primary(swtpm: &Swtpm) {
    write(swtpm, "unique.dat", &[0, 0]);
    swtpm.tool("tpm2_createprimary", &H2);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
}

/// Makes the H-2 primary persistent, with tpm2-tools.
fn persist_primary(swtpm: &Swtpm, handle: &str) {
    create_primary(swtpm);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "primary.ctx", handle]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
}

fn under(parent: Parent, kind: KeyKind) -> NewKey {
    NewKey { parent, ..NewKey::new(kind) }
}

/// No object is left in the TPM while the handle to it lives, and all keys are dropped. (Its own sessions stay.)
async fn holds_no_object(swtpm: &Swtpm, tpm: &TpmHandle) {
    // A dropped key is flushed before the next answer.
    let _ = tpm.persistent().await.expect("a list");
    assert_eq!(swtpm.tool("tpm2_getcap", &["handles-transient"]), "");
}

/// Nothing is left in the TPM once the handle to it is gone.
fn leaves_nothing(swtpm: &Swtpm, tpm: TpmHandle) {
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}
