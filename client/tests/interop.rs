//! The client against a server that nobody here wrote: pyOpenSSL, jwcrypto and nothing of ours (testdata/python).

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::{Bench, text, write_private};
use serde_json::{Value, json};

const KINDS: [&str; 3] = ["otp", "jws", "jwe"];
const PROBE: &str = "GET /.well-known/ekm-otp";
const REQUEST: &str = "GET /whoami?with=a%20query";
// Test data, used nowhere else.
const OTHER: &str = "b3RoZXIgdGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZQ==";

/// The Python server, and on its standard error what arrives: each request, and each connection's end.
const TELLING: &str = "
import sys, ekm_otp_server as server
def tell(*words): print(*words, file=sys.stderr, flush=True)
def read_head(connection, read_head=server.Connection.read_head):
    head = read_head(connection)
    if head: tell('request', head[0], head[1])
    return head
def handle(*arguments, handle=server.handle):
    handle(*arguments)
    tell('closed')
server.Connection.read_head, server.handle = read_head, handle
server.main()
";

/// The Python peers' folder. Their virtual environment is made where it is missing.
static PEERS: LazyLock<PathBuf> = LazyLock::new(|| {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/python");
    let made = Command::new(peers.join("setup.sh")).stdin(Stdio::null()).output().expect("testdata/python/setup.sh");
    assert!(made.status.success(), "testdata/python/setup.sh failed, and nothing is tested without it:\n{}", text(&made.stderr));
    peers
});

/// A running Python server for the key id `client1`. Killed when dropped.
struct PythonServer {
    port: u16,
    process: Child,
    told: Receiver<String>,
}

impl PythonServer {
    fn start(bench: &Bench, secret: &str, flags: &[&str]) -> Self {
        write_private(&bench.path("server.b64"), secret);
        let mut process = Command::new(PEERS.join(".venv/bin/python"))
            .args(["-B", "-c", TELLING, "--certificate", "server.pem", "--private-key", "server.key"])
            .args(["--kid", "client1", "--secret-file", "server.b64", "--server-name", "localhost"])
            .args(flags)
            .env("PYTHONPATH", &*PEERS)
            .current_dir(bench.swtpm.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the Python server");
        let (teller, told) = channel();
        let errors = BufReader::new(process.stderr.take().expect("its standard error"));
        std::thread::spawn(move || errors.lines().map_while(Result::ok).try_for_each(|line| teller.send(line)));
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let port = line.trim().strip_prefix("listening on 127.0.0.1:").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("the Python server did not start: {:?}", told.iter().collect::<Vec<_>>()));
        Self { port, process, told }
    }

    /// The requests of one connection, once that is closed.
    fn received(&self) -> Vec<String> {
        let mut requests = Vec::new();
        loop {
            let line = self.told.recv_timeout(Duration::from_secs(60)).expect("the connection's end");
            match line.strip_prefix("request ") {
                Some(request) => requests.push(request.to_owned()),
                None if line == "closed" => return requests,
                // Why the connection ended.
                None => {}
            }
        }
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A key in the TPM, `client1.pem`, and the same one in a file, `client1.b64`.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.create_key();
    write_private(&bench.path("client1.b64"), &bench.secret());
    bench
}

/// Where the client finds its key, and what it calls it.
const KEYS: [([&str; 2], &str); 2] = [(["--secret-file", "client1.b64"], "software key"), (["--key-file", "client1.pem"], "TPM")];
/// Two texts, and JSON between them.
const CLAIMS: [[&str; 2]; 3] = [
    ["--claim", "role=1 = \"one\", \u{e9}"],
    ["--claim", r#"limits:={"rows": 9, "exact": true, "of": ["a", null, -1.5]}"#],
    ["--claim", "text=9"],
];

/// Runs the client once: exit code, standard output, standard error.
fn whoami(bench: &Bench, server: &PythonServer, flags: &[&[&str]]) -> (Option<i32>, String, String) {
    let url = format!("https://localhost:{}/whoami?with=a%20query", server.port);
    let got = bench.client(&[&["get", &url, "--kid", "client1", "--ca", "server.pem"], &flags.concat()[..]].concat());
    (got.status.code(), text(&got.stdout), text(&got.stderr))
}

/// Served with each kind, key and TLS version, and what the server has read out of it. `told` must be on standard error.
fn served_in_each_kind(profile: &str, received: &[&str], told: &str) {
    let bench = bench();
    for (server_flags, flags, tls_version) in [(&[][..], &[][..], "TLSv1.3"), (&["--tls12-only"], &["--tls12"], "TLSv1.2")] {
        let server = PythonServer::start(&bench, &bench.secret(), &[&["--profile", profile], server_flags].concat());
        for (kind, (key, holder)) in KINDS.into_iter().flat_map(|kind| KEYS.map(|key| (kind, key))) {
            let case = format!("{kind}, {holder}, {tls_version}");
            let mut claims =
                json!({ "role": "1 = \"one\", \u{e9}", "limits": { "rows": 9, "exact": true, "of": ["a", null, -1.5] }, "text": "9" });
            if profile == "go" {
                (claims["iss"], claims["sub"]) = (json!("client1"), json!("client1"));
            }
            let (claims, claim_flags) = if kind == "otp" { (json!({}), &[][..]) } else { (claims, CLAIMS.as_flattened()) };
            let own = ["--profile", profile, "--credential", kind, "--verbose"];
            let (code, answer, errors) = whoami(&bench, &server, &[&own, &key, flags, claim_flags]);
            assert_eq!(code, Some(0), "{case}: {errors}");
            let expected = json!({ "kid": "client1", "credential": kind, "profile": profile, "claims": claims });
            assert_eq!(serde_json::from_str::<Value>(&answer).expect("JSON"), expected, "{case}");
            for line in [&format!("* TLS: {tls_version}, "), &format!("* {holder}: "), told] {
                assert!(errors.contains(line), "{case}: {line:?} is missing in:\n{errors}");
            }
            assert_eq!(server.received(), received, "{case}");
        }
    }
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

#[test]
fn the_python_server_takes_each_credential_in_v1_over_tls_1_3_and_1_2() {
    served_in_each_kind("v1", &[PROBE, REQUEST], "* server proof: verified, before the request was sent");
}

#[test]
fn the_python_server_takes_each_credential_in_the_profile_go_and_the_client_warns_that_it_proves_nothing() {
    served_in_each_kind("go", &[REQUEST], "warning: --profile go: the server proves nothing");
}

#[test]
fn a_server_that_refuses_or_does_not_prove_itself_gets_the_probe_and_nothing_else() {
    let bench = bench();
    let secret = bench.secret();
    let mut servers = vec![
        ("another_secret", OTHER, vec![], "the server refuses the credential (401 Unauthorized): unknown key id, another secret"),
        ("profile_go", &secret, vec!["--profile", "go"], "it answers 401 without an EKM-OTP challenge"),
    ];
    for accepted in KINDS {
        servers.push(("another_kind", &secret, vec!["--credential", accepted], "it wants another kind of credential from this key id"));
    }
    for (fault, secret, server_flags, why) in servers {
        let server = PythonServer::start(&bench, secret, &server_flags);
        // The kind that it takes, if it takes one only, is no fault.
        for kind in KINDS.into_iter().filter(|kind| !server_flags.contains(kind)) {
            let (code, answer, errors) = whoami(&bench, &server, &[&["--credential", kind], &KEYS[0].0]);
            assert_eq!((code, answer.as_str()), (Some(77), ""), "{fault}: {kind}: {errors}");
            assert!(errors.contains(why), "{fault}: {kind}: {errors}");
            assert_eq!(server.received(), [PROBE], "{fault}: {kind}");
        }
    }
}

#[test]
fn a_server_of_tls_1_2_alone_gets_no_request_unless_switched_on() {
    let bench = bench();
    let server = PythonServer::start(&bench, &bench.secret(), &["--tls12-only"]);
    let (code, answer, errors) = whoami(&bench, &server, &[&KEYS[0].0]);
    assert_eq!((code, answer.as_str()), (Some(1), ""), "{errors}");
    assert!(errors.contains("the TLS handshake failed"), "{errors}");
    assert_eq!(server.received(), Vec::<String>::new());
}

#[test]
fn a_refusal_in_the_profile_go_is_told() {
    let bench = bench();
    let secret = bench.secret();
    for (fault, secret, profile) in [("another_secret", OTHER, "go"), ("profile_v1", &secret, "v1")] {
        let server = PythonServer::start(&bench, secret, &["--profile", profile]);
        for kind in KINDS {
            let (code, answer, errors) = whoami(&bench, &server, &[&["--profile", "go", "--credential", kind], &KEYS[0].0]);
            assert_eq!((code, answer.as_str()), (Some(77), ""), "{fault}: {kind}: {errors}");
            assert!(errors.contains("the server answered 401"), "{fault}: {kind}: {errors}");
            assert_eq!(server.received(), [REQUEST], "{fault}: {kind}");
        }
    }
}
