//! Secrets that KMS gives to one machine in one state: a NitroTPM that is none (a software TPM, and documents that Python makes), and a KMS of our own that verifies them. All names,
//! keys and secrets are test data.

#![cfg(feature = "cloud")]

mod common;

use std::fs;
use std::process::{Command, Output, Stdio};

use common::cloud::{control, failed, python};
use common::kms::{DECRYPT, ID, PLAINTEXT, SECRET, output, user};
use common::machine::{Machine, nsm, register};
use common::{Bench, succeeds, text};

#[test]
fn from_the_ciphertext_to_the_program_is_one_command() {
    for message in [&[][..], &["--der"]] {
        let machine = Machine::right(message);
        let nitro = machine.nitro(&[]);
        for key in [&[][..], &["--recipient-key", "memory"], &["--recipient-key", "tpm"]] {
            let exec = ["--exec", "sh", "-c", "printf %s \"$EKM_OTP_SECRET\"; exit 3"];
            let mut decrypt = machine.decrypt(&nitro.tcti(), &[&["--recipient"], key, &exec].concat());
            let made = output(decrypt.env("RUST_LOG", "trace").env("TSS2_LOG", "all+trace"));
            assert_eq!((made.status.code(), text(&made.stdout).as_str()), (Some(3), PLAINTEXT), "{}", text(&made.stderr));
            assert_eq!(text(&made.stderr), "", "nothing else is told");
            machine.is_clean();
        }
        let told = machine.kms.told();
        assert!(told.len() == 3 && told.iter().all(|call| call.contains("\"RSAES_OAEP_SHA_256\"")), "{told:?}");
    }
}

#[test]
fn the_tpm_signs_the_request_and_opens_the_answer() {
    let machine = Machine::right(&[]);
    let (bench, nitro) = (&machine.bench, machine.nitro(&[]));
    common::write_private(&bench.path("key.secret"), SECRET);
    succeeds(&bench.client(&["key", "import", "--kid", ID, "--aws-secret-file", "key.secret", "--out", "aws.pem"]));
    let mut decrypt = machine.decrypt(&nitro.tcti(), &["--recipient", "--aws-access-key-id", ID, "--key", "aws.pem"]);
    assert_eq!(succeeds(&output(decrypt.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY"))), PLAINTEXT);
    machine.is_clean();
}

#[test]
fn a_machine_in_another_state_gets_nothing_and_is_told_its_own() {
    let machine = Machine::new(&[(4, &register(4)), (7, &"0".repeat(96))], &[]);
    let nitro = machine.nitro(&[]);
    let (code, told) = failed(&output(&mut machine.decrypt(&nitro.tcti(), &["--recipient"])));
    assert!(code == Some(77) && told.contains("AccessDeniedException") && told.contains("`nitro show`"), "{told}");
    assert!(told.contains(&format!("PCR4 {}, PCR7 {}, PCR12 ", register(4), register(7))), "{told}");
    machine.is_clean();
    // Nor does somebody with the role alone.
    let (code, told) = failed(&output(&mut machine.decrypt(&nitro.tcti(), &[])));
    assert!(code == Some(77) && told.contains("--recipient"), "{told}");
}

#[test]
fn a_document_for_another_key_is_not_sent() {
    let machine = Machine::right(&[]);
    openssl(&machine.bench, "openssl genrsa -out other.key 2048; openssl rsa -in other.key -pubout -outform DER -out other.der");
    let nitro = machine.nitro(&["--public-key", "FOLDER/other.der"]);
    for key in ["tpm", "memory"] {
        let (code, told) = failed(&output(&mut machine.decrypt(&nitro.tcti(), &["--recipient", "--recipient-key", key])));
        assert!(code == Some(77) && told.contains("the attestation document contradict"), "{told}");
    }
    assert!(machine.kms.told().is_empty());
    machine.is_clean();
}

#[test]
fn a_tpm_that_attests_nothing_is_told() {
    let machine = Machine::right(&[]);
    let (code, told) = failed(&output(&mut machine.decrypt(&machine.bench.swtpm.tcti(), &["--recipient"])));
    assert!(code == Some(69) && told.contains("NitroTPM"), "{told}");
    let refusing = machine.nitro(&["--error", "InvalidOperation"]);
    let (_, told) = failed(&output(&mut machine.decrypt(&refusing.tcti(), &["--recipient"])));
    assert!(told.contains("InvalidOperation"), "{told}");
    assert!(machine.kms.told().is_empty());
    machine.is_clean();
}

#[test]
fn an_answer_that_is_not_for_this_key_shows_nothing() {
    for (tamper, code, word) in [
        ("message", 77, "cannot be opened"),
        ("plaintext", 1, "it sent the plaintext as it is"),
        ("nothing", 1, "something else than a message for the recipient"),
        ("key", 77, "IncorrectKey"),
    ] {
        // In DER the content's last byte is the message's last.
        let machine = Machine::right(&["--tamper", tamper, "--der"]);
        let nitro = machine.nitro(&[]);
        let mut decrypt = machine.decrypt(&nitro.tcti(), &["--recipient"]);
        if tamper == "key" {
            decrypt = user(&machine.bench, &machine.kms);
            decrypt.args(DECRYPT).args(["--recipient", "--key-id", "11111111-1111-1111-1111-111111111111"]);
            decrypt.env("TPM2TOOLS_TCTI", nitro.tcti());
        }
        let (told_code, told) = failed(&output(&mut decrypt));
        let (code, word) = if tamper == "key" { (1, "it has used") } else { (code, word) };
        assert!(told_code == Some(code) && told.contains(word) && !told.contains(PLAINTEXT), "{tamper}: {told}");
        machine.is_clean();
    }
}

#[test]
fn a_signal_while_kms_is_asked_leaves_neither_key_nor_index() {
    let machine = Machine::right(&[]);
    let nitro = machine.nitro(&[]);
    control(&machine.kms, r#"{"delay": 20}"#);
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let mut running = machine.decrypt(&nitro.tcti(), &["--recipient"]).stdout(Stdio::piped()).spawn().expect("the client");
        while machine.bench.swtpm.tool("tpm2_getcap", &["handles-transient"]).is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert!(Command::new("kill").args([&format!("-{signal}"), &running.id().to_string()]).status().expect("kill").success());
        assert_eq!(running.wait().expect("its end").code(), code);
        if code.is_some() {
            machine.is_clean();
        }
    }
    // What a killed one left is taken away by the next.
    control(&machine.kms, r#"{"delay": 0}"#);
    assert_eq!(succeeds(&output(&mut machine.decrypt(&nitro.tcti(), &["--recipient"]))), PLAINTEXT);
    machine.is_clean();
}

fn openssl(bench: &Bench, script: &str) -> Output {
    let made = Command::new("bash").args(["-euc", &format!("umask 077; {script}")]).current_dir(bench.swtpm.dir()).output().expect("bash");
    assert!(made.status.success(), "{script}: {}", text(&made.stderr));
    made
}

#[test]
fn the_steps_are_there_one_by_one_and_each_goes_with_openssl_or_boto3() {
    let machine = Machine::right(&[]);
    let bench = &machine.bench;
    openssl(bench, "openssl genrsa -out mine.key 2048; openssl rsa -in mine.key -pubout -outform DER -out mine.der");
    let document = nsm(&machine.at, &["document", bench.path("mine.der").to_str().expect("UTF-8")], b"");
    fs::write(bench.path("document"), &document).expect("writing");
    openssl(bench, "base64 document > document.base64");
    let decrypt = |flags: &[&str]| output(&mut machine.decrypt(&bench.swtpm.tcti(), flags));
    // The message, for OpenSSL and for ours.
    for file in ["document", "document.base64"] {
        let made = decrypt(&["--attestation-document", file]);
        succeeds(&made);
        fs::write(bench.path("ours.cms"), &made.stdout).expect("writing");
        assert_eq!(text(&openssl(bench, "openssl cms -decrypt -inkey mine.key -inform DER -in ours.cms").stdout), PLAINTEXT);
        assert_eq!(succeeds(&bench.client(&["cms", "decrypt", "--inkey", "mine.key", "--in", "ours.cms"])), PLAINTEXT);
    }
    assert_eq!(succeeds(&decrypt(&["--attestation-document", "document", "--inkey", "mine.key"])), PLAINTEXT);
    // boto3's message.
    let code = "
import base64, boto3, sys
kms = boto3.client('kms', 'eu-west-1', endpoint_url=sys.argv[1], aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3])
recipient = {'KeyEncryptionAlgorithm': 'RSAES_OAEP_SHA_256', 'AttestationDocument': open('document', 'rb').read()}
made = kms.decrypt(CiphertextBlob=open('secret.kms', 'rb').read(), EncryptionContext={'app': 'web'}, Recipient=recipient)
assert not made.get('Plaintext')
open('theirs.cms', 'wb').write(base64.b64encode(made['CiphertextForRecipient']))
";
    let made = python(code, &[&machine.kms.url("http"), ID, SECRET], &[], bench.swtpm.dir());
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(succeeds(&bench.client(&["cms", "decrypt", "--inkey", "mine.key", "--in", "theirs.cms"])), PLAINTEXT);
    // With a key that never leaves the TPM.
    succeeds(&bench.client(&["key", "create", "--kid", "r", "--kind", "rsa2048-decrypt", "--out", "tpm.pem"]));
    let public = bench.client(&["key", "public", "--key", "tpm.pem"]);
    fs::write(bench.path("tpm.pub"), succeeds(&public)).expect("writing");
    openssl(bench, "openssl pkey -pubin -in tpm.pub -outform DER -out tpm.der");
    let document = nsm(&machine.at, &["document", bench.path("tpm.der").to_str().expect("UTF-8")], b"");
    fs::write(bench.path("document"), &document).expect("writing");
    assert_eq!(succeeds(&decrypt(&["--attestation-document", "document", "--inkey", "tpm.pem"])), PLAINTEXT);
    let (code, told) = failed(&decrypt(&["--attestation-document", "document", "--inkey", "mine.key"]));
    assert!(code == Some(77) && told.contains("another key"), "{told}");
    // What makes no sense together.
    for flags in [
        &["--attestation-document", "document", "--exec", "true"][..],
        &["--attestation-document", "document", "--recipient"],
        &["--inkey", "mine.key"],
    ] {
        assert_eq!(decrypt(flags).status.code(), Some(64), "{flags:?}");
    }
    machine.is_clean();
}

#[test]
fn a_document_that_proves_nothing_is_refused_by_kms_and_the_reason_told() {
    let machine = Machine::right(&[]);
    let bench = &machine.bench;
    openssl(bench, "openssl genrsa -out mine.key 2048; openssl rsa -in mine.key -pubout -outform DER -out mine.der");
    let public = bench.path("mine.der");
    let public = public.to_str().expect("UTF-8");
    let mut forged = nsm(&machine.at, &["document", public], b"");
    *forged.last_mut().expect("a byte") ^= 1;
    for (document, word) in [(forged, "signature"), (nsm(&machine.at, &["document", public, "600"], b""), "too old")] {
        fs::write(bench.path("document"), document).expect("writing");
        let (code, told) =
            failed(&output(&mut machine.decrypt(&bench.swtpm.tcti(), &["--attestation-document", "document", "--inkey", "mine.key"])));
        assert!(code == Some(77) && told.contains(word) && told.contains("make a new one"), "{told}");
    }
}
