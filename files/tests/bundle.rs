//! Enrolment bundles: what is written is read again, and nothing else is.

use std::io::Write as _;
use std::iter;
use std::time::{Duration, SystemTime};

use age::armor::{ArmoredWriter, Format};
use age::secrecy::SecretString;
use ekm_otp_files::bundle::{Bundle, BundleError, BundleFile, BundleSecret, Passphrase, read, seal, write_wrapped};
use zeroize::Zeroizing;

/// Test data, used nowhere else.
const SECRET: [u8; 32] = *b"test data, used nowhere else....";
const CHOSEN: &str = "four words of a test";

fn bundle(secret: BundleSecret) -> Bundle {
    Bundle {
        kid: "client1".into(),
        client: "Alice \"laptop\"\n# x".into(),
        origins: vec!["https://api.example.com".into(), "https://127.0.0.1:8443".into()],
        ca: Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        credential: "jws".into(),
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000),
        secret,
    }
}

fn clear() -> Bundle {
    bundle(BundleSecret::Clear(Zeroizing::new(SECRET.to_vec())))
}

fn wrapped() -> Bundle {
    bundle(BundleSecret::Wrapped { parent: vec![0, 11, 1], public: vec![2; 40], duplicate: vec![3; 90], seed: vec![4; 70] })
}

fn opened(text: &str, passphrase: &str) -> Result<Bundle, BundleError> {
    match read(text)? {
        BundleFile::Sealed(sealed) => sealed.open(passphrase),
        other => panic!("{other:?}"),
    }
}

fn is_same(one: &Bundle, other: &Bundle) -> bool {
    let plain = |bundle: &Bundle| {
        (bundle.kid.clone(), bundle.client.clone(), bundle.origins.clone(), bundle.ca.clone(), bundle.credential.clone(), bundle.expires)
    };
    let secret = |bundle: &Bundle| match &bundle.secret {
        BundleSecret::Clear(secret) => vec![secret.to_vec()],
        BundleSecret::Wrapped { parent, public, duplicate, seed } => vec![parent.clone(), public.clone(), duplicate.clone(), seed.clone()],
    };
    plain(one) == plain(other) && secret(one) == secret(other)
}

#[test]
fn a_sealed_bundle_opens_with_its_passphrase_however_it_is_read_out_and_with_no_other() {
    let passphrase = Passphrase::generate().expect("a passphrase");
    let text = seal(&clear(), &passphrase, &["about\nit".into()]).expect("sealed").text;
    assert!(text.starts_with("# about\u{fffd}it\n-----BEGIN AGE ENCRYPTED FILE-----\n"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "what a mail program breaks");
    assert!(!text.contains("client1"), "all of it is sealed");
    let shown = passphrase.expose().to_owned();
    assert_eq!(shown.len(), 29, "{shown}");
    let forms = [shown.clone(), format!(" {}\n", shown.to_uppercase().replace('-', " ")), shown.replace('-', "")];
    for form in forms {
        assert!(is_same(&opened(&text, &form).expect("it"), &clear()), "{form}");
    }
    let mailed = format!("Hello,\r\n\r\n{}\r\nBye\r\n", text.replace('\n', "  \r\n"));
    assert!(opened(&mailed, &shown).is_ok(), "out of a mail");
    for wrong in ["", CHOSEN, &shown[1..]] {
        assert!(matches!(opened(&text, wrong), Err(BundleError::WrongPassphrase)), "{wrong}");
    }
}

#[test]
fn a_chosen_passphrase_does_and_a_short_one_is_refused() {
    let written = seal(&wrapped(), &Passphrase::chosen(CHOSEN).expect("long enough"), &[]).expect("sealed");
    assert!(is_same(&opened(&written.text, CHOSEN).expect("it"), &wrapped()), "wrapped within");
    assert!(matches!(Passphrase::chosen("correct horse"), Err(BundleError::WeakPassphrase(13))));
    assert!(!format!("{:?}", Passphrase::generate()).contains('-'), "shown in no log");
}

#[test]
fn a_sealed_bundle_that_was_changed_or_cut_off_is_refused() {
    let passphrase = Passphrase::generate().expect("a passphrase");
    let text = seal(&clear(), &passphrase, &["about".into()]).expect("sealed").text;
    let body = text.find("-----\n").expect("a first line") + 6;
    for at in (body..text.len() - 40).step_by(7).filter(|at| text.as_bytes()[*at] != b'\n') {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("UTF-8");
        assert!(changed == text || opened(&changed, passphrase.expose()).is_err(), "byte {at} was changed");
    }
    for at in 0..text.len() - 2 {
        assert!(read(&text[..at]).is_err(), "cut off at {at}");
    }
    assert!(matches!(read(&format!("{text}{text}")), Err(BundleError::Damaged)), "two");
    assert!(matches!(read("nothing"), Err(BundleError::None)));
    assert!(matches!(read(&"x".repeat(300_000)), Err(BundleError::TooLong(_))));
}

#[test]
fn a_wrapped_bundle_stands_in_the_open_and_is_known_by_its_fingerprint() {
    let written = write_wrapped(&wrapped(), &["about".into()]).expect("a bundle");
    assert!(written.text.lines().all(|line| line.len() <= 64), "{}", written.text);
    let Ok(BundleFile::Wrapped { bundle, fingerprint }) = read(&written.text) else { panic!("not read") };
    assert!(is_same(&bundle, &wrapped()));
    assert_eq!((fingerprint.len(), &fingerprint), (32, &written.fingerprint));
    let mut other = wrapped();
    other.origins[0] = "https://api.example.org".into();
    assert_ne!(write_wrapped(&other, &[]).expect("a bundle").fingerprint, fingerprint, "another origin");
    assert!(matches!(write_wrapped(&clear(), &[]), Err(BundleError::Unsealed)), "a secret in the open");
}

fn plain(json: &str) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(json);
    format!("-----BEGIN EKM-OTP BUNDLE-----\n{body}\n-----END EKM-OTP BUNDLE-----\n")
}

#[test]
fn what_is_no_bundle_of_this_version_is_refused_by_what_is_wrong() {
    let fields = |more: &str| {
        format!(
            "{{\"version\":1,\"kid\":\"a\",\"client\":\"A\",\"origins\":[\"https://a.test\"],\"credential\":\"otp\",\"expires\":1{more}}}"
        )
    };
    let wrapped = "{\"parent\":\"AAs=\",\"public\":\"AA==\",\"duplicate\":\"AA==\",\"seed\":\"AA==\"}";
    for (fault, json, told) in [
        ("no_json", "{".to_owned(), "not whole"),
        ("newer_version", "{\"version\":2,\"anything\":[]}".to_owned(), "version 2"),
        ("secret_in_the_open", fields(",\"secret\":\"AAAA\""), "neither sealed nor wrapped"),
        ("no_secret", fields(""), "secret stands in it not once"),
        ("secret_twice", fields(&format!(",\"secret\":\"AAAA\",\"wrapped\":{wrapped}")), "secret stands in it not once"),
        ("unknown_field", fields(&format!(",\"wrapped\":{wrapped},\"more\":1")), "not whole"),
        ("no_origin", fields(&format!(",\"wrapped\":{wrapped}")).replace("\"https://a.test\"", ""), "origins are missing"),
        ("no_base64", fields(&format!(",\"wrapped\":{}", wrapped.replace("AAs=", "?"))), "parent is no base64"),
        (
            "expiry_is_no_time",
            fields(&format!(",\"wrapped\":{wrapped}")).replace("\"expires\":1", "\"expires\":18446744073709551615"),
            "expiry",
        ),
    ] {
        let why = read(&plain(&json)).expect_err(fault).to_string();
        assert!(why.contains(told), "{fault}: {why}");
    }
    assert!(read(&plain(&fields(&format!(",\"wrapped\":{wrapped}")))).is_ok(), "this test's own faults");
}

/// Whoever sends a bundle must not make its reader work for hours.
#[test]
fn a_bundle_that_takes_too_much_work_is_refused_before_it_is_done() {
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(CHOSEN));
    recipient.set_work_factor(2);
    let encryptor = age::Encryptor::with_recipients(iter::once(&recipient as _)).expect("a recipient");
    let mut writer = encryptor.wrap_output(ArmoredWriter::wrap_output(Vec::new(), Format::Binary).expect("a writer")).expect("a writer");
    writer.write_all(b"{}").expect("writing");
    let binary = writer.finish().and_then(ArmoredWriter::finish).expect("an age file");
    // The number stands in the header, in decimal.
    let line = binary.windows(3).position(|bytes| bytes == b" 2\n").expect("its work factor");
    let huge = [&binary[..line], b" 40\n", &binary[line + 3..]].concat();
    let mut armour = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).expect("a writer");
    armour.write_all(&huge).expect("writing");
    let text = String::from_utf8(armour.finish().expect("armour")).expect("ASCII");
    assert!(matches!(opened(&text, CHOSEN), Err(BundleError::Work { required: 40, most: 20 })));
}
