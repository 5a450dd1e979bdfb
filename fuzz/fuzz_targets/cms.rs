//! CMS messages. What is parsed, OpenSSL parses, too; and what is opened, it opens to the same.
#![no_main]

use std::sync::LazyLock;

use ekm_otp_attestation::cms::{Enveloped, Recipient, RecipientId, SoftwareKey, encrypt};
use libfuzzer_sys::fuzz_target;
use openssl::cms::CmsContentInfo;
use openssl::pkey::{PKey, Private};

const PEM: &[u8] = include_bytes!("../../testdata/attestation/rsa.pem");
static OURS: LazyLock<SoftwareKey> = LazyLock::new(|| SoftwareKey::read(PEM).expect("a key"));
static THEIRS: LazyLock<PKey<Private>> = LazyLock::new(|| PKey::private_key_from_pem(PEM).expect("a key"));
static RECIPIENT: LazyLock<Recipient> =
    LazyLock::new(|| Recipient::read(include_bytes!("../../testdata/attestation/rsa.pub")).expect("a key"));

fuzz_target!(|input: &[u8]| match input.split_first() {
    Some((0, message)) => parse(message),
    Some((1, plaintext)) => {
        let message = encrypt(&RECIPIENT, plaintext).expect("a message");
        let opened = Enveloped::parse(&message).expect("a message").open_with(|encrypted| OURS.decrypt(encrypted)).expect("opened");
        assert_eq!(*opened, plaintext);
    }
    // A recipient of any kind, or a private key.
    Some((2, file)) => {
        let _ = Recipient::read(file);
    }
    Some((3, file)) => {
        let _ = SoftwareKey::read(file);
    }
    _ => {}
});

fn parse(message: &[u8]) {
    let Ok(enveloped) = Enveloped::parse(message) else { return };
    if let Ok(opened) = enveloped.open_with(|encrypted| OURS.decrypt(encrypted)) {
        let theirs = match (CmsContentInfo::from_der(message), enveloped.recipient()) {
            (Ok(theirs), _) => theirs,
            // It reads the issuer's name, too, which is handed on as it is here.
            (Err(_), RecipientId::IssuerAndSerial { .. }) => return,
            (Err(e), _) => panic!("OpenSSL does not read it: {e}"),
        };
        assert_eq!(*opened, theirs.decrypt_without_cert_check(&THEIRS).expect("OpenSSL opens it, too"));
    }
}
