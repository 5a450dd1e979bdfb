//! From a bundle to a key in the TPM and a profile, and from one key to the next. With the server's binary and software TPMs.

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Bench, Server, client, failed, server_binary, succeeds, text};
use serde_json::Value;

/// A server whose registry is a file in the bench's folder, and clients with homes of their own below it.
struct Enrolment {
    bench: Bench,
    port: u16,
    flags: RefCell<Vec<&'static str>>,
    server: RefCell<Option<Server>>,
}

impl Enrolment {
    fn new(flags: &[&'static str]) -> Self {
        let bench = Bench::new();
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let it = Self { bench, port, flags: flags.to_vec().into(), server: None.into() };
        it.tool(&["add", "somebody-else", "--secret-out", "else.secret"]);
        it.start();
        it
    }

    /// Anew at the same address: it knows what the registry says now.
    fn start(&self) {
        self.end();
        let listen = format!("127.0.0.1:{}", self.port);
        let flags = [&["--registry-writable", "--audit-log", "audit.log", "--listen", &listen], &**self.flags.borrow()].concat();
        *self.server.borrow_mut() = Some(Server::start_before(&self.bench, "demo", &flags));
    }

    fn end(&self) {
        drop(self.server.borrow_mut().take());
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path(name)
    }

    /// A key command of the server's.
    fn tool(&self, arguments: &[&str]) -> String {
        let made = Command::new(server_binary())
            .args(["key", "--registry", "secrets.toml"])
            .args(arguments)
            .current_dir(self.bench.swtpm.dir())
            .stdin(Stdio::null())
            .output()
            .expect("the server's binary");
        assert!(made.status.success(), "{arguments:?}: {}", text(&made.stderr));
        text(&made.stdout)
    }

    fn shown(&self, kid: &str) -> Value {
        serde_json::from_str(&self.tool(&["show", kid, "--json"])).expect("JSON")
    }

    /// A bundle FILE under a passphrase, which is written to FILE.passphrase; or with other protection.
    fn bundle(&self, arguments: &[&str], file: &str, protection: &[&str]) -> Value {
        let origin = format!("https://localhost:{}", self.port());
        let flags = ["--bundle-out", file, "--origin", &origin, "--ca", "server.pem", "--json"];
        let told: Value = serde_json::from_str(&self.tool(&[arguments, &flags, protection].concat())).expect("JSON");
        if let Some(passphrase) = told["passphrase"].as_str() {
            self.write_private(&format!("{file}.passphrase"), passphrase);
        }
        self.start();
        told
    }

    fn sealed(&self, kid: &str) {
        self.bundle(&["add", kid, "--client", "Alice"], "bundle", &["--passphrase-generate"]);
    }

    fn write_private(&self, name: &str, content: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(self.path(name), content).expect("writing");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = client();
        command.args(arguments).env("TPM2TOOLS_TCTI", self.bench.swtpm.tcti()).env("EKM_OTP_CONFIG", self.path("home/config.toml"));
        command.env("TMPDIR", self.path("tmp")).env_remove("SSH_ASKPASS").current_dir(self.bench.swtpm.dir()).stdin(Stdio::null());
        fs::create_dir_all(self.path("tmp")).expect("a folder");
        command
    }

    fn client(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the client")
    }

    fn enrols(&self, more: &[&str]) -> Output {
        self.client(&[&["enroll", "bundle", "--passphrase-file", "bundle.passphrase"], more].concat())
    }

    /// What the profile alone gets.
    fn whoami(&self) -> Value {
        let url = format!("https://localhost:{}/whoami", self.port());
        serde_json::from_str(&succeeds(&self.client(&["get", &url]))).expect("JSON")
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("home/config.toml")).unwrap_or_default()
    }

    /// The client's files, but for the lock.
    fn home(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path("home")).into_iter().flatten();
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .filter(|name| name != ".ekm-otp.lock")
            .collect()
    }

    fn secret_of(&self, kid: &str) -> Vec<u8> {
        let registry = fs::read_to_string(self.path("secrets.toml")).expect("the registry");
        let entry = registry.split(&format!("[\"{kid}\"]")).nth(1).expect("the entry");
        let secret = entry.split("secret = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a secret");
        ekm_otp::Secret::decode_base64(secret).expect("base64")
    }
}

/// The same command under another program.
fn under(program: &str, flags: &[&str], command: &Command) -> Output {
    let mut outer = Command::new(program);
    outer.args(flags).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    outer.current_dir(command.get_current_dir().expect("a folder"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.output().unwrap_or_else(|e| panic!("{program} is missing: install the package of that name ({e})"))
}

/// What a plain request through a sidecar gets.
fn status(port: u16) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the sidecar");
    write!(stream, "GET /get HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn is_in(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// In all files below this folder: the secret, or half of it, raw, in base64 or in hexadecimal digits.
fn holders(folder: &Path, secret: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            holders(&path, secret, found);
        } else if shows(&fs::read(&path).unwrap_or_default(), secret) {
            found.push(path.display().to_string());
        }
    }
}

fn shows(bytes: &[u8], secret: &[u8]) -> bool {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let escaped: String = secret.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let base64 = ekm_otp::Secret::new(secret.to_vec()).expect("a secret").encode_base64();
    // As strace writes what is in base64.
    let traced: String = base64.bytes().take(24).map(|byte| format!("\\x{byte:02x}")).collect();
    let forms = [&secret[..16], &hex.as_bytes()[..32], &base64.as_bytes()[..24], &escaped.as_bytes()[..64], traced.as_bytes()];
    forms.iter().any(|form| is_in(bytes, form))
}

#[test]
fn a_sealed_bundle_becomes_a_key_and_a_profile_in_one_command_and_is_good_for_one_use() {
    let it = Enrolment::new(&[]);
    it.sealed("client1");
    let enrolled = it.enrols(&["--pcrs", "sha256:7"]);
    succeeds(&enrolled);
    assert!(text(&enrolled.stderr).contains("enrolled as client1 (Alice)"), "{}", text(&enrolled.stderr));
    assert_eq!(it.home(), ["client1.pem", "config.toml", "localhost-ca.pem"].map(str::to_owned).into());
    assert_eq!((it.whoami()["client"].as_str(), it.shown("client1")["standing"].as_str()), (Some("Alice"), Some("active")));
    let inspected = succeeds(&it.client(&["key", "inspect", "home/client1.pem"]));
    assert!(inspected.contains("fixedtpm") && inspected.contains("sha256:7"), "{inspected}");
    // Whoever takes it in later is told, whatever they say.
    let (code, why) = failed(&it.enrols(&["--profile", "other"]));
    assert!(
        code == Some(77) && why.contains("SOMEBODY USED THIS BUNDLE BEFORE, at 20") && why.contains("key revoke client1"),
        "{code:?} {why}"
    );
    assert!(!it.config().contains("other") && it.home().len() == 3, "{:?}", it.home());
    let (code, why) = failed(&it.enrols(&[]));
    assert!(code == Some(64) && why.contains("--replace"), "{why}");
    succeeds(&it.enrols(&["--profile", "other", "--accept-used"]));
    assert!(it.bench.swtpm.loaded_handles().is_empty(), "left in the TPM");
}

#[test]
fn a_bundle_wrapped_to_the_tpm_is_taken_in_by_its_fingerprint_and_there_alone() {
    let it = Enrolment::new(&[]);
    succeeds(&it.client(&["key", "parent", "--out", "parent.pub"]));
    let told = it.bundle(&["add", "client1"], "bundle", &["--wrap-to", "parent.pub"]);
    let fingerprint = told["bundle"]["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let (code, why) = failed(&it.client(&["enroll", "bundle"]));
    assert!(code == Some(77) && why.contains("--fingerprint"), "{why}");
    let (code, why) = failed(&it.client(&["enroll", "bundle", "--fingerprint", &"0".repeat(32)]));
    assert!(code == Some(77) && why.contains("another was given"), "{why}");
    let (code, why) = failed(&it.client(&["enroll", "bundle", "--fingerprint", &fingerprint, "--pcrs", "sha256:7"]));
    assert!(code == Some(64) && why.contains("--pcrs"), "{why}");
    // Copied to another machine, it is of no use.
    let other = Bench::new();
    let elsewhere = it.command(&["enroll", "bundle", "--fingerprint", &fingerprint]).env("TPM2TOOLS_TCTI", other.swtpm.tcti()).output();
    let (code, why) = failed(&elsewhere.expect("the client"));
    assert!(code == Some(64) && why.contains("other"), "{why}");
    assert!(it.home().is_empty(), "{:?}", it.home());
    succeeds(&it.client(&["enroll", "bundle", "--fingerprint", &fingerprint.to_uppercase()]));
    assert_eq!(it.whoami()["kid"], "client1");
    // The same under a passphrase besides: then no fingerprint is wanted.
    it.bundle(&["add", "client2"], "bundle2", &["--wrap-to", "parent.pub", "--passphrase-generate"]);
    succeeds(&it.client(&["enroll", "bundle2", "--passphrase-file", "bundle2.passphrase", "--profile", "second"]));
    assert!(it.bench.swtpm.loaded_handles().is_empty(), "left in the TPM");
}

#[test]
fn what_cannot_be_taken_in_leaves_nothing_behind_and_says_what_to_do() {
    let it = Enrolment::new(&[]);
    it.sealed("client1");
    it.write_private("wrong", "aaaaa-aaaaa-aaaaa-aaaaa-aaaaa");
    let bundle = fs::read_to_string(it.path("bundle")).expect("the bundle");
    let changed = bundle
        .lines()
        .enumerate()
        .map(|(at, line)| if at == 8 { line.to_uppercase() } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n");
    fs::write(it.path("changed"), changed).expect("writing");
    let none = &["enroll", "server.pem", "--passphrase-file", "bundle.passphrase"][..];
    for (fault, arguments, code, told) in [
        ("no_bundle", none, 64, "holds no bundle"),
        ("wrong_passphrase", &["enroll", "bundle", "--passphrase-file", "wrong"], 77, "does not open"),
        ("nobody_to_ask", &["enroll", "bundle"], 77, "--passphrase-file"),
        ("changed_on_its_way", &["enroll", "changed", "--passphrase-file", "bundle.passphrase"], 64, "not whole"),
    ] {
        // Without a terminal, wherever the tests run.
        let (found, why) = failed(&under("setsid", &["--wait"], &it.command(arguments)));
        assert!(found == Some(code) && why.contains(told), "{fault}: {found:?} {why}");
        assert!(it.home().is_empty(), "{fault}: {:?}", it.home());
    }
    it.end();
    let (code, why) = failed(&it.enrols(&[]));
    assert!(code == Some(69) && why.contains("nothing was kept"), "{why}");
    assert!(it.home().is_empty(), "{:?}", it.home());
    it.start();
    it.bundle(&["add", "late"], "late", &["--passphrase-generate", "--bundle-expires", "1s"]);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let (code, why) = failed(&it.client(&["enroll", "late", "--passphrase-file", "late.passphrase"]));
    assert!(code == Some(64) && why.contains("that is over"), "{why}");
    it.bundle(&["add", "gone"], "gone", &["--passphrase-generate"]);
    it.tool(&["revoke", "gone"]);
    it.start();
    let (code, why) = failed(&it.client(&["enroll", "gone", "--passphrase-file", "gone.passphrase"]));
    assert!(code == Some(77) && why.contains("nothing was kept"), "{why}");
    assert!(it.home().is_empty() && it.bench.swtpm.loaded_handles().is_empty(), "{:?}", it.home());
}

/// Everything that the client writes, to whatever file, pipe or socket, as the kernel sees it; and all files that are there afterwards.
#[test]
fn the_secret_is_written_nowhere_in_clear() {
    let it = Enrolment::new(&["--rotation"]);
    it.sealed("client1");
    let traced = |arguments: &[&str], log: &str| {
        let flags = ["-f", "-xx", "-s", "100000", "-e", "trace=write,pwrite64,writev,sendto,sendmsg", "-o", log];
        let output = under("strace", &flags, &it.command(arguments));
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(it.path(log)).expect("what was traced")
    };
    let log = traced(&["enroll", "bundle", "--passphrase-file", "bundle.passphrase"], "enrol.trace");
    assert!(is_in(&log, b"write"), "nothing was traced");
    assert!(!shows(&log, &it.secret_of("client1")), "written while it was enrolled");
    let log = traced(&["rotate"], "rotate.trace");
    assert!(!shows(&log, &it.secret_of("client1-2")), "written while it was rotated");
    for kid in ["client1", "client1-2"] {
        let mut found = Vec::new();
        holders(it.bench.swtpm.dir(), &it.secret_of(kid), &mut found);
        // The registry holds it, and the software TPM, which keeps what it is given.
        found.retain(|path| !path.ends_with("/secrets.toml") && !path.contains("tpm2-00"));
        assert!(found.is_empty(), "{kid}: {found:?}");
        let mut known = Vec::new();
        holders(it.bench.swtpm.dir(), &it.secret_of(kid), &mut known);
        assert!(known.iter().any(|path| path.ends_with("/secrets.toml")), "this test looks for something else");
    }
}

#[test]
fn a_key_is_rotated_while_a_program_with_the_old_one_goes_on() {
    let it = Enrolment::new(&["--rotation", "--rotation-overlap", "3600"]);
    it.sealed("client1");
    succeeds(&it.enrols(&[]));
    // A sidecar that was started before, and goes on with the old one. Its key is in a file: a software TPM has three places for all programs.
    it.write_private("old.secret", &ekm_otp::Secret::new(it.secret_of("client1")).expect("a secret").encode_base64());
    let to = format!("https://localhost:{}", it.port());
    let how = ["--kid", "client1", "--secret-file", "old.secret", "--ca", "server.pem"];
    let sidecar = Server::of(&mut it.command(&[&["proxy", "--listen", "127.0.0.1:0", "--to", &to][..], &how].concat()));
    let port = sidecar.port;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let statuses = std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut statuses = Vec::new();
            while statuses.len() < 5 || !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                statuses.push(status(port));
            }
            statuses
        });
        let rotated = it.client(&["rotate"]);
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        succeeds(&rotated);
        assert!(text(&rotated.stderr).contains("has the key client1-2 now"), "{}", text(&rotated.stderr));
        requests.join().expect("requests")
    });
    assert!(statuses.iter().all(|status| status == "200"), "{statuses:?}");
    assert_eq!(status(port), "200", "after it, too");
    drop(sidecar);
    assert_eq!(it.whoami()["kid"], "client1-2");
    assert!(it.config().contains("kid = \"client1-2\"") && it.config().contains("key = \"client1-2.pem\""), "{}", it.config());
    assert_eq!(it.shown("client1")["standing"], "in overlap");
    succeeds(&it.client(&["rotate"]));
    assert_eq!(it.whoami()["kid"], "client1-3");
    assert!(!it.home().iter().any(|name| name.contains("unfinished")), "{:?}", it.home());
    assert!(it.bench.swtpm.loaded_handles().is_empty(), "left in the TPM");
}

#[test]
fn a_rotation_that_was_cut_off_goes_on_from_where_it_was_at_each_point() {
    let it = Enrolment::new(&["--rotation"]);
    it.sealed("client1");
    succeeds(&it.enrols(&[]));
    let before = it.config();
    // Ended before the server heard of it: the file is of no key, and is thrown away.
    fs::copy(it.path("home/client1.pem"), it.path("home/client1-2.pem.unfinished")).expect("copying");
    succeeds(&it.client(&["rotate"]));
    assert_eq!(it.whoami()["kid"], "client1-2");
    // Ended after the server had it, before the file had its name; then before the profile was written.
    let after = it.config();
    for name in ["client1-2.pem.unfinished", "client1-2.pem"] {
        fs::rename(it.path("home/client1-2.pem"), it.path("home").join(name)).expect("renaming");
        fs::write(it.path("home/config.toml"), &before).expect("writing");
        assert_eq!(it.whoami()["kid"], "client1", "the old one holds");
        let output = it.client(&["rotate"]);
        succeeds(&output);
        assert!(text(&output.stderr).contains("going on with what an earlier run began"), "{}", text(&output.stderr));
        assert_eq!((it.config(), it.whoami()["kid"].as_str()), (after.clone(), Some("client1-2")), "{name}");
    }
    // The successor's key is elsewhere.
    fs::rename(it.path("home/client1-2.pem"), it.path("elsewhere")).expect("renaming");
    fs::write(it.path("home/config.toml"), &before).expect("writing");
    let (code, why) = failed(&it.client(&["rotate"]));
    assert!(code == Some(64) && why.contains("has the successor client1-2 already") && why.contains("enroll --replace"), "{why}");
    // A file that is no key of that name's is not taken for one.
    fs::copy(it.path("home/client1.pem"), it.path("home/client1-2.pem.unfinished")).expect("copying");
    let (code, why) = failed(&it.client(&["rotate"]));
    assert!(code == Some(77) && why.contains("the profile is as it was"), "{why}");
    assert_eq!((it.config(), it.whoami()["kid"].as_str()), (before, Some("client1")));
}

#[test]
fn a_rotation_that_is_refused_or_killed_changes_no_profile() {
    let it = Enrolment::new(&[]);
    it.sealed("client1");
    succeeds(&it.enrols(&[]));
    let (before, home) = (it.config(), it.home());
    let (code, why) = failed(&it.client(&["rotate"]));
    assert!(code == Some(77) && why.contains("rotation = true"), "{why}");
    assert_eq!((it.config(), it.home()), (before.clone(), home.clone()));
    // Killed wherever it is just then: what is left is the old key or the new one, and the next run brings it to its end.
    it.flags.borrow_mut().push("--rotation");
    it.start();
    for after in [5, 25, 50, 75, 100, 130, 170, 220] {
        let mut child = it.command(&["rotate"]).stderr(Stdio::null()).spawn().expect("the client");
        std::thread::sleep(std::time::Duration::from_millis(after));
        let _ = child.kill();
        let _ = child.wait();
        let kid = it.whoami()["kid"].as_str().expect("a kid").to_owned();
        assert!(it.config().contains(&format!("\"{kid}\"")), "after {after} ms: {kid}");
    }
    succeeds(&it.client(&["rotate"]));
    assert_ne!(it.whoami()["kid"], "client1");
    assert!(!it.home().iter().any(|name| name.contains("unfinished")), "{:?}", it.home());
}

#[test]
fn a_new_key_is_guarded_as_the_old_one_was_or_as_it_is_said() {
    let it = Enrolment::new(&["--rotation"]);
    it.sealed("client1");
    it.write_private("password", "open sesame");
    succeeds(&it.enrols(&["--pcrs", "sha256:7", "--password-file", "password"]));
    assert_eq!(it.whoami()["kid"], "client1");
    let (code, why) = failed(&it.client(&["rotate"]));
    assert!(code == Some(64) && why.contains("--new-pcrs") && why.contains("--unguarded"), "{why}");
    succeeds(&it.client(&["rotate", "--new-pcrs", "sha256:7"]));
    assert_eq!(it.whoami()["kid"], "client1-2");
    let inspected = succeeds(&it.client(&["key", "inspect", "home/client1-2.pem"]));
    assert!(inspected.contains("sha256:7") && inspected.contains("password:    yes"), "{inspected}");
}

#[test]
fn after_the_tpm_was_cleared_one_command_enrols_again_and_a_failure_keeps_what_was() {
    let it = Enrolment::new(&[]);
    it.sealed("client1");
    succeeds(&it.enrols(&[]));
    it.bench.swtpm.tool("tpm2_clear", &["-c", "p"]);
    let url = format!("https://localhost:{}/get", it.port());
    let (_, why) = failed(&it.client(&["get", &url]));
    assert!(!why.is_empty(), "the key is gone with the TPM's seed");
    let before = it.config();
    it.bundle(&["rotate", "client1", "--overlap", "1s"], "next", &["--passphrase-generate"]);
    let again = ["enroll", "next", "--passphrase-file", "next.passphrase"];
    assert_eq!(failed(&it.client(&again)).0, Some(64), "an existing profile is not overwritten");
    let (_, why) = failed(&it.client(&[&again[..], &["--replace", "--key-out", "home/client1.pem"]].concat()));
    assert!(why.contains("is not overwritten"), "{why}");
    assert_eq!(it.config(), before);
    succeeds(&it.client(&[&again[..], &["--replace"]].concat()));
    assert_eq!(it.whoami()["kid"], "client1-2");
    assert_eq!(it.config().matches("[profile.").count(), 1, "{}", it.config());
}
