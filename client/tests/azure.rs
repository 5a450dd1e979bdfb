//! Tokens of Entra ID from keys in the TPM, against a token endpoint of our own in Python, which lets PyJWT verify assertions, and with msal and azure-identity as the users. All
//! names and keys are test data.

#![cfg(feature = "cloud")]

mod common;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../../tpm/tests/relay/mod.rs"]
mod relay;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use common::cloud::{PYTHON, Peer, Running, failed, json, left_until, python, testdata};
use common::{Bench, mode_of, text};
use ekm_otp_swtpm::Tap;
use relay::{Act, CC_SIGN, Relay};
use serde_json::Value;

const TENANT: &str = "45243fbe-b73f-4f7d-8213-a104a99e428e";
const CLIENT: &str = "cffeaee2-5617-4784-8a4b-b647efd676e1";
const STORAGE: &str = "https://storage.azure.com/.default";

/// A software TPM with a key in `rsa.pem` that signs in all ways, and one in `ssa.pem` as tpm2-tools import it for the seed; with certificates `NAME.direct.crt`.
fn bench() -> Bench {
    let bench = Bench::new();
    let made = bench.client(&["key", "create", "--kid", "app", "--kind", "rsa2048", "--out", "rsa.pem"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let swtpm = &bench.swtpm;
    swtpm.tool("openssl", &["genrsa", "-traditional", "-out", "plain.key", "2048"]);
    fs::write(bench.path("unique.dat"), [0, 0]).expect("writing");
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let primary = ["-Q", "-C", "o", "-G", "ecc", "-g", "sha256", "-c", "primary.ctx", "-a", attributes, "-u", "unique.dat"];
    swtpm.tool("tpm2_createprimary", &primary);
    let import =
        ["-Q", "-C", "primary.ctx", "-G", "rsa2048:rsassa:null", "-g", "sha256", "-i", "plain.key", "-u", "ssa.tpub", "-r", "ssa.tprv"];
    swtpm.tool("tpm2_import", &import);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let convert = ["key", "convert", "--public", "ssa.tpub", "--private", "ssa.tprv", "--no-password", "--out", "ssa.pem"];
    let made = bench.client(&convert);
    assert!(made.status.success(), "{}", text(&made.stderr));
    for name in ["rsa", "ssa"] {
        let public = bench.client(&["key", "public", "--key", &format!("{name}.pem")]);
        fs::write(bench.path(&format!("{name}.pub")), public.stdout).expect("writing");
    }
    let mut certify = Command::new(&*PYTHON);
    certify.arg("-B").arg(testdata("cloud/certificates.py")).args(["rsa.pub", "ssa.pub"]).current_dir(swtpm.dir());
    assert!(certify.status().expect("Python").success());
    bench
}

/// A key in `bound.pem` that is bound to register 23, with certificates.
fn bound(bench: &Bench) {
    let made = bench.client(&["key", "create", "--kid", "app", "--kind", "rsa2048", "--pcrs", "sha256:23", "--out", "bound.pem"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    fs::write(bench.path("bound.pub"), bench.client(&["key", "public", "--key", "bound.pem"]).stdout).expect("writing");
    let mut certify = Command::new(&*PYTHON);
    certify.arg("-B").arg(testdata("cloud/certificates.py")).arg("bound.pub").current_dir(bench.swtpm.dir());
    assert!(certify.status().expect("Python").success());
}

/// Where nobody listens any more.
fn nobody() -> String {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    format!("https://localhost:{port}")
}

fn entra(bench: &Bench, flags: &[&str]) -> Peer {
    let own = ["--certificate", "server.pem", "--private-key", "server.key"];
    let registered = ["--registered", "rsa.direct.crt", "ssa.direct.crt", "rsa.expired.crt"];
    Peer::start("azure/entra.py", &[&own, flags, &registered[..]].concat(), bench.swtpm.dir())
}

/// Sets what it does next. It speaks TLS.
fn control(entra: &Peer, what: &str) {
    let code = "import ssl, sys, urllib.request as r; r.urlopen(sys.argv[1] + '/control', sys.argv[2].encode(), context=ssl._create_unverified_context())";
    assert!(python(code, &[&entra.url("https"), what], &[], std::path::Path::new(".")).status.success());
}

fn azure(bench: &Bench, entra: &Peer, command: &str, key: &str, flags: &[&str]) -> Output {
    azure_of(bench, &bench.swtpm.tcti(), entra, command, key, flags)
}

fn azure_of(bench: &Bench, tcti: &str, entra: &Peer, command: &str, key: &str, flags: &[&str]) -> Output {
    let (url, key, certificate) = (entra.url("https"), format!("{key}.pem"), format!("{key}.direct.crt"));
    let mut own = vec!["azure", command, "--key", &key, "--authority", &url, "--tenant-id", TENANT, "--client-id", CLIENT];
    if !flags.contains(&"--certificate") {
        own.extend(["--certificate", &certificate]);
    }
    if command == "token" {
        own.extend(["--ca-file", "server.pem"]);
        if !flags.contains(&"--scope") {
            own.extend(["--scope", STORAGE]);
        }
    }
    bench.client_with(&[&own[..], flags].concat(), tcti)
}

fn told(entra: &Peer) -> Vec<Value> {
    entra.told().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn tokens_are_given_for_assertions_of_keys_that_can_do_pss_and_of_those_that_cannot() {
    let bench = bench();
    let (entra, tap) = (entra(&bench, &[]), Tap::on(&bench.swtpm));
    for (key, algorithm) in [("rsa", "PS256"), ("ssa", "RS256")] {
        // A TPM tests an algorithm before its first use, and has the command sent once more.
        assert!(azure(&bench, &entra, "assertion", key, &[]).status.success());
        let made = azure_of(&bench, &tap.tcti(), &entra, "token", key, &[]);
        assert!(text(&made.stdout).starts_with("test-data.token."), "{}", text(&made.stderr));
        assert_eq!(tap.take().commands.iter().filter(|command| **command == CC_SIGN).count(), 1, "{key}");
        let expected = serde_json::json!([{"alg": algorithm, "scope": STORAGE, "life": 600, "again": false, "x5c": 0}]);
        assert_eq!(Value::from(told(&entra)), expected);
    }
    // Several scopes are one field; the certificates go with it where that is said; the seed's names.
    let two = "https://a.example.test/.default,https://b.example.test/.default";
    let made = json(&azure(&bench, &entra, "token", "rsa", &["--scope", two, "--x5c", "--alg", "RS256", "--format", "json"]));
    assert_eq!(made["token_type"], "Bearer");
    assert!(made["expires_at"].as_str().is_some_and(|end| end.ends_with('Z')), "{made}");
    let expected = serde_json::json!([{"alg": "RS256", "scope": two.replace(',', " "), "life": 600, "again": false, "x5c": 1}]);
    assert_eq!(Value::from(told(&entra)), expected);
    let registered = ["--certificate", "server.pem", "--private-key", "server.key", "--registered", "rsa.crt"];
    let other = Peer::start("azure/entra.py", &registered, bench.swtpm.dir());
    let made = azure(&bench, &other, "token", "rsa", &["--certificate", "rsa.chain.crt", "--x5c"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(told(&other)[0]["x5c"], 2, "the chain goes with it");
    let url = entra.url("https");
    let seed =
        ["azure", "token", "--keyfile", "rsa.pem", "--tenant_id", TENANT, "--client_id", CLIENT, "--certificate_path", "rsa.direct.crt"];
    let made = bench.client(&[&seed[..], &["--scopes", STORAGE, "--authority", &url, "--ca-file", "server.pem"]].concat());
    assert!(made.status.success(), "{}", text(&made.stderr));
}

#[test]
fn a_certificate_or_key_that_cannot_do_is_named() {
    let bench = bench();
    let entra = entra(&bench, &[]);
    let (code, told) = failed(&azure(&bench, &entra, "token", "rsa", &["--certificate", "ssa.direct.crt"]));
    assert_eq!(code, Some(64));
    assert!(told.contains("certifies another key"), "{told}");
    let (code, told) = failed(&azure(&bench, &entra, "assertion", "rsa", &["--certificate", "rsa.expired.crt"]));
    assert_eq!(code, Some(64));
    assert!(told.contains("the certificate expired at"), "{told}");
    let (code, told) = failed(&azure(&bench, &entra, "token", "rsa", &["--certificate", "rsa.expired.crt"]));
    assert_eq!(code, Some(77));
    assert!(told.contains("AADSTS7000222") && told.contains("expired"), "{told}");
    let (code, told) = failed(&azure(&bench, &entra, "token", "ssa", &["--alg", "PS256"]));
    assert_eq!(code, Some(64));
    assert!(told.contains("cannot sign with RSASSA-PSS"), "{told}");
    let made = bench.client(&["key", "create", "--kid", "app", "--kind", "p256", "--out", "p256.pem"]);
    assert!(made.status.success());
    let (code, told) = failed(&azure(&bench, &entra, "token", "p256", &["--certificate", "rsa.direct.crt"]));
    assert_eq!(code, Some(64));
    assert!(told.contains("RSA keys only"), "{told}");
    assert!(entra.told().is_empty());
}

#[test]
fn refusals_say_what_to_do() {
    let bench = bench();
    let entra = Peer::start(
        "azure/entra.py",
        &["--certificate", "server.pem", "--private-key", "server.key", "--registered", "ssa.direct.crt"],
        bench.swtpm.dir(),
    );
    for (flags, code, words) in [
        (&[][..], "AADSTS700027", "not registered"),
        (&["--client-id", "00000000-0000-0000-0000-000000000000"], "AADSTS700016", "no such application"),
        (&["--tenant-id", "00000000-0000-0000-0000-000000000000"], "AADSTS90002", "no such tenant"),
        (&["--scope", "https://storage.azure.com/x"], "AADSTS1002012", "/.default"),
    ] {
        let own = ["azure", "token", "--key", "rsa.pem", "--certificate", "rsa.direct.crt", "--ca-file", "server.pem"];
        let url = entra.url("https");
        let mut all = [&own[..], &["--authority", &url], flags].concat();
        for (flag, value) in [("--client-id", CLIENT), ("--tenant-id", TENANT), ("--scope", STORAGE)] {
            if !flags.contains(&flag) {
                all.extend([flag, value]);
            }
        }
        let (exit, told) = failed(&bench.client(&all));
        assert_eq!(exit, Some(77), "{told}");
        assert!(told.contains(code) && told.contains(words), "{told}");
    }
    // An id that would change the URL.
    let (code, told) = failed(&bench.client(&[
        "azure",
        "assertion",
        "--key",
        "rsa.pem",
        "--certificate",
        "rsa.direct.crt",
        "--tenant-id",
        "x/../y",
        "--client-id",
        CLIENT,
    ]));
    assert_eq!(code, Some(64));
    assert!(told.contains("is no tenant id"), "{told}");
}

#[test]
fn what_passes_is_tried_again_and_a_clock_that_is_off_is_corrected_once() {
    let bench = bench();
    let entra = entra(&bench, &[]);
    control(&entra, r#"{"fail": [[500, {}], [429, {}, {"Retry-After": "1"}]]}"#);
    let began = SystemTime::now();
    let made = azure(&bench, &entra, "token", "rsa", &[]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(began.elapsed().is_ok_and(|took| took >= Duration::from_secs(1)), "Retry-After says so");
    let seen = told(&entra);
    assert_eq!((seen.len(), &seen[2]["again"]), (3, &false.into()), "each try has an assertion of its own");
    control(&entra, r#"{"fail": [[503, {}, {"Retry-After": "3600"}]]}"#);
    let (code, told) = failed(&azure(&bench, &entra, "token", "rsa", &["--timeout", "2s"]));
    assert_eq!(code, Some(69));
    assert!(told.contains("Entra ID (localhost)"), "{told}");
    for clock in [1200, -1200] {
        control(&entra, &format!("{{\"clock\": {clock}}}"));
        let made = azure(&bench, &entra, "token", "rsa", &["--format", "json"]);
        // Who looks at the end looks at this machine's clock, right or not.
        let left = left_until(&json(&made)["expires_at"]);
        assert!((3500..3600).contains(&left), "clock {clock}: {left} s left of 3599");
        assert!(text(&made.stderr).contains("the clock of this machine"), "{}", text(&made.stderr));
    }
    control(&entra, r#"{"clock": 0, "delay": 30}"#);
    assert_eq!(failed(&azure(&bench, &entra, "token", "rsa", &["--timeout", "1s"])).0, Some(69));
    control(&entra, r#"{"delay": 0}"#);
    let relay = Relay::on(&bench.swtpm, |code| if code == CC_SIGN { Act::BreakBefore } else { Act::Pass });
    let _ = entra.told();
    assert_eq!(failed(&azure_of(&bench, &relay.tcti(), &entra, "token", "rsa", &[])).0, Some(69));
    assert!(entra.told().is_empty());
}

#[test]
fn a_service_that_is_not_there_or_is_another_is_told_in_one_line_and_so_are_registers_that_have_changed() {
    let bench = bench();
    let entra = entra(&bench, &[]);
    let url = nobody();
    let flags = ["--timeout", "2s", "--scope", STORAGE, "--ca-file", "server.pem", "--authority"];
    let who = ["azure", "token", "--key", "rsa.pem", "--certificate", "rsa.direct.crt", "--tenant-id", TENANT, "--client-id", CLIENT];
    let (code, told) = failed(&bench.client(&[&who[..], &flags, &[&url]].concat()));
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("Entra ID (localhost)"), "{told}");
    // Who answers is certified by somebody else: nothing is sent, nothing tried again.
    let url = entra.url("https");
    let foreign = [&who[..], &["--scope", STORAGE, "--ca-file", "root.pem", "--authority", &url]].concat();
    let (code, told) = failed(&bench.client(&foreign));
    assert_eq!(code, Some(77), "{told}");
    assert!(told.contains("has not proved who it is"), "{told}");
    // Without TLS, to another machine.
    let plain = [&who[..], &["--scope", STORAGE, "--authority", "http://login.example.test"]].concat();
    let (code, told) = failed(&bench.client(&plain));
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("only https is spoken"), "{told}");

    bound(&bench);
    assert!(azure(&bench, &entra, "assertion", "bound", &[]).status.success());
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={}", "ab".repeat(32))]);
    let (code, told) = failed(&azure(&bench, &entra, "token", "bound", &[]));
    assert_eq!(code, Some(77), "{told}");
    assert!(told.contains("23"), "{told}");
    assert!(entra.told().is_empty());
}

#[test]
fn a_token_is_on_standard_output_alone_and_of_no_scope_is_one_asked() {
    let bench = bench();
    let entra = entra(&bench, &[]);
    let url = entra.url("https");
    let who = ["azure", "token", "--key", "rsa.pem", "--certificate", "rsa.direct.crt", "--tenant-id", TENANT, "--client-id", CLIENT];
    let to = ["--authority", &url, "--ca-file", "server.pem"];
    let mut client = common::client();
    client.args(who).args(to).args(["--scope", STORAGE]).env("RUST_LOG", "trace").env("TPM2TOOLS_TCTI", bench.swtpm.tcti());
    let made = client.current_dir(bench.swtpm.dir()).output().expect("the client");
    assert!(text(&made.stdout).starts_with("test-data.token.") && text(&made.stdout).ends_with('\n'), "{}", text(&made.stderr));
    assert!(made.stderr.is_empty(), "{}", text(&made.stderr));
    let (code, told) = (bench.client(&[&who[..], &to].concat()).status.code(), entra.told());
    assert_eq!((code, told.len()), (Some(64), 1));
    // A full disk.
    let full = Command::new(common::CLIENT)
        .args(who)
        .args(to)
        .args(["--scope", STORAGE])
        .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
        .current_dir(bench.swtpm.dir())
        .stdout(fs::File::create("/dev/full").expect("/dev/full"))
        .output()
        .expect("the client");
    assert_eq!(full.status.code(), Some(1));
    assert!(text(&full.stderr).contains("cannot write to standard output"), "{}", text(&full.stderr));
}

#[test]
fn msal_and_azure_identity_take_our_assertions() {
    let bench = bench();
    let entra = entra(&bench, &[]);
    let code = "
import subprocess, sys
url, client, tenant, scope, key = sys.argv[1:]
authority = f'{url}/{tenant}'
def assertion():
    command = [sys.argv[0] or '', 'azure', 'assertion', '--key', f'{key}.pem', '--certificate', f'{key}.direct.crt', '--authority', url]
    command[0] = __import__('os').environ['CLIENT']
    return subprocess.run([*command, '--tenant-id', tenant, '--client-id', client], check=True, capture_output=True, text=True).stdout.strip()

import msal
app = msal.ConfidentialClientApplication(
    client, authority=authority, client_credential={'client_assertion': assertion}, instance_discovery=False, validate_authority=False
)
answer = app.acquire_token_for_client([scope])
assert answer.get('access_token', '').startswith('test-data.token.'), answer

from azure.identity import ClientAssertionCredential
credential = ClientAssertionCredential(tenant, client, assertion, authority=url, disable_instance_discovery=True)
assert credential.get_token(scope).token.startswith('test-data.token.')
print('both')
";
    let url = entra.url("https");
    let (ca, tcti) = (bench.path("server.pem").display().to_string(), bench.swtpm.tcti());
    for key in ["rsa", "ssa"] {
        let variables = [("REQUESTS_CA_BUNDLE", ca.as_str()), ("TPM2TOOLS_TCTI", &tcti), ("CLIENT", common::CLIENT)];
        let ran = python(code, &[&url, CLIENT, TENANT, STORAGE, key], &variables, bench.swtpm.dir());
        assert_eq!(text(&ran.stdout).trim(), "both", "{}", text(&ran.stderr));
    }
    assert_eq!(told(&entra).len(), 4);
}

fn serving(bench: &Bench, entra: &Peer, tcti: &str, flags: &[&str], lines: usize) -> Running {
    let _ = fs::create_dir(bench.path("runtime"));
    let mut serve = common::client();
    serve.args(["azure", "serve", "--port", "0", "--key", "rsa.pem", "--certificate", "rsa.direct.crt", "--ca-file", "server.pem"]);
    serve.args(["--authority", &entra.url("https"), "--tenant-id", TENANT, "--client-id", CLIENT]).args(flags);
    serve.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", tcti).env("XDG_RUNTIME_DIR", bench.path("runtime")).env("RUST_LOG", "trace");
    Running::start(&mut serve, lines)
}

#[test]
fn azure_identity_works_unchanged_as_a_workload_and_as_a_managed_identity() {
    let bench = bench();
    let (entra, tap) = (entra(&bench, &[]), Tap::on(&bench.swtpm));
    let mut serving = serving(&bench, &entra, &tap.tcti(), &[], 10);
    let variables = serving.variables();
    let file = serving.variable("AZURE_FEDERATED_TOKEN_FILE");
    assert_eq!(mode_of(file.as_ref()), 0o600);
    let code = "
import sys
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential, WorkloadIdentityCredential
kind = {'workload': WorkloadIdentityCredential, 'managed': ManagedIdentityCredential, 'default': DefaultAzureCredential}[sys.argv[1]]
options = {} if sys.argv[1] == 'managed' else {'disable_instance_discovery': True}
print(kind(**options).get_token(sys.argv[2]).token)
";
    let ca = bench.path("server.pem").display().to_string();
    let ask = |kind: &str, wanted: &dyn Fn(&str) -> bool| {
        let own = variables.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<_> = own.chain([("REQUESTS_CA_BUNDLE", ca.as_str())]).collect();
        let ran = python(code, &[kind, STORAGE], &all, bench.swtpm.dir());
        assert!(text(&ran.stdout).starts_with("test-data.token."), "{kind}: {}", text(&ran.stderr));
        text(&ran.stdout)
    };
    let is_workload = |name: &str| name.starts_with("AZURE_") && !name.contains("POD");
    ask("workload", &is_workload);
    ask("default", &is_workload);
    let (_, _) = (entra.told(), tap.take());
    let first = ask("managed", &|name| name.starts_with("IDENTITY_"));
    for _ in 0..2 {
        assert_eq!(ask("managed", &|name| name.starts_with("IDENTITY_")), first);
    }
    assert_eq!(ask("default", &|name| name.contains("POD")), first, "one set for all");
    assert_eq!((entra.told().len(), tap.take().commands.iter().filter(|command| **command == CC_SIGN).count()), (1, 1));

    let curl = |fields: &[&str], path: &str| {
        let fields = fields.iter().flat_map(|field| ["-H", field]);
        let base = serving.variable("AZURE_POD_IDENTITY_AUTHORITY_HOST");
        let ran = Command::new("curl").args(["-s", "-w", "%{http_code}", &format!("{base}{path}")]).args(fields).output();
        text(&ran.expect("curl").stdout)
    };
    let (imds, msi) =
        ("/metadata/identity/oauth2/token?resource=https://storage.azure.com", "/msi/token?resource=https://storage.azure.com");
    let secret = serving.variable("IDENTITY_HEADER");
    let shown = format!("X-IDENTITY-HEADER: {secret}");
    for (fields, path, status) in [
        (&[][..], imds, "400"),
        (&["Metadata: true", "Host: evil.example.test"], imds, "403"),
        (&["Metadata: true", "X-Forwarded-For: 192.0.2.1"], imds, "403"),
        (&[], msi, "401"),
        (&["X-IDENTITY-HEADER: wrong"], msi, "401"),
        (&[&shown, "Host: evil.example.test"], msi, "403"),
        (&["Metadata: true"], "/metadata/identity/oauth2/token", "400"),
        // Identities that are not served here, by each name that libraries have for them.
        (&[&shown], &format!("{msi}&client_id=00000000-0000-0000-0000-000000000000"), "400"),
        (&[&shown], &format!("{msi}&object_id={CLIENT}"), "400"),
        (&[&shown], &format!("{msi}&mi_res_id=/subscriptions/x"), "400"),
        (&["Metadata: true"], &format!("{imds}&msi_res_id=/subscriptions/x"), "400"),
        (&[&shown, "X-HTTP-Method-Override: GET", "Content-Type: text/plain"], "/msi/token/", "404"),
    ] {
        let told = curl(fields, path);
        assert!(told.ends_with(status) && !told.contains("access_token"), "{fields:?} {path}: {told}");
    }
    let served = curl(&[&shown], &format!("{msi}&client_id={CLIENT}"));
    assert!(served.ends_with("200"), "its own name is known");

    // The slash at a resource's end is part of the audience.
    let _ = entra.told();
    assert!(curl(&[&shown], "/msi/token?resource=https%3A%2F%2Fmanagement.azure.com%2F").ends_with("200"));
    assert_eq!(told(&entra)[0]["scope"], "https://management.azure.com//.default");

    // What Entra refuses is refused: nothing that libraries try again, with a signature each time. What may pass is tried again here first.
    let failure = r#"[401, {"error": "invalid_client", "error_description": "AADSTS7000112: Application is disabled."}]"#;
    control(&entra, &format!("{{\"fail\": [{failure}, {failure}, {failure}, {failure}]}}"));
    let told = curl(&[&shown], "/msi/token?resource=https://vault.azure.net");
    assert!(told.ends_with("400") && told.contains("AADSTS7000112") && !told.contains("access_token"), "{told}");
    let _ = entra.told();
    for kind in ["IDENTITY_", "POD"] {
        let own = variables.iter().filter(|(name, _)| name.contains(kind)).map(|(name, value)| (name.as_str(), value.as_str()));
        let ran = python(code, &["managed", "https://vault.azure.net/.default"], &own.collect::<Vec<_>>(), bench.swtpm.dir());
        assert!(!ran.status.success() && text(&ran.stderr).contains("AADSTS7000112"), "{kind}: {}", text(&ran.stderr));
        assert_eq!(entra.told().len(), 1, "{kind}: Entra is asked once");
    }
    control(&entra, r#"{"fail": []}"#);

    // Many at once for what nobody has asked for yet.
    let many: Vec<_> = std::thread::scope(|scope| {
        let ask = || curl(&[&shown], "/msi/token?resource=https://graph.microsoft.com");
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    assert!(many.iter().all(|answer| answer.ends_with("200")), "{many:?}");
    assert_eq!(entra.told().len(), 1, "one of them refreshes, the others wait");

    let assertion = fs::read_to_string(&file).expect("the file");
    let (code, told) = serving.end();
    assert_eq!(code, Some(143));
    assert!(!told.contains("test-data.token") && !told.contains(&secret) && !told.contains(&assertion), "{told}");
    assert!(!std::path::Path::new(&file).exists(), "the file goes with it");
}

#[test]
fn only_who_is_told_a_secret_gets_tokens_where_that_is_said() {
    let mut bench = bench();
    let entra = entra(&bench, &[]);
    // A name that is somebody else's file is a slip: the key would be gone.
    let key = fs::read(bench.path("rsa.pem")).expect("the key");
    let slip = ["azure", "serve", "--port", "0", "--key", "rsa.pem", "--certificate", "rsa.direct.crt", "--token-file", "rsa.pem"];
    let url = entra.url("https");
    let slip = bench.client(&[&slip[..], &["--tenant-id", TENANT, "--client-id", CLIENT, "--authority", &url]].concat());
    let (code, told) = failed(&slip);
    assert!(code == Some(64) && told.contains("rsa.pem exists already"), "{told}");
    assert_eq!(fs::read(bench.path("rsa.pem")).expect("the key"), key);
    // What a run that was killed has left is no obstacle.
    fs::write(bench.path("token"), "eyJ.left-over.x").expect("writing");
    let mut serving = serving(&bench, &entra, &bench.swtpm.tcti(), &["--no-imds", "--token-file", "token"], 8);
    let endpoint = serving.variable("IDENTITY_ENDPOINT");
    let url = endpoint.replace("/msi/token", "/metadata/identity/oauth2/token?resource=x");
    let ran = Command::new("curl").args(["-s", "-w", "%{http_code}", "-H", "Metadata: true", &url]).output().expect("curl");
    assert!(text(&ran.stdout).ends_with("404"), "{}", text(&ran.stdout));
    assert_eq!(serving.variable("AZURE_FEDERATED_TOKEN_FILE"), bench.path("token").display().to_string());

    // A token that lives an hour, while this machine's clock is 20 minutes behind: it is not held beyond its end.
    control(&entra, r#"{"clock": 1200}"#);
    let shown = format!("X-IDENTITY-HEADER: {}", serving.variable("IDENTITY_HEADER"));
    let ran = Command::new("curl").args(["-s", "-H", &shown, &format!("{endpoint}?resource=x")]).output().expect("curl");
    let answer: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    let left: u64 = answer["expires_in"].as_str().and_then(|left| left.parse().ok()).expect("a number");
    assert!((3500..=3599).contains(&left), "{left}");

    // Without its TPM there is no token, and no error that could be taken for one; with it, there is again.
    let ask = |resource: &str| {
        let url = format!("{endpoint}?resource={resource}");
        text(&Command::new("curl").args(["-s", "-w", "%{http_code}", "-H", &shown, &url]).output().expect("curl").stdout)
    };
    bench.swtpm.kill();
    let told = ask("y");
    assert!(told.ends_with("503") && !told.contains("access_token"), "{told}");
    assert!(ask("x").ends_with("200"), "what is held is good");
    bench.swtpm.restart();
    let told = ask("y");
    assert!(told.ends_with("200"), "{told}");
    assert_eq!(serving.end().0, Some(143));
    assert!(!bench.path("token").exists());
}

#[test]
fn the_doctor_asks_entra_and_looks_at_the_certificate() {
    let bench = bench();
    let entra = entra(&bench, &[]);
    let url = entra.url("https");
    let doctor_at = |url: &str, key: &str, flags: &[&str]| {
        let own = ["doctor", "--azure", TENANT, "--key", key, "--ca", "server.pem", "--endpoint", url, "--timeout", "2"];
        let client: &[&str] = if flags.contains(&"--client-id") { &[] } else { &["--client-id", CLIENT] };
        let told = bench.client(&[&own[..], client, flags].concat());
        (told.status.code(), text(&told.stdout))
    };
    let doctor = |certificate: &str| doctor_at(&url, "rsa.pem", &["--certificate", certificate]);
    let (code, told) = doctor("rsa.direct.crt");
    assert!(code == Some(0) && told.contains(&format!("Entra ID gives tokens to {CLIENT}")), "{told}");
    let (code, told) = doctor("rsa.expired.crt");
    assert!(code == Some(77) && told.contains("the certificate expired at") && told.contains("AADSTS7000222"), "{told}");
    let (code, told) = doctor("ssa.direct.crt");
    assert!(code == Some(1) && told.contains("certifies another key"), "{told}");
    let (code, told) = doctor("rsa.crt");
    assert!(code == Some(77) && told.contains("AADSTS700027") && told.contains("not registered"), "{told}");
    let foreign = ["--certificate", "rsa.direct.crt", "--client-id", "00000000-0000-0000-0000-000000000000"];
    let (code, told) = doctor_at(&url, "rsa.pem", &foreign);
    assert!(code == Some(77) && told.contains("AADSTS700016") && told.contains("no such application"), "{told}");
    control(&entra, r#"{"clock": -1200}"#);
    let (code, told) = doctor("rsa.direct.crt");
    assert!(code == Some(0) && told.contains("the clock of this machine is") && told.contains("s ahead of"), "{told}");
    control(&entra, r#"{"clock": 0}"#);
    let (code, told) = doctor_at(&nobody(), "rsa.pem", &["--certificate", "rsa.direct.crt"]);
    assert!(code == Some(69) && told.contains("Entra ID (localhost)"), "{told}");
    let (code, told) = doctor_at(&url, "rsa.pem", &["--certificate", "none.crt"]);
    assert!(code == Some(69) && told.contains("none.crt"), "{told}");

    bound(&bench);
    let (code, told) = doctor_at(&url, "bound.pem", &["--certificate", "bound.direct.crt"]);
    assert!(code == Some(77) && told.contains("AADSTS700027"), "the key works, its certificate is not registered: {told}");
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={}", "ab".repeat(32))]);
    let (code, told) = doctor_at(&url, "bound.pem", &["--certificate", "bound.direct.crt"]);
    assert!(code == Some(77) && told.contains("sha256:23") && told.contains("not asked: the key cannot be used"), "{told}");
}
