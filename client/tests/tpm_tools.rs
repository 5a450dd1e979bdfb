//! `pcr`, `quote`, `ek`, `key certify` and `nitro attest`, next to tpm2-tools on the same TPM, both ways.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::nitro::nitro_tpm;
use common::{Bench, failed, succeeds, text};
use ekm_otp_attestation::Root;
use ekm_otp_attestation::nitro::{Document, Expected};
use ekm_otp_attestation::tpm::{AttestationKey, Evidence, QuoteExpected};
use serde_json::Value;

const NONCE: &str = "6e6f6e6365206f6620746865207465737473";
/// Documents are made for this time.
const AT: u64 = 1_770_000_000;

fn bench() -> Bench {
    Bench { swtpm: ekm_otp_swtpm::Swtpm::start() }
}

fn write(bench: &Bench, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(bench.path(name), bytes).expect("writing");
}

fn read(bench: &Bench, name: &str) -> Vec<u8> {
    fs::read(bench.path(name)).expect("reading")
}

fn create(bench: &Bench, kind: &str, name: &str) {
    succeeds(&bench.client(&["key", "create", "--kid", "test", "--kind", kind, "--out", name]));
}

/// A value as tpm2_pcrread tells it, in small letters.
fn told_by_tools(bench: &Bench, bank: &str, register: u8) -> String {
    let told = bench.swtpm.tool("tpm2_pcrread", &[&format!("{bank}:{register}")]);
    told.split("0x").nth(1).expect("a value").trim().to_lowercase()
}

#[test]
fn pcr_read_shows_what_tpm2_pcrread_shows() {
    let bench = bench();
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("7:sha256={}", "ab".repeat(32))]);
    let table = succeeds(&bench.client(&["pcr", "read", "sha256:7,16+sha1:0"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "sha1:");
    assert!(lines[1].starts_with(&format!("   0  {}  nothing measured; the firmware's code", "00".repeat(20))), "{table}");
    assert_eq!(lines[2], "sha256:");
    assert!(lines[3].starts_with(&format!("   7  {}  Secure Boot", told_by_tools(&bench, "sha256", 7))), "{table}");
    let json: Value = serde_json::from_str(&succeeds(&bench.client(&["pcr", "read", "--json"]))).expect("JSON");
    for bank in ["sha1", "sha256", "sha384", "sha512"] {
        assert_eq!(json["pcrs"][bank].as_object().expect("registers").len(), 24);
        assert_eq!(json["pcrs"][bank]["7"], told_by_tools(&bench, bank, 7), "{bank}");
    }
    let (code, told) = failed(&bench.client(&["pcr", "read", "md5:0"]));
    assert!(code == Some(64) && told.contains("\"md5\" is no bank"), "{code:?} {told}");
}

#[test]
fn pcr_extend_does_what_tpm2_pcrextend_and_tpm2_pcrevent_do() {
    let bench = bench();
    write(&bench, "event", "an event");
    bench.swtpm.tool("tpm2_pcrevent", &["16", "event"]);
    let told = succeeds(&bench.client(&["pcr", "extend", "23", "--file", "event"]));
    for bank in ["sha1", "sha256", "sha384", "sha512"] {
        let value = told_by_tools(&bench, bank, 23);
        assert_eq!(value, told_by_tools(&bench, bank, 16), "{bank}");
        assert!(told.contains(&format!("{bank}:23  {value}")), "{told}");
    }
    for digest in [format!("sha256={}", "ab".repeat(32)), "CD".repeat(20)] {
        succeeds(&bench.client(&["pcr", "extend", "16", "--digest", &digest]));
    }
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={},sha1={}", "ab".repeat(32), "cd".repeat(20))]);
    for bank in ["sha1", "sha256", "sha384"] {
        assert_eq!(told_by_tools(&bench, bank, 16), told_by_tools(&bench, bank, 23), "{bank}");
    }
    let (code, told) = failed(&bench.client(&["pcr", "extend", "17", "--file", "event"]));
    assert!(code == Some(77) && told.contains("17 cannot be extended"), "{code:?} {told}");
    for faulty in [
        &["--digest", "ab"][..],
        &["--digest", "sha1=abab"],
        &["--digest", "md5=ab"],
        &[],
        &["--digest", &"ab".repeat(20), "--digest", &"cd".repeat(20)],
    ] {
        assert_eq!(failed(&bench.client(&[&["pcr", "extend", "16"], faulty].concat())).0, Some(64), "{faulty:?}");
    }
    for register in ["24", "-1", "sha256:16"] {
        let (code, told) = failed(&bench.client(&["pcr", "reset", "--", register]));
        assert!(code == Some(64) && told.contains("from 0 to 23"), "{code:?} {told}");
    }
}

#[test]
fn pcr_reset_does_what_tpm2_pcrreset_does_and_says_which_registers_may_be() {
    let bench = bench();
    for register in ["16", "23"] {
        bench.swtpm.tool("tpm2_pcrextend", &[&format!("{register}:sha256={}", "ab".repeat(32))]);
        succeeds(&bench.client(&["pcr", "reset", register]));
        assert_eq!(told_by_tools(&bench, "sha256", register.parse().expect("a number")), "00".repeat(32));
    }
    let (code, told) = failed(&bench.client(&["pcr", "reset", "7"]));
    assert!(code == Some(77) && told.contains("7 cannot be reset") && told.contains("16, 23"), "{code:?} {told}");
    assert_eq!(failed(&bench.client(&["pcr", "reset", "24"])).0, Some(64));
}

/// Measures into the TPM what the second implementation's log says, as firmware would.
fn boot(bench: &Bench, log: &str, variants: &[&str]) {
    let script = common::cloud::testdata("attestation/event_log.py");
    let python = ekm_otp_swtpm::command("python3", "python3")
        .arg(script)
        .arg(log)
        .args(variants)
        .arg("events")
        .current_dir(bench.swtpm.dir())
        .output();
    let events = succeeds(&python.expect("python3"));
    bench.swtpm.tool("tpm2_pcrextend", &events.lines().collect::<Vec<_>>());
}

#[test]
fn pcr_diff_names_the_registers_that_changed_and_the_events_that_changed_them() {
    let mut bench = bench();
    boot(&bench, "good.log", &[]);
    let json = succeeds(&bench.client(&["pcr", "read", "--json"]));
    write(&bench, "good.json", &json);
    assert_eq!(succeeds(&bench.client(&["pcr", "diff", "good.json"])), "nothing changed\n");
    bench.swtpm.restart();
    boot(&bench, "now.log", &["insecure", "shim"]);
    let diff = ["pcr", "diff", "good.json", "--event-log", "now.log", "--saved-event-log", "good.log"];
    let output = bench.client(&diff);
    let (code, told) = failed(&output);
    assert!(code == Some(1) && told.contains("6 registers do not hold what they held"), "{code:?} {told}");
    let told = text(&output.stdout);
    let of = |register: &str| {
        let part = told.split(&format!("{register} changed: ")).nth(1).unwrap_or_else(|| panic!("{register} is not in {told}"));
        part.split("changed: ").next().expect("a part").to_owned()
    };
    assert!(
        of("sha256:7").contains("no longer: the variable \"SecureBoot\"")
            && of("sha256:7").contains("now:       the variable \"SecureBoot\"")
    );
    assert!(!of("sha256:7").contains("\"db\""), "what is the same in both is not told: {told}");
    assert!(of("sha384:4").contains("shimx64.efi") && !of("sha384:4").contains("grubx64.efi"), "{told}");
    for same in ["sha256:0 ", "sha1:1 ", "sha256:9 "] {
        assert!(!told.contains(same), "{told}");
    }
    // Whoever reads no further takes nothing from the verdict.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut unread = common::client();
    unread.args(diff).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).current_dir(bench.swtpm.dir()).stdout(writer);
    assert_eq!(unread.output().expect("the client").status.code(), Some(1));
    let (code, told) = failed(&bench.client(&["pcr", "diff", "good.json", "--event-log", "-"]));
    assert!(code == Some(64) && told.contains("standard input is not taken here"), "{code:?} {told}");
    // Without the log of then: what is measured now.
    let told = text(&bench.client(&diff[..5]).stdout);
    assert!(told.contains("measured now: the variable \"SecureBoot\""), "{told}");
}

#[test]
fn pcr_diff_tells_what_was_measured_since_and_what_the_log_does_not_explain() {
    let mut bench = bench();
    boot(&bench, "good.log", &[]);
    write(&bench, "good.json", succeeds(&bench.client(&["pcr", "read", "sha256:4,16", "--json"])));
    bench.swtpm.restart();
    boot(&bench, "now.log", &["later"]);
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    let told = text(&bench.client(&["pcr", "diff", "good.json", "--event-log", "now.log"]).stdout);
    assert!(told.contains(r#"measured since: the program "\\EFI\\tool.efi""#) && !told.contains("shimx64"), "{told}");
    assert!(told.contains("(nothing measured)") && told.contains("the log does not lead to this value"), "{told}");
    write(&bench, "now.log", &read(&bench, "now.log")[..200]);
    let (code, refused) = failed(&bench.client(&["pcr", "diff", "good.json", "--event-log", "now.log"]));
    assert!(code == Some(64) && refused.contains("cut off or damaged"), "{code:?} {refused}");
    write(&bench, "bad.json", "{\"pcrs\": {\"sha256\": {\"4\": \"ab\"}}}");
    let (code, refused) = failed(&bench.client(&["pcr", "diff", "bad.json"]));
    assert!(code == Some(64) && refused.contains("sha256:4 is not 32 bytes"), "{code:?} {refused}");
}

#[test]
fn quotes_are_believed_by_tpm2_checkquote_with_their_registers() {
    let bench = bench();
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    for (kind, name) in [("ak", "ecc.pem"), ("ak-rsa2048", "rsa.pem")] {
        create(&bench, kind, name);
        write(&bench, "ak.pub", succeeds(&bench.client(&["key", "public", "--key", name])));
        let files = ["--message-out", "message", "--signature-out", "signature", "--pcrs-out", "pcrs"];
        // More registers than one list of digests holds, and two banks.
        let quote = ["quote", "create", "--key", name, "--pcrs", "sha256:0-16+sha1:3", "--nonce", NONCE];
        succeeds(&bench.client(&[&quote[..], &files].concat()));
        let check = |nonce: &str| {
            let args = ["-u", "ak.pub", "-m", "message", "-s", "signature", "-f", "pcrs", "-g", "sha256", "-q", nonce];
            bench.swtpm.try_tool("tpm2_checkquote", &args).status.success()
        };
        assert!(check(NONCE), "{kind}");
        assert!(!check("00"), "{kind}: another nonce");
        let pcrs = read(&bench, "pcrs");
        write(&bench, "pcrs", pcrs.iter().map(|byte| if *byte == 0xab { 0xac } else { *byte }).collect::<Vec<_>>());
        for file in ["message", "signature", "pcrs"] {
            fs::remove_file(bench.path(file)).expect("removing");
        }
    }
}

#[test]
fn a_quote_in_one_file_is_verified_by_the_crate_that_knows_no_tpm() {
    let bench = bench();
    for (kind, name) in [("ak-rsa2048", "rsa.pem"), ("ak-p256", "ak.pem")] {
        create(&bench, kind, name);
        let quote = ["quote", "create", "--key", name, "--pcrs", "sha256:0,7", "--nonce", NONCE];
        let json = succeeds(&bench.client(&quote));
        let evidence = Evidence::from_json(json.as_bytes()).expect("evidence");
        let expected = QuoteExpected::by(AttestationKey::from_key(evidence.key.clone())).nonce(&evidence.nonce);
        let verified = evidence.quote.verify(&expected.values(evidence.values.clone())).expect("a proven quote");
        assert_eq!(verified.values().expect("values").iter().count(), 2);
        write(&bench, "quote.json", json);
        write(&bench, "ak.pub", succeeds(&bench.client(&["key", "public", "--key", name])));
        succeeds(&bench.client(&["quote", "verify", "--evidence", "quote.json", "--ak", "ak.pub", "--nonce", NONCE]));
    }
    create(&bench, "p256", "signs.pem");
    let (code, told) = failed(&bench.client(&["quote", "create", "--key", "signs.pem", "--pcrs", "sha256:0", "--nonce", NONCE]));
    assert!(code == Some(64) && told.contains("make an attestation key"), "{code:?} {told}");
    // A nonce is what it was meant to be.
    write(&bench, "empty", "");
    for (nonce, why) in [(&*"ab".repeat(65), "more than 64 bytes"), ("mynonce", "neither hexadecimal digits"), ("empty", "holds nothing")] {
        let (code, told) = failed(&bench.client(&["quote", "create", "--key", "ak.pem", "--pcrs", "sha256:0", "--nonce", nonce]));
        assert!(code == Some(64) && told.contains(why), "{code:?} {told}");
    }
}

#[test]
fn a_key_is_certified_and_tpm2_verifysignature_agrees() {
    let bench = bench();
    create(&bench, "ak", "ak.pem");
    create(&bench, "rsa2048", "object.pem");
    let outs = ["--message-out", "message", "--signature-out", "signature"];
    succeeds(&bench.client(&[&["key", "certify", "--object", "object.pem", "--key", "ak.pem", "--nonce", NONCE][..], &outs].concat()));
    write(&bench, "ak.pub", succeeds(&bench.client(&["key", "public", "--key", "ak.pem"])));
    bench.swtpm.tool("tpm2_loadexternal", &["-C", "n", "-G", "ecc", "-u", "ak.pub", "-c", "ak.ctx"]);
    bench.swtpm.tool("tpm2_verifysignature", &["-c", "ak.ctx", "-g", "sha256", "-m", "message", "-s", "signature"]);
}

#[test]
fn a_key_with_a_password_is_not_certified_and_no_wrong_password_is_counted() {
    let bench = bench();
    create(&bench, "ak", "ak.pem");
    common::write_private(&bench.path("pw"), "test password");
    succeeds(&bench.client(&["key", "create", "--kid", "o", "--kind", "p256", "--password-file", "pw", "--out", "object.pem"]));
    let flags = ["key", "certify", "--object", "object.pem", "--key", "ak.pem", "--nonce", NONCE];
    for password in [&[][..], &["--password-file", "pw"]] {
        let (code, told) =
            failed(&bench.client(&[&flags[..], &["--message-out", "message", "--signature-out", "signature"], password].concat()));
        assert!(code == Some(64) && told.contains("before it gets its password") && !told.contains("--password-file"), "{code:?} {told}");
    }
    let counted = bench.swtpm.tool("tpm2_getcap", &["properties-variable"]);
    assert!(counted.contains("TPM2_PT_LOCKOUT_COUNTER: 0x0\n"), "{counted}");
    assert!(!bench.path("message").exists() && !bench.path("signature").exists());
}

#[test]
fn the_endorsement_key_is_shown_as_tpm2_createek_makes_it_and_its_certificate_is_found() {
    let bench = bench();
    for algorithm in ["rsa", "ecc"] {
        let ours = succeeds(&bench.client(&["ek", "public", "--algorithm", algorithm, "--tpm2b-out", &format!("{algorithm}.pub")]));
        bench.swtpm.tool("tpm2_createek", &["-c", "ek.ctx", "-G", algorithm, "-u", "ek.pub"]);
        bench.swtpm.tool("tpm2_readpublic", &["-c", "ek.ctx", "-f", "pem", "-o", "ek.pem"]);
        bench.swtpm.tool("tpm2_flushcontext", &["-t"]);
        assert_eq!(ours.as_bytes(), read(&bench, "ek.pem"));
        assert_eq!(read(&bench, &format!("{algorithm}.pub")), read(&bench, "ek.pub"));
    }
    let (code, told) = failed(&bench.client(&["ek", "cert"]));
    assert!(code == Some(69) && told.contains("0x01c00002"), "{code:?} {told}");
    // The maker's certificate of the ECC key, and another's of an RSA key.
    bench.swtpm.tool(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "other.der",
            "-outform",
            "DER",
            "-subj",
            "/CN=maker",
        ],
    );
    bench.swtpm.tool(
        "openssl",
        &["x509", "-new", "-subj", "/CN=ek", "-force_pubkey", "ek.pem", "-signkey", "ca.key", "-outform", "DER", "-out", "own.der"],
    );
    for (index, file) in [("0x1c0000a", "own.der"), ("0x1c00002", "other.der")] {
        let size = read(&bench, file).len().to_string();
        bench.swtpm.tool("tpm2_nvdefine", &[index, "-C", "o", "-s", &size, "-a", "ownerread|ownerwrite|authread|no_da"]);
        bench.swtpm.tool("tpm2_nvwrite", &[index, "-C", "o", "-i", file]);
    }
    let output = bench.client(&["ek", "cert"]);
    let pem = succeeds(&output);
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);
    let told = text(&output.stderr);
    assert!(told.contains("0x01c0000a, ECC P-256 (L-2): of this TPM's endorsement key"), "{told}");
    assert!(told.contains("0x01c00002, RSA 2048 (L-1): of another key"), "{told}");
    write(&bench, "ours.pem", succeeds(&bench.client(&["ek", "cert", "--index", "0x01c0000a"])));
    bench.swtpm.tool("openssl", &["x509", "-in", "ours.pem", "-outform", "DER", "-out", "again.der"]);
    assert_eq!(read(&bench, "again.der"), read(&bench, "own.der"));
}

#[test]
fn a_credential_of_tpm2_makecredential_opens_for_its_key_alone() {
    let bench = bench();
    create(&bench, "ak", "ak.pem");
    create(&bench, "ak", "other.pem");
    write(&bench, "secret", "a secret of the tests");
    let shown = succeeds(&bench.client(&["key", "inspect", "ak.pem"]));
    let name = shown.lines().find_map(|line| line.strip_prefix("name:        ")).expect("a name");
    for algorithm in ["rsa", "ecc"] {
        let ek = format!("{algorithm}.pub");
        succeeds(&bench.client(&["ek", "public", "--algorithm", algorithm, "--tpm2b-out", &ek]));
        bench.swtpm.tool("tpm2_makecredential", &["-u", &ek, "-s", "secret", "-n", name, "-o", "credential"]);
        let opened = succeeds(&bench.client(&["ek", "activate", "--key", "ak.pem", "--credential", "credential"]));
        assert_eq!(opened, "a secret of the tests");
        let (code, told) = failed(&bench.client(&["ek", "activate", "--key", "other.pem", "--credential", "credential"]));
        assert!(code == Some(77) && told.contains("was not made for this key"), "{code:?} {told}");
    }
    // A key of tpm2_createak, under a persistent endorsement key, as in its manual.
    bench.swtpm.tool("tpm2_createek", &["-c", "0x81010001", "-G", "rsa", "-u", "kept.pub"]);
    bench.swtpm.tool("tpm2_makecredential", &["-u", "kept.pub", "-s", "secret", "-n", name, "-o", "credential"]);
    let opened = bench.client(&["ek", "activate", "--key", "ak.pem", "--credential", "credential", "--ek", "0x81010001"]);
    assert_eq!(succeeds(&opened), "a secret of the tests");
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
    write(&bench, "credential", &read(&bench, "credential")[..20]);
    assert_eq!(failed(&bench.client(&["ek", "activate", "--key", "ak.pem", "--credential", "credential"])).0, Some(64));
}

/// What Python's verifier has pinned.
fn root(folder: &Path) -> Root {
    let script = format!(
        "import sys; sys.path.insert(0, {:?}); import nitro; open('root.der', 'wb').write(nitro.make_pki({AT}).root)",
        common::cloud::testdata("attestation")
    );
    let python = std::process::Command::new(&*common::cloud::PYTHON).args(["-B", "-c", &script]).current_dir(folder).output();
    succeeds(&python.expect("Python"));
    Root::from_der(&fs::read(folder.join("root.der")).expect("the root")).expect("a root")
}

fn attest(bench: &Bench, fault: Option<&'static str>, more: &[&str]) -> Output {
    let nitro = nitro_tpm(&bench.swtpm, AT, fault);
    bench.client_with(
        &[&["nitro", "attest", "--public-key", "public.pem", "--user-data", "data", "--nonce", "nonce"][..], more].concat(),
        &nitro.tcti(),
    )
}

#[test]
fn nitro_attest_hands_out_a_document_that_carries_what_was_asked_for() {
    let bench = bench();
    bench.swtpm.tool("openssl", &["genpkey", "-algorithm", "RSA", "-out", "private.pem"]);
    bench.swtpm.tool("openssl", &["pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]);
    bench.swtpm.tool("openssl", &["pkey", "-in", "private.pem", "-pubout", "-outform", "DER", "-out", "public.der"]);
    write(&bench, "data", "some data");
    write(&bench, "nonce", "a nonce");
    let output = attest(&bench, None, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(AT);
    let document = Document::decode(&output.stdout).expect("a document");
    // KMS wants DER, so PEM becomes that.
    let expected =
        Expected::at(at).root(root(bench.swtpm.dir())).public_key(&read(&bench, "public.der")).user_data(b"some data").nonce(b"a nonce");
    document.verify(&expected).expect("a proven document");
    succeeds(&attest(&bench, None, &["--out", "document"]));
    assert_eq!(read(&bench, "document"), output.stdout);
    // As `nitro verify` takes it.
    let digits = bench.client_with(&["nitro", "attest", "--nonce", NONCE], &nitro_tpm(&bench.swtpm, AT, None).tcti());
    assert!(digits.status.success(), "{}", text(&digits.stderr));
    assert_eq!(Document::decode(&digits.stdout).expect("a document").nonce(), Some(&b"nonce of the tests"[..]));
    for fault in ["public_key", "user_data", "nonce"] {
        let output = attest(&bench, Some(fault), &[]);
        let (code, told) = failed(&output);
        assert!(code == Some(77) && told.contains("the attestation document contradict"), "{fault}: {code:?} {told}");
        assert!(output.stdout.is_empty(), "{fault}");
    }
    let (code, told) = failed(&attest(&bench, Some("refused"), &["--out", "refused"]));
    assert!(code == Some(1) && told.contains("the NitroTPM refuses: InvalidArgument"), "{code:?} {told}");
    assert_eq!(failed(&attest(&bench, Some("damaged"), &[])).0, Some(1));
    assert!(!bench.path("refused").exists());
    let (code, told) = failed(&bench.client(&["nitro", "attest"]));
    assert!(code == Some(69) && told.contains("makes no attestation documents"), "{code:?} {told}");
    assert_eq!(bench.swtpm.tool("tpm2_getcap", &["handles-nv-index"]), "");
    write(&bench, "nonce", [7; 1025]);
    let (code, told) = failed(&attest(&bench, None, &[]));
    assert!(code == Some(64) && told.contains("nonce has more than 1024 bytes"), "{code:?} {told}");
}

#[test]
fn the_values_of_registers_are_what_tpm2_createpolicy_takes_and_quote_verify_believes_a_quote() {
    let bench = bench();
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("7:sha256={}", "ab".repeat(32))]);
    succeeds(&bench.client(&["pcr", "read", "sha256:0,1,2,7", "--values-out", "ours.bin"]));
    bench.swtpm.tool("tpm2_pcrread", &["-o", "theirs.bin", "sha256:0,1,2,7"]);
    assert_eq!(read(&bench, "ours.bin"), read(&bench, "theirs.bin"));
    let policy = |file: &str| bench.swtpm.tool("tpm2_createpolicy", &["--policy-pcr", "-l", "sha256:0,1,2,7", "-f", file, "-L", "policy"]);
    assert_eq!(policy("ours.bin"), policy("theirs.bin"));
    for (kind, key) in [("ak", "ecc.pem"), ("ak-rsa2048", "rsa.pem")] {
        create(&bench, kind, key);
        write(&bench, "ak.pub", succeeds(&bench.client(&["key", "public", "--key", key])));
        let quote = ["quote", "create", "--key", key, "--pcrs", "sha256:0,1,2,7", "--nonce", NONCE];
        succeeds(&bench.client(&[&quote[..], &["--message-out", "m", "--signature-out", "s", "--pcrs-out", "p"]].concat()));
        let verify = |nonce: &str| {
            bench.client(&["quote", "verify", "--message", "m", "--signature", "s", "--values", "p", "--ak", "ak.pub", "--nonce", nonce])
        };
        succeeds(&verify(NONCE));
        assert_eq!(failed(&verify("00")).0, Some(77), "{kind}");
        for file in ["m", "s", "p"] {
            fs::remove_file(bench.path(file)).expect("removing");
        }
    }
}

#[test]
fn a_primary_is_kept_as_tpm2_evictcontrol_keeps_it_and_keys_lie_under_it() {
    let bench = bench();
    succeeds(&bench.client(&["key", "persist", "--primary", "rsa", "--handle", "0x81000002"]));
    bench.swtpm.tool("tpm2_createprimary", &["-C", "o", "-g", "sha256", "-G", "rsa", "-c", "primary.ctx"]);
    bench.swtpm.tool("tpm2_readpublic", &["-c", "primary.ctx", "-f", "pem", "-o", "theirs.pem"]);
    bench.swtpm.tool("tpm2_flushcontext", &["-t"]);
    let ours = succeeds(&bench.client(&["key", "public", "--key", "handle:0x81000002"]));
    assert_eq!(ours.as_bytes(), read(&bench, "theirs.pem"));
    assert!(succeeds(&bench.client(&["key", "list"])).contains("0x81000002"));
    succeeds(&bench.client(&["key", "create", "--kid", "test", "--kind", "rsa2048", "--parent", "0x81000002", "--out", "under.pem"]));
    write(&bench, "message", "hello TPM\n");
    let signed = common::run(&bench, &[], "hello TPM\n", &["key", "sign", "--key", "under.pem", "--scheme", "rsapss"]);
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    write(&bench, "signature", &signed.stdout);
    write(&bench, "under.pub", succeeds(&bench.client(&["key", "public", "--key", "under.pem"])));
    let verify = ["dgst", "-sha256", "-verify", "under.pub", "-signature", "signature", "-sigopt", "rsa_padding_mode:pss", "message"];
    assert!(bench.swtpm.tool("openssl", &verify).contains("Verified OK"));
    let (code, told) = failed(&bench.client(&["key", "persist", "--primary", "h2", "--handle", "0x81000002"]));
    assert!(code == Some(64) && told.contains("is taken"), "{code:?} {told}");
    succeeds(&bench.client(&["key", "evict", "0x81000002"]));
    assert_eq!(bench.swtpm.tool("tpm2_getcap", &["handles-persistent"]), "");
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}
