//! `doctor`: all is well, and one fault after the other, each with its line, its advice and its exit code. All secrets are test data.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Bench, CLIENT, Server, text, write_private};
use ekm_otp::TlsPolicy;
use ekm_otp_swtpm::Swtpm;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const TPM_CHECKS: [&str; 9] = ["device", "tpm", "algorithms", "hmac-command", "slots", "persistent", "lockout", "hierarchies", "pcr"];
const KEY_CHECKS: [&str; 4] = ["key-file", "key-tpm", "key-policy", "key-password"];
const SERVER_CHECKS: [&str; 7] = ["dns", "tcp", "tls", "key-exchange", "ekm-otp", "clock", "interception"];

/// What one run found.
struct Found {
    code: Option<i32>,
    lines: Vec<Line>,
}

struct Line {
    check: String,
    status: String,
    finding: String,
    advice: Option<String>,
    /// Whose profile's it is.
    profile: Option<String>,
}

impl Found {
    fn read(output: &Output) -> Self {
        let lines: Vec<Value> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", text(&output.stdout), text(&output.stderr)));
        let lines = lines.into_iter().map(|line| {
            let Value::Object(mut fields) = line else { panic!("no object: {line}") };
            let mut field = |name: &str| fields.remove(name).unwrap_or_else(|| panic!("no {name}"));
            let string = |value: Value| value.as_str().expect("a text").to_owned();
            let read = Line {
                check: string(field("check")),
                status: string(field("status")),
                finding: string(field("finding")),
                advice: Some(field("advice")).filter(|advice| !advice.is_null()).map(string),
                profile: fields.remove("profile").map(string),
            };
            assert!(fields.is_empty(), "more than four fields: {fields:?}");
            assert!(["ok", "warning", "problem"].contains(&read.status.as_str()), "{}", read.status);
            assert_eq!(read.advice.is_some(), read.status != "ok", "{}: {}", read.check, read.finding);
            read
        });
        Self { code: output.status.code(), lines: lines.collect() }
    }

    fn checks(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line.check.as_str()).collect()
    }

    fn line(&self, check: &str) -> &Line {
        self.lines.iter().find(|line| line.check == check).unwrap_or_else(|| panic!("no {check}:\n{}", self.shown()))
    }

    fn shown(&self) -> String {
        let shown = self.lines.iter().map(|line| {
            let advice = line.advice.as_deref().unwrap_or("-");
            format!("{} {}: {} [{advice}]\n", line.status, line.check, line.finding)
        });
        shown.collect()
    }

    /// No problem, and no warnings but these.
    fn is_well_but_for(&self, warnings: &[&str]) {
        let others: Vec<&str> = self.lines.iter().filter(|line| line.status != "ok").map(|line| line.check.as_str()).collect();
        assert_eq!((self.code, others.as_slice()), (Some(0), warnings), "{}", self.shown());
    }

    /// One problem, with these words in what was found and what to do.
    fn has_problem(&self, code: i32, check: &str, finding: &str, advice: &str) {
        let problems: Vec<&str> = self.lines.iter().filter(|line| line.status == "problem").map(|line| line.check.as_str()).collect();
        assert_eq!((self.code, problems.as_slice()), (Some(code), &[check][..]), "{}", self.shown());
        let line = self.line(check);
        assert!(line.finding.contains(finding), "{finding:?} is missing in: {}", line.finding);
        let told = line.advice.as_deref().unwrap_or_default();
        assert!(told.contains(advice), "{advice:?} is missing in: {told}");
    }
}

fn doctor(bench: &Bench, args: &[&str]) -> Found {
    doctor_at(bench, &bench.swtpm.tcti(), args)
}

fn doctor_at(bench: &Bench, tcti: &str, args: &[&str]) -> Found {
    Found::read(&bench.client_with(&[&["doctor", "--json"], args].concat(), tcti))
}

fn url(port: u16) -> String {
    format!("https://localhost:{port}")
}

/// As firmware does at boot. Then nothing is left to warn of.
fn measure(swtpm: &Swtpm) {
    swtpm.tool("tpm2_pcrextend", &[&format!("7:sha256={}", "ab".repeat(32))]);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[test]
fn all_is_well() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let server = Server::start(&bench, &[]);
    let (url, key) = (url(server.port), ["--kid", "client1", "--key", "client1.pem"]);

    let found = doctor(&bench, &[&key[..], &["--url", &url, "--ca", "server.pem"]].concat());
    found.is_well_but_for(&[]);
    assert_eq!(found.checks(), [&TPM_CHECKS[..], &KEY_CHECKS, &SERVER_CHECKS, &["credential"]].concat());
    for (check, told) in [
        ("device", bench.swtpm.tcti().as_str()),
        ("tpm", "TPM 2.0, revision 1."),
        ("tpm", "manufacturer IBM (SW TPM)"),
        ("algorithms", "HMAC, SHA-256, ECC P-256, AES-128-CFB, RSA, ECDSA"),
        ("slots", "objects: 0 loaded, 3 free"),
        ("lockout", "0 of 3 wrong passwords"),
        ("pcr", "the boot was measured"),
        ("key-file", "HMAC-SHA256"),
        ("key-tpm", "under the owner's primary"),
        ("key-password", "none is needed"),
        ("tls", "TLSv1.3"),
        ("key-exchange", "X25519MLKEM768"),
        ("interception", "the server has proved itself"),
        ("credential", "(otp)"),
    ] {
        assert!(found.line(check).finding.contains(told), "{}", found.shown());
    }
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());

    // What is not asked for is left out.
    let found = doctor(&bench, &[]);
    found.is_well_but_for(&[]);
    assert_eq!(found.checks(), TPM_CHECKS);
    let found = doctor(&bench, &["--url", &url, "--ca", "server.pem"]);
    found.is_well_but_for(&[]);
    assert_eq!(found.checks(), [&TPM_CHECKS[..], &SERVER_CHECKS].concat());
    assert!(found.line("interception").finding.contains("none seen: the server sees this TLS connection"), "{}", found.shown());
    let found = doctor(&bench, &["--key", "client1.pem"]);
    found.is_well_but_for(&[]);
    assert_eq!(found.checks(), [&TPM_CHECKS[..], &KEY_CHECKS].concat());

    // Without a TPM.
    write_private(&bench.path("secret"), &bench.secret());
    let software = ["--kid", "client1", "--secret-file", "secret", "--url", &url, "--ca", "server.pem"];
    let found = doctor_at(&bench, "device:/nonexistent", &software);
    found.is_well_but_for(&[]);
    assert_eq!(found.checks(), [&SERVER_CHECKS[..], &["credential"]].concat());
}

#[test]
fn the_text_says_what_the_json_says() {
    let bench = Bench::new();
    let made = bench.client(&["key", "create", "--kid", "client1", "--describe", "--out", "client1.pem", "--secret-out", "secrets.toml"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let args = ["--key", "client1.pem", "--kid", "client2"];
    let output = bench.client(&[&["doctor"], &args[..]].concat());
    let mut lines = Vec::new();
    for line in doctor(&bench, &args).lines {
        lines.push(format!("{:<7}  {:<12}  {}", line.status, line.check, line.finding));
        lines.extend(line.advice.map(|advice| format!("{:23}{advice}", "")));
    }
    assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), lines);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    assert!(
        lines.iter().any(|line| line.contains("warning  key-id        the key was made for the key id client1, not client2")),
        "{lines:?}"
    );
    // To a terminal in colour, else not.
    assert!(!output.stdout.contains(&0x1b));
    let output = bench.client_with(&["doctor"], "device:/nonexistent");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(69), "ekm-otp-client: there is 1 problem\n"));
}

#[test]
fn a_device_that_is_missing_or_closed_or_none_is_told() {
    let bench = Bench::new();
    bench.create_key();
    let found = doctor_at(&bench, "device:/nonexistent", &["--key", "client1.pem"]);
    found.has_problem(69, "device", "there is no TPM device /nonexistent", "--tcti swtpm:");
    assert!(found.line("device").advice.as_deref().is_some_and(|advice| advice.contains("firmware")), "{}", found.shown());
    // The file can be looked at all the same.
    assert_eq!(found.checks(), ["device", "key-file"]);

    let node = bench.path("node");
    fs::write(&node, "").expect("writing");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o000)).expect("chmod");
    let tcti = format!("device:{}", node.display());
    let refused = |told: &str| {
        // Root may open anything, unless that is taken from it.
        let mut command = if fs::File::open(&node).is_err() {
            common::client()
        } else {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--bounding-set", "-dac_override,-dac_read_search", CLIENT]);
            setpriv
        };
        let output = command.args(["doctor", "--json", "--tcti", &tcti]).stdin(Stdio::null()).output().expect("setpriv, of util-linux");
        let found = Found::read(&output);
        found.has_problem(77, "device", &format!("may not open {} (group ", node.display()), told);
        assert_eq!(found.checks(), ["device"]);
    };
    refused("the Debian package tpm-udev");
    // Only root gives files away; the test's own group does as well.
    let _ = std::os::unix::fs::chown(&node, None, Some(1));
    fs::set_permissions(&node, fs::Permissions::from_mode(0o060)).expect("chmod");
    let groups = fs::read_to_string("/etc/group").expect("the groups");
    let id = fs::metadata(&node).expect("a file").gid().to_string();
    let group = groups.lines().find(|line| line.split(':').nth(2) == Some(&id)).and_then(|line| line.split(':').next()).expect("a group");
    refused(&format!("as root: usermod -aG {group} "));

    doctor_at(&bench, "device:/dev/null", &[]).has_problem(69, "device", "cannot reach the TPM", "TPM 2.0?");
}

/// No machine has that many TPMs. `swtpm/vm.sh` does this with one that is there.
#[test]
fn a_device_without_a_resource_manager_is_not_taken_in_silence() {
    let bench = Bench::new();
    bench.create_key();
    let warning = "ekm-otp-client: warning: this device has no resource manager, and takes one program at a time: use --tcti device:/dev/tpmrm4294967295\n";
    for args in [&["key", "list"][..], &["get", "https://localhost:1/", "--kid", "client1", "--key", "client1.pem"]] {
        let output = bench.client_with(args, "device:/dev/tpm4294967295");
        assert_eq!(output.status.code(), Some(69));
        assert!(text(&output.stderr).starts_with(warning), "{}", text(&output.stderr));
        assert!(!text(&bench.client_with(args, "device:/dev/tpmrm4294967295").stderr).contains("warning"));
    }
}

#[test]
fn a_software_tpm_that_does_not_run_is_told() {
    let mut bench = Bench::new();
    bench.swtpm.kill();
    let start = format!("--server type=tcp,port={},bindaddr=127.0.0.1", bench.swtpm.port());
    doctor(&bench, &[]).has_problem(69, "device", "Connection refused", &start);
    bench.swtpm.restart();
    bench.swtpm.freeze();
    doctor(&bench, &["--timeout", "1"]).has_problem(69, "device", "did not answer within 1s", "keep it busy");
    bench.swtpm.thaw();
}

#[test]
fn a_tpm_in_lockout_is_told_and_how_to_get_out() {
    let bench = Bench::new();
    write_private(&bench.path("pw"), "right");
    write_private(&bench.path("wrong"), "wrong");
    let create = ["key", "create", "--kid", "client1", "--out", "client1.pem", "--secret-out", "secrets.toml", "--password-file", "pw"];
    assert!(bench.client(&create).status.success());
    measure(&bench.swtpm);
    bench
        .swtpm
        .tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=2", "--recovery-time=600", "--lockout-recovery-time=60"]);
    let guess = || {
        let args = ["key", "passwd", "--key", "client1.pem", "--out", "x.pem", "--remove", "--password-file", "wrong"];
        assert_eq!(bench.client(&args).status.code(), Some(77));
    };
    guess();
    let found = doctor(&bench, &[]);
    found.is_well_but_for(&["lockout"]);
    assert!(found.line("lockout").finding.contains("the next wrong password locks the TPM: 1 of 2"), "{}", found.shown());
    guess();
    let found = doctor(&bench, &["--key", "client1.pem"]);
    found.has_problem(77, "lockout", "the TPM is locked (2 of 2 wrong passwords)", "wait 600 s");
    let advice = found.line("lockout").advice.clone().expect("advice");
    let (_, reset) = advice.split_once("reset it: tpm2_dictionarylockout ").expect("a command");
    bench.swtpm.tool("tpm2_dictionarylockout", &[reset]);
    doctor(&bench, &["--key", "client1.pem"]).is_well_but_for(&[]);
}

#[test]
fn a_password_that_is_not_at_hand_is_not_tried() {
    let bench = Bench::new();
    write_private(&bench.path("pw"), "right");
    let create = ["key", "create", "--kid", "client1", "--out", "client1.pem", "--secret-out", "secrets.toml", "--password-file", "pw"];
    assert!(bench.client(&create).status.success());
    measure(&bench.swtpm);
    let server = Server::start(&bench, &[]);
    let url = url(server.port);
    let args = ["--kid", "client1", "--key", "client1.pem", "--url", &url, "--ca", "server.pem"];
    let found = doctor(&bench, &args);
    found.is_well_but_for(&["credential"]);
    assert!(found.line("key-password").finding.contains("none was given (--password-file, TPM_KEY_AUTH), and none is tried"));
    assert!(found.line("lockout").finding.starts_with("0 of 3"), "{}", found.shown());
    doctor(&bench, &[&args[..], &["--password-file", "pw"]].concat()).is_well_but_for(&[]);
}

#[test]
fn a_tpm_without_free_slots_is_told_and_left_as_it_is() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    for _ in 0..2 {
        bench.swtpm.tool("tpm2_createprimary", &["-C", "o", "-Q", "-c", "primary.ctx"]);
    }
    let before = bench.swtpm.loaded_handles();
    let server = Server::start(&bench, &[]);
    let url = url(server.port);
    let found = doctor(&bench, &["--kid", "client1", "--key", "client1.pem", "--url", &url, "--ca", "server.pem"]);
    found.has_problem(1, "slots", "objects: 2 loaded, 1 free", "tpm2_flushcontext -t");
    assert_eq!((found.line("key-tpm").status.as_str(), found.line("credential").status.as_str()), ("warning", "warning"));
    assert_eq!(found.line("interception").status, "ok");
    assert_eq!(bench.swtpm.loaded_handles(), before);
    bench.swtpm.tool("tpm2_flushcontext", &["-t"]);
    doctor(&bench, &["--key", "client1.pem"]).is_well_but_for(&[]);
}

#[test]
fn a_tpm_without_the_hmac_command_is_told() {
    let bench = Bench::new();
    measure(&bench.swtpm);
    // TPM2_GetCapability answers with the next command where the TPM lacks the one that is asked for.
    let tcti = altered(&bench.swtpm, |command, answer| {
        let asks_for_hmac = [&0x17a_u32.to_be_bytes()[..], &2_u32.to_be_bytes(), &0x155_u32.to_be_bytes()].concat();
        if command.get(6..).is_some_and(|parameters| parameters.starts_with(&asks_for_hmac)) && answer.len() >= 23 {
            answer[22] = 0x56;
        }
    });
    let found = doctor_at(&bench, &tcti, &[]);
    found.has_problem(1, "hmac-command", "many manufacturers leave it out", "--secret-file");
}

/// A relay in front of a software TPM that changes its answers. Its TCTI string.
fn altered(swtpm: &Swtpm, alter: impl Fn(&[u8], &mut [u8]) + Clone + Send + 'static) -> String {
    let (data, control) = loop {
        let data = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = data.local_addr().expect("an address").port();
        if let Ok(control) = TcpListener::bind(("127.0.0.1", port.saturating_add(1))) {
            break (data, control);
        }
    };
    let tcti = format!("swtpm:host=127.0.0.1,port={}", data.local_addr().expect("an address").port());
    let target = swtpm.port();
    for (listener, target, alters) in [(data, target, true), (control, target + 1, false)] {
        let alter = alter.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(mut client), Ok(mut tpm)) = (client, TcpStream::connect(("127.0.0.1", target))) else { return };
                let alter = alter.clone();
                std::thread::spawn(move || {
                    // One command, one answer, each in one piece.
                    let mut buffer = [0; 8192];
                    while let Ok(n @ 1..) = client.read(&mut buffer) {
                        let command = buffer[..n].to_vec();
                        let Ok(()) = tpm.write_all(&command) else { return };
                        let Ok(n @ 1..) = tpm.read(&mut buffer) else { return };
                        if alters {
                            alter(&command, &mut buffer[..n]);
                        }
                        let Ok(()) = client.write_all(&buffer[..n]) else { return };
                    }
                });
            }
        });
    }
    tcti
}

#[test]
fn a_key_that_is_no_use_is_told() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let other = Swtpm::start();
    measure(&other);
    let found = doctor_at(&bench, &other.tcti(), &["--key", "client1.pem"]);
    found.has_problem(1, "key-tpm", "does not belong to this TPM", "on the machine where it was made");

    fs::write(bench.path("no.pem"), "no key").expect("writing");
    doctor(&bench, &["--key", "no.pem"]).has_problem(1, "key-file", "it holds no PEM block", "key create");
    doctor(&bench, &["--key", "none.pem"]).has_problem(69, "key-file", "No such file", "key create");
    assert!(bench.client(&["key", "create", "--kind", "p256", "--kid", "signer", "--out", "signer.pem"]).status.success());
    doctor(&bench, &["--key", "signer.pem"]).is_well_but_for(&[]);
    doctor(&bench, &["--key", "signer.pem", "--kid", "signer"]).has_problem(1, "key-file", "ECC P-256", "HMAC-SHA256 key");
    doctor(&bench, &["--key", "handle:0x81000010"]).has_problem(69, "key-tpm", "0x81000010", "`key list`");
}

#[test]
fn registers_that_changed_are_named() {
    let bench = Bench::new();
    measure(&bench.swtpm);
    let create = ["key", "create", "--kid", "client1", "--out", "client1.pem", "--secret-out", "secrets.toml", "--pcrs", "sha256:0,7,16"];
    assert!(bench.client(&create).status.success());
    let server = Server::start(&bench, &[]);
    let url = url(server.port);
    let args = ["--kid", "client1", "--key", "client1.pem", "--url", &url, "--ca", "server.pem"];
    doctor(&bench, &args).is_well_but_for(&[]);
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "cd".repeat(32))]);
    let found = doctor(&bench, &args);
    found.has_problem(77, "key-policy", "not as when the key was made: sha256:16;", "make the key anew");
    assert_eq!((found.line("key-tpm").status.as_str(), found.line("credential").status.as_str()), ("ok", "warning"));

    // A persistent key has no file: what --pcrs names must come to its policy.
    bench.swtpm.tool("tpm2_createprimary", &["-C", "o", "-Q", "-c", "primary.ctx"]);
    bench.swtpm.tool("tpm2_createpolicy", &["-Q", "--policy-pcr", "-l", "sha256:16", "-L", "policy"]);
    let attributes = "sign|fixedtpm|fixedparent|sensitivedataorigin|noda";
    bench
        .swtpm
        .tool("tpm2_create", &["-Q", "-C", "primary.ctx", "-G", "hmac", "-u", "k.pub", "-r", "k.priv", "-L", "policy", "-a", attributes]);
    bench.swtpm.tool("tpm2_flushcontext", &["-t"]);
    bench.swtpm.tool("tpm2_load", &["-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx"]);
    bench.swtpm.tool("tpm2_flushcontext", &["-t"]);
    bench.swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "k.ctx", "0x81000010"]);
    bench.swtpm.tool("tpm2_flushcontext", &["-t"]);
    let key = ["--key", "handle:0x81000010"];
    doctor(&bench, &[&key[..], &["--pcrs", "sha256:16"]].concat()).is_well_but_for(&[]);
    doctor(&bench, &[&key[..], &["--pcrs", "sha256:7"]].concat()).has_problem(77, "key-policy", "the registers of --pcrs", "--pcrs");
    doctor(&bench, &key).has_problem(77, "key-policy", "nothing says which", "--pcrs BANK:LIST");
}

#[test]
fn a_server_that_is_not_there_or_not_trusted_is_told() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let server = Server::start(&bench, &[]);
    let found = doctor(&bench, &["--url", &url(free_port())]);
    found.has_problem(69, "tcp", "Connection refused", "nothing listens there");
    assert_eq!(found.checks().last(), Some(&"tcp"));
    doctor(&bench, &["--url", "https://nowhere.invalid"]).has_problem(69, "dns", "cannot resolve nowhere.invalid", "is the name right");

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(bench.path("other.pem"), other.cert.pem()).expect("writing");
    let found = doctor(&bench, &["--url", &url(server.port), "--ca", "other.pem"]);
    found.has_problem(77, "tls", "the server's certificate is refused", "--ca FILE");
    assert_eq!(found.checks().last(), Some(&"tls"));
    let by_address = format!("https://[::1]:{}", server.port);
    let found = doctor(&bench, &["--url", &by_address]);
    found.has_problem(69, "tcp", "cannot connect", "listens");

    // The name is in the certificate, and the server does not know it.
    let by_address = format!("https://127.0.0.1:{}", server.port);
    let found = doctor(&bench, &["--url", &by_address, "--ca", "server.pem"]);
    found.has_problem(1, "interception", "not configured for the name 127.0.0.1", "--server-name");
}

#[test]
fn a_certificate_for_another_name_is_told_as_such() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let other = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).expect("a certificate");
    fs::write(bench.path("server.pem"), other.cert.pem()).expect("writing");
    fs::write(bench.path("server.key"), other.signing_key.serialize_pem()).expect("writing");
    let server = Server::start(&bench, &[]);
    let found = doctor(&bench, &["--url", &url(server.port), "--ca", "server.pem"]);
    found.has_problem(77, "tls", "the server's certificate is refused", "for another name than localhost");
}

/// `openssl s_server`, ended when dropped.
struct Openssl(Child);

impl Openssl {
    fn start(bench: &Bench, args: &[&str]) -> (Self, u16) {
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-key", "server.key"])
            .args(args)
            .current_dir(bench.swtpm.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl: install the Debian package `openssl`");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:").and_then(|port| port.trim().parse().ok()))
            .expect("openssl s_server says where it listens");
        (Self(process), port)
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_server_is_told() {
    let bench = Bench::new();
    measure(&bench.swtpm);
    let (_openssl, port) = Openssl::start(&bench, &["-www"]);
    let found = doctor(&bench, &["--url", &url(port), "--ca", "server.pem"]);
    found.has_problem(1, "ekm-otp", "this is no EKM-OTP server: it answers 200", "the right host and port");
    // OpenSSL 3.0 has no X25519MLKEM768, and its page no Date.
    let warnings = found.lines.iter().filter(|line| line.status == "warning").map(|line| line.check.as_str());
    assert!(warnings.eq(["key-exchange", "clock"]), "{}", found.shown());

    let (_openssl, port) = Openssl::start(&bench, &["-www", "-tls1_2"]);
    let found = doctor(&bench, &["--url", &url(port), "--ca", "server.pem"]);
    assert!(found.line("tls").status == "warning" && found.line("tls").finding.starts_with("TLSv1.2"), "{}", found.shown());

    // Something without TLS.
    let plain = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = plain.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut stream, _) = plain.accept().expect("a connection");
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
        let _ = stream.read(&mut [0; 1024]);
    });
    doctor(&bench, &["--url", &url(port)]).has_problem(1, "tls", "", "without TLS");
}

#[test]
fn a_credential_that_the_server_refuses_is_told_and_is_no_interception() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    write_private(&bench.path("other.b64"), "b3RoZXIgdGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZQ==\n");
    let imported = bench.client(&["key", "import", "--kid", "client1", "--secret-file", "other.b64", "--out", "other.pem"]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let server = Server::start(&bench, &[]);
    let url = url(server.port);
    let found = doctor(&bench, &["--kid", "client1", "--key", "other.pem", "--url", &url, "--ca", "server.pem"]);
    found.has_problem(77, "credential", "the server refuses the credential (401", "the server's registry");
    assert!(found.line("interception").finding.contains("none seen"), "{}", found.shown());
}

#[test]
fn a_server_or_a_key_that_asks_for_more_than_a_password_gets_it() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let registry = fs::read_to_string(bench.path("secrets.toml")).expect("the registry");
    for (flags, minimum, kind) in
        [(&["--credential", "jwe"][..], "", "(jwe)"), (&["--credential", "jws"], "", "(jws)"), (&[], "credential = \"jwe\"\n", "(jwe)")]
    {
        write_private(&bench.path("secrets.toml"), &format!("{registry}{minimum}"));
        let server = Server::start(&bench, flags);
        let url = url(server.port);
        let args = ["--url", &url, "--ca", "server.pem"];
        doctor(&bench, &args).is_well_but_for(&[]);
        let found = doctor(&bench, &[&["--kid", "client1", "--key", "client1.pem"], &args[..]].concat());
        found.is_well_but_for(&[]);
        assert!(found.line("credential").finding.contains(kind), "{}", found.shown());
    }
}

#[test]
fn it_asks_as_get_would_by_address_in_a_kind_and_in_the_profile_go() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let server = Server::start(&bench, &[]);
    let by_address = format!("https://127.0.0.1:{}", server.port);
    let who = ["--kid", "client1", "--key", "client1.pem", "--ca", "server.pem", "--url"];
    doctor(&bench, &[&who[..], &[&by_address]].concat()).has_problem(
        1,
        "interception",
        "not configured for the name 127.0.0.1",
        "--server-name",
    );
    let named = doctor(&bench, &[&who[..], &[&by_address, "--server-name", "localhost", "--credential", "jws"]].concat());
    named.is_well_but_for(&[]);
    assert!(named.line("dns").finding.contains("127.0.0.1") && named.line("credential").finding.contains("(jws)"), "{}", named.shown());
    drop(server);

    // One key of each wire. What is refused is told as such, and never tried on the other.
    let registry = fs::read_to_string(bench.path("secrets.toml")).expect("the registry");
    write_private(&bench.path("secrets.toml"), &format!("{registry}profile = \"go\"\n"));
    let server = Server::start(&bench, &["--profile", "v1", "--profile", "go"]);
    let url = url(server.port);
    let go = [&who[..], &[&url, "--profile", "go"]].concat();
    let found = doctor(&bench, &go);
    found.is_well_but_for(&["credential"]);
    assert!(found.line("credential").finding.contains("takes it (otp, profile go; it answers 204"), "{}", found.shown());
    doctor(&bench, &[&who[..], &[&url]].concat()).has_problem(77, "credential", "401", "its profile");
    write_private(&bench.path("secrets.toml"), &registry);
    drop(server);
    let server = Server::start(&bench, &["--profile", "v1", "--profile", "go"]);
    let url = self::url(server.port);
    doctor(&bench, &[&who[..], &[&url, "--profile", "go"]].concat()).has_problem(
        77,
        "credential",
        "refuses it (jwe, profile go): 401",
        "its profile",
    );
}

fn tls_server(bench: &Bench) -> TlsAcceptor {
    let policy = TlsPolicy::default();
    let certificate = CertificateDer::from_pem_file(bench.path("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(bench.path("server.key")).expect("a private key");
    let config = rustls::ServerConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(policy.versions())
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("certificate and key");
    TlsAcceptor::from(Arc::new(config))
}

/// It has the server's own certificate and relays every byte.
async fn proxy_that_ends_tls(bench: &Bench, server_port: u16) -> u16 {
    let policy = TlsPolicy::default();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(bench.path("server.pem")).expect("a certificate")).expect("a root");
    let outbound = rustls::ClientConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(policy.versions())
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (inbound, outbound) = (tls_server(bench), TlsConnector::from(Arc::new(outbound)));
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = tcp.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = tcp.accept().await.expect("a connection");
            let mut inbound = inbound.accept(stream).await.expect("a handshake");
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", server_port)).await.expect("the server");
            let name = ServerName::try_from("localhost").expect("a name");
            let mut outbound = outbound.connect(name, stream).await.expect("a handshake");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_ends_tls_is_found_with_a_key_and_without() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let server = Server::start(&bench, &[]);
    let port = proxy_that_ends_tls(&bench, server.port).await;
    let url = url(port);
    for key in [&[][..], &["--kid", "client1", "--key", "client1.pem"]] {
        let found = doctor(&bench, &[key, &["--url", &url, "--ca", "server.pem"]].concat());
        found.has_problem(77, "interception", "TLS ends somewhere between you and the server", "pass TLS through");
        assert_eq!(found.line("ekm-otp").status, "ok");
    }
    let (_, log) = server.end("TERM");
    assert_eq!(log.matches("the credential was made for another connection").count(), 4, "{log}");
}

/// Answers as a server does that is reached directly, with its clock this far off.
async fn server_with_another_clock(bench: &Bench, offset: i64) -> u16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let at = i64::try_from(now).expect("a time") + offset;
    let date = Command::new("date").env("LC_ALL", "C").args(["-u", "-d", &format!("@{at}"), "+%a, %d %b %Y %H:%M:%S GMT"]).output();
    let date = text(&date.expect("date").stdout).trim().to_owned();
    let acceptor = tls_server(bench);
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = tcp.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (stream, _) = tcp.accept().await.expect("a connection");
        let mut tls = acceptor.accept(stream).await.expect("a handshake");
        for error in ["", ", error=\"channel\"", ""] {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(tls.read_u8().await.expect("a request"));
            }
            let answer = format!(
                "HTTP/1.1 401 Unauthorized\r\nDate: {date}\r\nWWW-Authenticate: EKM-OTP realm=\"test\"{error}\r\nContent-Length: 0\r\n\r\n"
            );
            tls.write_all(answer.as_bytes()).await.expect("an answer");
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told() {
    let bench = Bench::new();
    measure(&bench.swtpm);
    for (offset, told) in [(-3600, "behind: tokens"), (3600, "ahead: tokens")] {
        let port = server_with_another_clock(&bench, offset).await;
        let found = doctor(&bench, &["--url", &url(port), "--ca", "server.pem"]);
        found.has_problem(1, "clock", told, "set both by NTP");
        assert!(found.line("clock").finding.contains("the server's is 36") || found.line("clock").finding.contains("the server's is 35"));
    }
    let port = server_with_another_clock(&bench, 30).await;
    doctor(&bench, &["--url", &url(port), "--ca", "server.pem"]).is_well_but_for(&["clock"]);
    let port = server_with_another_clock(&bench, 0).await;
    doctor(&bench, &["--url", &url(port), "--ca", "server.pem"]).is_well_but_for(&[]);
}

#[test]
fn wrong_usage_is_told_as_such() {
    let bench = Bench::new();
    for args in [
        &["--url", "http://localhost"][..],
        &["--url", "localhost"],
        &["--tcti", "mssim:"],
        &["--secret-file", "x"],
        &["--key", "a.pem", "--secret-file", "x", "--kid", "k", "--url", "https://localhost"],
        &["--key", "handle:0x40000001"],
    ] {
        let output = bench.client(&[&["doctor"], args].concat());
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(64), ""), "{args:?}: {}", text(&output.stderr));
    }
}

/// Two profiles for this server: one with the key in the TPM, one with the same secret in a file.
fn two_profiles(bench: &Bench, port: u16) {
    write_private(&bench.path("secret"), &bench.secret());
    let both = format!("origins = [\"https://localhost:{port}\"]\nkid = \"client1\"\nca = \"server.pem\"\n");
    let text = format!("[profile.work]\n{both}key = \"client1.pem\"\n[profile.spare]\n{both}secret_file = \"secret\"\n");
    write_private(&bench.path("config.toml"), &text);
}

/// `doctor` with that file.
fn over_profiles(bench: &Bench, args: &[&str]) -> Output {
    let mut client = common::client();
    client.arg("doctor").args(args).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env("EKM_OTP_CONFIG", "config.toml");
    client.current_dir(bench.swtpm.dir()).stdin(Stdio::null()).output().expect("the client")
}

#[test]
fn every_profile_is_looked_at_and_one_whose_tpm_was_cleared_is_told_with_the_way_back() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let server = Server::start(&bench, &[]);
    two_profiles(&bench, server.port);
    let of = |found: &Found, profile: Option<&str>| -> Vec<String> {
        let own = found.lines.iter().filter(|line| line.profile.as_deref() == profile);
        own.map(|line| line.check.clone()).collect()
    };

    let found = Found::read(&over_profiles(&bench, &["--json"]));
    found.is_well_but_for(&[]);
    assert_eq!(of(&found, None), TPM_CHECKS);
    assert_eq!(of(&found, Some("work")), [&KEY_CHECKS[..], &SERVER_CHECKS, &["credential"]].concat());
    assert_eq!(of(&found, Some("spare")), [&["secret-file"][..], &SERVER_CHECKS, &["credential"]].concat());
    // One alone; one by its server; and the text.
    let found = Found::read(&over_profiles(&bench, &["--json", "--profile-name", "spare"]));
    assert_eq!((found.code, of(&found, Some("work"))), (Some(0), vec![]), "{}", found.shown());
    let found = Found::read(&over_profiles(&bench, &["--json", "--url", &url(server.port), "-P", "work"]));
    found.is_well_but_for(&[]);
    assert_eq!(found.checks(), [&TPM_CHECKS[..], &KEY_CHECKS, &SERVER_CHECKS, &["credential"]].concat());
    let told = text(&over_profiles(&bench, &["--all-profiles"]).stdout);
    assert!(told.contains(&format!("\nprofile work: {}\n", url(server.port))), "{told}");

    bench.swtpm.tool("tpm2_clear", &["-c", "p"]);
    let found = Found::read(&over_profiles(&bench, &["--json"]));
    found.has_problem(1, "key-tpm", "does not belong to this TPM", "`ekm-otp-client enroll --replace BUNDLE`");
    let line = found.lines.iter().find(|line| line.status == "problem").expect("a problem");
    assert_eq!(line.profile.as_deref(), Some("work"));
    assert!(line.advice.as_deref().is_some_and(|advice| advice.contains("profile work")), "{}", found.shown());
    // Nothing is the matter with the other, nor with the server of this one.
    assert_eq!(of(&found, Some("spare")), [&["secret-file"][..], &SERVER_CHECKS, &["credential"]].concat());
    assert!(of(&found, Some("work")).ends_with(&["interception".to_owned(), "credential".to_owned()]), "{}", found.shown());
}

#[test]
fn a_profile_with_a_server_that_is_away_or_too_weak_is_told_and_hides_no_other() {
    let bench = Bench::new();
    bench.create_key();
    measure(&bench.swtpm);
    let server = Server::start(&bench, &[]);
    two_profiles(&bench, server.port);
    let whole = fs::read_to_string(bench.path("config.toml")).expect("the file");
    let (_openssl, weak) = Openssl::start(&bench, &["-www"]);
    let strict = "ca = \"server.pem\"\nrequire_post_quantum = true\n";
    let weak = format!("[profile.weak]\norigins = [\"https://localhost:{weak}\"]\nkid = \"a\"\nsecret_file = \"secret\"\n{strict}");
    let away = format!("{whole}[profile.away]\norigins = [\"https://localhost:{}\"]\nkid = \"a\"\nsecret_file = \"gone\"\n", free_port());
    write_private(&bench.path("config.toml"), &(away + &weak));
    let found = Found::read(&over_profiles(&bench, &["--json"]));
    assert_eq!(found.code, Some(69), "{}", found.shown());
    // OpenSSL 3.0 has no X25519MLKEM768: what is a warning else is none where the profile asks for it.
    for (check, profile) in [("key-file", "away"), ("tcp", "away"), ("key-exchange", "weak")] {
        let is_told =
            found.lines.iter().any(|line| line.check == check && line.status == "problem" && line.profile.as_deref() == Some(profile));
        assert!(is_told, "{check}: {}", found.shown());
    }
    assert!(
        found.lines.iter().filter(|line| !matches!(line.profile.as_deref(), Some("away" | "weak"))).all(|line| line.status == "ok"),
        "{}",
        found.shown()
    );

    // What is wrong with the file is told, and the TPM is looked at all the same.
    write_private(&bench.path("config.toml"), &whole.replace("kid", "kidd"));
    let found = Found::read(&over_profiles(&bench, &["--json"]));
    found.has_problem(1, "profiles", "line 3: unknown key `kidd`: `kid` is meant?", "mend the file");
    assert!(found.checks().ends_with(&TPM_CHECKS), "{}", found.shown());
}
