//! Output that cannot be written: no panic, no lie, no work undone. All secrets are test data.

mod common;

use std::fs::OpenOptions;
use std::process::{Output, Stdio};

use common::{Bench, Server, text};

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").expect("/dev/full").into()
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn run(bench: &Bench, args: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let mut client = common::client();
    client.args(args).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).current_dir(bench.swtpm.dir()).stdin(Stdio::null());
    client.env("TSS2_LOG", "all+none").stdout(stdout).stderr(stderr).output().expect("the client")
}

const CREATE: [&str; 8] = ["key", "create", "--kid", "client1", "--out", "client1.pem", "--secret-out", "secrets.toml"];

#[test]
fn notes_that_cannot_be_shown_undo_no_work() {
    for stderr in [full(), closed()] {
        let bench = Bench::new();
        let made = run(&bench, &CREATE, Stdio::piped(), stderr);
        assert_eq!(made.status.code(), Some(0));
        let server = Server::start(&bench, &[]);
        assert_eq!(text(&bench.get(&server, "/get", &[]).stdout), "ok\n", "key and secret belong together");
    }
}

#[test]
fn a_secret_that_cannot_be_shown_leaves_no_key() {
    for stdout in [full(), closed()] {
        let bench = Bench::new();
        let made = run(&bench, &CREATE[..6], stdout, Stdio::piped());
        assert_eq!(made.status.code(), Some(1));
        assert!(text(&made.stderr).contains("the secret cannot be shown, the key is not kept: "), "{}", text(&made.stderr));
        assert!(!bench.path("client1.pem").exists());
    }
}

#[test]
fn a_result_that_cannot_be_written_is_an_error_and_a_closed_pipe_ends_quietly() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    for args in [
        &["--help"][..],
        &["key", "--help"],
        &["key", "inspect", "client1.pem"],
        &["key", "ek-name"],
        &["doctor"],
        &["doctor", "--json"],
        &["get", &url, "--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"],
    ] {
        let output = run(&bench, args, full(), Stdio::piped());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(
            text(&output.stderr),
            "ekm-otp-client: cannot write to standard output: No space left on device (os error 28)\n",
            "{args:?}"
        );
        let output = run(&bench, args, closed(), Stdio::piped());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
    }
}

#[test]
fn an_error_that_cannot_be_shown_keeps_its_exit_code() {
    let bench = Bench::new();
    for stderr in [full(), closed()] {
        assert_eq!(run(&bench, &["key", "inspect", "none.pem"], Stdio::piped(), stderr).status.code(), Some(69));
    }
    assert_eq!(run(&bench, &["key", "nonsense"], Stdio::piped(), full()).status.code(), Some(64));
}

#[test]
fn standard_output_is_written_to_only_where_that_is_no_secrets_file() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("folder")).expect("a folder");
    let with = |out: &[&str]| run(&bench, &[&CREATE[..4], out].concat(), Stdio::piped(), Stdio::piped());
    for (out, told) in [
        (&["--out", "x", "--secret-out", "x"][..], "--out and --secret-out name one file"),
        (&["--out", "x", "--secret-out", "./x"], "--out and --secret-out name one file"),
        // However it is written: the key is not there without its secret.
        (&["--out", "x", "--secret-out", "folder/../x"], "folder/../x exists already"),
        (&["--out", "nowhere/x", "--secret-out", "y"], "cannot create nowhere/x: No such file or directory (os error 2)\n"),
        (&["--out", "x", "--secret-out", "-"], "--secret-out -: leave it out"),
        (&["--out", "-"], "--out -: standard output gets the secret already"),
    ] {
        let refused = with(out);
        assert!(matches!(refused.status.code(), Some(64 | 69)), "{out:?}");
        assert!(text(&refused.stderr).contains(told), "{}", text(&refused.stderr));
    }
    assert!(!bench.path("x").exists() && !bench.path("-").exists());
    let made = with(&["--out", "-", "--secret-out", "secrets.toml"]);
    assert!(made.status.success() && text(&made.stdout).starts_with("-----BEGIN TSS2 PRIVATE KEY-----"), "{}", text(&made.stderr));
    assert!(!bench.path("-").exists() && bench.path("secrets.toml").exists());
    // Nothing else is left, and what is there is not overwritten.
    let again = with(&["--out", "y", "--secret-out", "secrets.toml"]);
    assert_eq!(again.status.code(), Some(64), "{}", text(&again.stderr));
    let names = std::fs::read_dir(bench.swtpm.dir()).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().starts_with(".ekm-otp-")));
}
