//! Kinds of key and who may use them: signatures, imports, passwords, registers. All secrets are test data.

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{
    DigestAlgorithm, KeyFile, KeyKind, KeySource, NewKey, Password, PrivateKey, PrivateKeyError, SignatureScheme, Tcti, TpmError, TpmHandle,
};
use zeroize::Zeroizing;

const SCHEMES: [(SignatureScheme, &[KeyKind]); 3] = [
    (SignatureScheme::RsaSsa, &[KeyKind::Rsa2048, KeyKind::Rsa3072]),
    (SignatureScheme::RsaPss, &[KeyKind::Rsa2048, KeyKind::Rsa3072]),
    (SignatureScheme::Ecdsa, &[KeyKind::EccP256, KeyKind::EccP384]),
];

fn open(swtpm: &Swtpm) -> TpmHandle {
    TpmHandle::open(swtpm.tcti().parse::<Tcti>().expect("a TCTI")).expect("a thread")
}

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text.into()).expect("a password"))
}

/// As it would be read from a file.
fn written(file: &KeyFile) -> KeyFile {
    KeyFile::from_pem(&file.to_pem().expect("written")).expect("read")
}

/// The key signs, verifies its own signatures and no others, and OpenSSL verifies them with its public key.
async fn signs(swtpm: &Swtpm, tpm: &TpmHandle, file: KeyFile) {
    let kind = file.describe().kind.expect("a kind");
    let public = file.public_pem().expect("a public key");
    std::fs::write(swtpm.dir().join("public.pem"), &public).expect("writing");
    std::fs::write(swtpm.dir().join("message"), b"message").expect("writing");
    let key = tpm.load(file);
    assert_eq!(key.public_pem().await.expect("a public key"), public);
    let message = <sha2::Sha256 as sha2::Digest>::digest(b"message");
    for (scheme, kinds) in SCHEMES {
        let signed = key.sign(scheme, DigestAlgorithm::Sha256, &message).await;
        if !kinds.contains(&kind) {
            assert!(matches!(signed, Err(TpmError::NotForThis { .. })), "{kind} with {scheme:?}: {signed:?}");
            continue;
        }
        let signature = signed.unwrap_or_else(|e| panic!("{kind} with {scheme:?}: {e}"));
        assert_eq!(key.verify(scheme, DigestAlgorithm::Sha256, &message, &signature).await.ok(), Some(true), "{kind} with {scheme:?}");
        assert_eq!(key.verify(scheme, DigestAlgorithm::Sha256, &[7; 32], &signature).await.ok(), Some(false), "{kind} with {scheme:?}");
        for damaged in [&signature[1..], b"", &[signature.as_slice(), b"x"].concat()] {
            assert_eq!(key.verify(scheme, DigestAlgorithm::Sha256, &message, damaged).await.ok(), Some(false), "{kind} with {scheme:?}");
        }
        std::fs::write(swtpm.dir().join("signature"), &signature).expect("writing");
        let padding: &[&str] = if scheme == SignatureScheme::RsaPss { &["-sigopt", "rsa_padding_mode:pss"] } else { &[] };
        let args = [&["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature"], padding, &["message"]].concat();
        assert!(swtpm.tool("openssl", &args).contains("Verified OK"), "{kind} with {scheme:?}");
    }
    let hmac = key.hmac(b"message").await.expect_err("it is no HMAC key");
    assert_eq!(hmac.to_string(), format!("{kind}: this cannot make HMACs"));
}

#[tokio::test]
async fn keys_that_the_tpm_makes_sign_and_openssl_agrees() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    for kind in KeyKind::ALL.into_iter().filter(|kind| kind.signs()) {
        let file = tpm.create_key(NewKey::new(kind)).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(file.describe().kind, Some(kind));
        assert_eq!(
            file.describe().attributes,
            ["fixedtpm", "fixedparent", "sensitivedataorigin", "userwithauth", "noda", "sign"],
            "{kind}"
        );
        signs(&swtpm, &tpm, written(&file)).await;
    }
}

#[tokio::test]
async fn keys_of_openssl_are_imported_from_each_of_its_formats() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    for (kind, make) in [
        (KeyKind::Rsa2048, ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        (KeyKind::Rsa3072, ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]),
        (KeyKind::EccP256, ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        (KeyKind::EccP384, ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ] {
        swtpm.tool("openssl", &[&["genpkey", "-out", "key.pem"][..], &make].concat());
        let public = swtpm.tool("openssl", &["pkey", "-in", "key.pem", "-pubout"]);
        for format in [&["pkey", "-in", "key.pem"][..], &["pkey", "-in", "key.pem", "-traditional"]] {
            let pem = swtpm.tool("openssl", format);
            let key = PrivateKey::from_pem(&pem).unwrap_or_else(|e| panic!("{kind}: {e}: {}", pem.lines().next().unwrap_or_default()));
            swtpm.tool("openssl", &[format, &["-outform", "der", "-out", "key.der"]].concat());
            let der = std::fs::read(swtpm.dir().join("key.der")).expect("a key");
            let of_der = PrivateKey::read(&der).unwrap_or_else(|e| panic!("{kind}: {format:?}: {e}"));
            let of_der = tpm.import_key(NewKey::new(kind), of_der).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert_eq!(of_der.public_pem().expect("a public key"), public, "{kind}");
            let file = tpm
                .import_key(NewKey { password: password("pw"), ..NewKey::new(kind) }, key)
                .await
                .unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert_eq!(file.public_pem().expect("a public key"), public, "{kind}");
            assert_eq!(file.describe().attributes, ["userwithauth", "sign"], "{kind}");
            let key = tpm.load(KeySource::from(written(&file)).with_password(password("pw")));
            let scheme =
                if [KeyKind::Rsa2048, KeyKind::Rsa3072].contains(&kind) { SignatureScheme::RsaPss } else { SignatureScheme::Ecdsa };
            key.sign(scheme, DigestAlgorithm::Sha384, &[7; 48]).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        }
        let key = PrivateKey::from_pem(&swtpm.tool("openssl", &["pkey", "-in", "key.pem"])).expect("a key");
        let file = tpm.import_key(NewKey::new(kind), key).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        signs(&swtpm, &tpm, file).await;
    }
}

#[tokio::test]
async fn the_advice_for_a_key_without_its_point_works_when_followed() {
    let swtpm = Swtpm::start();
    swtpm.tool("openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "whole.pem"]);
    swtpm.tool("openssl", &["ec", "-in", "whole.pem", "-conv_form", "compressed", "-out", "key.pem"]);
    let read = |name: &str| PrivateKey::from_pem(&std::fs::read_to_string(swtpm.dir().join(name)).expect("a key"));
    let told = read("key.pem").expect_err("its point is compressed").to_string();
    let advice = told.split('`').nth(1).expect("a command").replace("FILE", "key.pem").replace("NEW", "new.pem");
    let words: Vec<&str> = advice.split(' ').collect();
    swtpm.tool(words[0], &words[1..]);
    let tpm = TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread");
    tpm.import_key(NewKey::new(KeyKind::EccP256), read("new.pem").expect("a key")).await.expect("imported");
}

#[test]
fn what_is_no_private_key_is_told_and_not_shown() {
    let swtpm = Swtpm::start();
    swtpm.tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]);
    let pem = std::fs::read_to_string(swtpm.dir().join("key.pem")).expect("a key");
    for (fault, text) in [
        ("it holds no PEM block", "hello".to_owned()),
        ("has no END mark", pem.replace("END", "FIN")),
        ("encrypted", swtpm.tool("openssl", &["pkey", "-in", "key.pem", "-aes128", "-passout", "pass:x"])),
        ("it holds no private key, but PUBLIC KEY", swtpm.tool("openssl", &["pkey", "-in", "key.pem", "-pubout"])),
        ("only RSA of 2048", swtpm.tool("openssl", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"])),
        ("only RSA of 2048", swtpm.tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"])),
        ("only RSA of 2048", swtpm.tool("openssl", &["genpkey", "-algorithm", "ED25519"])),
        ("does not hold its public key", swtpm.tool("openssl", &["ec", "-in", "key.pem", "-no_public"])),
    ] {
        let error = PrivateKey::from_pem(&text).expect_err(fault).to_string();
        assert!(error.contains(fault), "{fault}: {error}");
        assert_eq!(PrivateKey::read(text.as_bytes()).expect_err(fault).to_string(), error);
    }
    swtpm.tool("openssl", &["pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:x", "-outform", "der", "-out", "encrypted.der"]);
    swtpm.tool("openssl", &["pkey", "-in", "key.pem", "-pubout", "-outform", "der", "-out", "public.der"]);
    swtpm.tool("openssl", &["pkey", "-in", "key.pem", "-outform", "der", "-out", "key.der"]);
    let read = |name: &str| std::fs::read(swtpm.dir().join(name)).expect("a file");
    let key = read("key.der");
    for der in [read("encrypted.der"), read("public.der"), key[..key.len() - 1].to_vec(), [&key[..], &[0]].concat()] {
        assert!(matches!(PrivateKey::read(&der), Err(PrivateKeyError::Der)), "it is no private key");
    }
}

#[tokio::test]
async fn a_password_is_asked_for_and_counted_and_can_be_changed() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    swtpm.tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=20", "--recovery-time=120", "--lockout-recovery-time=60"]);
    let new = NewKey { password: password("right"), ..NewKey::new(KeyKind::HmacSha256) };
    let file = written(&tpm.create_hmac_key(new, Zeroizing::new(vec![7; 32])).await.expect("create"));
    assert!(file.may_need_password());
    assert_eq!(file.describe().attributes, ["fixedtpm", "fixedparent", "userwithauth", "sign"], "guessing is counted");
    let with = |password: Option<Password>| tpm.load(KeySource::from(file.clone()).with_password(password));
    let mac = with(password("right")).hmac(b"input").await.expect("hmac");

    let none = with(None).hmac(b"input").await.expect_err("no password").to_string();
    assert!(none.starts_with("the key has a password, give it with --password-file or TPM_KEY_AUTH. "), "{none}");
    let wrong = with(password("wrong")).hmac(b"input").await.expect_err("a wrong one").to_string();
    assert!(wrong.starts_with("the password of the key is wrong. "), "{wrong}");
    assert!(none.contains(". 19 more wrong") && wrong.contains(". 18 more wrong"), "each try counts once: {none}; {wrong}");
    assert_eq!(*with(password("right")).hmac(b"input").await.expect("hmac"), *mac, "after wrong ones");

    let changed = with(password("right")).change_password(password("new")).await.expect("changed");
    let changed = written(&changed);
    assert_eq!(*tpm.load(KeySource::from(changed.clone()).with_password(password("new"))).hmac(b"input").await.expect("hmac"), *mac);
    let old = tpm.load(KeySource::from(changed.clone()).with_password(password("right"))).hmac(b"input").await;
    assert!(matches!(old, Err(TpmError::Auth { was_given: true, .. })), "{old:?}");
    let refused = with(password("wrong")).change_password(password("new")).await;
    assert!(matches!(refused, Err(TpmError::Auth { .. })), "{refused:?}");

    let open_one = tpm.load(KeySource::from(changed).with_password(password("new"))).change_password(None).await.expect("taken away");
    assert!(open_one.to_pem().is_ok());
    assert_eq!(*tpm.load(written(&open_one)).hmac(b"input").await.expect("hmac"), *mac, "without a password");
}

#[tokio::test]
async fn too_many_wrong_passwords_lock_and_what_has_none_goes_on() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    swtpm.tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=3", "--recovery-time=120", "--lockout-recovery-time=60"]);
    let new = |password| NewKey { password, ..NewKey::new(KeyKind::HmacSha256) };
    let guarded = tpm.create_hmac_key(new(password("right")), Zeroizing::new(vec![7; 32])).await.expect("create");
    let free = tpm.create_hmac_key(new(None), Zeroizing::new(vec![8; 32])).await.expect("create");
    let mut told = Vec::new();
    for _ in 0..4 {
        let key = tpm.load(KeySource::from(guarded.clone()).with_password(password("wrong")));
        told.push(key.hmac(b"input").await.expect_err("a wrong password").to_string());
    }
    assert!(told[0].contains(". 2 more wrong ones lock the TPM ["), "{told:?}");
    assert!(told[1].contains(". The next wrong one locks the TPM ["), "{told:?}");
    assert!(told[2].contains(". The TPM is locked now ["), "{told:?}");
    assert!(told[3].contains("locked out") && told[3].contains("one more try is possible after 120 s"), "{told:?}");
    let right = tpm.load(KeySource::from(guarded).with_password(password("right"))).hmac(b"input").await.expect_err("locked out");
    assert!(matches!(right, TpmError::Lockout { seconds: Some(120), .. }), "{right:?}");
    tpm.load(free).hmac(b"input").await.expect("a key without a password is no business of the lockout");
}

#[tokio::test]
async fn a_key_bound_to_registers_works_until_one_changes_which_is_named() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    for (bank, with_password) in [("sha256", false), ("sha256", true), ("sha1", true), ("sha384", false)] {
        let secret = password("right").filter(|_| with_password);
        let pcrs = format!("{bank}:0,16,23").parse().expect("registers");
        let new = NewKey { password: secret.clone(), policy: Some(pcrs), ..NewKey::new(KeyKind::HmacSha256) };
        let file = written(&tpm.create_hmac_key(new, Zeroizing::new(vec![7; 32])).await.unwrap_or_else(|e| panic!("{bank}: {e}")));
        assert!(!file.describe().attributes.contains(&"userwithauth"), "the password alone must not do");
        let key = tpm.load(KeySource::from(file.clone()).with_password(secret.clone()));
        let mac = key.hmac(b"input").await.unwrap_or_else(|e| panic!("{bank}, {with_password}: {e}"));
        assert_eq!(*key.hmac(b"input").await.expect("again"), *mac);
        if with_password {
            let wrong = tpm.load(KeySource::from(file.clone()).with_password(password("wrong"))).hmac(b"input").await;
            assert!(matches!(wrong, Err(TpmError::Auth { was_given: true, .. })), "{wrong:?}");
        }
        let stripped = tpm.load(KeySource::from(file.with_policy(Default::default())).with_password(secret)).hmac(b"input").await;
        assert!(matches!(stripped, Err(TpmError::Policy(_))), "without its policy: {stripped:?}");

        swtpm.tool(
            "tpm2_pcrextend",
            &[&format!(
                "16:{bank}={}",
                "ab".repeat(match bank {
                    "sha1" => 20,
                    "sha256" => 32,
                    _ => 48,
                })
            )],
        );
        let changed = key.hmac(b"input").await.expect_err("a register has changed").to_string();
        assert!(changed.contains(&format!("since it was made: {bank}:16. ")), "{changed}");
    }
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn registers_can_be_given_as_they_will_be() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    // What register 16 will be: SHA-256 of 32 zeros and what is extended.
    let extended = <sha2::Sha256 as sha2::Digest>::digest([[0; 32], [0xab; 32]].concat());
    let hex: String = extended.iter().map(|byte| format!("{byte:02x}")).collect();
    let new = NewKey { policy: Some(format!("sha256:16={hex}").parse().expect("registers")), ..NewKey::new(KeyKind::EccP256) };
    let key = tpm.load(tpm.create_key(new).await.expect("create"));
    let sign = || key.sign(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &[7; 32]);
    assert!(matches!(sign().await, Err(TpmError::PcrChanged(changed)) if changed == "sha256:16 (nothing is measured into it now)"));
    swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    sign().await.expect("the register is as it was said to be");
}

#[tokio::test]
async fn a_long_hmac_secret_is_hashed_as_rfc_2104_says() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    // RFC 4231, test case 6: a key of 131 bytes.
    let file = tpm.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(vec![0xaa; 131])).await.expect("create");
    let mac = tpm.load(file).hmac(b"Test Using Larger Than Block-Size Key - Hash Key First").await.expect("hmac");
    let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

#[tokio::test]
async fn whether_a_key_of_any_kind_has_a_password_is_found_out() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    for kind in KeyKind::ALL {
        for secret in [None, password("right")] {
            let new = NewKey { password: secret.clone(), ..NewKey::new(kind) };
            let made = match kind {
                KeyKind::HmacSha256 => tpm.create_hmac_key(new, Zeroizing::new(vec![7; 32])).await,
                _ => tpm.create_key(new).await,
            };
            swtpm.tool("tpm2_dictionarylockout", &["--clear-lockout"]);
            let works = tpm.load(made.expect("a key")).works_without_password(0).await;
            assert_eq!(works.as_ref().ok(), Some(&Some(secret.is_none())), "{kind}: {works:?}");
        }
    }
}
