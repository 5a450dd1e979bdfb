//! `cms encrypt`, `cms decrypt`, next to OpenSSL. All keys and secrets are test data.

mod common;

use std::fs;
use std::process::{Command, Output};

use common::{Bench, failed, run, succeeds, text};

const PLAINTEXT: &str = "open\nsesame\n";

fn shell(bench: &Bench, script: &str) -> Output {
    let made = Command::new("bash").args(["-euc", &format!("umask 077; {script}")]).current_dir(bench.swtpm.dir()).output().expect("bash");
    assert!(made.status.success(), "{script}: {}", text(&made.stderr));
    made
}

/// A private key in `mine.key`, its public key and a certificate; a key in the TPM in `tpm.pem`, its public key; a secret in `plain`.
fn bench() -> Bench {
    let bench = Bench::new();
    shell(
        &bench,
        "openssl genrsa -out mine.key 2048; openssl rsa -in mine.key -pubout -out mine.pub; openssl rsa -in mine.key -outform DER -out mine.der; \
         openssl rsa -traditional -in mine.key -out mine1.key; openssl req -x509 -key mine.key -subj /CN=mine -out mine.crt",
    );
    succeeds(&bench.client(&["key", "create", "--kid", "r", "--kind", "rsa2048-decrypt", "--out", "tpm.pem"]));
    fs::write(bench.path("tpm.pub"), succeeds(&bench.client(&["key", "public", "--key", "tpm.pem"]))).expect("writing");
    common::write_private(&bench.path("plain"), PLAINTEXT);
    bench
}

/// How OpenSSL makes what KMS makes.
const ENCRYPT: &str = "openssl cms -encrypt -binary -aes-256-cbc -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha256 -in plain";

#[test]
fn what_openssl_encrypts_is_opened_in_every_form_by_every_kind_of_key() {
    let bench = bench();
    // A certificate of the key in the TPM, for OpenSSL.
    shell(
        &bench,
        "openssl req -new -key mine.key -subj /CN=tpm -out tpm.csr; echo subjectKeyIdentifier=hash > extensions; \
         openssl x509 -req -in tpm.csr -force_pubkey tpm.pub -CA mine.crt -CAkey mine.key -CAcreateserial -extfile extensions -out tpm.crt",
    );
    for (form, flags) in
        [("der", "-outform DER"), ("ber", "-outform DER -stream -keyid"), ("pem", "-outform PEM"), ("base64", "-outform DER")]
    {
        for (recipient, keys) in [("mine.crt", &["mine.key", "mine1.key", "mine.der"][..]), ("tpm.crt", &["tpm.pem"])] {
            let wrap = if form == "base64" { "| base64" } else { "" };
            // Options of a recipient stand behind it.
            let (options, rest) = ENCRYPT.split_at(ENCRYPT.find("-keyopt").expect("options"));
            let (keyopt, input) = rest.split_at(rest.find("-in").expect("an input"));
            shell(&bench, &format!("{options} {flags} -recip {recipient} {keyopt} {input} {wrap} > secret.cms"));
            for key in keys {
                let made = bench.client(&["cms", "decrypt", "--inkey", key, "--in", "secret.cms"]);
                assert_eq!(succeeds(&made), PLAINTEXT, "{form} {key}");
            }
        }
    }
    // From standard input, into a program.
    shell(&bench, "base64 secret.cms > again; cp again secret.base64");
    let message = fs::read_to_string(bench.path("secret.cms")).expect("base64");
    let made = run(
        &bench,
        &[],
        &message,
        &["cms", "decrypt", "--inkey", "tpm.pem", "--exec", "sh", "-c", "printf %s \"$EKM_OTP_SECRET\"; exit 5"],
    );
    assert_eq!((made.status.code(), text(&made.stdout).as_str()), (Some(5), PLAINTEXT), "{}", text(&made.stderr));
    let left = ["handles-transient", "handles-loaded-session"].map(|kind| bench.swtpm.tool("tpm2_getcap", &[kind]));
    assert_eq!(left, ["", ""]);
}

#[test]
fn what_is_encrypted_here_is_opened_by_openssl_and_by_the_tpm() {
    let bench = bench();
    for recipient in ["mine.crt", "mine.pub"] {
        let made = run(&bench, &[], PLAINTEXT, &["cms", "encrypt", "--recip", recipient]);
        succeeds(&made);
        fs::write(bench.path("secret.cms"), &made.stdout).expect("writing");
        assert_eq!(text(&shell(&bench, "openssl cms -decrypt -inform DER -in secret.cms -inkey mine.key").stdout), PLAINTEXT);
    }
    succeeds(&bench.client(&["cms", "encrypt", "--recip", "tpm.pub", "--in", "plain", "--out", "for-tpm.cms"]));
    assert_eq!(succeeds(&bench.client(&["cms", "decrypt", "--inkey", "tpm.pem", "--in", "for-tpm.cms"])), PLAINTEXT);
    // Nothing, and as much as is taken.
    for length in [0, 1024 * 1024 - 4096] {
        common::write_private(&bench.path("plain"), &"x".repeat(length));
        let made = bench.client(&["cms", "encrypt", "--recip", "mine.pub", "--in", "plain", "--base64"]);
        let opened = run(&bench, &[], &succeeds(&made), &["cms", "decrypt", "--inkey", "mine.key"]);
        assert_eq!(succeeds(&opened).len(), length);
    }
    assert!(
        failed(&bench.client(&["cms", "encrypt", "--recip", "mine.pub", "--in", "plain", "--out", "for-tpm.cms"]))
            .1
            .contains("exists already")
    );
}

#[test]
fn a_signal_is_heard_while_nobody_reads_the_plaintext() {
    let bench = bench();
    common::write_private(&bench.path("plain"), &"x".repeat(1024 * 1024 - 4096));
    succeeds(&bench.client(&["cms", "encrypt", "--recip", "mine.pub", "--in", "plain", "--out", "secret.cms"]));
    // A pipe that is full, and stays so.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut decrypt = common::client();
    decrypt.args(["cms", "decrypt", "--inkey", "mine.key", "--in", "secret.cms"]).current_dir(bench.swtpm.dir()).stdout(writer);
    let mut running = decrypt.spawn().expect("the client");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(running.try_wait().expect("its state"), None, "it waits");
    assert!(Command::new("kill").args(["-TERM", &running.id().to_string()]).status().expect("kill").success());
    assert_eq!(running.wait().expect("its end").code(), Some(143));
    drop(reader);
}

#[test]
fn what_cannot_be_opened_is_told_with_what_to_do() {
    let bench = bench();
    succeeds(&bench.client(&["cms", "encrypt", "--recip", "mine.pub", "--in", "plain", "--out", "secret.cms"]));
    shell(
        &bench,
        "openssl genrsa -out other.key 2048; openssl ecparam -genkey -name prime256v1 -out ec.key; cp mine.key open.key; chmod 644 open.key mine.pub mine.crt",
    );
    // OpenSSL's own defaults: RSA as of old, and AES in another mode.
    shell(&bench, "openssl cms -encrypt -binary -outform DER -aes-256-cbc -in plain mine.crt > old.cms; echo words > words; : > empty");
    shell(&bench, "head -c 3000000 /dev/zero > long");
    let decrypt = |key: &str, message: &str| failed(&bench.client(&["cms", "decrypt", "--inkey", key, "--in", message]));
    for (key, message, code, word) in [
        ("other.key", "secret.cms", 77, "another key, or damaged"),
        ("tpm.pem", "secret.cms", 77, ""),
        ("mine.key", "old.cms", 64, "RSAES-OAEP"),
        ("mine.key", "words", 64, "no CMS message"),
        ("mine.key", "empty", 64, "no CMS message"),
        ("mine.key", "long", 64, "more than"),
        ("mine.key", "none", 69, "cannot open none"),
        ("ec.key", "secret.cms", 64, "no private RSA key"),
        ("mine.pub", "secret.cms", 64, "it is a public key or a certificate"),
        ("mine.crt", "secret.cms", 64, "it is a public key or a certificate"),
        ("open.key", "secret.cms", 77, "others can read"),
        ("none", "secret.cms", 69, "cannot open none"),
        ("-", "-", 64, "standard input has the message"),
    ] {
        let (told_code, told) = decrypt(key, message);
        assert!(told_code == Some(code) && told.contains(word) && !told.contains("sesame"), "{key} {message}: {told_code:?} {told}");
    }
    // A key that signs does not decrypt.
    succeeds(&bench.client(&["key", "create", "--kid", "s", "--kind", "rsa2048", "--out", "signs.pem"]));
    let (code, told) = decrypt("signs.pem", "secret.cms");
    assert!(code == Some(64) && told.contains("--kind rsa2048-decrypt"), "{told}");
    // A device is the system's: no advice to change it.
    let (code, told) = decrypt("/dev/null", "secret.cms");
    assert!(code == Some(77) && !told.contains("chmod"), "{told}");
}

#[test]
fn who_encrypts_is_told_which_file_is_wanted_and_need_not_hide_what_is_public() {
    let bench = bench();
    shell(&bench, "openssl ecparam -genkey -name prime256v1 | openssl ec -pubout -out ec.pub; chmod 644 plain");
    for (recipient, code, word) in [
        ("tpm.pem", 64, "key public"),
        ("mine.key", 64, "openssl pkey -pubout"),
        ("mine1.key", 64, "openssl pkey -pubout"),
        ("ec.pub", 64, "neither a certificate nor a public key"),
        ("none", 69, "cannot open none"),
        ("-", 64, "--recip standard input"),
    ] {
        let (told_code, told) = failed(&bench.client(&["cms", "encrypt", "--recip", recipient, "--in", "plain", "--base64"]));
        assert!(told_code == Some(code) && told.contains(word), "{recipient}: {told_code:?} {told}");
    }
    let (code, told) = failed(&bench.client(&["cms", "encrypt", "--recip", "-", "--base64"]));
    assert!(code == Some(64) && told.contains("standard input has the secret"), "{told}");
    // As `openssl cms -encrypt` takes it, whoever can read it.
    let public = fs::read_to_string(bench.path("mine.pub")).expect("a public key");
    let made = run(&bench, &[], &public, &["cms", "encrypt", "--recip", "-", "--in", "plain", "--base64"]);
    assert_eq!(succeeds(&run(&bench, &[], &succeeds(&made), &["cms", "decrypt", "--inkey", "mine.key"])), PLAINTEXT);
}
