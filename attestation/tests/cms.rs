//! Messages go both ways between OpenSSL and us; what is damaged, or of another kind, is refused.

mod common;

use std::path::Path;
use std::process::Command;

use common::read;
use ekm_otp_attestation::cms::{CmsError, Enveloped, Recipient, RecipientId, SoftwareKey, encrypt};
use tempfile::TempDir;
use zeroize::Zeroizing;

const OAEP: [&str; 6] = ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha256"];

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with key.pem, its certificate cert.pem, and one without a key identifier, bare.pem.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key.pem"), read("rsa.pem")).expect("writing");
    let req = ["req", "-x509", "-key", "key.pem", "-days", "2", "-subj", "/CN=recipient"];
    openssl(folder.path(), &[&req[..], &["-out", "cert.pem"]].concat());
    let config =
        "[req]\ndistinguished_name = dn\nx509_extensions = none\n[dn]\n[none]\nsubjectKeyIdentifier = none\nbasicConstraints = CA:FALSE\n";
    std::fs::write(folder.path().join("bare.cnf"), config).expect("writing");
    openssl(folder.path(), &[&req[..], &["-config", "bare.cnf", "-out", "bare.pem"]].concat());
    folder
}

fn key() -> SoftwareKey {
    SoftwareKey::read(&read("rsa.pem")).expect("a key")
}

fn open(message: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
    Enveloped::parse(message)?.open_with(|encrypted| key().decrypt(encrypted))
}

#[test]
fn what_openssl_makes_is_opened_here() {
    let folder = folder();
    for len in [0, 1, 15, 16, 5_000, 3_000_000] {
        let plaintext: Vec<u8> = (0..len).map(|i: u32| (i % 251) as u8).collect();
        std::fs::write(folder.path().join("plain"), &plaintext).expect("writing");
        for more in [&["-keyid"][..], &["-keyid", "-stream"], &[], &["-stream"]] {
            let make =
                ["cms", "-encrypt", "-binary", "-outform", "DER", "-aes-256-cbc", "-in", "plain", "-out", "message", "-recip", "cert.pem"];
            openssl(folder.path(), &[&make[..], &OAEP, more].concat());
            let message = std::fs::read(folder.path().join("message")).expect("a message");
            let enveloped = Enveloped::parse(&message).unwrap_or_else(|e| panic!("{more:?} {len}: {e}"));
            assert_eq!(matches!(enveloped.recipient(), RecipientId::KeyId(id) if id.len() == 20), more.contains(&"-keyid"));
            assert!(*open(&message).expect("opened") == plaintext, "{more:?} {len}");
        }
    }
}

#[test]
fn what_is_made_here_is_opened_by_openssl() {
    let folder = folder();
    let file = |name: &str| std::fs::read(folder.path().join(name)).expect("a file");
    for (to, certificate) in [("cert.pem", "cert.pem"), ("bare.pem", "bare.pem"), ("public", "cert.pem")] {
        let recipient = if to == "public" { read("rsa.pub") } else { file(to) };
        let recipient = Recipient::read(&recipient).expect("a recipient");
        assert_eq!(matches!(recipient.id(), RecipientId::IssuerAndSerial { .. }), to == "bare.pem");
        for len in [0, 1, 16, 100_000] {
            let plaintext: Vec<u8> = (0..len).map(|i: u32| (i % 251) as u8).collect();
            std::fs::write(folder.path().join("message"), encrypt(&recipient, &plaintext).expect("a message")).expect("writing");
            let open = [
                "cms",
                "-decrypt",
                "-binary",
                "-inform",
                "DER",
                "-in",
                "message",
                "-inkey",
                "key.pem",
                "-recip",
                certificate,
                "-out",
                "plain",
            ];
            openssl(folder.path(), &open);
            assert!(file("plain") == plaintext, "{to} {len}");
            assert!(*self::open(&file("message")).expect("opened") == plaintext);
        }
    }
}

#[test]
fn keys_are_read_in_all_their_forms() {
    let folder = folder();
    let message = encrypt(&Recipient::read(&read("rsa.pub")).expect("a key"), b"secret").expect("a message");
    for (name, arguments) in [
        ("pkcs8.der", &["pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER"][..]),
        ("pkcs1.pem", &["rsa", "-in", "key.pem", "-traditional"]),
        ("pkcs1.der", &["rsa", "-in", "key.pem", "-traditional", "-outform", "DER"]),
    ] {
        openssl(folder.path(), &[arguments, &["-out", name]].concat());
        let key = SoftwareKey::read(&std::fs::read(folder.path().join(name)).expect("a key")).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(*Enveloped::parse(&message).expect("a message").open_with(|encrypted| key.decrypt(encrypted)).expect(name), b"secret");
    }
    for (name, arguments) in [
        ("cert.der", &["x509", "-in", "cert.pem", "-outform", "DER"][..]),
        ("public.der", &["pkey", "-in", "key.pem", "-pubout", "-outform", "DER"]),
    ] {
        openssl(folder.path(), &[arguments, &["-out", name]].concat());
        Recipient::read(&std::fs::read(folder.path().join(name)).expect("a key")).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    openssl(folder.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ec.pem"]);
    let ec = std::fs::read(folder.path().join("ec.pem")).expect("a key");
    assert_eq!(SoftwareKey::read(&ec).expect_err("not RSA"), CmsError::Key);
    openssl(folder.path(), &["pkey", "-in", "ec.pem", "-pubout", "-out", "ec.pub"]);
    assert_eq!(Recipient::read(&std::fs::read(folder.path().join("ec.pub")).expect("a key")).expect_err("not RSA"), CmsError::Recipient);
}

/// Key, padding, content: nobody learns which.
#[test]
fn whatever_is_wrong_with_key_padding_or_content_is_one_error() {
    let message = encrypt(&Recipient::read(&read("rsa.pub")).expect("a key"), b"a secret of more than one block").expect("a message");
    let enveloped = Enveloped::parse(&message).expect("a message");
    let content_key = key().decrypt(enveloped.encrypted_key()).expect("the content key");
    assert!(enveloped.open(&content_key).is_ok());
    for wrong in [&[][..], &[0; 16], &[0; 32], &content_key[..31]] {
        assert_eq!(enveloped.open(wrong).expect_err("wrong"), CmsError::NotOpened);
    }
    assert_eq!(key().decrypt(&[0; 256]).expect_err("not encrypted"), CmsError::NotOpened);
    assert_eq!(key().decrypt(&[]).expect_err("not encrypted"), CmsError::NotOpened);
    assert_eq!(enveloped.open_with(|_| Err("the TPM said no")).expect_err("no key"), CmsError::NotOpened);
    // The padding, and the length of the content.
    let last = message.len() - 1;
    let outcome = |message: &[u8]| open(message).map(|plaintext| plaintext.len());
    let mut errors = 0;
    for flip in 1..=255 {
        let mut changed = message.clone();
        changed[last - 16] ^= flip;
        match outcome(&changed) {
            Ok(_) => {}
            Err(CmsError::NotOpened) => errors += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(errors > 250, "{errors}");
}

/// A byte more or less anywhere, or another one, is an error of the right kind, and never a panic; most are no message any more.
#[test]
fn a_damaged_message_is_refused() {
    let message = encrypt(&Recipient::read(&read("rsa.pub")).expect("a key"), b"a secret").expect("a message");
    for at in 0..message.len() {
        assert!(Enveloped::parse(&message[..at]).is_err(), "cut off at {at}");
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut changed = message.clone();
            changed[at] ^= flip;
            let _ = Enveloped::parse(&changed).map(|enveloped| enveloped.open(&[0; 32]));
        }
    }
    assert!(Enveloped::parse(&[&message[..], &[0]].concat()).is_err());
    for (nested, what) in [([0x30, 0x80].repeat(100), "deep"), ([0x24, 0x80].repeat(30_000), "deep")] {
        assert!(matches!(Enveloped::parse(&nested), Err(CmsError::Syntax(_))), "{what}");
    }
    let many = [&[0x30, 0x80][..], &[0x05, 0x00].repeat(1 << 17), &[0, 0]].concat();
    assert_eq!(Enveloped::parse(&many).expect_err("too many"), CmsError::Syntax("it has too many elements"));
}

/// The content's octet string in pieces of definite length, and in pieces of pieces (X.690 §8.7): der's own reader takes neither.
#[test]
fn strings_in_pieces_are_put_together() {
    let message = encrypt(&Recipient::read(&read("rsa.pub")).expect("a key"), &[7; 40]).expect("a message");
    let content = message.len() - 48;
    assert_eq!(message[content - 2..content], [0x80, 48], "[0], 48 bytes");
    let (before, content) = (&message[..content - 2], &message[content..]);
    let piece = |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).expect("short")][..], bytes].concat();
    let (first, second) = content.split_at(20);
    let definite = [piece(0x04, first), piece(0x04, second)].concat();
    let nested = [piece(0x24, &[piece(0x04, first), piece(0x04, &[])].concat()), piece(0x04, second)].concat();
    for (pieces, is_taken) in [(definite, true), (nested, true), (piece(0x02, content), false), (piece(0x30, content), false)] {
        let inner = piece(0xa0, &pieces);
        // The sequences around it get indefinite lengths: no length in them has to be counted anew.
        let with = indefinite(before, &inner);
        assert_eq!(open(&with).is_ok_and(|plaintext| *plaintext == [7; 40]), is_taken);
    }
}

/// `before` ends within ContentInfo, [0], EnvelopedData and EncryptedContentInfo, all of definite length.
fn indefinite(before: &[u8], content: &[u8]) -> Vec<u8> {
    let mut rest = before;
    let mut made = Vec::new();
    let header = |bytes: &[u8]| match bytes[1] {
        0x81 => (3, usize::from(bytes[2])),
        0x82 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        short => (2, usize::from(short)),
    };
    let open = |rest: &mut &[u8], made: &mut Vec<u8>| {
        made.extend([rest[0], 0x80]);
        *rest = &rest[header(rest).0..];
    };
    let copy = |rest: &mut &[u8], made: &mut Vec<u8>| {
        let (start, len) = header(rest);
        made.extend(&rest[..start + len]);
        *rest = &rest[start + len..];
    };
    open(&mut rest, &mut made); // ContentInfo
    copy(&mut rest, &mut made); // its type
    open(&mut rest, &mut made); // [0]
    open(&mut rest, &mut made); // EnvelopedData
    copy(&mut rest, &mut made); // version
    copy(&mut rest, &mut made); // recipients
    open(&mut rest, &mut made); // EncryptedContentInfo
    copy(&mut rest, &mut made); // its type
    copy(&mut rest, &mut made); // its algorithm
    assert!(rest.is_empty());
    made.extend(content);
    made.extend([0; 8]);
    made
}

#[test]
fn messages_of_other_kinds_are_named() {
    let folder = folder();
    std::fs::write(folder.path().join("plain"), b"a secret").expect("writing");
    let made = |arguments: &[&str]| {
        openssl(folder.path(), &[arguments, &["-outform", "DER", "-out", "message"]].concat());
        Enveloped::parse(&std::fs::read(folder.path().join("message")).expect("a message")).expect_err("refused")
    };
    let encrypt = ["cms", "-encrypt", "-binary", "-in", "plain"];
    let to = ["-recip", "cert.pem"];
    assert_eq!(made(&["cms", "-data_create", "-in", "plain"]), CmsError::NotEnveloped);
    let not_taken =
        |error: CmsError, what: &str| assert!(matches!(error, CmsError::NotTaken(_)) && error.to_string().contains(what), "{error}");
    not_taken(made(&[&encrypt[..], &["-aes-256-cbc"], &to].concat()), "OAEP");
    not_taken(made(&[&encrypt[..], &["-aes-128-cbc"], &to, &OAEP].concat()), "AES-256");
    not_taken(made(&[&encrypt[..], &["-aes-256-cbc"], &to, &OAEP[..2]].concat()), "OAEP");
    not_taken(made(&[&encrypt[..], &["-aes-256-cbc"], &to, &OAEP, &to, &OAEP].concat()), "not one");
    not_taken(made(&[&encrypt[..], &["-aes-256-cbc", "-pwri_password", "x"]].concat()), "another way");
    assert!(matches!(Enveloped::parse(b"plain text"), Err(CmsError::Syntax(_))));
    assert!(matches!(Enveloped::parse(b""), Err(CmsError::Syntax(_))));
}
