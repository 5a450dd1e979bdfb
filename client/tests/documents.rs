//! What the documents tell people to type works as printed, in its order.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

#[cfg(feature = "cloud")]
use common::cloud::{PYTHON, Peer};
use common::{Bench, text};

fn whole(document: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document)).expect("the document")
}

/// The shell blocks of a document between two lines that begin so.
fn examples(document: &str, from: &str, to: &str) -> Vec<String> {
    let whole = whole(document);
    let from = whole.find(&format!("\n{from}")).unwrap_or_else(|| panic!("{document} has no {from}"));
    let to = whole.find(&format!("\n{to}")).unwrap_or_else(|| panic!("{document} has no {to}"));
    let mut blocks = whole[from..to].split("```sh\n");
    blocks.next();
    // In a list, blocks are indented.
    let block = |text: &str| text.lines().map(str::trim).take_while(|line| !line.starts_with("```")).collect::<Vec<_>>().join("\n");
    blocks.map(block).collect()
}

/// A shell line, as somebody would type it: both binaries are on the PATH, and the TPM is the software one.
fn shell(bench: &Bench, folder: &Path, line: &str) -> Command {
    let mut bash = Command::new("bash");
    let binaries = common::server_binary().parent().expect("a folder").to_owned();
    let others = std::env::var_os("PATH").expect("PATH");
    let path = std::env::join_paths(std::iter::once(binaries).chain(std::env::split_paths(&others)));
    bash.args(["-euc", line]).current_dir(folder).stdin(Stdio::null()).env("PATH", path.expect("a PATH"));
    bash.env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env_remove("XDG_RUNTIME_DIR");
    bash
}

fn run(mut command: Command, line: &str) -> Output {
    let output = command.output().expect("bash");
    assert!(output.status.success(), "{line}\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn the_steps_with_registers_quotes_and_credentials_work_in_their_order() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().expect("a folder");
    let steps: Vec<String> = examples("docs/tpm.md", "## 10. Registers", "**RSA decryption**");
    assert_eq!(steps.len(), 5, "{steps:#?}");
    let told: Vec<Output> = steps.iter().map(|step| run(shell(&bench, folder.path(), step), step)).collect();
    assert!(text(&told[0].stdout).ends_with("nothing changed\n"));
    assert!(text(&told[4].stdout).ends_with("a secret\n"));
}

#[test]
fn the_sealing_page_s_steps_work_in_their_order() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().expect("a folder");
    let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let steps = examples("docs/sealing.md", "## 1. Seal", "## 5. Next");
    assert_eq!(steps.len(), 4, "{steps:#?}");
    let steps = steps.iter().map(|step| step.replace("/dev/shm", memory.path().to_str().expect("UTF-8")));
    let told: Vec<Output> = steps.map(|step| run(shell(&bench, folder.path(), &step), &step)).collect();
    assert_eq!(fs::read_to_string(memory.path().join("app.secret")).expect("a file"), "open sesame");
    assert!(text(&told[3].stdout).contains("one of (state: PCR sha256:0,7 as when the key was made) or (recovery: the key's password)"));
    // The new state alone is left.
    let shown = run(shell(&bench, folder.path(), "ekm-otp-client policy show app.pem"), "policy show");
    assert!(text(&shown.stdout).starts_with("policy: PCR sha256:16 as"), "{}", text(&shown.stdout));
}

#[test]
fn the_readme_s_steps_work_in_their_order() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().expect("a folder");
    let steps = examples("README.md", "## Run it", "**Then**");
    assert_eq!(steps.len(), 6, "{steps:#?}");
    assert!(steps[0].starts_with("cargo build"), "the test's binaries stand for it: {}", steps[0]);
    for step in &steps[1..4] {
        run(shell(&bench, folder.path(), step), step);
    }
    // The steps' port may be taken here: any other one.
    assert!(steps[4].contains(":8443 ") && steps[5].contains(":8443/"), "{steps:#?}");
    let mut server = shell(&bench, folder.path(), &format!("exec {}", steps[4].replace(":8443", ":0")));
    let server = common::Server::of(&mut server);
    let request = steps[5].replace(":8443", &format!(":{}", server.port));
    let answer = run(shell(&bench, folder.path(), &request), &request);
    assert!(text(&answer.stdout).contains(r#""client":"Alice's laptop""#), "{}", text(&answer.stdout));
}

#[test]
fn the_tpm_page_s_examples_work_in_their_order() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().expect("a folder");
    let askpass = folder.path().join("askpass");
    fs::write(&askpass, "#!/bin/sh\necho correct horse\n").expect("writing");
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).expect("chmod");
    let json = whole("docs/tpm.md").split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy").to_owned();
    fs::write(folder.path().join("policy.json"), json).expect("writing");
    let examples = examples("docs/tpm.md", "## 2. A key", "## 7. What goes wrong");
    assert!(examples.len() >= 8, "{examples:#?}");
    for example in &examples {
        // The request needs a server: the README's steps show it.
        for line in example.replace("\\\n", " ").lines().filter(|line| !line.contains(" get https://…")) {
            let mut command = shell(&bench, folder.path(), line);
            command.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force");
            run(command, line);
        }
    }
}

#[cfg(feature = "cloud")]
#[test]
fn the_aws_page_s_way_from_a_secret_on_the_disk_to_one_in_the_tpm_works() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().expect("a folder");
    // As AWS's own documents write it.
    common::write_private(&folder.path().join("secret.txt"), "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let sts = Peer::start("aws/sts.py", &[], folder.path());
    let examples = examples("docs/aws.md", "## 1. From a secret", "## 2. What each");
    assert_eq!(examples.len(), 5, "{examples:#?}");
    for example in &examples {
        // The AWS CLI that the tests have.
        let line = example.replace("aws sts ", &format!("{} sts ", PYTHON.with_file_name("aws").display()));
        let mut command = shell(&bench, folder.path(), &line);
        command.env("HOME", folder.path()).env("AWS_ENDPOINT_URL_STS", sts.url("http")).env_remove("AWS_CONFIG_FILE");
        run(command, &line);
    }
    assert!(!folder.path().join("secret.txt").exists(), "and the secret is gone");
    let config = fs::read_to_string(folder.path().join(".aws/config")).expect("the file");
    assert!(!config.contains("wJalr"), "{config}");
}

#[cfg(feature = "cloud")]
#[test]
fn the_aws_page_s_way_to_roles_anywhere_works() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().expect("a folder");
    let made = "umask 077; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out app.key; openssl pkey -in app.key -pubout -out app.pub";
    run(shell(&bench, folder.path(), made), made);
    let mut certify = Command::new(&*PYTHON);
    certify.arg(common::cloud::testdata("cloud/certificates.py")).arg("app.pub").current_dir(folder.path());
    assert!(certify.status().expect("Python").success());
    // A certificate file with all that it takes.
    fs::rename(folder.path().join("app.chain.crt"), folder.path().join("app.crt")).expect("renaming");
    let service = Peer::start("aws/roles_anywhere.py", &["--anchor", "root.pem"], folder.path());
    let examples = examples("docs/aws.md", "## 6. Without", "## 7. For programs");
    for line in examples[0].lines() {
        let line = line.replace(" process ", &format!(" process --endpoint {} ", service.url("http")));
        run(shell(&bench, folder.path(), &line), &line);
    }
    assert_eq!(service.told().len(), 1);
}

#[cfg(feature = "cloud")]
#[test]
fn the_google_page_s_way_from_a_key_on_the_disk_to_one_in_the_tpm_works() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().expect("a folder");
    let made = "umask 077; openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out plain.key; openssl pkey -in plain.key -pubout -out sa.pub";
    run(shell(&bench, folder.path(), made), made);
    let services = Peer::start("gcp/token_services.py", &["--public-key", "sa.pub", "--key-id", "1"], folder.path());
    let file = serde_json::json!({
        "type": "service_account", "private_key_id": "1", "client_email": "sa@project.iam.gserviceaccount.com",
        "private_key": fs::read_to_string(folder.path().join("plain.key")).expect("the key"),
    });
    common::write_private(&folder.path().join("sa.json"), &file.to_string());
    for (from, to) in [("## 1. From a key", "## 2. Let"), ("## 3. Without", "## 4. What")] {
        for example in examples("docs/gcp.md", from, to) {
            // A token endpoint of this machine, which the page has no reason to name.
            let line = example.replace(" token ", &format!(" token --endpoint {}/token ", services.url("http")));
            run(shell(&bench, folder.path(), &line), &line);
        }
    }
    assert_eq!(services.told().len(), 1);
    assert!(!folder.path().join("sa.json").exists());
}

#[cfg(feature = "cloud")]
#[test]
fn the_azure_page_s_way_from_a_key_on_the_disk_to_one_in_the_tpm_works() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().expect("a folder");
    let made = "umask 077; openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out app.key; openssl pkey -in app.key -pubout -out app.pub";
    run(shell(&bench, folder.path(), made), made);
    let mut certify = Command::new(&*PYTHON);
    certify.arg(common::cloud::testdata("cloud/certificates.py")).arg("app.pub").current_dir(folder.path());
    assert!(certify.status().expect("Python").success());
    let entra = Peer::start("azure/entra.py", &["--registered", "app.crt"], folder.path());
    for example in examples("docs/azure.md", "## 1. From a key", "## 2. Let") {
        // An authority of this machine, which the page has no reason to name.
        let line = example.replace(" token ", &format!(" token --authority {} ", entra.url("http")));
        run(shell(&bench, folder.path(), &line), &line);
    }
    assert!(!folder.path().join("app.key").exists());
}

#[cfg(feature = "cloud")]
#[test]
fn the_nitro_page_s_way_from_a_secret_to_a_program_works() {
    use common::kms::{ID, SECRET};
    use common::machine::{Machine, register};

    let machine = Machine::right(&[]);
    let (bench, folder) = (&machine.bench, machine.bench.swtpm.dir());
    let measured = serde_json::json!({ "Measurements": { "HashAlgorithm": "SHA384 { ... }", "PCR4": register(4), "PCR7": register(7) } });
    fs::write(folder.join("pcr_measurements.json"), measured.to_string()).expect("writing");
    common::write_private(&folder.join("secret"), "open sesame");
    fs::write(folder.join("app"), "#!/bin/sh\necho \"$EKM_OTP_SECRET$DB_PASSWORD\" >> told\n").expect("writing");
    fs::set_permissions(folder.join("app"), fs::Permissions::from_mode(0o700)).expect("chmod");
    let nitro = machine.nitro(&[]);
    // Another test's file may have the page's name.
    let memory = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let run_all = |from: &str, to: &str| {
        for example in examples("docs/nitro.md", from, to) {
            for line in example.lines() {
                let line = line.replace("/dev/shm", memory.path().to_str().expect("UTF-8"));
                let mut command = shell(bench, folder, &line);
                command.env("TPM2TOOLS_TCTI", nitro.tcti()).env("AWS_ENDPOINT_URL_KMS", machine.kms.url("http"));
                run(
                    {
                        command.env("AWS_ACCESS_KEY_ID", ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
                        command
                    },
                    &line,
                );
            }
        }
    };
    run_all("## 3. The key", "## 4. From");
    // What KMS is to look at is what was printed.
    fs::rename(folder.join("statement.json"), folder.join("policy.json")).expect("renaming");
    run_all("## 4. From", "## 7. What goes wrong");
    assert_eq!(fs::read_to_string(folder.join("told")).expect("the file"), "open sesame\n".repeat(3));
    assert_eq!(fs::read_to_string(memory.path().join("app.secret")).expect("the file"), "open sesame");
    assert_eq!(machine.kms.told().len(), 5);
}
