//! Credentials of AWS from a secret access key in the TPM: against moto, which verifies signatures by itself, against an STS of our own in Python, which lets
//! botocore verify them and fails as it is told to, and with boto3 and the AWS CLI as users. All names, keys and secrets are test data.

#![cfg(feature = "cloud")]

mod common;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../../tpm/tests/relay/mod.rs"]
mod relay;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::cloud::{PYTHON, Peer, control, failed, json, left_until, python};
use common::{Bench, CLIENT, mode_of, text, write_private};
use ekm_otp_swtpm::Tap;
use relay::{Act, CC_HMAC, Relay};
use serde_json::Value;

const ID: &str = "AKIATESTTESTTESTTEST";
const SECRET: &str = "test/data/only+0123456789abcdefghijklmno";
const ROLE: &str = "arn:aws:iam::123456789012:role/app";

/// A software TPM with a user's secret in `aws.pem`, and at 0x81010002.
fn bench(secret: &str) -> Bench {
    let bench = Bench::new();
    write_private(&bench.path("secret"), secret);
    let made = bench.client(&["key", "import", "--kid", ID, "--aws-secret-file", "secret", "--out", "aws.pem"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let kept = bench.client(&["key", "persist", "--key", "aws.pem", "--handle", "0x81010002"]);
    assert!(kept.status.success(), "{}", text(&kept.stderr));
    bench
}

fn sts(bench: &Bench, flags: &[&str]) -> Peer {
    Peer::start("aws/sts.py", flags, bench.swtpm.dir())
}

/// `aws COMMAND`, with the key in `aws.pem`.
fn aws(bench: &Bench, sts: &Peer, command: &str, flags: &[&str]) -> Output {
    aws_of(bench, &bench.swtpm.tcti(), sts, command, flags)
}

fn aws_of(bench: &Bench, tcti: &str, sts: &Peer, command: &str, flags: &[&str]) -> Output {
    let url = sts.url("http");
    let own = ["aws", command, "--aws-access-key-id", ID, "--key", "aws.pem", "--endpoint", &url];
    bench.client_with(&[&own[..], flags].concat(), tcti)
}

/// The next answers: status, code, and Retry-After where there is one.
fn fail(sts: &Peer, answers: &[(u16, &str, &str)]) {
    let answer = |(status, code, after): &(u16, &str, &str)| {
        let body = format!("<ErrorResponse><Error><Code>{code}</Code><Message>as told</Message></Error></ErrorResponse>");
        let fields = if after.is_empty() { serde_json::json!({}) } else { serde_json::json!({ "Retry-After": after }) };
        serde_json::json!([status, body, fields])
    };
    control(sts, &serde_json::json!({ "fail": answers.iter().map(answer).collect::<Vec<_>>() }).to_string());
}

#[test]
fn moto_verifies_what_is_signed_in_the_tpm() {
    let start = Bench::new();
    let moto = Peer::start("aws/moto_server.py", &[], start.swtpm.dir());
    let user: Value = serde_json::from_str(&moto.first).expect("JSON");
    let user = |name: &str| user[name].as_str().map_or_else(|| user[name].to_string(), str::to_owned);
    let bench = bench(&user("secret"));
    let url = format!("http://127.0.0.1:{}", user("port"));
    let (id, role) = (user("id"), user("role"));
    let call = |id: &str, flags: &[&str]| {
        let own = ["--aws-access-key-id", id, "--key", "aws.pem", "--endpoint", &url, "--aws-region", "us-east-1"];
        bench.client(&[&["aws"], flags, &own[..]].concat())
    };
    let told = call(&id, &["whoami", "--by", "direct"]);
    assert!(text(&told.stdout).contains(":user/test"), "{}", text(&told.stderr));
    // A role's session can be used at moto; it answers GetSessionToken with a fixed one that it does not know itself.
    let told = call(&id, &["whoami", "--by", "role", "--aws-arn", &role]);
    assert!(text(&told.stdout).contains(":assumed-role/app/ekm-otp "), "{}", text(&told.stderr));
    let made = json(&call(&id, &["process"]));
    assert_eq!((&made["Version"], made["AccessKeyId"].as_str()), (&Value::from(1), Some("AKIAIOSFODNN7EXAMPLE")));

    // An unknown key, and another secret.
    let (code, told) = failed(&call("AKIAUNKNOWNUNKNOWN00", &["process"]));
    assert_eq!(code, Some(77));
    assert!(told.contains("InvalidClientTokenId") && told.contains("no such access key"), "{told}");
    write_private(&bench.path("other"), "another secret".replace(' ', "0").repeat(2).as_str());
    let made = bench.client(&["key", "import", "--kid", ID, "--aws-secret-file", "other", "--out", "other.pem"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let own = ["aws", "process", "--aws-access-key-id", &id, "--key", "other.pem", "--endpoint", &url, "--aws-region", "us-east-1"];
    let (code, told) = failed(&bench.client(&own));
    assert_eq!(code, Some(77));
    assert!(told.contains("SignatureDoesNotMatch") && told.contains("AWS4") && told.contains("another secret than"), "{told}");
}

#[test]
fn a_body_that_is_changed_on_its_way_is_refused() {
    let start = Bench::new();
    let moto = Peer::start("aws/moto_server.py", &[], start.swtpm.dir());
    let user: Value = serde_json::from_str(&moto.first).expect("JSON");
    let bench = bench(user["secret"].as_str().expect("a secret"));
    // Passes a request on, with one letter of the body changed if it is told to.
    let code = "
import http.client, http.server, sys
class Relay(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length'])).replace(*(word.encode() for word in sys.argv[2:4]))
        there = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
        there.request('POST', self.path, body, dict(self.headers))
        answer = there.getresponse()
        self.send_response(answer.status); self.end_headers(); self.wfile.write(answer.read())
server = http.server.HTTPServer(('127.0.0.1', 0), Relay)
print(server.server_address[1], flush=True)
server.serve_forever()
";
    for (from, to, is_taken) in [("app", "app", true), ("app", "apq", false)] {
        let mut relay = Command::new(&*PYTHON);
        relay.args(["-c", code, &user["port"].to_string(), from, to]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut relay = relay.spawn().expect("Python");
        let mut port = String::new();
        BufReader::new(relay.stdout.take().expect("its output")).read_line(&mut port).expect("a port");
        let url = format!("http://localhost:{}", port.trim());
        let id = user["id"].as_str().expect("an id");
        let own = ["aws", "process", "--aws-access-key-id", id, "--key", "aws.pem", "--endpoint", &url, "--aws-region", "us-east-1"];
        // moto looks at Host, which the relay passes on as it was signed.
        let made = bench.client(&[&own[..], &["--aws-arn", user["role"].as_str().expect("a role")]].concat());
        let _ = relay.kill();
        let _ = relay.wait();
        assert_eq!(made.status.success(), is_taken, "{}", text(&made.stderr));
        assert!(is_taken || text(&made.stderr).contains("SignatureDoesNotMatch"), "{}", text(&made.stderr));
    }
}

#[test]
fn who_one_is_is_told_in_the_three_ways() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let told = text(&aws(&bench, &sts, "whoami", &["--roleARN", ROLE, "--role_session_name", "me"]).stdout);
    let told: Vec<_> = told.lines().map(|line| line.split_whitespace().rev().nth(2).expect("an ARN")).collect();
    let user = "arn:aws:iam::123456789012:user/test";
    assert_eq!(told, [user, user, "arn:aws:sts::123456789012:assumed-role/app/me"]);
}

/// The seed's four profiles, with the path to a link to the client.
fn profiles(bench: &Bench) -> Vec<&'static str> {
    symlink(CLIENT, bench.path("aws-tpm-process-credential")).expect("a link");
    let (program, pem) = (bench.path("aws-tpm-process-credential"), bench.path("aws.pem"));
    let (program, file) = (program.display(), format!("--credential-file={}", pem.display()));
    let handle = "--persistentHandle=0x81010002";
    let profiles = [
        ("sessiontoken", handle, ""),
        ("assumerole", handle, " --aws-arn=\"arn:aws:iam::123456789012:role/app\""),
        ("sessiontokenfile", &file, ""),
        ("assumerolefile", &file, " --aws-arn=\"arn:aws:iam::123456789012:role/app\""),
    ];
    let text: String = profiles
        .iter()
        .map(|(name, key, arn)| {
            let assume = !arn.is_empty();
            format!(
                "[profile {name}]\ncredential_process = {program} {arn} --aws-region=us-east-1 --aws-session-name=mysession \
                 --assumeRole={assume} {key} --aws-access-key-id={ID} --duration=3600 \n\n"
            )
        })
        .collect();
    fs::write(bench.path("config"), text).expect("writing");
    profiles.map(|(name, ..)| name).to_vec()
}

#[test]
fn boto3_and_the_aws_cli_run_with_the_profiles_of_the_go_original_across_an_expiry() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &["--lifetime", "2"]);
    let (url, config, tcti) = (sts.url("http"), bench.path("config").display().to_string(), bench.swtpm.tcti());
    let variables = [
        ("AWS_CONFIG_FILE", config.as_str()),
        ("AWS_ENDPOINT_URL_STS", &url),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("TPM2TOOLS_TCTI", &tcti),
    ];
    let code = "
import sys, time, boto3
for profile in sys.argv[1:]:
    session = boto3.Session(profile_name=profile)
    for _ in range(2):
        print(profile, session.client('sts').get_caller_identity()['Arn'])
        time.sleep(2.5)
";
    let names = profiles(&bench);
    let ran = python(code, &names, &variables, bench.swtpm.dir());
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let expected: String = names
        .iter()
        .map(|name| {
            let arn =
                if name.starts_with("assume") { "sts::123456789012:assumed-role/app/mysession" } else { "iam::123456789012:user/test" };
            format!("{name} arn:aws:{arn}\n").repeat(2)
        })
        .collect();
    assert_eq!(text(&ran.stdout), expected);
    for name in names {
        let cli = PYTHON.with_file_name("aws");
        let ran = Command::new(cli).args(["sts", "get-caller-identity", "--profile", name]).envs(variables).output().expect("the AWS CLI");
        assert_eq!(json(&ran)["Account"], "123456789012", "{name}");
    }
}

#[test]
fn every_parameter_of_a_session_reaches_aws() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    fs::write(bench.path("policy.json"), "{\"Version\": \"2012-10-17\"}").expect("writing");
    let role = [
        "--aws-arn",
        ROLE,
        "--aws-session-name",
        "me@here",
        "--duration",
        "15m",
        "--tags",
        "team=blue,stage=a b*~",
        "--transitive-tag-keys",
        "team",
        "--external-id",
        "x:1",
        "--session-policy-file",
        "policy.json",
        "--session-policy-arn",
        "arn:aws:iam::aws:policy/A",
        "--source-identity",
        "alice",
        "--mfa-serial",
        "arn:aws:iam::123456789012:mfa/alice",
        "--mfa-code",
        "123456",
    ];
    json(&aws(&bench, &sts, "process", &role));
    json(&aws(&bench, &sts, "process", &["--get_session_token=True", "--duration_seconds", "900"]));
    let told = sts.told();
    let form = |line: &str| serde_json::from_str::<Value>(line.splitn(3, ' ').nth(2).expect("a form")).expect("JSON");
    assert_eq!(
        form(&told[0]),
        serde_json::json!({
            "Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": ROLE, "RoleSessionName": "me@here", "DurationSeconds": "900",
            "Tags.member.1.Key": "team", "Tags.member.1.Value": "blue", "Tags.member.2.Key": "stage", "Tags.member.2.Value": "a b*~",
            "TransitiveTagKeys.member.1": "team", "ExternalId": "x:1", "Policy": "{\"Version\": \"2012-10-17\"}",
            "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/A", "SourceIdentity": "alice",
            "SerialNumber": "arn:aws:iam::123456789012:mfa/alice", "TokenCode": "123456",
        })
    );
    assert_eq!(form(&told[1]), serde_json::json!({"Action": "GetSessionToken", "Version": "2011-06-15", "DurationSeconds": "900"}));
}

#[test]
fn one_tpm_command_makes_credentials_and_none_goes_out_while_they_are_kept() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let (tap, runtime) = (Tap::on(&bench.swtpm), bench.path("runtime"));
    fs::create_dir(&runtime).expect("a folder");
    let process = |flags: &[&str]| {
        let mut client = common::client();
        client.args(["aws", "process", "--aws-access-key-id", ID, "--key", "aws.pem", "--endpoint", &sts.url("http")]).args(flags);
        client.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", tap.tcti()).env("XDG_RUNTIME_DIR", &runtime);
        client.output().expect("the client")
    };
    json(&process(&[]));
    let seen = tap.take();
    assert_eq!(seen.commands.iter().filter(|command| **command == CC_HMAC).count(), 1);
    assert!(!seen.shows(SECRET.as_bytes()), "the secret is on the bus");
    // kDate, good for all of today: encrypted, too.
    let day = json(&python_json(&["-c", DAY_KEY, SECRET]));
    for day in day.as_array().expect("days") {
        let key: Vec<u8> = day.as_array().expect("bytes").iter().map(|byte| byte.as_u64().expect("a byte") as u8).collect();
        assert!(!seen.shows(&key), "kDate is on the bus");
    }

    let first = json(&process(&["--cache"]));
    let _ = (tap.take(), sts.told());
    for _ in 0..3 {
        assert_eq!(json(&process(&["--cache"])), first);
    }
    assert!(tap.take().commands.is_empty() && sts.told().is_empty(), "the TPM and AWS are left alone");
    let other = json(&process(&["--cache", "--aws-arn", ROLE]));
    assert_ne!(other["AccessKeyId"], first["AccessKeyId"], "what is kept is for one role");
    for file in fs::read_dir(runtime.join("ekm-otp")).expect("the folder") {
        let path = file.expect("a file").path();
        assert_eq!(mode_of(&path), 0o600, "{}", path.display());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    }
    assert_ne!(json(&process(&["--cache"])), first, "what others can read is not believed");
}

/// kDate of yesterday, today and tomorrow, by Python.
const DAY_KEY: &str = "
import datetime, hashlib, hmac, json, sys
days = [datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=n) for n in (-1, 0, 1)]
print(json.dumps([list(hmac.digest(b'AWS4' + sys.argv[1].encode(), day.strftime('%Y%m%d').encode(), 'sha256')) for day in days]))
";

fn python_json(arguments: &[&str]) -> Output {
    Command::new(&*PYTHON).args(arguments).stdin(Stdio::null()).output().expect("Python")
}

#[test]
fn a_hundred_commands_that_share_a_cache_cost_one_call() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let runtime = bench.path("runtime");
    fs::create_dir(&runtime).expect("a folder");
    let config = format!(
        "[profile tpm]\ncredential_process = {CLIENT} aws process --cache --aws-access-key-id {ID} --key {}\n",
        bench.path("aws.pem").display()
    );
    fs::write(bench.path("config"), config).expect("writing");
    // Ten processes at a time, all of which find nothing at first; then the AWS CLI.
    let script = format!(
        "seq 90 | xargs -P 10 -I % {CLIENT} aws process --cache --aws-access-key-id {ID} --key {} > made && \
         for n in 1 2 3 4 5 6 7 8 9 10; do {} sts get-caller-identity --profile tpm > who || exit 1; done",
        bench.path("aws.pem").display(),
        PYTHON.with_file_name("aws").display()
    );
    let ran = Command::new("sh")
        .args(["-ec", &script])
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("AWS_CONFIG_FILE", bench.path("config"))
        .env("AWS_ENDPOINT_URL_STS", sts.url("http"))
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
        .current_dir(bench.swtpm.dir())
        .output()
        .expect("a shell");
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let told = sts.told();
    let calls = |action: &str| told.iter().filter(|line| line.starts_with(action)).count();
    assert_eq!((calls("GetSessionToken"), calls("GetCallerIdentity")), (1, 10), "{told:?}");
}

#[test]
fn what_passes_is_tried_again_within_the_time_and_told_in_one_line_after_it() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    fail(&sts, &[(500, "InternalFailure", ""), (503, "ServiceUnavailable", ""), (400, "Throttling", "")]);
    json(&aws(&bench, &sts, "process", &[]));
    assert_eq!(sts.told().len(), 4);

    fail(&sts, &[(429, "TooManyRequestsException", "1")]);
    let begun = Instant::now();
    json(&aws(&bench, &sts, "process", &[]));
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After is kept to");

    fail(&sts, &[(400, "Throttling", "3600")]);
    let (code, told) = failed(&aws(&bench, &sts, "process", &["--timeout", "2s"]));
    assert_eq!(code, Some(69));
    assert!(told.contains("STS (localhost)") && told.contains("within 2s") && told.contains("Throttling"), "{told}");

    control(&sts, r#"{"delay": 30}"#);
    let (code, told) = failed(&aws(&bench, &sts, "process", &["--timeout", "1s"]));
    assert_eq!(code, Some(69));
    assert!(told.contains("within 1s"), "{told}");
}

#[test]
fn nonsense_is_no_answer_and_no_panic() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let answer = |id: &str, end: &str| {
        let credentials = format!(
            "<Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>test data</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{end}</Expiration></Credentials>"
        );
        format!("<GetSessionTokenResponse><GetSessionTokenResult>{credentials}</GetSessionTokenResult></GetSessionTokenResponse>")
    };
    for (status, body, fields) in [
        (200, answer("", "2030-01-01T00:00:00Z"), serde_json::json!({})),
        (200, answer("ASIA", "2020-01-01T00:00:00Z"), serde_json::json!({})),
        (200, answer("ASIA", "9999-12-31T23:59:59-23:59"), serde_json::json!({})),
        (203, answer("ASIA", "2030-01-01T00:00:00Z"), serde_json::json!({})),
        (200, "<x".to_owned(), serde_json::json!({})),
        (503, String::new(), serde_json::json!({"Retry-After": "18446744073709551615"})),
    ] {
        control(&sts, &serde_json::json!({"fail": [[status, body, fields]]}).to_string());
        let (code, told) = failed(&aws(&bench, &sts, "process", &["--timeout", "3s"]));
        assert!([Some(1), Some(69), Some(77)].contains(&code), "{body}: {code:?} {told}");
        assert!(!told.contains("test data") && !told.contains("panicked"), "{told}");
    }
}

#[test]
fn an_sts_that_cannot_be_reached_is_named() {
    let bench = bench(SECRET);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let url = format!("http://127.0.0.1:{port}");
    let own = ["aws", "process", "--aws-access-key-id", ID, "--key", "aws.pem", "--timeout", "1s", "--endpoint"];
    let (code, told) = failed(&bench.client(&[&own[..], &[&url]].concat()));
    assert_eq!(code, Some(69));
    assert!(told.contains("STS (127.0.0.1)") && told.contains("refused"), "{told}");
    // What is not encrypted goes to this machine only.
    let (code, told) = failed(&bench.client(&[&own[..], &["http://sts.example.test"]].concat()));
    assert_eq!(code, Some(64));
    assert!(told.contains("only https"), "{told}");
}

/// A proxy that passes TLS through, as HTTPS_PROXY names it. Returns its port, and what it was asked first.
fn proxy() -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (teller, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().expect("a connection");
        let mut reader = BufReader::new(client.try_clone().expect("the connection"));
        let lines: Vec<String> = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let target = lines[0].split(' ').nth(1).expect("a target").to_owned();
        teller.send(lines[0].clone()).expect("the test");
        let server = TcpStream::connect(target).expect("the server");
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("writing");
        let (mut to, mut from) = (server.try_clone().expect("the connection"), client.try_clone().expect("the connection"));
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut &server, &mut &client);
    });
    (port, told)
}

#[test]
fn an_sts_is_believed_only_with_a_certificate_that_is_trusted_and_reached_through_the_proxy_of_the_environment() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &["--certificate", "server.pem", "--private-key", "server.key"]);
    let url = sts.url("https");
    let process = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut client = common::client();
        client.args(["aws", "process", "--aws-access-key-id", ID, "--key", "aws.pem", "--endpoint", &url]).args(flags);
        client.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).envs(variables.iter().copied());
        client.output().expect("the client")
    };
    json(&process(&["--ca-file", "server.pem"], &[]));
    let (code, told) = failed(&process(&[], &[]));
    assert_eq!(code, Some(77));
    assert!(told.contains("has not proved who it is") && told.contains("UnknownIssuer"), "{told}");
    assert_eq!(sts.told().len(), 1, "nothing was sent to it");

    let (port, asked) = proxy();
    json(&process(&["--ca-file", "server.pem"], &[("HTTPS_PROXY", &format!("http://127.0.0.1:{port}"))]));
    assert_eq!(asked.recv().expect("a connection"), format!("CONNECT localhost:{} HTTP/1.1", sts.first));
}

#[test]
fn what_is_not_encrypted_passes_no_proxy() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let mut client = common::client();
    client.args(["aws", "process", "--aws-access-key-id", ID, "--key", "aws.pem", "--endpoint", &sts.url("http")]);
    client.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti());
    let nobody = "http://127.0.0.1:1";
    json(&client.envs([("HTTP_PROXY", nobody), ("http_proxy", nobody), ("ALL_PROXY", nobody)]).output().expect("the client"));
}

#[test]
fn a_clock_that_is_off_is_corrected_once_and_told() {
    let bench = bench(SECRET);
    for (ahead, words) in [(1200, "behind"), (-1200, "ahead of")] {
        let sts = sts(&bench, &["--clock", &ahead.to_string()]);
        let made = aws(&bench, &sts, "process", &[]);
        // SDKs compare the end with this machine's clock, right or not.
        let left = left_until(&json(&made)["Expiration"]);
        assert!((3500..=3605).contains(&left), "{left} s left of an hour");
        let told = text(&made.stderr);
        assert!(told.contains(&format!("s {words} the service's")) && told.lines().count() == 1, "{told}");
    }
    // Whoever answers chooses no date that is far away, and none at all where it is not a matter of time.
    for (ahead, code) in [(3 * 86400, "RequestExpired"), (1200, "SignatureDoesNotMatch")] {
        let sts = sts(&bench, &["--clock", &ahead.to_string()]);
        fail(&sts, &[(403, code, ""); 2]);
        assert_eq!(failed(&aws(&bench, &sts, "process", &[])).0, Some(77));
        assert_eq!(sts.told().len(), 1, "{code}: one try");
    }
    // The service says that it is a matter of time, and its own Date says that it is not.
    let sts = sts(&bench, &[]);
    fail(&sts, &[(403, "RequestExpired", ""), (403, "RequestExpired", "")]);
    let (code, told) = failed(&aws(&bench, &sts, "process", &[]));
    assert_eq!(code, Some(77));
    assert!(told.contains("RequestExpired") && told.contains("clock"), "{told}");
    assert_eq!(sts.told().len(), 1, "nothing to correct, so no second try");
}

#[test]
fn refusals_say_what_to_do() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let (code, told) = failed(&aws(&bench, &sts, "process", &["--aws-arn", "arn:aws:iam::1:role/other"]));
    assert_eq!(code, Some(77));
    assert!(told.contains("AccessDenied") && told.contains("trust policy"), "{told}");

    // As tpm2-tools import a secret without the prefix.
    fs::write(bench.path("hmac.key"), SECRET).expect("writing");
    let swtpm = &bench.swtpm;
    fs::write(bench.path("unique.dat"), [0, 0]).expect("writing");
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let primary = ["-Q", "-C", "o", "-G", "ecc", "-g", "sha256", "-c", "primary.ctx", "-a", attributes, "-u", "unique.dat"];
    swtpm.tool("tpm2_createprimary", &primary);
    swtpm.tool("tpm2_import", &["-Q", "-C", "primary.ctx", "-G", "hmac", "-i", "hmac.key", "-u", "hmac.pub", "-r", "hmac.priv"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let convert = ["key", "convert", "--public", "hmac.pub", "--private", "hmac.priv", "--out", "raw.pem"];
    let made = bench.client(&convert);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let url = sts.url("http");
    let own = ["aws", "process", "--aws-access-key-id", ID, "--key", "raw.pem", "--endpoint", &url];
    let (code, told) = failed(&bench.client(&own));
    assert_eq!(code, Some(77));
    assert!(told.contains("SignatureDoesNotMatch") && told.contains("without the prefix AWS4"), "{told}");
}

#[test]
fn a_tpm_that_goes_in_the_middle_is_told_in_one_line() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let relay = Relay::on(&bench.swtpm, |code| if code == CC_HMAC { Act::BreakBefore } else { Act::Pass });
    let (code, told) = failed(&aws_of(&bench, &relay.tcti(), &sts, "process", &["--tpm-timeout", "2s"]));
    assert_eq!(code, Some(69), "{told}");
    assert!(sts.told().is_empty(), "nothing was sent");
}

#[test]
fn the_secret_is_taken_from_its_file_with_the_prefix_once() {
    let bench = Bench::new();
    let import = |secret: &str, out: &str| {
        write_private(&bench.path("secret"), secret);
        bench.client(&["key", "import", "--kid", ID, "--aws-secret-file", "secret", "--out", out])
    };
    let sts = sts(&bench, &[]);
    for (secret, out, is_warned) in [
        (format!("{SECRET}\n"), "a.pem", false),
        (format!("AWS4{SECRET}"), "b.pem", true),
        (format!("\u{feff}{SECRET}\r\n"), "c.pem", false),
    ] {
        let made = import(&secret, out);
        assert!(made.status.success(), "{}", text(&made.stderr));
        assert_eq!(text(&made.stderr).contains("begins with AWS4 already"), is_warned);
        assert!(text(&made.stderr).contains("delete it") && !text(&made.stderr).contains(SECRET));
        let url = sts.url("http");
        json(&bench.client(&["aws", "process", "--aws-access-key-id", ID, "--key", out, "--endpoint", &url]));
    }
    let made = import(&SECRET[1..], "short.pem");
    assert!(made.status.success() && text(&made.stderr).contains("39 characters"), "{}", text(&made.stderr));
    let two_words = format!("{ID}\n{SECRET}");
    for wrong in [&two_words, "Access key ID,Secret access key\nAKIA,abc", "short", "{\"SecretAccessKey\": \"x\"}"] {
        let (code, told) = failed(&import(wrong, "d.pem"));
        assert_eq!(code, Some(64));
        assert!(told.contains("one word"), "{told}");
    }
}

#[test]
fn a_password_as_an_argument_is_taken_under_the_seeds_names_and_warned_of() {
    let bench = Bench::new();
    write_private(&bench.path("secret"), SECRET);
    write_private(&bench.path("pw"), "testpwd");
    let import = ["key", "import", "--kid", ID, "--aws-secret-file", "secret", "--out", "aws.pem", "--password-file", "pw"];
    assert!(bench.client(&import).status.success());
    let sts = sts(&bench, &[]);
    for flag in ["--keyPass=testpwd", "--keypass=testpwd", "--password=testpwd"] {
        let made = aws(&bench, &sts, "process", &[flag]);
        json(&made);
        assert!(text(&made.stderr).contains("everybody on this machine can read the password"), "{}", text(&made.stderr));
    }
    let made = aws(&bench, &sts, "process", &["--password-file", "pw"]);
    json(&made);
    assert_eq!(text(&made.stderr), "");

    // The owner hierarchy's, whose primary the key lies under.
    bench.swtpm.tool("tpm2_changeauth", &["-c", "owner", "ownerpwd"]);
    let (code, told) = failed(&aws(&bench, &sts, "process", &["--password-file", "pw"]));
    assert!(code == Some(77) && told.contains("owner"), "{told}");
    for flag in ["--ownerpassword=ownerpwd", "--parentPass=ownerpwd"] {
        let made = aws(&bench, &sts, "process", &["--password-file", "pw", flag]);
        json(&made);
        assert!(text(&made.stderr).contains("everybody on this machine can read the password"), "{}", text(&made.stderr));
    }
}

#[test]
fn nothing_secret_is_logged_or_written_into_a_core_file() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let mut client = common::client();
    client.args(["aws", "process", "--aws-access-key-id", ID, "--key", "aws.pem", "--endpoint", &sts.url("http")]);
    client.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).env("RUST_LOG", "trace").env("TSS2_LOG", "all+trace");
    let made = client.output().expect("the client");
    json(&made);
    // The TPM's C library would show all that it encrypts and decrypts.
    assert_eq!(text(&made.stderr), "");
    let mut import = common::client();
    import.args(["key", "import", "--kid", ID, "--aws-secret-file", "secret", "--out", "again.pem"]).env("TSS2_LOG", "all+trace");
    let made = import.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).output().expect("the client");
    assert_eq!(text(&made.stderr).lines().count(), 2, "{}", text(&made.stderr));
    // Aborted while it waits for AWS.
    control(&sts, r#"{"delay": 30}"#);
    let dumps = |program: &str, arguments: &str| {
        let script = format!("ulimit -c unlimited; {program} {arguments} & sleep 1; kill -ABRT $!; wait $!; echo $?; ls core* 2>/dev/null");
        let ran =
            Command::new("sh").args(["-c", &script]).current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).output();
        text(&ran.expect("a shell").stdout)
    };
    let arguments = format!("aws process --aws-access-key-id {ID} --key aws.pem --endpoint {}", sts.url("http"));
    let ended = dumps(CLIENT, &arguments);
    assert_eq!(ended.trim(), "134", "aborted, and no core file");
    // One that makes a core file, so that this shows something.
    assert!(dumps("sleep", "30").contains("core"), "this machine writes no core files");
}

#[test]
fn any_request_is_signed_and_a_url_presigned() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let url = format!("{}/", sts.url("http"));
    fs::write(bench.path("body"), "Action=GetCallerIdentity&Version=2011-06-15").expect("writing");
    let own = ["--aws-access-key-id", ID, "--key", "aws.pem", "--service", "sts", "--aws-region", "eu-west-1"];
    let request =
        [&["aws", "request", "POST", &url, "--body", "body", "-H", "Content-Type: application/x-www-form-urlencoded"], &own[..]].concat();
    let answer = bench.client(&request);
    assert!(text(&answer.stdout).contains("<Arn>arn:aws:iam::123456789012:user/test</Arn>"), "{}", text(&answer.stderr));
    // With GET, and a query that is not in order.
    let get = format!("{url}?Version=2011-06-15&Action=GetCallerIdentity");
    let answer = bench.client(&[&["aws", "request", "GET", &get], &own[..]].concat());
    assert!(text(&answer.stdout).contains(":user/test</Arn>"), "{}{}", text(&answer.stdout), text(&answer.stderr));
    // A refusal is shown as it came, and is no success.
    let wrong =
        bench.client(&[&["aws", "request", "POST", &url, "--body", "body"], &own[..4], &["--service", "s4", "--aws-region", "x"]].concat());
    assert_eq!(wrong.status.code(), Some(77));
    assert!(text(&wrong.stdout).contains("MissingAuthenticationToken"), "{}", text(&wrong.stdout));

    let target = "https://bucket.s3.eu-west-1.amazonaws.com/a%20file?versionId=1";
    let shown = bench.client(&["aws", "presign", target, "--expires-in", "10m", "--aws-access-key-id", ID, "--key", "aws.pem"]);
    let shown = text(&shown.stdout);
    // botocore makes the same of the same date.
    let code = "
import datetime, sys, urllib.parse
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
import botocore.auth
url = sys.argv[1]
query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
stamp = datetime.datetime.strptime(query['X-Amz-Date'], '%Y%m%dT%H%M%SZ')
for name in ('get_current_datetime', ):
    if hasattr(botocore.auth, name):
        setattr(botocore.auth, name, lambda *a, **k: stamp)
request = AWSRequest('GET', sys.argv[2])
S3SigV4QueryAuth(Credentials(sys.argv[3], sys.argv[4]), 's3', 'eu-west-1', expires=600).add_auth(request)
theirs = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.url).query))
assert theirs['X-Amz-Date'] == query['X-Amz-Date'], theirs
print(theirs['X-Amz-Signature'] == query['X-Amz-Signature'])
";
    let same = python(code, &[shown.trim(), target, ID, SECRET], &[], bench.swtpm.dir());
    assert_eq!(text(&same.stdout).trim(), "True", "{}", text(&same.stderr));
}

#[test]
fn the_doctor_says_what_is_wrong_between_the_key_and_aws() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let url = sts.url("http");
    let found = |id: &str, url: &str, flags: &[&str]| {
        let own = ["doctor", "--json", "--aws", id, "--key", "aws.pem", "--endpoint", url, "--timeout", "3"];
        let told = bench.client(&[&own[..], flags].concat());
        let lines: Vec<Value> = serde_json::from_slice(&told.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&told.stderr)));
        let line = lines.into_iter().find(|line| line["check"] == "cloud").expect("a line on the STS");
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (told.status.code(), field("status"), format!("{} {}", field("finding"), field("advice")))
    };
    let (code, status, told) = found(ID, &url, &[]);
    assert_eq!((code, status.as_str()), (Some(0), "ok"), "{told}");
    assert!(told.contains("arn:aws:iam::123456789012:user/test"), "{told}");
    let (code, _, told) = found(ID, &url, &["--role-arn", ROLE]);
    assert!(code == Some(0) && told.contains(&format!("gives sessions of {ROLE}")), "{told}");
    let (code, _, told) = found(ID, &url, &["--role-arn", "arn:aws:iam::1:role/other"]);
    assert!(code == Some(77) && told.contains("AccessDenied") && told.contains("trust policy"), "{told}");
    let (code, _, told) = found("AKIAUNKNOWNUNKNOWN00", &url, &[]);
    assert_eq!(code, Some(77));
    assert!(told.contains("InvalidClientTokenId") && told.contains("docs/aws.md"), "{told}");
    let (code, _, told) = found(ID, "http://127.0.0.1:1", &[]);
    assert_eq!(code, Some(69));
    assert!(told.contains("cannot be reached") || told.contains("refused"), "{told}");
    control(&sts, r#"{"clock": 1200}"#);
    let told = bench.client(&["doctor", "--aws", ID, "--key", "aws.pem", "--endpoint", &url]);
    assert!(text(&told.stdout).contains("behind the service's"), "{}", text(&told.stdout));
    assert!(told.status.success(), "a warning is no problem");
}

#[test]
fn configure_writes_profiles_that_work_and_shows_them_first() {
    let bench = bench(SECRET);
    let sts = sts(&bench, &[]);
    let (url, home) = (sts.url("http"), bench.path("home"));
    fs::create_dir(&home).expect("a folder");
    let configure = |flags: &[&str]| {
        let mut client = common::client();
        client.args(["aws", "configure", "--aws-access-key-id", ID]).args(flags).stdin(Stdio::null());
        client.current_dir(bench.swtpm.dir()).env("HOME", &home).env_remove("AWS_CONFIG_FILE").output().expect("the client")
    };
    let tcti = bench.swtpm.tcti();
    let shown = configure(&["--key", "aws.pem"]);
    assert_eq!(shown.status.code(), Some(64));
    let told = text(&shown.stderr);
    assert!(told.contains("+ [profile sessiontokenfile]") && told.contains("--yes"), "{told}");
    assert!(!home.join(".aws/config").exists(), "nothing is written unasked");
    let role = ["--aws-arn", ROLE, "--aws-region", "us-east-1", "--tcti", &tcti, "--yes"];
    for key in ["aws.pem", "handle:0x81010002"] {
        let made = configure(&[&["--key", key], &role[..]].concat());
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
    for (name, arn) in [
        ("sessiontoken", ":user/test"),
        ("assumerole", ":assumed-role/app/ekm-otp"),
        ("sessiontokenfile", ":user/test"),
        ("assumerolefile", ":assumed-role/app/ekm-otp"),
    ] {
        let mut cli = Command::new(PYTHON.with_file_name("aws"));
        cli.args(["sts", "get-caller-identity", "--profile", name]).env("HOME", &home).env("AWS_ENDPOINT_URL_STS", &url);
        let who = json(&cli.env_remove("AWS_CONFIG_FILE").output().expect("the AWS CLI"));
        assert!(who["Arn"].as_str().is_some_and(|told| told.ends_with(arn)), "{name}: {who}");
    }
    let again = configure(&[&["--key", "aws.pem"], &role[..]].concat());
    assert!(again.status.success() && text(&again.stderr).contains("so already"), "{}", text(&again.stderr));
    fs::write(home.join(".aws/config"), "[profile old]\nrole_arn = x\n").expect("writing");
    let refused = configure(&["--key", "aws.pem", "--profile", "old", "--yes"]);
    assert!(text(&refused.stderr).contains("[profile old] has role_arn"), "{}", text(&refused.stderr));
    // The AWS CLI would take these, and nobody would see that the TPM is not asked.
    fs::write(home.join(".aws/credentials"), "[old]\nAWS_Access_Key_Id: x\n[tpm]\nregion = x\n").expect("writing");
    let refused = configure(&["--key", "aws.pem", "--profile", "old", "--yes"]);
    let told = text(&refused.stderr);
    assert!(told.contains("[old] has aws_access_key_id, which goes before the TPM"), "{told}");
    assert!(configure(&["--key", "aws.pem", "--profile", "tpm", "--yes"]).status.success());
    // What is replaced is told, and not shown; and that nobody will be there to give a password.
    let moved = configure(&["--key", "aws.pem", "--profile", "tpm", "--duration", "2h", "--yes"]);
    let told = text(&moved.stderr);
    assert!(told.contains("- credential_process = what [profile tpm] has now") && !told.contains("may have a password"), "{told}");
    write_private(&bench.path("pw"), "test data");
    let import = ["key", "import", "--kid", ID, "--aws-secret-file", "secret", "--out", "pw.pem", "--password-file", "pw"];
    assert!(bench.client(&import).status.success());
    for (flags, is_warned) in [(&[][..], true), (&["--password-file", "pw"], false)] {
        let told = text(&configure(&[&["--key", "pw.pem", "--profile", "pw", "--yes"], flags].concat()).stderr);
        assert_eq!(told.contains("may have a password"), is_warned, "{told}");
    }
    // Some SDKs give the line to a shell.
    for name in ["$(id)", "a;b", "a'b", "a\nb"] {
        let refused = configure(&["--key", name, "--yes"]);
        assert_eq!(refused.status.code(), Some(64), "{name}: {}", text(&refused.stderr));
    }
}

#[test]
fn a_key_that_is_bound_to_registers_as_the_go_original_does_it_works_until_one_changes() {
    let bench = Bench::new();
    let sts = sts(&bench, &[]);
    let swtpm = &bench.swtpm;
    fs::write(bench.path("hmac.key"), format!("AWS4{SECRET}")).expect("writing");
    fs::write(bench.path("unique.dat"), [0, 0]).expect("writing");
    swtpm.tool("tpm2_startauthsession", &["-S", "session.dat"]);
    swtpm.tool("tpm2_policypcr", &["-Q", "-S", "session.dat", "-l", "sha256:23", "-L", "policy.dat"]);
    swtpm.tool("tpm2_flushcontext", &["session.dat"]);
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let primary = ["-Q", "-C", "o", "-G", "ecc", "-g", "sha256", "-c", "primary.ctx", "-a", attributes, "-u", "unique.dat"];
    swtpm.tool("tpm2_createprimary", &primary);
    let import = ["-Q", "-C", "primary.ctx", "-G", "hmac", "-i", "hmac.key", "-u", "hmac.pub", "-r", "hmac.priv", "-L", "policy.dat"];
    swtpm.tool("tpm2_import", &import);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_load", &["-Q", "-C", "primary.ctx", "-u", "hmac.pub", "-r", "hmac.priv", "-c", "hmac.ctx"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "hmac.ctx", "0x81010003"]);
    swtpm.tool("tpm2_encodeobject", &["-C", "primary.ctx", "-u", "hmac.pub", "-r", "hmac.priv", "-o", "private.pem"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    symlink(CLIENT, bench.path("aws-tpm-process-credential")).expect("a link");
    let process = |key: &str| {
        let mut original = Command::new(bench.path("aws-tpm-process-credential"));
        original.args(["--aws-arn=arn:aws:iam::123456789012:role/app", "--aws-region=us-east-1", "--aws-session-name=mysession"]);
        original.args(["--assumeRole=true", key, &format!("--aws-access-key-id={ID}"), "--duration=3600", "--pcrs=23"]);
        original.current_dir(swtpm.dir()).env("TPM2TOOLS_TCTI", swtpm.tcti()).env("AWS_ENDPOINT_URL_STS", sts.url("http"));
        original.env_remove("XDG_RUNTIME_DIR").output().expect("the client")
    };
    let keys = ["--persistentHandle=0x81010003", "--credential-file=private.pem"];
    for key in keys {
        json(&process(key));
    }
    swtpm.tool("tpm2_pcrextend", &["23:sha256=0xC78009FDF07FC56A11F122370658A353AAA542ED63E44C4BC15FF4CD105AB33C"]);
    for key in keys {
        let (code, told) = failed(&process(key));
        assert_eq!(code, Some(77));
        assert!(told.contains("23"), "{told}");
    }
}

#[test]
fn a_key_under_the_endorsement_key_works_as_with_the_go_original() {
    let bench = Bench::new();
    let sts = sts(&bench, &[]);
    let swtpm = &bench.swtpm;
    fs::write(bench.path("hmac.key"), format!("AWS4{SECRET}")).expect("writing");
    swtpm.tool("tpm2_createek", &["-Q", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub"]);
    swtpm.tool("tpm2_readpublic", &["-Q", "-c", "ek.ctx", "-n", "ek.name"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_startauthsession", &["--policy-session", "-S", "session.ctx"]);
    swtpm.tool("tpm2_policysecret", &["-Q", "-S", "session.ctx", "-c", "e"]);
    let import = ["-Q", "-C", "ek.ctx", "-P", "session:session.ctx", "-G", "hmac", "-i", "hmac.key", "-u", "hmac.pub", "-r", "hmac.priv"];
    swtpm.tool("tpm2_import", &import);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_flushcontext", &["-l"]);
    let convert = ["key", "convert", "--public", "hmac.pub", "--private", "hmac.priv", "--no-password", "--out", "private.pem"];
    assert!(bench.client(&convert).status.success());
    symlink(CLIENT, bench.path("aws-tpm-process-credential")).expect("a link");
    let process = |more: &[&str]| {
        let mut original = Command::new(bench.path("aws-tpm-process-credential"));
        original.args(["--aws-region=us-east-1", "--credential-file=private.pem", &format!("--aws-access-key-id={ID}")]).args(more);
        original.current_dir(swtpm.dir()).env("TPM2TOOLS_TCTI", swtpm.tcti()).env("AWS_ENDPOINT_URL_STS", sts.url("http"));
        original.env_remove("XDG_RUNTIME_DIR").output().expect("the client")
    };
    json(&process(&["--useEKParent"]));
    json(&process(&["-useEKParent=true"]));
    let name: String = fs::read(bench.path("ek.name")).expect("a name").iter().map(|byte| format!("{byte:02x}")).collect();
    json(&process(&["--useEKParent", &format!("--tpm-session-encrypt-with-name={name}")]));
    let (code, told) = failed(&process(&["--useEKParent=false"]));
    assert_eq!(code, Some(64));
    assert!(told.contains("ek-rsa"), "{told}");
    // Where the file tells it, the flag is not needed.
    fs::remove_file(bench.path("private.pem")).expect("the file");
    assert!(bench.client(&[&convert[..], &["--parent-template", "ek-rsa"]].concat()).status.success());
    json(&process(&[]));
}
