//! Both binaries and a software TPM, as a person runs them.

mod common;

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use common::{Bench, Server, mode_of, text, write_private};

#[test]
fn a_request_succeeds_and_the_verified_client_is_told_to_the_application() {
    let bench = Bench::new();
    bench.create_key();
    assert_eq!((mode_of(&bench.path("client1.pem")), mode_of(&bench.path("secrets.toml"))), (0o600, 0o600));
    let server = Server::start(&bench, &[]);

    let got = bench.get(&server, "/get", &[]);
    assert_eq!((got.status.code(), text(&got.stdout).as_str(), text(&got.stderr).as_str()), (Some(0), "ok\n", ""));

    let got = bench.get(&server, "/whoami", &["--verbose"]);
    let facts: serde_json::Value = serde_json::from_slice(&got.stdout).expect("JSON");
    let expected = serde_json::json!({
        "client": "Alice", "kid": "client1", "profile": "v1", "credential": "otp", "claims": null, "tls_version": "TLSv1.3", "cipher_suite": "TLS_AES_256_GCM_SHA384",
        "key_exchange_group": "X25519MLKEM768", "server_name": "localhost",
    });
    assert_eq!(facts, expected);
    let told = text(&got.stderr);
    for line in [
        "* TLS: TLSv1.3, TLS_AES_256_GCM_SHA384, X25519MLKEM768",
        "* TPM: one HMAC, ",
        "* server proof: verified, before",
        "* answer: 200 OK",
    ] {
        assert!(told.contains(line), "{line} is missing in:\n{told}");
    }
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());

    for (path, flags) in [("/nowhere", &[][..]), ("?x=1", &["--credential", "jws"][..])] {
        let got = bench.get(&server, path, flags);
        assert_eq!(got.status.code(), Some(1), "404 is a failure");
        assert!(text(&got.stderr).contains("404"), "{path}: {}", text(&got.stderr));
    }
    let (code, _) = server.end("TERM");
    assert_eq!(code, Some(0));
}

#[test]
fn a_token_carries_claims_of_the_callers_own_to_the_application() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    for kind in ["jws", "jwe"] {
        let claims = ["--credential", kind, "--claim", "role=admin", "--claim", "note=a=b", "--claim", r#"shift:={"from":9}"#, "--verbose"];
        let got = bench.get(&server, "/whoami?x=1", &claims);
        let facts: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&got.stderr)));
        assert_eq!((&facts["kid"], &facts["credential"]), (&"client1".into(), &kind.into()));
        assert_eq!(facts["claims"], serde_json::json!({"role": "admin", "note": "a=b", "shift": {"from": 9}}));
        let told = text(&got.stderr);
        assert!(told.contains("one HMAC") && told.contains("server proof: verified, before"), "{told}");
    }
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

#[test]
fn claims_that_cannot_travel_are_wrong_usage() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let long = format!("x={}", "x".repeat(4000));
    for (flags, told) in [
        (&["--claim", "role=admin"][..], "--credential jws or jwe"),
        (&["--credential", "jws", "--claim", "role"][..], "NAME=VALUE"),
        (&["--credential", "jws", "--claim", "=admin"][..], "no name"),
        (&["--credential", "jws", "--claim", "role:=admin"][..], "no JSON"),
        (&["--credential", "jws", "--claim", "aud=https://x"][..], "the claim aud is the protocol's own"),
        (&["--credential", "jws", "--claim", "a=1", "--claim", "a=2"][..], "stands twice"),
        (&["--credential", "jwe", "--claim", &long][..], "4096"),
        (&["--credential", "hotp"][..], "[possible values: otp, jws, jwe]"),
        (&["--profile", "go", "--mutual", "require"][..], "proves nothing"),
    ] {
        let got = bench.get(&server, "/get", flags);
        let stderr = text(&got.stderr);
        assert_eq!((got.status.code(), text(&got.stdout).as_str()), (Some(64), ""), "{flags:?}: {stderr}");
        assert!(stderr.contains(told), "{flags:?}: {stderr}");
    }
}

#[test]
fn a_kind_that_the_server_or_the_key_refuses_is_told_before_the_request_leaves() {
    let bench = Bench::new();
    bench.create_key();
    let registry = fs::read_to_string(bench.path("secrets.toml")).expect("the registry");
    for (flags, minimum) in [(&["--credential", "jwe"][..], ""), (&[][..], "credential = \"jwe\"\n")] {
        write_private(&bench.path("secrets.toml"), &format!("{registry}{minimum}"));
        let server = Server::start(&bench, flags);
        for (kind, code) in [("otp", Some(77)), ("jws", Some(77)), ("jwe", Some(0))] {
            let got = bench.get(&server, "/get", &["--credential", kind]);
            let told = text(&got.stderr);
            assert_eq!(got.status.code(), code, "{kind}: {told}");
            assert_eq!(code == Some(77), told.contains("it wants another kind of credential"), "{kind}: {told}");
        }
    }
}

#[test]
fn the_wire_of_the_go_original_works_where_both_sides_switch_it_on() {
    let bench = Bench::new();
    bench.create_key();
    let registry = fs::read_to_string(bench.path("secrets.toml")).expect("the registry");
    write_private(&bench.path("secrets.toml"), &format!("{registry}profile = \"go\"\n"));
    let server = Server::start(&bench, &["--profile", "v1", "--profile", "go", "--go-default-kid", "client1"]);
    for kind in ["otp", "jws", "jwe"] {
        let claim = if kind == "otp" { &[][..] } else { &["--claim", "role=admin"][..] };
        let got = bench.get(&server, "/whoami", &[&["--profile", "go", "--credential", kind], claim].concat());
        let facts: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&got.stderr)));
        assert_eq!((&facts["profile"], &facts["credential"]), (&"go".into(), &kind.into()));
        let claims = serde_json::json!({"iss": "client1", "sub": "client1", "role": "admin"});
        assert_eq!(facts["claims"], if kind == "otp" { serde_json::Value::Null } else { claims });
        assert!(text(&got.stderr).contains("warning: --profile go: the server proves nothing"));
    }
    // Its key is unknown on the other wire, and the other wire is never tried for it.
    let got = bench.get(&server, "/whoami", &[]);
    assert_eq!(got.status.code(), Some(77), "{}", text(&got.stderr));
    let (_, log) = server.end("TERM");
    assert!(log.contains("the profile go is on, and weaker than v1"), "{log}");
}

#[test]
fn each_run_shows_another_password() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let shown: Vec<String> = (0..3).map(|_| text(&bench.get(&server, "/get", &["--unsafe-show-otp"]).stderr)).collect();
    assert!(shown.iter().all(|line| line.contains("otp=\"")), "{shown:?}");
    assert!(shown[0] != shown[1] && shown[1] != shown[2] && shown[0] != shown[2], "{shown:?}");
}

#[test]
fn another_secret_or_key_id_is_refused() {
    let bench = Bench::new();
    bench.create_key();
    write_private(&bench.path("other.b64"), "b3RoZXIgdGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZQ==\n");
    let imported = bench.client(&["key", "import", "--kid", "client1", "--secret-file", "other.b64", "--out", "other.pem"]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    for (kid, key) in [("client1", "other.pem"), ("client2", "client1.pem")] {
        let got = bench.client(&["get", &url, "--kid", kid, "--key-file", key, "--ca", "server.pem"]);
        let told = text(&got.stderr);
        assert_eq!((got.status.code(), text(&got.stdout).as_str()), (Some(77), ""), "{told}");
        assert!(told.contains("the server refuses the credential (401"), "{told}");
    }
}

#[test]
fn a_secret_file_works_without_a_tpm_and_warns() {
    let bench = Bench::new();
    bench.create_key();
    write_private(&bench.path("secret"), &bench.secret());
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    let got = bench.client_with(&["get", &url, "--kid", "client1", "--secret-file", "secret", "--ca", "server.pem"], "device:/nonexistent");
    assert_eq!((got.status.code(), text(&got.stdout).as_str()), (Some(0), "ok\n"));
    assert!(text(&got.stderr).contains("warning: the secret is in a file"));
}

#[test]
fn an_ip_literal_and_a_dialled_address_work_where_configured() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &["--server-name", "127.0.0.1"]);
    let url = format!("https://127.0.0.1:{}/whoami", server.port);
    for (flags, server_name) in [(&[][..], ""), (&["--server-name", "localhost"][..], "localhost")] {
        let args = ["get", &url, "--kid", "client1", "--key-file", "client1.pem", "--ca", "server.pem"];
        let got = bench.client(&[&args, flags].concat());
        let facts: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&got.stderr)));
        assert_eq!(facts["server_name"], server_name);
    }
}

#[test]
fn no_secret_and_no_password_in_any_log_or_in_the_process_list() {
    let bench = Bench::new();
    bench.create_key();
    let secret = bench.secret();
    let server = Server::start(&bench, &["--log", "trace"]);
    let command_line = fs::read(format!("/proc/{}/cmdline", server.process.id())).expect("the process list");
    let environment = fs::read(format!("/proc/{}/environ", server.process.id())).expect("the process list");
    let mut passwords = Vec::new();
    let mut told = String::new();
    for kind in ["otp", "jws", "jwe", "otp"] {
        let got = bench.get(&server, "/whoami", &["--verbose", "--unsafe-show-otp", "--credential", kind]);
        let shown = text(&got.stderr);
        let (before, value) = shown.split_once(&format!("{kind}=\"")).expect("a credential");
        passwords.push(value.split('"').next().expect("a credential").to_owned());
        told += before;
    }
    let wrong = bench.client(&[
        "get",
        &format!("https://localhost:{}/", server.port),
        "--kid",
        "nobody",
        "--key-file",
        "client1.pem",
        "--ca",
        "server.pem",
    ]);
    told += &text(&wrong.stderr);
    let (code, log) = server.end("INT");
    assert_eq!(code, Some(0));
    assert!(
        log.contains("TRACE") && log.contains("request refused") && log.contains("kid=client1"),
        "the log is not what the test is about"
    );
    for text in [&log, &told, &text(&command_line), &text(&environment)] {
        assert!(!text.contains(&secret), "the secret");
        assert!(!passwords.iter().any(|otp| text.contains(otp.as_str())), "a password");
        for shown in ["otp=", "proof=", "jws=", "jwe=", "eyJ"] {
            assert!(!text.contains(shown), "{shown}");
        }
    }
}

#[test]
fn the_flag_for_demonstrations_shows_the_same_password_on_both_sides() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &["--unsafe-show-otp"]);
    let shown = text(&bench.get(&server, "/get", &["--unsafe-show-otp"]).stderr);
    let otp = shown.split_once("otp=\"").and_then(|(_, rest)| rest.split('"').next()).expect("a password").to_owned();
    let (_, log) = server.end("TERM");
    assert_eq!(log.matches(&otp).count(), 1, "{log}");
}

#[test]
fn a_client_that_is_killed_leaves_handles_and_the_next_one_flushes_them() {
    let bench = Bench::new();
    bench.create_key();
    // A server that accepts and never answers: the client waits with its key loaded.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://localhost:{}/", silent.local_addr().expect("an address").port());
    for signal in ["KILL", "KILL", "KILL", "TERM", "INT"] {
        let mut client = common::client()
            .args(["get", &url, "--kid", "client1", "--key-file", "client1.pem", "--ca", "server.pem"])
            .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
            .current_dir(bench.swtpm.dir())
            .stderr(Stdio::null())
            .spawn()
            .expect("the client");
        // It dials once the key is loaded.
        let (mut connection, _) = accept(&silent);
        assert_eq!(connection.read(&mut [0; 1]).expect("a ClientHello"), 1);
        assert!(Command::new("kill").args([&format!("-{signal}"), &client.id().to_string()]).status().expect("kill").success());
        client.wait().expect("its end");
        assert_eq!(bench.swtpm.loaded_handles().is_empty(), signal != "KILL", "after SIG{signal}");
    }
    let server = Server::start(&bench, &[]);
    assert_eq!(text(&bench.get(&server, "/get", &[]).stdout), "ok\n");
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

/// The next connection; a client that does not come must not hold the test for ever.
fn accept(listener: &std::net::TcpListener) -> (std::net::TcpStream, std::net::SocketAddr) {
    listener.set_nonblocking(true).expect("a socket");
    for _ in 0..1000 {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(false).expect("a socket");
                return (stream, peer);
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(std::time::Duration::from_millis(20)),
            Err(e) => panic!("{e}"),
        }
    }
    panic!("the client did not dial");
}

#[test]
fn a_tpm_that_is_gone_is_told_in_words() {
    let mut bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    bench.swtpm.kill();
    let got = bench.get(&server, "/get", &[]);
    let told = text(&got.stderr);
    assert_eq!(got.status.code(), Some(69), "{told}");
    assert!(told.contains("cannot reach the TPM at swtpm:") && told.contains("Is swtpm running"), "{told}");
    bench.swtpm.restart();
    assert_eq!(text(&bench.get(&server, "/get", &[]).stdout), "ok\n");
}

#[test]
fn wrong_usage_is_told_with_its_reason() {
    let bench = Bench::new();
    bench.create_key();
    let key = ["--kid", "client1", "--key-file", "client1.pem", "--ca", "server.pem"];
    for (reason, code, args) in [
        ("only https:// is served", 64, [&["get", "http://localhost/"][..], &key].concat()),
        ("user information is not allowed", 64, [&["get", "https://me@localhost/"][..], &key].concat()),
        ("a key id consists of", 64, vec!["get", "https://localhost/", "--kid", "a b", "--key-file", "client1.pem"]),
        ("--key (or --secret-file) is missing", 64, vec!["get", "https://localhost/", "--kid", "client1"]),
        ("write it as 'Name: value'", 64, [&["get", "https://localhost/", "--header", "nocolon"][..], &key].concat()),
        ("is not served yet", 64, [&["get", "https://localhost/", "--tcti", "swtpm:path=/x"][..], &key].concat()),
        (
            "not a TSS2 PRIVATE KEY file",
            64,
            vec!["get", "https://localhost/", "--kid", "client1", "--key-file", "server.pem", "--ca", "server.pem"],
        ),
        (
            "cannot read missing.pem",
            69,
            vec!["get", "https://localhost/", "--kid", "client1", "--key-file", "missing.pem", "--ca", "server.pem"],
        ),
        ("exists already", 64, vec!["key", "create", "--kid", "client1", "--out", "client1.pem"]),
        ("exists already", 64, vec!["key", "create", "--kid", "client1", "--out", "new.pem", "--secret-out", "secrets.toml"]),
        ("at least 16 are needed", 64, vec!["key", "import", "--kid", "c", "--out", "new.pem", "--secret-file", "short"]),
        ("not standard base64", 64, vec!["key", "import", "--kid", "c", "--out", "new.pem", "--secret-file", "words"]),
        ("chmod 600 server.pem", 77, vec!["key", "import", "--kid", "c", "--out", "new.pem", "--secret-file", "server.pem"]),
        ("not a persistent handle", 64, vec!["key", "create", "--kid", "c", "--out", "new.pem", "--parent", "0x40000001"]),
        ("no usable parent key", 69, vec!["key", "create", "--kid", "c", "--out", "new.pem", "--parent", "0x81000001"]),
    ] {
        write_private(&bench.path("short"), "dGVzdA==");
        write_private(&bench.path("words"), "not base64");
        let got = bench.client(&args);
        let told = text(&got.stderr);
        assert!(told.contains(reason), "{reason:?} is missing for {args:?}:\n{told}");
        assert_eq!(got.status.code(), Some(code), "{args:?}: {told}");
        assert!(!bench.path("new.pem").exists(), "{args:?} left a file");
    }
    assert!(fs::read_to_string(bench.path("client1.pem")).expect("reading").contains("TSS2"), "the key was overwritten");
}

#[test]
fn a_created_secret_is_shown_once_and_inspect_tells_the_key() {
    let bench = Bench::new();
    let made = bench.client(&["key", "create", "--kid", "team/a@b", "--describe", "--out", "k.pem"]);
    let entry = text(&made.stdout);
    assert!(entry.starts_with("[\"team/a@b\"]\nsecret = \""), "{entry}");
    assert!(!text(&made.stderr).contains("secret = "));
    let shown = text(&bench.client(&["key", "inspect", "k.pem"]).stdout);
    for part in ["HMAC-SHA256", "fixedtpm|fixedparent|userwithauth|noda|sign", "H-2 primary", "description: team/a@b"] {
        assert!(shown.contains(part), "{part} is missing in:\n{shown}");
    }
}

#[test]
fn a_command_that_is_ended_leaves_no_half_made_file() {
    let args = ["key", "create", "--kid", "c", "--out", "k.pem", "--secret-out", "k.toml"];
    for (signal, code) in [("TERM", Some(128 + 15)), ("KILL", None)] {
        let bench = Bench::new();
        let unnamed = || {
            let files = fs::read_dir(bench.swtpm.dir()).expect("the folder").map(|entry| entry.expect("an entry").file_name());
            files.filter(|name| name.to_string_lossy().starts_with(".ekm-otp-")).count()
        };
        bench.swtpm.freeze();
        let mut client = common::client()
            .args(args)
            .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
            .current_dir(bench.swtpm.dir())
            .stderr(Stdio::null())
            .spawn()
            .expect("the client");
        while unnamed() < 2 {
            assert!(client.try_wait().expect("the client").is_none(), "it ended early");
            std::thread::yield_now();
        }
        assert!(Command::new("kill").args([&format!("-{signal}"), &client.id().to_string()]).status().expect("kill").success());
        assert_eq!(client.wait().expect("its end").code(), code);
        assert!(!bench.path("k.pem").exists() && !bench.path("k.toml").exists(), "{signal}");
        bench.swtpm.thaw();
        if signal == "TERM" {
            assert_eq!(unnamed(), 0);
        }
        // Whatever a kill left is in nobody's way.
        let again = bench.client(&args);
        assert!(again.status.success(), "{signal}: {}", text(&again.stderr));
    }
}

#[test]
fn a_persistent_parent_needs_no_owner_password() {
    let bench = Bench::new();
    bench.swtpm.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc", "-c", "primary.ctx"]);
    bench.swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "primary.ctx", "0x81000001"]);
    bench.swtpm.tool("tpm2_flushcontext", &["-t"]);
    // Test data, used nowhere else.
    bench.swtpm.tool("tpm2_changeauth", &["-Q", "-c", "owner", "owner password"]);
    let refused = bench.client(&["key", "create", "--kid", "client1", "--out", "client1.pem"]);
    assert_eq!(refused.status.code(), Some(77), "{}", text(&refused.stderr));
    let made = bench.client(&[
        "key",
        "create",
        "--kid",
        "client1",
        "--out",
        "client1.pem",
        "--secret-out",
        "secrets.toml",
        "--parent",
        "0x81000001",
    ]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let server = Server::start(&bench, &[]);
    assert_eq!(text(&bench.get(&server, "/get", &[]).stdout), "ok\n");
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

#[test]
fn a_secret_is_imported_from_standard_input_in_each_format() {
    let bench = Bench::new();
    // Test data, used nowhere else.
    for (i, (format, input)) in [
        ("base64", "dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\n".as_bytes()),
        ("hex", b"746573742064617461"),
        ("hex", b"74657374206461746120746573742064617461\n"),
        ("raw", b"test data, used nowhere else ..."),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = common::client()
            .args(["key", "import", "--kid", "c", "--secret-file", "-", "--secret-format", format, "--out", &format!("k{i}.pem")])
            .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
            .current_dir(bench.swtpm.dir())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the client");
        std::io::Write::write_all(&mut client.stdin.take().expect("its input"), input).expect("writing");
        // The second has 9 bytes.
        assert_eq!(client.wait().expect("its end").success(), i != 1, "{format}");
    }
}
