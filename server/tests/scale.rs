//! What a large registry costs the server's binary: memory, in bytes per key. No times: they are the machine's.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use ekm_otp::Secret;

/// An eighth of a million: the store's tables, whose size is a power of two, are as full as with a million.
const KEYS: u32 = 125_000;
/// With a million keys: 500 MB (docs/operations.md).
const BYTES_PER_KEY: u64 = 500;

/// The most memory that a server had by the time when it listened (proc(5), VmHWM), with this registry.
fn peak(registry: &str, name: &str) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.path().join("server.pem"), certified.cert.pem()).expect("writing");
    fs::write(folder.path().join("server.key"), certified.signing_key.serialize_pem()).expect("writing");
    fs::write(folder.path().join(name), registry).expect("writing");
    fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).expect("chmod");
    let mut server = Command::new(env!("CARGO_BIN_EXE_ekm-otp-server"))
        .args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--server-name",
            "localhost",
            "--certificate",
            "server.pem",
            "--private-key",
            "server.key",
        ])
        .args(["--secrets", name, "--upstream", "demo"])
        .current_dir(folder.path())
        .env_remove("EKM_OTP_LOG")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server");
    let mut log = BufReader::new(server.stderr.take().expect("its log")).lines();
    let listens = log.by_ref().map(|line| line.expect("a line")).find(|line| line.contains("listening"));
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    server.kill().expect("its end");
    server.wait().expect("its end");
    assert!(listens.is_some(), "{name}: the server ended");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")).expect("a peak");
    peak.trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn each_key_of_a_large_registry_costs_at_most_500_bytes_while_it_is_read() {
    let secret = |i: u32| Secret::new([i.to_be_bytes(); 8].concat()).expect("a secret").encode_base64();
    let text = |keys: u32, entry: &dyn Fn(&mut String, u32, &str)| {
        let mut text = String::new();
        (1..=keys).for_each(|i| entry(&mut text, i, &secret(i)));
        text
    };
    let toml = |text: &mut String, i, secret: &str| {
        writeln!(text, "[device-{i:07}]\nsecret = \"{secret}\"\nclient = \"Client number {i:07}\"\n").expect("text");
    };
    let inline = |text: &mut String, i, secret: &str| {
        writeln!(text, "device-{i:07} = {{ secret = \"{secret}\", client = \"Client number {i:07}\" }}").expect("text");
    };
    let json = |text: &mut String, i, secret: &str| {
        let before = if i == 1 { "{" } else { "," };
        writeln!(text, "{before}\"device-{i:07}\":{{\"secret\":\"{secret}\",\"client\":\"Client number {i:07}\"}}").expect("text");
    };
    let without = peak(&text(1, &toml), "few.toml");
    for (name, registry) in [("many.toml", text(KEYS, &toml)), ("inline.toml", text(KEYS, &inline)), ("many.json", text(KEYS, &json) + "}")]
    {
        let each = (peak(&registry, name) - without) / u64::from(KEYS);
        assert!(each <= BYTES_PER_KEY, "{name}: {each} bytes for each key");
    }
}
