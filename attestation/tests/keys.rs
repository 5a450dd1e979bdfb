//! What says that a key is in a TPM: endorsement certificates and public areas; and the parts of a quote, each of which has to be right.

mod common;
#[path = "common/python.rs"]
mod python;

use std::path::Path;
use std::process::Command;

use common::{at, read, testdata};
use ekm_otp_attestation::tpm::{
    Attest, AttestError, AttestationKey, EkCertificate, EkError, EncryptionKey, Evidence, Hash, PublicArea, PublicError, PublicKey, Quote,
    QuoteExpected, Scheme, Signature, SignatureError, make_credential,
};
use ekm_otp_attestation::{ChainError, Root};
use python::python;

const AT: u64 = 1_770_000_000;

#[test]
fn an_endorsement_key_is_a_tpms_if_its_certificate_leads_to_the_manufacturer() {
    let folder = tempfile::tempdir().expect("a folder");
    python(&[testdata("ek.py").to_str().expect("UTF-8"), "."], folder.path());
    let der = |name: &str| std::fs::read(folder.path().join(name).with_extension("der")).expect(name);
    let (roots, intermediates) = ([Root::from_der(&der("root")).expect("a root")], [der("intermediate")]);
    let ek = |name: &str| EkCertificate::read(&der(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let verify = |name: &str| ek(name).verify(&intermediates, &roots, at(AT)).map(|ek| ek.key().clone());

    assert!(matches!(verify("rsa"), Ok(PublicKey::Rsa { modulus, exponent: 65537 }) if modulus.len() == 256));
    assert!(matches!(verify("ecc"), Ok(PublicKey::Ecc { .. })));
    assert_eq!(verify("silent"), Err(EkError::Usage));
    assert!(ek("silent").verify_silent(&intermediates, &roots, at(AT)).is_ok());
    assert_eq!(verify("server"), Err(EkError::Usage));
    assert!(matches!(ek("server").verify_silent(&intermediates, &roots, at(AT)), Err(EkError::Chain(ChainError::NotIssued(_)))));
    assert_eq!(verify("attestation"), Err(EkError::Usage));
    assert!(matches!(verify("expired"), Err(EkError::Chain(ChainError::Expired { .. }))));
    assert!(matches!(verify("forged"), Err(EkError::Chain(ChainError::NotIssued(_)))));
    assert!(ek("rsa").verify(&[], &roots, at(AT)).is_err(), "the intermediate is missing");
    assert!(ek("rsa").verify(&intermediates, &[Root::google_cloud()], at(AT)).is_err(), "another manufacturer");
    assert!(ek("rsa").verify(&intermediates, &[], at(AT)).is_err());
    assert!(ek("rsa").verify(&intermediates, &[Root::google_cloud(), roots[0].clone()], at(AT)).is_ok(), "one of several");

    // An NV index is longer than the certificate in it.
    for padding in [&[0x00; 100][..], &[0xff; 700]] {
        let padded = EkCertificate::read(&[&der("rsa")[..], padding].concat()).expect("a certificate");
        assert_eq!(padded.as_der(), der("rsa"));
    }
    assert!(EkCertificate::read(&der("rsa")[..500]).is_err());
    assert!(EkCertificate::read(b"").is_err());
    // What such a key is encrypted to without its public area.
    let to = EncryptionKey::from_default_template(ek("ecc").key().clone());
    assert!(make_credential(&to, &[&[0x00, 0x0b][..], &[7; 32]].concat(), b"secret").is_ok());
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Older TPMs take the longest salt that there is room for.
#[test]
fn pss_signatures_with_either_salt_are_right() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key.pem"), read("rsa.pem")).expect("writing");
    std::fs::write(folder.path().join("message"), b"a message").expect("writing");
    let key = PublicKey::read(&read("rsa.pub")).expect("a key");
    for (hash, of) in [("-sha256", Hash::Sha256), ("-sha384", Hash::Sha384), ("-sha512", Hash::Sha512)] {
        for (salt, is_taken) in [("rsa_pss_saltlen:digest", true), ("rsa_pss_saltlen:max", true), ("rsa_pss_saltlen:20", false)] {
            let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", salt];
            openssl(folder.path(), &[&["dgst", hash, "-sign", "key.pem", "-out", "signature"], &pss[..], &["message"]].concat());
            let signature = std::fs::read(folder.path().join("signature")).expect("a signature");
            let of_scheme = |scheme| Signature::plain(scheme, of, &signature).expect("a signature");
            assert_eq!(of_scheme(Scheme::RsaPss).is_right(&key, b"a message"), is_taken, "{hash} {salt}");
            assert!(!of_scheme(Scheme::RsaPss).is_right(&key, b"another"));
            assert!(!of_scheme(Scheme::RsaSsa).is_right(&key, b"a message"));
        }
    }
    assert_eq!(Signature::plain(Scheme::RsaSsa, Hash::Sha1, &[0; 256]), Err(SignatureError::Hash(4)));
}

fn evidence() -> Evidence {
    Evidence::from_json(&read("gcp-tdx-quote.json")).expect("evidence")
}

/// What is not a TPM's own, or not a quote, or damaged, is told apart; and a changed bit is never proven.
#[test]
fn each_part_of_a_quote_has_to_be_right() {
    let evidence = evidence();
    let bytes = evidence.quote.attest.as_bytes().to_vec();
    let sized = [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], &bytes].concat();
    assert_eq!(Attest::read(&sized).expect("TPM2B_ATTEST"), evidence.quote.attest);
    let with = |at: usize, value: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        Attest::read(&changed)
    };
    assert_eq!(with(0, &[0xfe]), Err(AttestError::Magic));
    assert_eq!(with(4, &[0x80, 0x17]), Err(AttestError::Type(0x8017)));
    assert_eq!(with(6, &[0xff, 0xff]), Err(AttestError::Damaged));
    let safe = 4 + 2 + (2 + 34) + (2 + 32) + 8 + 4 + 4;
    assert_eq!(with(safe, &[2]), Err(AttestError::Flag(2)));
    assert_eq!(with(safe + 9, &[0, 0, 0, 17]), Err(AttestError::Damaged));
    assert_eq!(with(safe + 13, &[0x00, 0x12]), Err(AttestError::Bank(0x12)));
    for at in 0..bytes.len() {
        assert!(Attest::read(&bytes[..at]).is_err(), "cut off at {at}");
    }
    assert_eq!(Attest::read(&[&bytes[..], &[0]].concat()), Err(AttestError::Damaged));
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        let Ok(attest) = Attest::read(&changed) else { continue };
        let quote = Quote { attest, signature: evidence.quote.signature.clone() };
        assert!(quote.verify(&QuoteExpected::by(AttestationKey::from_key(evidence.key.clone()))).is_err(), "bit {at}");
    }
}

#[test]
fn a_signature_of_another_scheme_hash_or_length_is_refused() {
    let tpmt = |bytes: &[u8]| Signature::from_tpmt(bytes);
    assert_eq!(tpmt(&[0x00, 0x14, 0x00, 0x0b, 0x00, 0x01, 0xff, 0x00]), Err(SignatureError::Damaged), "something follows");
    assert_eq!(tpmt(&[0x00, 0x14, 0x00, 0x0b, 0x00, 0x02, 0xff]), Err(SignatureError::Damaged), "cut off");
    assert_eq!(tpmt(&[0x00, 0x05, 0x00, 0x0b]), Err(SignatureError::Scheme(5)));
    assert_eq!(tpmt(&[0x00, 0x14, 0x00, 0x04, 0x00, 0x01, 0xff]), Err(SignatureError::Hash(4)), "SHA-1");
    assert!(tpmt(&[0x00, 0x14, 0x00, 0x0b, 0x00, 0x01, 0xff]).is_ok());
    for wrong in [&[][..], &[0; 63], &[0; 65], &[0x30, 0x00]] {
        assert!(Signature::plain(Scheme::Ecdsa, Hash::Sha256, wrong).is_err());
    }
    let der = evidence().quote.signature;
    assert!(der.is_right(&evidence().key, evidence().quote.attest.as_bytes()));
    assert!(!der.is_right(&PublicKey::read(&read("rsa.pub")).expect("a key"), evidence().quote.attest.as_bytes()), "a key of another kind");
}

#[test]
fn public_areas_of_other_things_are_named() {
    // TPMT_PUBLIC of an HMAC key: keyedhash, SHA-256, no attributes, no policy, HMAC-SHA256, and a digest.
    let keyed = [&[0x00, 0x08, 0x00, 0x0b, 0, 0, 0, 0, 0, 0, 0x00, 0x05, 0x00, 0x0b, 0x00, 0x20][..], &[7; 32]].concat();
    assert_eq!(PublicArea::read(&keyed), Err(PublicError::Type(8)));
    // ECC on a curve that is not known here (BN_P256), and with SHA-1 as name algorithm.
    let ecc = |name: u8, curve: u8| {
        let head = [0x00, 0x23, 0x00, name, 0, 0, 0, 0, 0, 0, 0x00, 0x10, 0x00, 0x10, 0x00, curve, 0x00, 0x10];
        [&head[..], &[0, 1, 7], &[0, 1, 8]].concat()
    };
    assert_eq!(PublicArea::read(&ecc(0x0b, 0x10)), Err(PublicError::Unknown { what: "curve", id: 0x10 }));
    assert_eq!(PublicArea::read(&ecc(0x04, 0x03)), Err(PublicError::Unknown { what: "name algorithm", id: 4 }));
    let area = PublicArea::read(&ecc(0x0b, 0x03)).expect("a public area");
    assert!(matches!(area.key(), PublicKey::Ecc { x, .. } if x.len() == 32 && x[31] == 7), "leading zeros are put back");
    assert!(!area.is_attestation_key() && !area.is_storage_key());
    for at in 0..area.as_bytes().len() {
        assert!(PublicArea::read(&area.as_bytes()[..at]).is_err(), "cut off at {at}");
    }
    assert_eq!(PublicArea::read(&[area.as_bytes(), &[0]].concat()), Err(PublicError::Damaged));
    assert_eq!(PublicKey::from_spki(&area.key().to_spki()).expect("a key"), *area.key());
}
