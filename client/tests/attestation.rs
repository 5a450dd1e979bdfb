//! `nitro show`, `verify`, `kms-policy`, `image-pcrs` and `quote verify`: verdicts, exit codes, and the forms that files come in. No TPM is asked.

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::cloud::{PYTHON, testdata};
use common::text;
use ekm_otp_swtpm::Swtpm;
use serde_json::Value;
use tempfile::TempDir;

const AT: [&str; 2] = ["--at", "2026-02-03T10:12:02Z"];

/// A folder with the genuine document, and what belongs to it.
struct Room {
    folder: TempDir,
    file: Value,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file: Value =
            serde_json::from_slice(&std::fs::read(testdata("attestation/nitrotpm-document.json")).expect("it")).expect("JSON");
        let room = Self { folder, file };
        room.write("document.hex", room.document_hex().as_bytes());
        room.write("document", &unhex(room.document_hex()));
        room
    }

    fn document_hex(&self) -> &str {
        self.file["attestation"]["nitro"]["document"].as_str().expect("a document")
    }

    fn register(&self, number: u8) -> &str {
        self.file["pcrs"]["sha384"][number.to_string()].as_str().expect("a register")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path().join(name), bytes).expect("writing");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).expect(name)
    }

    fn run_with(&self, input: &[u8], args: &[&str]) -> Output {
        let mut child = common::client();
        let child = child.args(args).current_dir(self.path()).env_remove("TPM2TOOLS_TCTI");
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client");
        // It may have ended without a look at it.
        let _ = child.stdin.take().expect("its input").write_all(input);
        child.wait_with_output().expect("its output")
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(&[], args)
    }

    fn proven(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Exit code 77, nothing on standard output, and this on standard error.
    fn not_proven(&self, args: &[&str], told: &str) {
        let output = self.run(args);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(77), ""), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(told), "{args:?}: {}", text(&output.stderr));
    }

    fn wrong_usage(&self, args: &[&str], told: &str) {
        let output = self.run(args);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(64), ""), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(told), "{args:?}: {}", text(&output.stderr));
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("digits")).collect()
}

fn openssl(room: &Room, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(room.path()).output().expect("openssl");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_document_is_recognised_as_it_is_in_base64_and_in_hexadecimal_digits() {
    let room = Room::new();
    openssl(&room, &["base64", "-in", "document", "-out", "document.b64"]);
    openssl(&room, &["base64", "-A", "-in", "document", "-out", "document.b64line"]);
    let shown = room.proven(&["nitro", "show", "--json", "document"]);
    for name in ["document.hex", "document.b64", "document.b64line"] {
        assert_eq!(room.proven(&["nitro", "show", "--json", name]), shown, "{name}");
        for path in [&["-"][..], &[]] {
            let from_stdin = room.run_with(&room.read(name), &[&["nitro", "show", "--json"], path].concat());
            assert_eq!(text(&from_stdin.stdout), shown, "{name} on standard input");
        }
        room.proven(&[&["nitro", "verify", name], &AT[..]].concat());
    }
    let shown = json(&shown);
    assert_eq!(shown["nitrotpm_pcrs"], room.file["pcrs"]["sha384"]);
    assert_eq!(shown["module_id"], "i-01cfb383223e42522-tpm0000000000000000");
    assert!(shown.get("verified").is_none(), "it is shown, and not verified");
    let table = room.proven(&["nitro", "show", "document"]);
    assert!(table.contains(&format!("PCR4         {}\n", room.register(4))), "{table}");
    assert!(table.contains("made         2026-02-03T10:12:02Z"), "{table}");
}

#[test]
fn a_genuine_document_is_proven_at_its_time_and_at_no_other() {
    let room = Room::new();
    for at in ["1770113522", "2026-02-03T10:12:02Z"] {
        let told = room.proven(&["nitro", "verify", "document", "--at", at]);
        assert!(told.starts_with("the document is proven by AWS's root\n"), "{told}");
    }
    let pcr = |number| format!("{number}={}", room.register(number));
    let args = ["nitro", "verify", "document", "--json", "--pcr", &pcr(4), "--pcr", &pcr(7), "--kind", "tpm"];
    let told = json(&room.proven(&[&args[..], &AT].concat()));
    assert_eq!(told["verified"]["kind"], "NitroTPM");
    assert_eq!(told["verified"]["root"], "AWS's root");
    room.not_proven(&["nitro", "verify", "document"], "was valid until");
    room.not_proven(&["nitro", "verify", "document", "--at", "0"], "valid only from");
    room.wrong_usage(&["nitro", "verify", "document", "--at", "tomorrow"], "not a moment");
}

#[test]
fn whatever_is_not_as_expected_is_named_and_exits_with_77() {
    let room = Room::new();
    room.write("other", b"other");
    let zeros = "0".repeat(96);
    for (args, told) in [
        (&["--nonce", "00"][..], "its nonce"),
        (&["--nonce", "other"], "its nonce"),
        (&["--user-data", "other"], "its user data"),
        (&["--public-key", "other"], "its public key"),
        (&["--pcr", &format!("4={zeros}")], "register 4 has another value"),
        (&["--pcr", &format!("PCR30={zeros}")], "register 30 is not in the document"),
        (&["--module-id", "i-0"], "it is of the module"),
        (&["--kind", "enclave"], "registers of a NitroTPM"),
        (&["--max-age", "1s", "--at", "1770114000"], "s old"),
    ] {
        let at = if args.contains(&"--at") { &[][..] } else { &AT };
        room.not_proven(&[&["nitro", "verify", "document"], args, at].concat(), told);
    }
    let mut changed = room.read("document");
    let last = changed.len() - 1;
    changed[last] ^= 1;
    room.write("changed", &changed);
    room.not_proven(&[&["nitro", "verify", "changed"], &AT[..]].concat(), "its signature is wrong");
    openssl(&room, &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "root.pem", "-subj", "/CN=x", "-days", "1"]);
    room.not_proven(&[&["nitro", "verify", "document", "--root", "root.pem"], &AT[..]].concat(), "does not come from the root");
    room.wrong_usage(&["nitro", "verify", "document", "--pcr", "4=00"], "SHA-384 has 96");
    room.wrong_usage(&["nitro", "verify", "document", "--pcr", "32=00"], "NUMBER=HEX");
    room.wrong_usage(&["nitro", "verify", "other"], "not an attestation document");
    room.wrong_usage(&["nitro", "verify", "-", "--user-data", "-"], "one thing only");
    let missing = room.run(&["nitro", "verify", "missing"]);
    assert_eq!(missing.status.code(), Some(69));
}

#[test]
fn a_document_is_in_one_of_the_states_that_are_allowed() {
    let room = Room::new();
    let (four, seven, zeros) = (room.register(4), room.register(7), "0".repeat(96));
    room.write(
        "states.json",
        format!(r#"{{"old": {{"4": "{zeros}"}}, "release 41": {{"PCR4": "{four}", "PCR7": "{seven}"}}}}"#).as_bytes(),
    );
    let args = [&["nitro", "verify", "document", "--states", "states.json"][..], &AT].concat();
    assert!(room.proven(&args).contains("state        release 41\n"));
    assert_eq!(json(&room.proven(&[&args[..], &["--json"]].concat()))["verified"]["state"], "release 41");
    room.write("other.json", format!(r#"{{"a": {{"4": "{zeros}"}}, "b": {{"4": "{four}", "30": "{zeros}"}}}}"#).as_bytes());
    room.not_proven(&[&["nitro", "verify", "document", "--states", "other.json"], &AT[..]].concat(), "none of the states a, b");
    for (wrong, told) in
        [("{}", "holds none"), (r#"{"a": {}}"#, "names no register"), ("[]", "no JSON object"), (r#"{"a": {"4": "00"}}"#, "96")]
    {
        room.write("wrong.json", wrong.as_bytes());
        room.wrong_usage(&[&["nitro", "verify", "document", "--states", "wrong.json"], &AT[..]].concat(), told);
    }
}

#[test]
fn a_made_up_document_is_proven_by_its_own_root_with_nonce_user_data_and_key() {
    let room = Room::new();
    let script = testdata("attestation/nitro.py");
    let made = Command::new(&*PYTHON).arg("-B").arg(script).args(["document", "."]).current_dir(room.path()).output().expect("Python");
    assert!(made.status.success(), "{}", text(&made.stderr));
    openssl(&room, &["pkey", "-pubin", "-inform", "DER", "-in", "public.der", "-out", "public.pem"]);
    room.write("data", b"user data");
    let verify = ["nitro", "verify", "document.cbor", "--root", "root.pem", "--at", "1770000000", "--max-age", "5m"];
    for public in ["public.der", "public.pem"] {
        for nonce in ["61206e6f6e6365", "nonce"] {
            let told = room.proven(&[&verify[..], &["--nonce", nonce, "--user-data", "data", "--public-key", public]].concat());
            assert!(told.starts_with("the document is proven by the root that was given\n"), "{told}");
            assert!(told.contains("user data    757365722064617461  (\"user data\")\n"), "{told}");
        }
    }
    room.not_proven(&["nitro", "verify", "document.cbor", "--at", "1770000000"], "does not come from the root");
}

#[test]
fn a_document_without_nonce_or_registers_is_proven_with_a_warning() {
    let room = Room::new();
    let output = room.run(&[&["nitro", "verify", "document"], &AT[..]].concat());
    let told = text(&output.stderr);
    assert!(told.contains("without --nonce") && told.contains("no register was compared"), "{told}");
    assert!(text(&room.run(&["nitro", "show", "document"]).stderr).contains("nothing of this is proven"));
}

#[test]
fn an_image_becomes_a_state_and_a_key_policy() {
    let room = Room::new();
    let (four, seven) = (room.register(4), room.register(7));
    let image =
        format!(r#"{{"Measurements": {{"HashAlgorithm": "SHA384 {{ ... }}", "PCR4": "{four}", "PCR7": "{}"}}}}"#, seven.to_uppercase());
    room.write("image.json", image.as_bytes());
    assert_eq!(room.proven(&["nitro", "image-pcrs", "image.json"]), format!("PCR4         {four}\nPCR7         {seven}\n"));
    assert_eq!(json(&room.proven(&["nitro", "image-pcrs", "--json", "image.json"]))["7"], seven);
    room.write("states.json", room.proven(&["nitro", "image-pcrs", "image.json", "--state", "release 41"]).as_bytes());
    let told = room.proven(&[&["nitro", "verify", "document", "--states", "states.json"], &AT[..]].concat());
    assert!(told.contains("release 41"), "{told}");

    let role = "arn:aws:iam::111122223333:role/data-processing";
    let statement = json(&room.proven(&["nitro", "kms-policy", "--image", "image.json", "--principal", role]));
    assert_eq!(statement["Principal"]["AWS"], role);
    let condition = &statement["Condition"]["StringEqualsIgnoreCase"];
    assert_eq!(condition["kms:RecipientAttestation:NitroTPMPCR4"], four);
    assert_eq!(condition["kms:RecipientAttestation:NitroTPMPCR7"], seven);
    let (four, seven) = (format!("4={four}"), format!("7={seven}"));
    let given = json(&room.proven(&["nitro", "kms-policy", "--pcr", &four, "--pcr", &seven, "--condition"]));
    assert_eq!(given, statement["Condition"]);
    let only = json(&room.proven(&["nitro", "kms-policy", "--image", "image.json", "--only", "7", "--condition"]));
    assert_eq!(only["StringEqualsIgnoreCase"].as_object().expect("keys").len(), 1);
    room.wrong_usage(&["nitro", "kms-policy"], "--pcr <N=HEX>|--image <FILE>");
    room.wrong_usage(&["nitro", "kms-policy", "--pcr", &four, "--only", "4"], "--only");
    room.wrong_usage(&["nitro", "kms-policy", "--image", "image.json", "--only", ""], "from 0 to 31");
    room.wrong_usage(&["nitro", "kms-policy", "--image", "image.json", "--principal", "app"], "an ARN is wanted");
    room.wrong_usage(&["nitro", "kms-policy", "--image", "image.json", "--principal", role, "--condition"], "cannot be used with");
    room.wrong_usage(&["nitro", "kms-policy", "--image", "image.json", "--only", "12"], "do not have that register");
    room.wrong_usage(&["nitro", "kms-policy", "--pcr", &four, "--action", "kms:Encrypt"], "no action that KMS takes a document for");
    room.write("image.json", image.replace("SHA384", "SHA256").as_bytes());
    room.wrong_usage(&["nitro", "image-pcrs", "image.json"], "documents have SHA384");
}

#[test]
fn a_quote_of_google_clouds_tpm_is_proven_by_the_pinned_root() {
    let room = Room::new();
    let evidence = testdata("attestation/gcp-tdx-quote.json");
    let file: Value = json(&text(&std::fs::read(&evidence).expect("it")));
    let evidence = evidence.to_str().expect("UTF-8");
    let nonce = file["nonce"].as_str().expect("a nonce");
    let pcr = format!("sha256:7={}", file["pcrs"]["sha256"]["7"].as_str().expect("a register"));
    let root = ["--root", "google-cloud", "--nonce", nonce];
    let whole = [&["quote", "verify", "--evidence", evidence, "--json", "--pcr", &pcr], &root[..], &AT].concat();
    let told = json(&room.proven(&whole));
    assert_eq!(told["pcrs"], file["pcrs"]);
    assert_eq!(told["reset_count"], 15);
    assert!(told["verified"]["root"].as_str().expect("a root").contains("EK/AK CA Root"), "{told}");

    // The same in parts.
    let quote = &file["attestation"]["tpm"]["ecc_p256"];
    room.write("message", quote["attest_data"].as_str().expect("digits").as_bytes());
    room.write("signature", &unhex(quote["signature"].as_str().expect("digits")));
    room.write("chain.pem", file["attestation"]["gcp"]["ak_cert_chain"].as_str().expect("PEM").as_bytes());
    let values: Vec<u8> = (0..24).flat_map(|i| unhex(file["pcrs"]["sha256"][i.to_string()].as_str().expect("digits"))).collect();
    room.write("values", &values);
    let parts = [
        "quote",
        "verify",
        "--message",
        "message",
        "--signature",
        "signature",
        "--values",
        "values",
        "--certificates",
        "chain.pem",
        "--json",
    ];
    assert_eq!(json(&room.proven(&[&parts[..], &root, &AT].concat())), told);
    let table = room.proven(&[&parts[..10], &root, &AT].concat());
    assert!(table.contains("resets       15, and 0 restarts since\n") && table.contains("sha256:7 "), "{table}");

    let refused = |args: &[&str], told: &str| room.not_proven(&[args, &AT].concat(), told);
    refused(&["quote", "verify", "--evidence", evidence, "--root", "google-cloud", "--nonce", "00"], "its nonce");
    refused(&[&parts[..10], &["--root", "google-cloud", "--pcr", &format!("sha256:7={}", "0".repeat(64))]].concat(), "register sha256:7");
    room.not_proven(&[&parts[..10], &root, &["--at", "0"]].concat(), "valid only from");
    room.write("values", &[&values[1..], &[0]].concat());
    refused(&[&parts[..], &root].concat(), "not those that are quoted");
    room.wrong_usage(&["quote", "verify", "--evidence", evidence], "nothing says that the key");
    room.wrong_usage(&["quote", "verify"], "--message");
}

#[test]
fn a_quote_of_tpm2_tools_is_proven_by_a_key_in_each_form() {
    let swtpm = Swtpm::start();
    let room = Room::new();
    let tool = |line: &str| {
        let mut words = line.split_whitespace();
        swtpm.tool(words.next().expect("a tool"), &words.collect::<Vec<_>>());
        swtpm.tool("tpm2_flushcontext", &["-t"]);
    };
    tool("tpm2_createek -G ecc -c ek.ctx");
    tool("tpm2_createak -Q -C ek.ctx -c ak.ctx -G rsa -g sha256 -s rsapss -u ak.pub -r ak.priv");
    tool("tpm2_readpublic -Q -c ak.ctx -f pem -o ak.pem");
    tool("tpm2_quote -Q -c ak.ctx -l sha256:0,7 -g sha256 --scheme rsapss -q 00ff -m quote.msg -s quote.sig -o quote.pcrs");
    for name in ["ak.pub", "ak.pem", "quote.msg", "quote.sig", "quote.pcrs"] {
        room.write(name, &std::fs::read(swtpm.dir().join(name)).expect(name));
    }
    let verify = ["quote", "verify", "--message", "quote.msg", "--signature", "quote.sig", "--values", "quote.pcrs", "--nonce", "00ff"];
    for key in ["ak.pub", "ak.pem"] {
        let told = room.proven(&[&verify[..], &["--ak", key]].concat());
        assert!(told.contains("proven       by the key that was named\n") && told.contains("nonce        00ff\n"), "{told}");
    }
    tool("tpm2_createprimary -Q -C o -c primary.ctx");
    tool("tpm2_create -Q -C primary.ctx -G rsa2048:rsapss-sha256:null -u free.pub -r free.priv");
    room.write("free.pub", &std::fs::read(swtpm.dir().join("free.pub")).expect("a public area"));
    room.wrong_usage(&[&verify[..], &["--ak", "free.pub"]].concat(), "no attestation key");
}

/// What docs/attestation.md tells people to type, with the root and the time of the made-up document.
#[test]
fn the_commands_of_the_document_work_as_printed() {
    let page = std::fs::read_to_string(testdata("../docs/attestation.md")).expect("the page");
    let mut commands: Vec<&str> = page.split("```sh\n").skip(1).map(|block| block.split("\n```").next().expect("its end")).collect();
    commands.sort_by_key(|command| !command.contains("image-pcrs"));
    assert_eq!(commands.len(), 3, "{commands:#?}");

    let room = Room::new();
    let made =
        Command::new(&*PYTHON).arg("-B").arg(testdata("attestation/nitro.py")).args(["document", "."]).current_dir(room.path()).output();
    assert!(made.expect("Python").status.success());
    openssl(&room, &["pkey", "-pubin", "-inform", "DER", "-in", "public.der", "-out", "recipient.pub"]);
    room.write("nonce.bin", b"a nonce");
    let document = json(&room.proven(&["nitro", "show", "--json", "document.cbor"]));
    let image = serde_json::json!({"Measurements": {"HashAlgorithm": "SHA384", "PCR4": document["nitrotpm_pcrs"]["4"], "PCR7": document["nitrotpm_pcrs"]["7"]}});
    room.write("pcr_measurements.json", image.to_string().as_bytes());

    let swtpm = Swtpm::start();
    for line in [
        "tpm2_createek -G ecc -c ek.ctx",
        "tpm2_createak -Q -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -r ak.priv",
        "tpm2_quote -Q -c ak.ctx -l sha256:0,7 -g sha256 -q 61206e6f6e6365 -m quote.msg -s quote.sig -o quote.pcrs",
    ] {
        let mut words = line.split_whitespace();
        swtpm.tool(words.next().expect("a tool"), &words.collect::<Vec<_>>());
        swtpm.tool("tpm2_flushcontext", &["-t"]);
    }
    for name in ["ak.pub", "quote.msg", "quote.sig", "quote.pcrs"] {
        room.write(name, &std::fs::read(swtpm.dir().join(name)).expect(name));
    }
    let folder = Path::new(common::CLIENT).parent().expect("a folder");
    for command in commands {
        let line = command.replace("nitro verify", "nitro verify --root root.pem --at 1770000000");
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("PATH"));
        let output = Command::new("bash").args(["-euc", &line]).env("PATH", path).current_dir(room.path()).stdin(Stdio::null()).output();
        let output = output.expect("bash");
        assert!(output.status.success(), "{line}\n{}", text(&output.stderr));
    }
}
