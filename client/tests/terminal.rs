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
        # A signature is no text.
        piece = os.read(fd, 4096).decode("latin1")
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
    python
        .env_remove("XDG_RUNTIME_DIR")
        .env("EKM_OTP_CONFIG", "/dev/null")
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("NO_COLOR");
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
expect("Password of the key (Enter if it has none): ")
assert not echo()
type("test password\n")
assert end() == 0
"#,
    ));
}

/// A signing key as tpm2-tools make it, protected against guessing, in a file that does not tell whether it has a password.
fn key_of_tpm2_tools(bench: &Bench, file: &str, password: &[&str]) {
    let tool = |name: &str, args: &[&str]| drop(bench.swtpm.tool(name, args));
    std::fs::write(bench.path("unique"), [0, 0, 0, 0]).expect("writing");
    tool("tpm2_createprimary", &["-C", "o", "-G", "ecc", "-c", "primary.ctx", "-a", H2_ATTRIBUTES, "-u", "unique"]);
    let create = ["-C", "primary.ctx", "-G", "ecc256", "-u", "k.pub", "-r", "k.priv"];
    tool("tpm2_create", &[&create[..], password].concat());
    tool("tpm2_encodeobject", &["-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-o", file]);
    tool("tpm2_flushcontext", &["-t"]);
}

const H2_ATTRIBUTES: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";

fn wrong_passwords(bench: &Bench) -> String {
    let told = bench.swtpm.tool("tpm2_getcap", &["properties-variable"]);
    told.lines().find(|line| line.contains("TPM2_PT_LOCKOUT_COUNTER")).expect("it tells").trim().to_owned()
}

#[test]
fn a_key_that_may_have_a_password_is_tried_without_and_then_asked_for() {
    let bench = Bench::new();
    std::fs::write(bench.path("message"), "a message").expect("writing");
    key_of_tpm2_tools(&bench, "open.pem", &[]);
    key_of_tpm2_tools(&bench, "closed.pem", &["-p", "test password"]);
    fn sign(file: &str) -> [&str; 6] {
        ["key", "sign", "--key", file, "--scheme", "ecdsa"]
    }
    let sign_at_terminal = |file: &str, script: &str| {
        passes(&at_terminal(&bench, &sign(file), Some("message"), script));
    };
    let none_is_asked_for = "assert end() == 0, shown\nassert 'Password' not in shown, shown";
    let question = "expect('Password of the key (Enter if it has none): ')";

    sign_at_terminal("open.pem", none_is_asked_for);
    assert!(wrong_passwords(&bench).ends_with("0x0"));
    // The one try is counted, and no second one.
    for _ in 0..2 {
        sign_at_terminal("closed.pem", &format!("{question}\ntype('test password\\n')\nassert end() == 0, shown"));
        assert!(wrong_passwords(&bench).ends_with("0x1"));
    }
    // While the TPM remembers it, keys without one are asked for, too. An empty answer is one.
    sign_at_terminal("open.pem", &format!("{question}\ntype('\\n')\nassert end() == 0, shown"));

    // Where there is nobody to ask: it works, or what is wanted is told, and the TPM is never locked.
    let client = |file| {
        let mut client = Command::new("setsid");
        client.args(["--wait", CLIENT]).args(sign(file)).current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti());
        let message = std::fs::File::open(bench.path("message")).expect("the message");
        client.env_remove("SSH_ASKPASS").env_remove("XDG_RUNTIME_DIR").stdin(message).output().expect("setsid")
    };
    assert!(client("open.pem").status.success(), "{}", text(&client("open.pem").stderr));
    for _ in 0..4 {
        let refused = client("closed.pem");
        assert_eq!(refused.status.code(), Some(77), "{}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("--password-file or TPM_KEY_AUTH"), "{}", text(&refused.stderr));
    }
    assert!(wrong_passwords(&bench).ends_with("0x2"), "{}", wrong_passwords(&bench));
}

#[test]
fn a_signal_is_heard_while_a_password_is_read_and_the_echo_comes_back() {
    for (signal, code) in [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129), ("SIGQUIT", 131)] {
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
        let mut client = common::client();
        client.args(["key", "inspect", "client1.pem"]).current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", other.swtpm.tcti());
        client.env_remove("TSS2_LOG").envs(variable.map(|value| ("TSS2_LOG", value)));
        let output = client.output().expect("the client");
        assert!(text(&output.stdout).contains("does not load it"), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    assert_eq!(inspect(None), "", "another TPM's refusal is told once, by us");
    assert!(inspect(Some("all+warning")).contains("WARNING:esys"));
}

/// Descriptor 2 is the library's then.
#[test]
fn what_a_password_s_helper_writes_to_standard_error_is_shown() {
    let bench = Bench::new();
    let helper = bench.path("helper");
    std::fs::write(&helper, "#!/bin/sh\necho 'the helper was here' >&2\nexit 1\n").expect("writing");
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
    let mut client = common::client();
    client.args(CREATE).env("SSH_ASKPASS", &helper).env("SSH_ASKPASS_REQUIRE", "force").env_remove("TSS2_LOG");
    client.env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).current_dir(bench.swtpm.dir());
    let told = text(&client.output().expect("the client").stderr);
    assert!(told.contains("the helper was here") && told.contains("$SSH_ASKPASS gave no password"), "{told}");
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

#[test]
fn how_far_a_long_sealing_is_is_shown_at_a_terminal_and_nowhere_else() {
    let bench = Bench::new();
    std::fs::write(bench.path("in"), vec![0; 6 << 20]).expect("written");
    passes(&at_terminal(
        &bench,
        &["seal", "--pcrs", "sha256:16", "--in", "in", "--out", "sealed"],
        None,
        r#"
expect(" of 6.00 MiB, ")
assert end() == 0, shown
assert "wrote sealed" in shown, shown
"#,
    ));
    let quiet = bench.client(&["seal", "--pcrs", "sha256:16", "--in", "in", "--out", "again"]);
    assert!(quiet.status.success() && !text(&quiet.stderr).contains("MiB"), "{}", text(&quiet.stderr));
}

#[test]
fn a_terminal_gets_no_binary_unless_that_is_asked_for_but_bars_and_colours() {
    let bench = Bench::new();
    bench.create_key();
    let echo = common::echo::Echo::start();
    let server = common::Server::start_before(&bench, &echo.url(), &[]);
    let request = |path: &str, flags: &[&str], script: &str| {
        let url = format!("https://localhost:{}{path}", server.port);
        let args = ["request", &url, "--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"];
        passes(&at_terminal(&bench, &[&args, flags].concat(), None, script));
    };
    let refused = "expect(\"the answer is binary\")\nassert end() == 64, shown\nassert \"\\0\" not in shown, repr(shown)\n";
    request("/bytes/100", &[], refused);
    request("/bytes/100", &["-i"], &refused.replace("expect(", "expect(\"HTTP/2 200\")\nexpect("));
    request("/bytes/100", &["-o", "-"], "assert end() == 0, shown\nassert \"\\0\" * 100 in shown, repr(shown)\n");
    request("/", &[], "assert end() == 0, shown\nassert shown == \"ok\\r\\n\", repr(shown)\n");
    request("/bytes/30000000", &["-o", "got"], "expect(\" of 28.61 MiB, \")\nassert end() == 0, shown\n");
    request("/bytes/30000000", &["-s", "-o", "got"], "assert end() == 0, shown\nassert shown == \"\", repr(shown)\n");
    let drawn = "expect(\" of 200 requests, \")\nassert end() == 0, shown\nshown = shown.encode(\"latin1\").decode()\n";
    request(
        "/",
        &["--repeat", "200"],
        &format!("{drawn}assert \"\u{2588}\" in shown and \"\\x1b[32m\" in shown and \"p99.9\" in shown, shown\n"),
    );
}
