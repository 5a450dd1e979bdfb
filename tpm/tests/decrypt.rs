//! RSA decryption: what OpenSSL encrypts to a key in the TPM is opened there, and nothing of it is left behind.

use std::collections::HashSet;

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{EphemeralRsaKey, KeyFile, KeyKind, NewKey, Parent, PrimaryAlgorithm, TpmError, TpmHandle};

// Test data, used nowhere else.
const PLAINTEXT: &[u8] = b"a data key of the decryption tests";

fn open(tcti: &str) -> TpmHandle {
    TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread")
}

fn read(swtpm: &Swtpm, name: &str) -> Vec<u8> {
    std::fs::read(swtpm.dir().join(name)).expect("reading")
}

/// What OpenSSL makes of the plaintext, for this public key and with this hash.
fn encrypt(swtpm: &Swtpm, public_der: &[u8], hash: &str) -> Vec<u8> {
    for (name, bytes) in [("public.der", public_der), ("plain", PLAINTEXT)] {
        std::fs::write(swtpm.dir().join(name), bytes).expect("writing");
    }
    let (md, mgf) = (format!("rsa_oaep_md:{hash}"), format!("rsa_mgf1_md:{hash}"));
    let oaep = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", &md, "-pkeyopt", &mgf];
    let args = ["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public.der", "-in", "plain", "-out", "cipher"];
    swtpm.tool("openssl", &[&args[..], &oaep].concat());
    read(swtpm, "cipher")
}

fn public_der(swtpm: &Swtpm, file: &KeyFile) -> Vec<u8> {
    std::fs::write(swtpm.dir().join("public.pem"), file.public_pem().expect("a public key")).expect("writing");
    swtpm.tool("openssl", &["pkey", "-pubin", "-in", "public.pem", "-outform", "DER", "-out", "made.der"]);
    read(swtpm, "made.der")
}

#[tokio::test]
async fn what_openssl_encrypts_to_a_key_of_a_file_is_opened_here_and_by_tpm2_tools() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let file = tpm.create_key(NewKey::new(KeyKind::RsaDecrypt2048)).await.expect("a key");
    let ciphertext = encrypt(&swtpm, &public_der(&swtpm, &file), "sha256");
    let key = tpm.load(file.clone());
    assert_eq!(key.public_der().await.expect("a public key"), public_der(&swtpm, &file));
    assert_eq!(**key.rsa_decrypt(&ciphertext).await.expect("the plaintext"), *PLAINTEXT);
    // It signs nothing.
    let signed = key.sign(ekm_otp_tpm::SignatureScheme::RsaSsa, ekm_otp_tpm::DigestAlgorithm::Sha256, &[0; 32]).await;
    assert!(matches!(signed, Err(TpmError::NotForThis { .. })), "{signed:?}");
    drop((key, tpm));
    std::fs::write(swtpm.dir().join("ours.pem"), file.to_pem().expect("PEM")).expect("writing");
    swtpm.tool("tpm2_load", &["-r", "ours.pem", "-c", "ours.ctx"]);
    swtpm.tool("tpm2_rsadecrypt", &["-c", "ours.ctx", "-s", "oaep", "-o", "opened", "cipher"]);
    assert_eq!(read(&swtpm, "opened"), PLAINTEXT);
}

#[tokio::test]
async fn a_key_that_tpm2_create_makes_by_default_decrypts_here() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_createprimary", &["-C", "o", "-c", "primary.ctx"]);
    swtpm.tool("tpm2_create", &["-G", "rsa2048", "-u", "rsa.pub", "-r", "rsa.priv", "-C", "primary.ctx"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let parent = Parent::ToolsPrimary(PrimaryAlgorithm::Rsa);
    let file = KeyFile::from_blobs(parent, &read(&swtpm, "rsa.pub"), &read(&swtpm, "rsa.priv")).expect("a key");
    let ciphertext = encrypt(&swtpm, &public_der(&swtpm, &file), "sha256");
    let opened = open(&swtpm.tcti()).load(file).rsa_decrypt(&ciphertext).await.expect("the plaintext");
    assert_eq!(**opened, *PLAINTEXT);
}

#[tokio::test]
async fn a_key_that_no_file_holds_opens_its_message_and_leaves_nothing_in_the_tpm() {
    let swtpm = Swtpm::start();
    // Whoever asks for it need not own the TPM.
    swtpm.tool("tpm2_changeauth", &["-c", "owner", "a password"]);
    let tpm = open(&swtpm.tcti());
    let key = tpm.ephemeral_rsa().await.expect("a key");
    let ciphertext = encrypt(&swtpm, key.public_der(), "sha256");
    for _ in 0..2 {
        assert_eq!(**key.decrypt(&ciphertext).await.expect("the plaintext"), *PLAINTEXT);
    }
    let other = tpm.ephemeral_rsa().await.expect("another key");
    assert_ne!(other.public_der(), key.public_der());
    let refused = other.decrypt(&ciphertext).await;
    assert!(matches!(refused, Err(TpmError::NotDecrypted(_))), "{refused:?}");
    drop((key, other));
    // Whatever is asked next comes after that.
    tpm.ek_name().await.expect("a name");
    assert_eq!(swtpm.tool("tpm2_getcap", &["handles-transient"]), "");
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
    assert_eq!(swtpm.tool("tpm2_getcap", &["handles-persistent"]), "");
}

#[tokio::test]
async fn neither_plaintext_nor_private_part_is_seen_on_the_bus() {
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    let tpm = open(&tap.tcti());
    let key = tpm.ephemeral_rsa().await.expect("a key");
    let ciphertext = encrypt(&swtpm, key.public_der(), "sha256");
    key.decrypt(&ciphertext).await.expect("the plaintext");
    let seen = tap.take();
    // TPM2_Create, TPM2_Load, TPM2_RSA_Decrypt: their private part and plaintext are first parameters, which the session encrypts.
    for code in [0x153, 0x157, 0x159] {
        assert!(seen.commands.contains(&code), "0x{code:x} is not among {:x?}", seen.commands);
    }
    assert!(!seen.shows(PLAINTEXT));
    // What TPM2_Create gives, TPM2_Load takes: the public part goes both ways in clear, which is 314 bytes with its size, and nothing else.
    let answered: HashSet<&[u8]> = seen.from_tpm.windows(32).collect();
    let both_ways = seen.to_tpm.windows(32).filter(|window| answered.contains(window)).count();
    assert!((200..320).contains(&both_ways), "{both_ways}");
}

#[tokio::test]
async fn what_was_made_otherwise_or_damaged_is_refused() {
    let swtpm = Swtpm::start();
    let key: EphemeralRsaKey = open(&swtpm.tcti()).ephemeral_rsa().await.expect("a key");
    let right = encrypt(&swtpm, key.public_der(), "sha256");
    let mut changed = right.clone();
    changed[100] ^= 1;
    let faulty = [
        ("with SHA-1", encrypt(&swtpm, key.public_der(), "sha1")),
        ("damaged", changed),
        ("cut", right[..right.len() - 1].to_vec()),
        ("lengthened", [&right[..], &[0]].concat()),
        ("above the modulus", vec![0xff; 256]),
        ("longer than any", vec![1; 4096]),
        ("empty", Vec::new()),
    ];
    for (what, ciphertext) in faulty {
        let refused = key.decrypt(&ciphertext).await;
        assert!(matches!(refused, Err(TpmError::NotDecrypted(_))), "{what}: {refused:?}");
    }
    assert_eq!(**key.decrypt(&right).await.expect("the plaintext"), *PLAINTEXT);
}

#[tokio::test]
async fn a_key_that_no_file_holds_is_lost_with_the_tpm_and_says_so() {
    let mut swtpm = Swtpm::start();
    let key = open(&swtpm.tcti()).ephemeral_rsa().await.expect("a key");
    let ciphertext = encrypt(&swtpm, key.public_der(), "sha256");
    swtpm.restart();
    let lost = key.decrypt(&ciphertext).await;
    assert!(matches!(lost, Err(TpmError::Ephemeral)), "{lost:?}");
    // Not another's, either.
    let again = key.decrypt(&ciphertext).await;
    assert!(matches!(again, Err(TpmError::Ephemeral)), "{again:?}");
}

#[tokio::test]
async fn a_signing_key_does_not_decrypt() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    for kind in [KeyKind::Rsa2048, KeyKind::EccP256, KeyKind::AkRsa2048] {
        let file = tpm.create_key(NewKey::new(kind)).await.expect("a key");
        let refused = tpm.load(file).rsa_decrypt(&[0; 256]).await;
        assert!(matches!(refused, Err(TpmError::NotForThis { .. })), "{kind}: {refused:?}");
    }
}
