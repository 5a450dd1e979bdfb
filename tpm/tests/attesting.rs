//! What the TPM says of itself: quotes and certified keys that tpm2-tools believe, credentials of tpm2-tools that open here, certificates in NV indices.

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{Attestation, KeyFile, KeyKind, NewKey, Parent, Password, PcrSelection, PrimaryAlgorithm, TpmError, TpmHandle};
use sha2::{Digest as _, Sha256};

const NONCE: &[u8] = b"a nonce of the tests";
const SECRET: &[u8] = b"a secret of the tests, 32 bytes.";
const AKS: [KeyKind; 2] = [KeyKind::AkEccP256, KeyKind::AkRsa2048];

fn open(swtpm: &Swtpm) -> TpmHandle {
    TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn read(swtpm: &Swtpm, name: &str) -> Vec<u8> {
    std::fs::read(swtpm.dir().join(name)).expect("reading")
}

fn write(swtpm: &Swtpm, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(swtpm.dir().join(name), bytes).expect("writing");
}

fn selections(texts: &[&str]) -> Vec<PcrSelection> {
    texts.iter().map(|text| text.parse().expect("registers")).collect()
}

/// Whether tpm2_checkquote believes it, with this nonce.
fn is_believed(swtpm: &Swtpm, file: &KeyFile, attestation: &Attestation, nonce: &[u8]) -> bool {
    write(swtpm, "ak.pem", file.public_pem().expect("a public key"));
    write(swtpm, "message", &attestation.message);
    write(swtpm, "signature", &attestation.signature);
    let args = ["-u", "ak.pem", "-m", "message", "-s", "signature", "-g", "sha256", "-q", &hex(nonce)];
    swtpm.try_tool("tpm2_checkquote", &args).status.success()
}

#[tokio::test]
async fn quotes_of_both_kinds_of_attestation_key_are_believed_by_tpm2_checkquote_with_their_nonce_only() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    let tpm = open(&swtpm);
    for kind in AKS {
        let file = tpm.create_key(NewKey::new(kind)).await.expect("a key");
        assert_eq!(file.describe().kind, Some(kind));
        let ak = tpm.load(file.clone());
        let quote = ak.quote(&selections(&["sha256:16,0,7"]), NONCE).await.expect("a quote");
        assert!(is_believed(&swtpm, &file, &quote.attestation, NONCE), "{kind}");
        assert!(!is_believed(&swtpm, &file, &quote.attestation, b"another nonce"), "{kind}");
        let values: Vec<u8> = quote.values[0].1.keys().copied().collect();
        assert_eq!(values, [0, 7, 16]);
    }
}

#[tokio::test]
async fn a_quote_states_the_values_whose_hash_was_signed_bank_by_bank() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    tpm.extend_pcr(23, vec![(ekm_otp_tpm::PcrBank::Sha1, vec![1; 20]), (ekm_otp_tpm::PcrBank::Sha256, vec![2; 32])])
        .await
        .expect("extending");
    let ak = tpm.load(tpm.create_key(NewKey::new(KeyKind::AkEccP256)).await.expect("a key"));
    // Two selections of one bank are one, and the order of banks is the caller's.
    let quote = ak.quote(&selections(&["sha256:23", "sha1:23", "sha256:0"]), NONCE).await.expect("a quote");
    let shape: Vec<(String, Vec<u8>)> =
        quote.values.iter().map(|(bank, values)| (bank.to_string(), values.keys().copied().collect())).collect();
    assert_eq!(shape, [("sha256".to_owned(), vec![0, 23]), ("sha1".to_owned(), vec![23])]);
    let all: Vec<u8> = quote.values.iter().flat_map(|(_, values)| values.values().flatten().copied()).collect();
    assert!(quote.attestation.message.ends_with(&Sha256::digest(&all)), "the digest stands last in TPMS_QUOTE_INFO");
}

#[tokio::test]
async fn an_attestation_key_of_tpm2_createak_quotes_here() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_createek", &["-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub"]);
    let made = ["-C", "ek.ctx", "-c", "ak.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-u", "ak.pub", "-r", "ak.priv"];
    swtpm.tool("tpm2_createak", &made);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let parent = Parent::EndorsementKey(PrimaryAlgorithm::Rsa);
    let file = KeyFile::from_blobs(parent, &read(&swtpm, "ak.pub"), &read(&swtpm, "ak.priv")).expect("a key");
    assert_eq!(file.describe().kind, Some(KeyKind::AkEccP256));
    let quote = open(&swtpm).load(file.clone()).quote(&selections(&["sha256:all"]), NONCE).await.expect("a quote");
    assert!(is_believed(&swtpm, &file, &quote.attestation, NONCE));
}

#[tokio::test]
async fn a_key_that_signs_what_comes_from_outside_makes_no_quote() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    for kind in [KeyKind::EccP256, KeyKind::Rsa2048, KeyKind::RsaDecrypt2048] {
        let key = tpm.load(tpm.create_key(NewKey::new(kind)).await.expect("a key"));
        let refused = key.quote(&selections(&["sha256:0"]), NONCE).await;
        assert!(matches!(refused, Err(TpmError::NotForThis { .. })), "{kind}: {refused:?}");
    }
    // With a fixed scheme, too, as an attestation key has it: it still signs what somebody hands it.
    swtpm.tool("tpm2_createprimary", &["-C", "o", "-c", "primary.ctx"]);
    swtpm.tool("tpm2_create", &["-G", "ecc256:ecdsa-sha256", "-C", "primary.ctx", "-u", "open.pub", "-r", "open.priv"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let file = KeyFile::from_blobs(Parent::ToolsPrimary(PrimaryAlgorithm::Rsa), &read(&swtpm, "open.pub"), &read(&swtpm, "open.priv"));
    let refused = tpm.load(file.expect("a key")).quote(&selections(&["sha256:0"]), NONCE).await;
    assert!(matches!(refused, Err(TpmError::NotForThis { .. })), "{refused:?}");
    // And the other way round: an attestation key signs nothing from outside.
    let ak = tpm.load(tpm.create_key(NewKey::new(KeyKind::AkEccP256)).await.expect("a key"));
    let signed = ak.sign(ekm_otp_tpm::SignatureScheme::Ecdsa, ekm_otp_tpm::DigestAlgorithm::Sha256, &[0; 32]).await;
    assert!(matches!(signed, Err(TpmError::NotForThis { .. })), "{signed:?}");
    let long = ak.quote(&selections(&["sha256:0"]), &[7; 65]).await;
    assert!(matches!(long, Err(TpmError::NotForThis { .. })), "{long:?}");
    let movable = tpm.create_key(NewKey { movable: true, ..NewKey::new(KeyKind::AkEccP256) }).await;
    assert!(matches!(movable, Err(TpmError::NotForThis { .. })), "{movable:?}");
}

#[tokio::test]
async fn an_attestation_key_with_a_password_and_one_bound_to_registers_quote_and_certify() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let password = Password::new(b"a test password".to_vec()).expect("a password");
    let guarded = NewKey { password: Some(password.clone()), ..NewKey::new(KeyKind::AkEccP256) };
    let bound = NewKey { policy: Some("sha256:16".parse().expect("registers")), ..NewKey::new(KeyKind::AkEccP256) };
    let other = tpm.create_key(NewKey::new(KeyKind::EccP256)).await.expect("a key");
    for (new, password) in [(guarded, Some(password)), (bound, None)] {
        let file = tpm.create_key(new).await.expect("a key");
        let source = ekm_otp_tpm::KeySource::from(file.clone()).with_password(password);
        let ak = tpm.load(source);
        let quote = ak.quote(&selections(&["sha256:0"]), NONCE).await.expect("a quote");
        assert!(is_believed(&swtpm, &file, &quote.attestation, NONCE));
        let object = tpm.load(other.clone());
        let certified = ak.certify(&object, NONCE).await.expect("an attestation");
        // TPM_ST_ATTEST_CERTIFY, and the name of the key.
        assert_eq!(certified.message[..6], *b"\xffTCG\x80\x17");
        let name = other.describe().name;
        assert!(certified.message.windows(name.len()).any(|window| window == name));
    }
}

#[tokio::test]
async fn the_endorsement_keys_public_part_is_the_one_that_tpm2_createek_shows() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    for (algorithm, name) in [(PrimaryAlgorithm::Rsa, "rsa"), (PrimaryAlgorithm::Ecc, "ecc")] {
        let ours = tpm.ek_public(algorithm).await.expect("a public key");
        swtpm.tool("tpm2_createek", &["-c", "ek.ctx", "-G", name, "-u", "ek.pub"]);
        swtpm.tool("tpm2_readpublic", &["-c", "ek.ctx", "-f", "pem", "-o", "ek.pem"]);
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        assert_eq!(ours.blob, read(&swtpm, "ek.pub"));
        assert_eq!(ours.pem.as_bytes(), read(&swtpm, "ek.pem"));
    }
}

/// tpm2_makecredential's file: 0xBADCC0DE, 1, TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET.
fn parts(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let rest = file.strip_prefix(&[0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1]).expect("a credential of tpm2-tools");
    let size = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    (rest[..2 + size].to_vec(), rest[2 + size..].to_vec())
}

#[tokio::test]
async fn a_credential_of_tpm2_makecredential_opens_for_its_key_and_endorsement_key_and_for_no_other() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    write(&swtpm, "secret", SECRET);
    let file = tpm.create_key(NewKey::new(KeyKind::AkEccP256)).await.expect("a key");
    let other = tpm.load(tpm.create_key(NewKey::new(KeyKind::AkEccP256)).await.expect("another key"));
    let ak = tpm.load(file.clone());
    for algorithm in [PrimaryAlgorithm::Rsa, PrimaryAlgorithm::Ecc] {
        write(&swtpm, "ek.pub", tpm.ek_public(algorithm).await.expect("a public key").blob);
        swtpm.tool("tpm2_makecredential", &["-u", "ek.pub", "-s", "secret", "-n", &file.describe().name_hex(), "-o", "credential"]);
        let (id_object, secret) = parts(&read(&swtpm, "credential"));
        let ek = Parent::EndorsementKey(algorithm);
        assert_eq!(**ak.activate_credential(ek, &id_object, &secret).await.expect("the secret"), *SECRET);
        let refused = other.activate_credential(ek, &id_object, &secret).await;
        assert!(matches!(refused, Err(TpmError::OtherCredential(_))), "another key: {refused:?}");
        let wrong = if algorithm == PrimaryAlgorithm::Rsa { PrimaryAlgorithm::Ecc } else { PrimaryAlgorithm::Rsa };
        let refused = ak.activate_credential(Parent::EndorsementKey(wrong), &id_object, &secret).await;
        assert!(matches!(refused, Err(TpmError::OtherCredential(_))), "another endorsement key: {refused:?}");
        for i in [2, id_object.len() - 1] {
            let mut changed = id_object.clone();
            changed[i] ^= 1;
            let refused = ak.activate_credential(ek, &changed, &secret).await;
            assert!(matches!(refused, Err(TpmError::OtherCredential(_))), "byte {i}: {refused:?}");
        }
        // Whatever was refused, it goes on working.
        assert_eq!(**ak.activate_credential(ek, &id_object, &secret).await.expect("the secret"), *SECRET);
        ak.quote(&selections(&["sha256:0"]), NONCE).await.expect("a quote");
    }
    let h2 = ak.activate_credential(Parent::H2Primary, &[0, 1, 2], &[0, 1, 2]).await;
    assert!(matches!(h2, Err(TpmError::NotForThis { .. })), "{h2:?}");
}

#[tokio::test]
async fn certificates_are_read_from_their_nv_indices_however_long() {
    let swtpm = Swtpm::start();
    assert_eq!(open(&swtpm).ek_certificates().await.expect("none"), []);
    let subject = format!("/O={}", "a long name".repeat(4));
    let args =
        ["req", "-x509", "-newkey", "rsa:4096", "-nodes", "-keyout", "key.pem", "-outform", "DER", "-out", "cert.der", "-subj", &subject];
    swtpm.tool("openssl", &args);
    let certificate = read(&swtpm, "cert.der");
    assert!(certificate.len() > 1024, "longer than swtpm's NV buffer: {}", certificate.len());
    let padded = [&certificate[..], &[0; 40]].concat();
    for (index, bytes, attributes) in [
        ("0x1c00002", &certificate, "ownerread|ownerwrite|authread|no_da"),
        ("0x1c0000a", &padded, "ownerread|ownerwrite"),
        ("0x1c00012", &b"no certificate".to_vec(), "authread|ownerwrite"),
    ] {
        write(&swtpm, "contents", bytes);
        swtpm.tool("tpm2_nvdefine", &[index, "-C", "o", "-s", &bytes.len().to_string(), "-a", attributes]);
        swtpm.tool("tpm2_nvwrite", &[index, "-C", "o", "-i", "contents"]);
    }
    // Never written.
    swtpm.tool("tpm2_nvdefine", &["0x1c00014", "-C", "o", "-s", "100", "-a", "authread|ownerwrite"]);
    let found = open(&swtpm).ek_certificates().await.expect("certificates");
    let found: Vec<_> = found.into_iter().map(|one| (one.index, one.certificate)).collect();
    let both = Some(certificate);
    assert_eq!(found, [(0x01c0_0002, both.clone()), (0x01c0_000a, both), (0x01c0_0012, None), (0x01c0_0014, None)]);
}
