//! What is made from the definitions and shipped: completions, man pages, the Debian package; and the example configurations, which `check` accepts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rcgen::{CertificateParams, KeyPair};

const SERVER: &str = env!("CARGO_BIN_EXE_ekm-otp-server");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.unwrap_or_else(|e| panic!("cannot run {program} ({e}): install its Debian package"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{program} {args:?}: {stderr}{stdout}");
    stdout
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(SERVER, &["completions", shell]);
        for word in ["run", "check", "key", "completions", "upstream", "max-connections-per-source"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("completions");
    fs::write(&file, run(SERVER, &["completions", "bash"])).expect("writing");
    run("bash", &["-n", &file.display().to_string()]);
}

#[test]
fn there_is_a_man_page_for_each_command() {
    let folder = tempfile::tempdir().expect("a folder");
    run(SERVER, &["man", "--out", &folder.path().join("man1").display().to_string()]);
    for (page, part) in [
        ("ekm-otp-server.1", "check"),
        ("ekm-otp-server-run.1", "upstream"),
        ("ekm-otp-server-check.1", "json"),
        ("ekm-otp-server-key-rotate.1", "overlap"),
    ] {
        let text = fs::read_to_string(folder.path().join("man1").join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.starts_with(".ie") && text.contains(".SH NAME") && text.contains(part), "{page}: {text}");
    }
}

#[test]
fn the_debian_package_holds_what_the_unit_and_the_manual_speak_of() {
    let folder = tempfile::tempdir().expect("a folder");
    // As a release is: what is for debuggers would take half a minute to pack.
    let binary = folder.path().join("ekm-otp-server").display().to_string();
    run("strip", &["-o", &binary, SERVER]);
    let package = run("env", &["LEVEL=1", &format!("{ROOT}/server/debian/build.sh"), &binary, &folder.path().display().to_string()]);
    let package = package.trim();
    let listed = run("dpkg-deb", &["--contents", package]);
    for (mode, file) in [
        ("-rwxr-xr-x", "./usr/bin/ekm-otp-server"),
        ("-rw-r--r--", "./lib/systemd/system/ekm-otp-server.service"),
        ("-rw-r--r--", "./lib/systemd/system/ekm-otp-server.socket"),
        ("-rw-r--r--", "./usr/lib/sysusers.d/ekm-otp.conf"),
        ("-rw-r--r--", "./etc/ekm-otp/server.toml"),
        ("-rw-r--r--", "./usr/share/man/man1/ekm-otp-server-run.1.gz"),
        ("-rw-r--r--", "./usr/share/bash-completion/completions/ekm-otp-server"),
        ("-rw-r--r--", "./usr/share/doc/ekm-otp-server/examples/alerts.yml"),
    ] {
        let is_there = listed.lines().any(|line| line.starts_with(mode) && line.contains(" root/root ") && line.ends_with(file));
        assert!(is_there, "{file} is missing or has another mode or owner:\n{listed}");
    }
    let unpacked = folder.path().join("unpacked");
    run("dpkg-deb", &["--extract", package, &unpacked.display().to_string()]);
    assert!(run(&unpacked.join("usr/bin/ekm-otp-server").display().to_string(), &["--version"]).starts_with("ekm-otp-server "));
    assert_eq!(run("dpkg-deb", &["--field", package, "Package"]).trim(), "ekm-otp-server");
}

fn write_private(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("writing");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// A certificate for every name that the examples use.
fn certificate(certificate: &Path, private_key: &Path) {
    let names = ["api.example.com", "api2.example.com", "admin.example.com", "legacy.example.net"].map(str::to_owned);
    let key = KeyPair::generate().expect("a key");
    let made = CertificateParams::new(names.to_vec()).expect("names").self_signed(&key).expect("a certificate");
    write_private(certificate, &made.pem());
    write_private(private_key, &key.serialize_pem());
}

/// Runs `check` over an example, with all that it names beside it.
fn check(example: &str, replaced: &[(&str, &str)], flags: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let mut text = fs::read_to_string(format!("{ROOT}/examples/{example}")).unwrap_or_else(|e| panic!("{example}: {e}"));
    for (from, to) in replaced {
        assert!(text.contains(from), "{example}: {from}");
        text = text.replace(from, &to.replace("FOLDER", &folder.path().display().to_string()));
    }
    fs::write(at("server.toml"), text).expect("writing");
    for (chain, key) in [("chain", "key"), ("wildcard", "wildcard-key"), ("legacy", "legacy-key")] {
        certificate(&at(&format!("tls/{chain}.pem")), &at(&format!("tls/{key}.pem")));
    }
    certificate(&at("tls/tls.crt"), &at("tls/tls.key"));
    certificate(&at("credentials/ekm-otp.certificate"), &at("credentials/ekm-otp.private-key"));
    certificate(&at("tls/internal-ca.pem"), &at("unused.pem"));
    // Test data, used nowhere else.
    let registry = "[client1]\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\nclient = \"Alice\"\n";
    for file in ["registry.toml", "secrets.toml", "registry/registry.toml"] {
        write_private(&at(file), registry);
    }
    let key = at("registry.key").display().to_string();
    run(SERVER, &["key", "new-registry-key", "--out", &key]);
    let mut command = Command::new(SERVER);
    command
        .args(["check", "--config"])
        .arg(at("server.toml"))
        .args(flags)
        .current_dir(&folder)
        .env("CREDENTIALS_DIRECTORY", at("credentials"))
        .env_remove("EKM_OTP_LOG");
    let output = command.stdin(Stdio::null()).output().expect("the server");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_server_would_start_with_every_example() {
    for (example, replaced) in [
        ("one-app.toml", &[][..]),
        ("several-sites.toml", &[]),
        ("container/server.toml", &[]),
        ("systemd/server.toml", &[("/var/lib/ekm-otp", "FOLDER"), ("/var/log/ekm-otp", "FOLDER")]),
    ] {
        let (code, told) = check(example, replaced, &[]);
        assert_eq!(code, Some(0), "{example}: {told}");
    }
    // With a database of the other kind: there is no PostgreSQL here.
    let (code, told) = check("fleet.toml", &[], &["--registry", "sqlite://fleet.db"]);
    assert_eq!(code, Some(0), "{told}");
    let toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let there = ["", "container", "systemd"].map(|folder| fs::read_dir(format!("{ROOT}/examples/{folder}")).expect("examples"));
    let count = there.into_iter().flatten().map(|entry| entry.expect("an entry").path()).filter(toml).count();
    // proxy.toml is the client's, whose tests look at it.
    assert_eq!(count, 6, "an example that is not looked at");
}
