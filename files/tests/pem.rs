//! Files as people have them, made with OpenSSL and by hand.

use std::process::Command;

use ekm_otp_files::pem::{PemError, certificates, private_key, tls_key};

fn certificate() -> String {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate").cert.pem()
}

fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

#[test]
fn certificates_are_read_in_each_way_to_write_them_and_none_is_lost() {
    let (a, b) = (certificate(), certificate());
    let wide = |pem: &str| {
        let body = body(pem);
        let lines: Vec<&str> = (0..body.len()).step_by(76).map(|i| &body[i..body.len().min(i + 76)]).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    let plain = certificates(format!("{a}{b}").as_bytes()).expect("two");
    assert_eq!(plain.len(), 2);
    for (how, file) in [
        ("glued", format!("{}{}", a.trim_end(), b.trim_end())),
        ("sharing dashes", format!("{}{}", a.trim_end(), b.trim_end().trim_start_matches('-'))),
        ("sharing some dashes", format!("{}--{}", a.trim_end(), b.trim_end().trim_start_matches('-'))),
        ("a byte order mark", format!("\u{feff}{a}\u{feff}{b}")),
        ("indented", format!("{a}{b}").lines().map(|line| format!("    {line}\n")).collect()),
        ("CRLF", format!("{a}{b}").replace('\n', "\r\n")),
        ("trailing blanks", format!("{a}{b}").replace('\n', "  \t\n")),
        ("76 columns", wide(&a) + &wide(&b)),
        ("one line", format!("{a}{b}").replace('\n', " ")),
        ("text around", format!("subject=CN = a\nissuer=…\n{a}# and\n{b}bye\n")),
    ] {
        assert_eq!(certificates(file.as_bytes()).as_ref(), Ok(&plain), "{how}");
    }
}

#[test]
fn what_is_no_whole_certificate_is_refused_by_name() {
    let pem = certificate();
    let cut = &pem[..pem.len() - 30];
    for (file, refused) in [
        (format!("{pem}{cut}"), PemError::Open { label: "CERTIFICATE".into(), number: 2 }),
        (format!("{cut}{pem}"), PemError::Open { label: "CERTIFICATE".into(), number: 1 }),
        (format!("{pem}{}", pem.replacen("\nMI", "\nM!", 1)), PemError::Damaged { label: "CERTIFICATE".into(), number: 2 }),
        (format!("{pem}{}", pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")), PemError::Trusted),
        (pem.replace("CERT", "CERT\u{1}"), PemError::Damaged { label: "CERTIFICATE".into(), number: 1 }),
        (String::new(), PemError::None),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(),
            PemError::Other { wanted: "certificate", found: "PUBLIC KEY".into() },
        ),
    ] {
        assert_eq!(certificates(file.as_bytes()), Err(refused), "{file}");
    }
    let der = certificates(pem.as_bytes()).expect("one").remove(0);
    assert_eq!(certificates(&der), Err(PemError::Der));
    // An EC private key (RFC 5915) has its length in one byte.
    let short = [&[0x30, 0x77][..], &[7; 0x77]].concat();
    assert_eq!(certificates(&short), Err(PemError::Der));
    assert_ne!(certificates(&short[..0x78]), Err(PemError::Der));
}

fn openssl(folder: &tempfile::TempDir, args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(args).current_dir(folder.path()).output().expect("openssl");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_private_key_is_found_beside_what_openssl_writes_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    // With its parameters first.
    let ec = openssl(&folder, &["ecparam", "-name", "prime256v1", "-genkey"]);
    assert!(String::from_utf8_lossy(&ec).starts_with("-----BEGIN EC PARAMETERS-----"));
    assert_eq!(private_key(&ec).expect("a key").label, "EC PRIVATE KEY");
    let both = [certificate().as_bytes(), &ec].concat();
    assert!(tls_key(&both).is_ok() && certificates(&both).is_ok_and(|found| found.len() == 1));
    assert_eq!(private_key(&[&ec[..], &ec].concat()).err(), Some(PemError::Keys(2)));
    assert_eq!(private_key(certificate().as_bytes()).err(), Some(PemError::Other { wanted: "private key", found: "CERTIFICATE".into() }));
    for (args, is_encrypted) in [
        (&["genpkey", "-algorithm", "RSA"][..], false),
        (&["genpkey", "-algorithm", "RSA", "-aes128", "-pass", "pass:test"], true),
        (&["genrsa", "-traditional", "-aes128", "-passout", "pass:test", "2048"], true),
    ] {
        let key = private_key(&openssl(&folder, args));
        assert_eq!(key.err(), is_encrypted.then_some(PemError::Encrypted), "{args:?}");
    }
}
