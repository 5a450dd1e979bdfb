//! What happens at a terminal: a pseudo-terminal with a person at it. All passwords are test data.

mod common;

use std::process::{Command, Output};

use common::{Bench, CLIENT, text};

/// Runs the client at a terminal of its own, with `script` (Python) as the person: `expect(text)` waits for what is shown, `type(text)` types,
/// `echo()` tells whether typing is shown, `pid` is the client.
fn at_terminal(bench: &Bench, arguments: &[&str], input: Option<&str>, script: &str) -> Output {
    let program = format!(
        r#"
import os, pty, select, signal, sys, termios
pid, fd = pty.fork()
if pid == 0:
    if {input:?} != "":
        os.dup2(os.open({input:?}, os.O_RDONLY), 0)
    os.execv({CLIENT:?}, [{CLIENT:?}] + sys.argv[1:])
shown = ""
def more():
    global shown
    try:
        piece = os.read(fd, 4096).decode()
    except OSError:
        piece = ""
    shown += piece
    return piece
def expect(text):
    while text not in shown:
        if not more(): sys.exit("%r is not shown: %r" % (text, shown))
def type(text): os.write(fd, text.encode())
def echo(): return bool(termios.tcgetattr(fd)[3] & termios.ECHO)
def end():
    while more(): pass
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)
{script}
"#,
        input = input.unwrap_or_default()
    );
    let mut python = Command::new("python3");
    python.args(["-c", &program]).args(arguments).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env_remove("SSH_ASKPASS");
    python.env_remove("TSS2_LOG").current_dir(bench.swtpm.dir()).output().expect("python3")
}

fn passes(output: &Output) {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

const CREATE: [&str; 10] = ["key", "create", "--kid", "c", "--kind", "p256", "--out", "k.pem", "--ask-password", "--describe"];

#[test]
fn a_password_is_asked_for_with_the_echo_off_and_the_terminal_is_as_before() {
    let bench = Bench::new();
    passes(&at_terminal(
        &bench,
        &CREATE,
        None,
        r#"
expect("Password for the key: ")
assert not echo()
type("test password\n")
expect("once more: ")
assert not echo()
type("test password\n")
assert end() == 0, shown
assert "test password" not in shown, shown
"#,
    ));
    // With a message on standard input.
    std::fs::write(bench.path("message"), "a message").expect("writing");
    let sign = ["key", "sign", "--key", "k.pem", "--scheme", "ecdsa"];
    passes(&at_terminal(
        &bench,
        &sign,
        Some("message"),
        r#"
expect("Password of the key: ")
assert not echo()
type("test password\n")
# The signature is no text.
def more():
    try: return os.read(fd, 4096)
    except OSError: return b""
assert end() == 0
"#,
    ));
}

#[test]
fn a_signal_is_heard_while_a_password_is_read_and_the_echo_comes_back() {
    for (signal, code) in [("SIGTERM", 143), ("SIGINT", 130)] {
        let bench = Bench::new();
        let script = format!(
            r#"
expect("Password for the key: ")
assert not echo()
os.kill(pid, signal.{signal})
status = os.waitpid(pid, 0)[1]
assert os.waitstatus_to_exitcode(status) == {code}, status
assert echo()
"#
        );
        passes(&at_terminal(&bench, &CREATE, None, &script));
        assert!(!bench.path("k.pem").exists());
    }
}

#[test]
fn the_lines_of_the_tpms_library_are_shown_only_where_they_are_wanted() {
    let bench = Bench::new();
    bench.create_key();
    let inspect = |variable: Option<&str>| {
        let other = common::Bench::new();
        let mut client = Command::new(CLIENT);
        client.args(["key", "inspect", "client1.pem"]).current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", other.swtpm.tcti());
        client.env_remove("TSS2_LOG").envs(variable.map(|value| ("TSS2_LOG", value)));
        let output = client.output().expect("the client");
        assert!(text(&output.stdout).contains("does not load it"), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    assert_eq!(inspect(None), "", "another TPM's refusal is told once, by us");
    assert!(inspect(Some("all+warning")).contains("WARNING:esys"));
}

#[test]
fn what_other_tools_call_it_is_understood_or_hinted_at() {
    let bench = Bench::new();
    for (args, told) in [
        (&["get", "https://localhost/", "--kid", "c", "--key", "k.pem", "--cert", "c.pem"][..], "no client certificate is used"),
        (&["get", "https://localhost/", "--kid", "c", "--key", "0x81008001"], "is written handle:0x81008001"),
        (&["get", "https://localhost/", "--kid", "c", "--secret-file", "s", "--cacert", "none.pem"], "cannot open s"),
        (&["key", "sign", "--key", "k.pem", "--scheme", "ecdsa", "--password-file", "-"], "standard input is the message"),
        (&["key", "delete", "0x8100"], "not a persistent handle"),
    ] {
        let output = bench.client(args);
        assert!(!output.status.success() && text(&output.stderr).contains(told), "{args:?}: {}", text(&output.stderr));
    }
    let short = text(&bench.client(&["get", "-h"]).stdout);
    let long = text(&bench.client(&["get", "--help"]).stdout);
    assert!(!short.contains("--unsafe-") && long.contains("--unsafe-plain-bus"), "{short}");
    assert!(short.contains("TPM:\n") && short.contains("Key:\n"), "{short}");
}

#[test]
fn a_refusal_names_what_was_shown() {
    let bench = Bench::new();
    bench.create_key();
    let server = common::Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    let output = bench.client(&["get", &url, "--kid", "nobody", "--key", "client1.pem", "--ca", "server.pem"]);
    assert_eq!(output.status.code(), Some(77));
    let told = text(&output.stderr);
    assert!(told.contains("The key id was nobody, the server's name localhost; `ekm-otp-client doctor`"), "{told}");
}
