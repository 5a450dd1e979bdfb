//! What one process of the client costs, as far as it can be counted: times are in docs/performance.md.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bench, CLIENT, Server, server_binary, text};
use ekm_otp_swtpm::Tap;

fn has(binary: &Path, symbol: &str) -> bool {
    Command::new("grep").args(["-qaF", symbol]).arg(binary).status().expect("grep").success()
}

/// Else each process first collects entropy, for longer than all the rest takes.
#[test]
fn no_binary_brings_a_collector_of_the_cpu_s_jitter() {
    for binary in [PathBuf::from(CLIENT), server_binary()] {
        assert!(has(&binary, "CRYPTO_sysrand"), "{}: AWS-LC's symbols are not where this test looks", binary.display());
        assert!(!has(&binary, "jent_read_entropy"), "{}: is AWS_LC_SYS_NO_JITTER_ENTROPY=1 not set?", binary.display());
    }
}

/// The names of what TPM_CC (TCG part 2, 6.5.2) numbers.
fn name(command: &u32) -> &'static str {
    match command {
        0x131 => "CreatePrimary",
        0x155 => "HMAC",
        0x157 => "Load",
        0x161 => "ContextLoad",
        0x162 => "ContextSave",
        0x165 => "FlushContext",
        0x173 => "ReadPublic",
        0x176 => "StartAuthSession",
        0x17a => "GetCapability",
        _ => "another",
    }
}

/// On hardware each takes milliseconds, and CreatePrimary some hundred. GetCapability looks for leftovers, of software TPMs only.
#[test]
fn a_get_sends_no_more_commands_to_the_tpm_than_these() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let tap = Tap::on(&bench.swtpm);
    let runtime = bench.path("runtime");
    std::fs::create_dir(&runtime).expect("a folder");
    std::fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
    let commands = |keeps: bool, flags: &[&str]| {
        let _ = tap.take();
        let mut client = common::client();
        let url = format!("https://localhost:{}/get", server.port);
        client.args(["get", &url, "--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"]).args(flags);
        client.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", tap.tcti());
        if keeps {
            client.env("XDG_RUNTIME_DIR", &runtime);
        }
        let answer = client.output().expect("the client");
        assert_eq!(text(&answer.stdout), "ok\n", "{}", text(&answer.stderr));
        tap.take().commands.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    let (looks, session, load) = ("GetCapability GetCapability", "StartAuthSession", "Load FlushContext HMAC FlushContext");
    let (made, kept) = ("CreatePrimary", "ContextLoad ReadPublic");
    let plain = &["--unsafe-plain-bus"];
    assert_eq!(commands(false, &[]), format!("{looks} {made} {session} {load} FlushContext"));
    assert_eq!(commands(false, plain), format!("{looks} {made} {load}"));
    assert_eq!(commands(true, &[]), format!("{looks} {made} ContextSave {session} {load} FlushContext"));
    for _ in 0..2 {
        assert_eq!(commands(true, &[]), format!("{looks} {kept} {session} {load} FlushContext"));
        assert_eq!(commands(true, plain), format!("{looks} {kept} {load}"));
    }
}
