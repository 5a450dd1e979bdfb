//! Credentials of AWS by a certificate whose key is in the TPM, against a verifier of our own in Python, and what hands them out: `aws serve`, `aws update`. All names, keys
//! and certificates are test data.

#![cfg(feature = "cloud")]

mod common;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../../tpm/tests/relay/mod.rs"]
mod relay;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use common::cloud::{PYTHON, Peer, Running, control, failed, json, left_until, python, testdata};
use common::{Bench, mode_of, text, write_private};
use ekm_otp_swtpm::Tap;
use relay::{Act, CC_SIGN, Relay};
use serde_json::Value;

const ANCHOR: &str = "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/a";
const PROFILE: &str = "arn:aws:rolesanywhere:eu-west-1:123456789012:profile/b";
const ROLE: &str = "arn:aws:iam::123456789012:role/app";

/// A software TPM with a key of each kind, `KIND.pem`, and certificates for all.
fn bench(kinds: &[&str]) -> Bench {
    let bench = Bench::new();
    for kind in kinds {
        let key = format!("{kind}.pem");
        let made = bench.client(&["key", "create", "--kid", "app", "--kind", kind, "--out", &key]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let public = bench.client(&["key", "public", "--key", &key]);
        fs::write(bench.path(&format!("{kind}.pub")), public.stdout).expect("writing");
    }
    certify(&bench, kinds);
    bench
}

fn certify(bench: &Bench, kinds: &[&str]) {
    let mut make = Command::new(&*PYTHON);
    make.arg("-B").arg(testdata("cloud/certificates.py")).args(kinds.iter().map(|kind| format!("{kind}.pub")));
    let made = make.current_dir(bench.swtpm.dir()).output().expect("Python");
    assert!(made.status.success(), "{}", text(&made.stderr));
}

fn service(bench: &Bench, flags: &[&str]) -> Peer {
    Peer::start("aws/roles_anywhere.py", &[&["--anchor", "root.pem"], flags].concat(), bench.swtpm.dir())
}

/// The next answers: status, kind, message, and Retry-After where there is one.
fn fail(service: &Peer, answers: &[(u16, &str, &str, &str)]) {
    let answer = |(status, kind, message, after): &(u16, &str, &str, &str)| {
        let mut fields = serde_json::json!({ "x-amzn-ErrorType": kind });
        if !after.is_empty() {
            fields["Retry-After"] = (*after).into();
        }
        serde_json::json!([status, { "message": message }, fields])
    };
    control(service, &serde_json::json!({ "fail": answers.iter().map(answer).collect::<Vec<_>>() }).to_string());
}

/// The flags that name key, certificate and ARNs.
fn certified<'a>(url: &'a str, key: &'a str, certificate: &'a str) -> Vec<&'a str> {
    let own = ["--key", key, "--certificate", certificate, "--trust-anchor-arn", ANCHOR, "--profile-arn", PROFILE, "--role-arn", ROLE];
    [&own[..], &["--endpoint", url]].concat()
}

fn process(bench: &Bench, service: &Peer, key: &str, certificate: &str, flags: &[&str]) -> Output {
    let url = service.url("http");
    bench.client(&[&["aws", "roles-anywhere", "process"], &certified(&url, key, certificate)[..], flags].concat())
}

#[test]
fn keys_of_each_kind_get_credentials_with_certificates_in_pem_and_der_alone_and_with_their_chain() {
    let kinds = ["rsa2048", "p256", "p384"];
    let bench = bench(&kinds);
    let service = service(&bench, &[]);
    for kind in kinds {
        let key = format!("{kind}.pem");
        let file = |suffix: &str| format!("{kind}.{suffix}");
        let made = json(&process(&bench, &service, &key, &file("chain.crt"), &[]));
        assert!(made["AccessKeyId"].as_str().is_some_and(|id| id.starts_with("ASIATESTANYWHERE")), "{kind}: {made}");
        json(&process(&bench, &service, &key, &file("crt"), &["--intermediates", "intermediate.pem"]));
        json(&process(&bench, &service, &key, &file("der"), &["--intermediates", "intermediate.der"]));
        json(&process(&bench, &service, &key, &file("direct.crt"), &[]));
        // Without those in between the verifier does not find its anchor.
        let (code, told) = failed(&process(&bench, &service, &key, &file("crt"), &[]));
        assert_eq!(code, Some(77));
        assert!(told.contains("AccessDeniedException") && told.contains("--intermediates"), "{told}");
    }
}

#[test]
fn a_request_that_is_changed_on_its_way_is_refused() {
    let bench = bench(&["rsa2048", "p256"]);
    let reasons = [
        ("body", "signature does not match"),
        ("query", "signature does not match"),
        ("serial", "serial number"),
        ("signature", "signature does not match"),
        ("raw", "signature does not match"),
        ("chain", "Untrusted certificate"),
        ("algorithm", "algorithm is not the key's"),
        ("certificate", "serial number"),
    ];
    for (what, why) in reasons {
        let service = service(&bench, &["--tamper", what]);
        let key = if what == "algorithm" { "rsa2048" } else { "p256" };
        let (code, told) = failed(&process(&bench, &service, &format!("{key}.pem"), &format!("{key}.chain.crt"), &[]));
        assert_eq!(code, Some(77), "{what}");
        assert!(told.contains("AccessDeniedException") && told.contains(why), "{what}: {told}");
        assert!(service.told().is_empty(), "{what} was taken");
    }
    // What is not changed is taken: the verifier refuses nothing else.
    let service = service(&bench, &["--tamper", "nothing"]);
    json(&process(&bench, &service, "p256.pem", "p256.chain.crt", &[]));
}

#[test]
fn every_parameter_reaches_the_service_under_the_helpers_and_the_seeds_names() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &[]);
    let url = service.url("http");
    let own = ["--session-duration", "900", "--role-session-name", "me", "--instance-property", "rack=7"];
    json(&process(&bench, &service, "p256.pem", "p256.chain.crt", &own));
    let seed = [
        "aws",
        "roles-anywhere",
        "process",
        "--keyfile",
        "p256.pem",
        "--public_certificate_file",
        "p256.chain.crt",
        "--region",
        "eu-west-1",
        "--duration_seconds",
        "1000",
        "--trust_anchor_arn",
        ANCHOR,
        "--role_arn",
        ROLE,
        "--profile_arn",
        PROFILE,
        "--session_name",
        "foo",
        "--endpoint",
        &url,
    ];
    json(&bench.client(&seed));
    let mut told: Vec<Value> = service.told().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(told[0].as_object_mut().and_then(|call| call.remove("instanceProperties")), Some(serde_json::json!({"rack": "7"})));
    let call = |seconds: u64, name: &str| {
        serde_json::json!({
            "durationSeconds": seconds, "profileArn": PROFILE, "roleArn": ROLE, "trustAnchorArn": ANCHOR, "roleSessionName": name,
        })
    };
    assert_eq!(told, [call(900, "me"), call(1000, "foo")]);
    for (flag, value) in [("--tags", "a=b"), ("--external-id", "x"), ("--source-identity", "x")] {
        let (code, told) = failed(&process(&bench, &service, "p256.pem", "p256.chain.crt", &[flag, value]));
        assert_eq!(code, Some(64));
        assert!(told.contains(flag), "{told}");
    }
}

#[test]
fn a_certificate_that_cannot_do_is_named_before_anything_is_sent() {
    let bench = bench(&["p256", "p384"]);
    let service = service(&bench, &[]);
    let (code, told) = failed(&process(&bench, &service, "p256.pem", "p384.chain.crt", &[]));
    assert_eq!(code, Some(64));
    assert!(told.contains("certifies another key"), "{told}");
    let (code, told) = failed(&process(&bench, &service, "p256.pem", "p256.direct.crt", &["--intermediates", "intermediate.pem"]));
    assert_eq!(code, Some(64));
    assert!(told.contains("does not lead from the key's own to a root"), "{told}");
    let wrong = ["--trust-anchor-arn", "arn:aws:rolesanywhere:us-east-1:123456789012:trust-anchor/a"];
    let url = service.url("http");
    let mut flags = certified(&url, "p256.pem", "p256.chain.crt");
    flags.splice(4..6, wrong);
    let (code, told) = failed(&bench.client(&[&["aws", "roles-anywhere", "process"], &flags[..]].concat()));
    assert_eq!(code, Some(64));
    assert!(told.contains("different regions"), "{told}");
    assert!(service.told().is_empty());

    // Valid or not is the service's to say: the clock here may be the one that is wrong.
    let (code, told) = failed(&process(&bench, &service, "p256.pem", "p256.expired.crt", &[]));
    assert_eq!(code, Some(77));
    assert!(told.contains("AccessDeniedException") && told.contains("the certificate expired at"), "{told}");
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_told_in_one_line() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &[]);
    let call = |flags: &[&str]| process(&bench, &service, "p256.pem", "p256.chain.crt", flags);
    fail(&service, &[(500, "InternalServerException", "x", ""), (429, "ThrottlingException", "x", "1")]);
    json(&call(&[]));
    assert_eq!(service.told().len(), 3);
    fail(&service, &[(429, "ThrottlingException", "slow down", "3600")]);
    let (code, told) = failed(&call(&["--timeout", "2s"]));
    assert_eq!(code, Some(69));
    assert!(told.contains("Roles Anywhere (localhost)") && told.contains("slow down"), "{told}");
    fail(&service, &[(403, "AccessDeniedException", "Trust anchor disabled", "")]);
    let (code, told) = failed(&call(&[]));
    assert_eq!(code, Some(77));
    assert!(told.contains("Trust anchor disabled") && told.contains("switch the trust anchor"), "{told}");
    control(&service, r#"{"delay": 30}"#);
    assert_eq!(failed(&call(&["--timeout", "1s"])).0, Some(69));
    control(&service, r#"{"delay": 0, "clock": 1200}"#);
    let made = call(&[]);
    let left = left_until(&json(&made)["Expiration"]);
    assert!((3500..=3605).contains(&left), "{left} s left of an hour, by the clock that SDKs look at");
    assert!(text(&made.stderr).contains("behind the service's"), "{}", text(&made.stderr));

    let relay = Relay::on(&bench.swtpm, |code| if code == CC_SIGN { Act::BreakBefore } else { Act::Pass });
    let url = service.url("http");
    let flags = [&["aws", "roles-anywhere", "process", "--tpm-timeout", "2s"], &certified(&url, "p256.pem", "p256.chain.crt")[..]].concat();
    let _ = service.told();
    assert_eq!(failed(&bench.client_with(&flags, &relay.tcti())).0, Some(69));
    assert!(service.told().is_empty());
}

/// `NAME.key`, and `NAME.pub`.
fn software_key(bench: &Bench, name: &str, group: &str) {
    let script = format!(
        "umask 077; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{group} -out {name}.key && openssl pkey -in {name}.key -pubout -out {name}.pub"
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(bench.swtpm.dir()).output().expect("openssl");
    assert!(made.status.success(), "{}", text(&made.stderr));
}

#[test]
fn a_software_key_takes_the_place_of_a_tpm() {
    let bench = Bench::new();
    for (kind, group) in [("p256", "P-256"), ("p384", "P-384")] {
        software_key(&bench, kind, group);
    }
    certify(&bench, &["p256", "p384"]);
    let service = service(&bench, &[]);
    for kind in ["p256", "p384"] {
        let url = service.url("http");
        let (key, certificate) = (format!("{kind}.key"), format!("{kind}.chain.crt"));
        let mut flags = certified(&url, &key, &certificate);
        flags[0] = "--software-key";
        json(&bench.client_with(&[&["aws", "roles-anywhere", "process"], &flags[..]].concat(), "device:/nowhere"));
    }
}

fn serving(bench: &Bench, tcti: &str, flags: &[&str], lines: usize) -> Running {
    let runtime = bench.path("runtime");
    let _ = fs::create_dir(&runtime);
    let mut serve = common::client();
    serve.args(["aws", "serve", "--port", "0"]).args(flags).current_dir(bench.swtpm.dir());
    Running::start(serve.env("TPM2TOOLS_TCTI", tcti).env("XDG_RUNTIME_DIR", runtime).env("RUST_LOG", "trace"), lines)
}

/// One request over loopback, as written: status line and all that follows.
fn raw(url: &str, request: &str) -> String {
    let address = url.trim_start_matches("http://").split('/').next().expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).expect("writing");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn boto3_takes_credentials_from_both_endpoints_across_an_expiry_with_one_signature_for_each_set() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &["--lifetime", "4"]);
    let (url, tap) = (service.url("http"), Tap::on(&bench.swtpm));
    let flags = [&certified(&url, "p256.pem", "p256.chain.crt")[..], &["--duration", "900"]].concat();
    let mut serving = serving(&bench, &tap.tcti(), &flags, 3);
    let code = "
import datetime, time, boto3
found = boto3.Session(region_name='eu-west-1').get_credentials()
first = found.get_frozen_credentials().access_key
time.sleep(4.5)
if found.method == 'iam-role':
    # boto3 uses an instance's credentials for 12 minutes at least, whatever they say: so for it 11 have passed.
    now = found._time_fetcher
    found._time_fetcher = lambda: now() + datetime.timedelta(minutes=11)
then = found.get_frozen_credentials().access_key
assert first != then and all(one.startswith('ASIATESTANYWHERE') for one in (first, then)), (first, then)
print(found.method)
";
    let all = serving.variables();
    for (kind, method) in [("CONTAINER", "container-role"), ("METADATA", "iam-role")] {
        let own = all.iter().filter(|(name, _)| name.contains(kind)).map(|(name, value)| (name.as_str(), value.as_str()));
        // boto3 gives up after a second, which is short on a machine that has other work.
        let own = own.chain([("AWS_METADATA_SERVICE_TIMEOUT", "20"), ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "3")]);
        let ran = python(code, &[], &own.collect::<Vec<_>>(), bench.swtpm.dir());
        assert_eq!(text(&ran.stdout).trim(), method, "{}", text(&ran.stderr));
    }
    assert_eq!(mode_of(serving.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").as_ref()), 0o600);
    let (made, signed) = (service.told().len(), tap.take().commands.iter().filter(|command| **command == CC_SIGN).count());
    assert_eq!(signed, made, "one TPM2_Sign for each set of credentials");
    let file = serving.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let token = fs::read_to_string(&file).expect("the token");
    let (code, told) = serving.end();
    assert_eq!(code, Some(143));
    assert!(!told.contains(&token) && !told.contains("test data, secret") && !told.contains("test/data/anywhere"), "{told}");
    assert!(!std::path::Path::new(&file).exists(), "the token's file goes with it");
}

#[test]
fn credentials_are_held_and_asked_for_once() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &[]);
    let url = service.url("http");
    let serving = serving(&bench, &bench.swtpm.tcti(), &certified(&url, "p256.pem", "p256.chain.crt"), 3);
    let (address, file) =
        (serving.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"), serving.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"));
    let token = fs::read_to_string(file).expect("the token");
    for _ in 0..5 {
        let told =
            raw(&address, &format!("GET /container-credentials HTTP/1.1\nHost: localhost\nAuthorization: {token}\nConnection: close\n\n"));
        assert!(told.starts_with("HTTP/1.1 200") && told.contains("ASIATESTANYWHERE0001"), "{told}");
    }
    assert_eq!(service.told().len(), 1);
}

#[test]
fn who_may_not_have_credentials_gets_none() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &["--lifetime", "2"]);
    let url = service.url("http");
    let mut serving = serving(&bench, &bench.swtpm.tcti(), &certified(&url, "p256.pem", "p256.chain.crt"), 3);
    let address = serving.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let file = serving.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let authorization = fs::read_to_string(file).expect("the token");
    let ask = |line: &str, fields: &str| raw(&address, &format!("{line} HTTP/1.1\n{fields}Connection: close\n\n"));
    let role = "GET /latest/meta-data/iam/security-credentials/app";
    let put = "PUT /latest/api/token";
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds: ";
    // Without a token, as version 1 asks; with one that is not; without its lifetime, or with one too long.
    assert!(ask(role, "Host: localhost\n").starts_with("HTTP/1.1 401"));
    assert!(ask(role, "Host: localhost\nX-aws-ec2-metadata-token: x\n").starts_with("HTTP/1.1 401"));
    assert!(ask(put, "Host: localhost\n").starts_with("HTTP/1.1 400"));
    assert!(ask(put, &format!("Host: localhost\n{ttl}21601\n")).starts_with("HTTP/1.1 400"));
    // A foreign name that leads here, and what a proxy passes on.
    for fields in ["Host: evil.example.test\n", "Host: localhost\nX-Forwarded-For: 192.0.2.1\n"] {
        assert!(ask(put, &format!("{fields}{ttl}60\n")).starts_with("HTTP/1.1 403"), "{fields}");
        let told = ask("GET /container-credentials", &format!("{fields}Authorization: {authorization}\n"));
        assert!(told.starts_with("HTTP/1.1 403") && !told.contains("SecretAccessKey"), "{told}");
    }
    for shown in ["", "Authorization: wrong\n"] {
        assert!(ask("GET /container-credentials", &format!("Host: localhost\n{shown}")).starts_with("HTTP/1.1 401"));
    }
    // A token ends with its time.
    let token = ask(put, &format!("Host: localhost\n{ttl}1\n"));
    let token = token.rsplit("\r\n").next().expect("a token").to_owned();
    let fields = format!("Host: localhost\nX-aws-ec2-metadata-token: {token}\n");
    assert!(ask(role, &fields).contains("\"Code\":\"Success\""));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(ask(role, &fields).starts_with("HTTP/1.1 401"));

    // Credentials that have ended, and new ones that cannot be had.
    fail(&service, &[(403, "AccessDeniedException", "Trust anchor disabled", ""); 9]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let told = ask("GET /container-credentials", &format!("Host: localhost\nAuthorization: {authorization}\n"));
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("Trust anchor disabled") && !told.contains("SecretAccessKey"), "{told}");
    // Whoever runs it is told, too, and once.
    let (_, told) = serving.end();
    assert_eq!(
        told.lines().filter(|line| line.contains("no new credentials: ") && line.contains("Trust anchor disabled")).count(),
        1,
        "{told}"
    );
}

#[test]
fn new_credentials_are_there_before_an_sdk_asks() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &["--lifetime", "4"]);
    let url = service.url("http");
    let serving = serving(&bench, &bench.swtpm.tcti(), &certified(&url, "p256.pem", "p256.chain.crt"), 3);
    let mut looks = 0..300;
    let mut made = 0;
    while made < 3 {
        assert!(looks.next().is_some(), "nobody asked, and {made} were made");
        std::thread::sleep(std::time::Duration::from_millis(100));
        made += service.told().len();
    }
    drop(serving);
}

#[test]
fn a_profile_of_roles_anywhere_is_written_and_works() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &[]);
    let (url, home) = (service.url("http"), bench.path("home"));
    fs::create_dir(&home).expect("a folder");
    let tcti = bench.swtpm.tcti();
    let own = certified(&url, "p256.pem", "p256.crt");
    let configure = |flags: &[&str]| {
        let mut client = common::client();
        client.args(["aws", "configure", "--yes", "--tcti", &tcti, "--intermediates", "intermediate.pem"]).args(&own).args(flags);
        client.current_dir(bench.swtpm.dir()).env("HOME", &home).env("AWS_REGION", "us-west-2").output().expect("the client")
    };
    let more = ["--aws-session-name", "me", "--instance-property", "rack=a 1", "--duration", "15m"];
    let made = configure(&more);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let file = fs::read_to_string(home.join(".aws/config")).expect("the file");
    assert!(file.starts_with("[profile rolesanywhere]\n") && file.contains("\nregion = eu-west-1\n"), "{file}");
    let code = "import boto3; print(boto3.Session(profile_name='rolesanywhere').get_credentials().get_frozen_credentials().access_key)";
    let ran = python(code, &[], &[("HOME", home.to_str().expect("UTF-8"))], bench.swtpm.dir());
    assert!(text(&ran.stdout).starts_with("ASIATESTANYWHERE"), "{}", text(&ran.stderr));
    let told = service.told().join("\n");
    assert!(told.contains("a 1") && told.contains("\"me\"") && told.contains("900"), "{told}");
    // What could not work is not written.
    for (flags, why) in [
        (&["--aws-access-key-id", "AKIATESTTESTTESTTEST"][..], "one or the other"),
        (&["--external-id", "x"], "Roles Anywhere does not take this"),
        (&["--password-file", "-"], "standard input"),
    ] {
        let (code, told) = failed(&configure(flags));
        assert!(code == Some(64) && told.contains(why), "{told}");
    }
}

#[test]
fn a_secret_access_key_is_served_too_and_only_containers_get_it_where_that_is_said() {
    let bench = Bench::new();
    write_private(&bench.path("secret"), "test/data/only+0123456789abcdefghijklmno");
    let import = ["key", "import", "--kid", "AKIATESTTESTTESTTEST", "--aws-secret-file", "secret", "--out", "aws.pem"];
    assert!(bench.client(&import).status.success());
    let sts = Peer::start("aws/sts.py", &[], bench.swtpm.dir());
    let url = sts.url("http");
    let own = ["--aws-access-key-id", "AKIATESTTESTTESTTEST", "--key", "aws.pem", "--endpoint", &url, "--container-only"];
    let serving = serving(&bench, &bench.swtpm.tcti(), &own, 2);
    let mut variables = serving.variables();
    variables.extend([("AWS_ENDPOINT_URL_STS".into(), url.clone()), ("AWS_DEFAULT_REGION".into(), "us-east-1".into())]);
    let who = Command::new(PYTHON.with_file_name("aws"))
        .args(["sts", "get-caller-identity"])
        .envs(variables)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .expect("the AWS CLI");
    assert_eq!(json(&who)["Arn"], "arn:aws:iam::123456789012:user/test");
    let address = serving.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let token =
        raw(&address, "PUT /latest/api/token HTTP/1.1\nHost: localhost\nX-aws-ec2-metadata-token-ttl-seconds: 60\nConnection: close\n\n");
    assert!(token.starts_with("HTTP/1.1 404"), "{token}");
}

#[test]
fn the_credentials_file_gets_a_profile_and_new_credentials_before_the_old_end() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &[]);
    let (url, file) = (service.url("http"), bench.path("credentials"));
    let before = "# mine\n[default]\naws_access_key_id = old\naws_secret_access_key = old\naws_session_token = old\n\n[other]\naws_access_key_id = kept\n";
    write_private(&file, before);
    let mut update = common::client();
    update.args(["aws", "update", "--once", "--profile", "default"]).args(certified(&url, "p256.pem", "p256.chain.crt"));
    update.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env("AWS_SHARED_CREDENTIALS_FILE", &file);
    let made = update.output().expect("the client");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let now = fs::read_to_string(&file).expect("the file");
    let expected = "# mine\n[default]\naws_access_key_id = ASIATESTANYWHERE0001\naws_secret_access_key = test data, secret of session 1\n\
                    aws_session_token = test/data/anywhere/1==\n\n[other]\naws_access_key_id = kept\n";
    assert_eq!((now.as_str(), mode_of(&file)), (expected, 0o600));
    assert!(!text(&made.stderr).contains("secret of session"), "{}", text(&made.stderr));

    // A secret that may be nowhere else is not written over.
    let mut other = common::client();
    other.args(["aws", "update", "--once", "--profile", "other"]).args(certified(&url, "p256.pem", "p256.chain.crt"));
    other.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env("AWS_SHARED_CREDENTIALS_FILE", &file);
    let (code, told) = failed(&other.output().expect("the client"));
    assert!(code == Some(64) && told.contains("does not end by itself"), "{told}");

    // As long as it runs, new ones before the old end; what goes wrong meanwhile is told and tried again.
    let short = self::service(&bench, &["--lifetime", "4"]);
    let (url, other) = (short.url("http"), bench.path("other"));
    let mut update = common::client();
    update.args(["aws", "update", "--profile", "app"]).args(certified(&url, "p256.pem", "p256.chain.crt"));
    update.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env("AWS_SHARED_CREDENTIALS_FILE", &other);
    write_private(&bench.path("config"), "[profile app]\ncredential_process = x\n");
    let mut running = Running::start(update.env("AWS_CONFIG_FILE", bench.path("config")), 0);
    let mut tries = 0..300;
    while !fs::read_to_string(&other).is_ok_and(|now| now.contains("ASIATESTANYWHERE0003")) {
        assert!(tries.next().is_some(), "no third credentials");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let (code, told) = running.end();
    assert!(code == Some(143) && told.lines().filter(|line| line.contains("wrote credentials until")).count() >= 3, "{told}");
    assert!(told.contains("warning: [profile app] of") && told.contains("do not run any more"), "{told}");

    // Many at once: each profile is there at the end. A TPM without a resource manager is for one process at a time, so they use another key.
    software_key(&bench, "soft", "P-256");
    certify(&bench, &["soft"]);
    let service = self::service(&bench, &[]);
    let url = service.url("http");
    let mut own = certified(&url, "soft.key", "soft.chain.crt");
    own[0] = "--software-key";
    let started: Vec<Child> = (0..6)
        .map(|n| {
            let mut update = common::client();
            update.args(["aws", "update", "--once", "--profile", &format!("p{n}")]).args(&own).stderr(Stdio::null());
            update.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env("AWS_SHARED_CREDENTIALS_FILE", &file);
            update.spawn().expect("the client")
        })
        .collect();
    for mut child in started {
        assert!(child.wait().expect("its end").success());
    }
    let now = fs::read_to_string(&file).expect("the file");
    assert!((0..6).all(|n| now.contains(&format!("[p{n}]\naws_access_key_id = ASIATESTANYWHERE"))) && now.starts_with(expected), "{now}");
}

#[test]
fn a_certificate_s_data_is_shown() {
    let bench = bench(&["p256"]);
    let told = json(&bench.client(&["aws", "roles-anywhere", "read-certificate-data", "--certificate", "p256.chain.crt"]));
    let code = "
import json, sys
from cryptography import x509
one = x509.load_pem_x509_certificates(open(sys.argv[1], 'rb').read())[0]
print(json.dumps([str(one.serial_number), one.not_valid_after_utc.strftime('%Y-%m-%dT%H:%M:%SZ')]))
";
    let theirs: Value = serde_json::from_slice(&python(code, &["p256.chain.crt"], &[], bench.swtpm.dir()).stdout).expect("JSON");
    assert_eq!((&told["serialNumber"], &told["notAfter"]), (&theirs[0], &theirs[1]));
    assert!(told["subject"].as_str().is_some_and(|subject| subject.contains("CN=p256")), "{told}");
}

#[test]
fn the_doctor_asks_roles_anywhere_and_looks_at_the_certificate() {
    let bench = bench(&["p256"]);
    let service = service(&bench, &[]);
    let url = service.url("http");
    let doctor = |certificate: &str| {
        let told = bench.client(&[&["doctor"], &certified(&url, "p256.pem", certificate)[..]].concat());
        (told.status.code(), text(&told.stdout))
    };
    let (code, told) = doctor("p256.chain.crt");
    assert!(code == Some(0) && told.contains(&format!("Roles Anywhere gives sessions of {ROLE}")), "{told}");
    let apart = [&["doctor", "--intermediates", "intermediate.pem"], &certified(&url, "p256.pem", "p256.crt")[..]].concat();
    assert!(bench.client(&apart).status.success());
    let (code, told) = doctor("p256.expired.crt");
    assert!(code == Some(77) && told.contains("the certificate expired at"), "{told}");
    fail(&service, &[(403, "AccessDeniedException", "Trust anchor disabled", "")]);
    let (code, told) = doctor("p256.chain.crt");
    assert!(code == Some(77) && told.contains("switch the trust anchor"), "{told}");
}
