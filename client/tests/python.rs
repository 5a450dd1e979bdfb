//! The package for Python: the examples of its README, which are the seed's with another import, run as they stand but for the values in them, and what goes wrong. All names,
//! keys and secrets are test data.

#![cfg(feature = "cloud")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::cloud::{PYTHON, Peer, testdata};
use common::{Bench, CLIENT, text, write_private};

/// A software TPM with a key of each kind, certificates, and the package installed.
struct Python {
    bench: Bench,
}

impl Python {
    fn new() -> Self {
        let bench = Bench::new();
        // Built from a copy: building leaves things behind.
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
        let copied = Command::new("cp").arg("-r").arg(&source).arg(bench.path("source")).status();
        assert!(copied.expect("cp").success());
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"];
        let installed = Command::new(&*PYTHON).args(install).arg("--target").arg(bench.path("site")).arg(bench.path("source")).output();
        let installed = installed.expect("pip");
        assert!(installed.status.success(), "{}", text(&installed.stderr));
        write_private(&bench.path("secret"), "test/data/only+0123456789abcdefghijklmno");
        for command in [
            &["key", "create", "--kid", "rsa", "--kind", "rsa2048", "--out", "rsa.pem"][..],
            &["key", "import", "--kid", "AKIATESTTESTTESTTEST", "--aws-secret-file", "secret", "--out", "aws.pem"],
        ] {
            let made = bench.client(command);
            assert!(made.status.success(), "{}", text(&made.stderr));
        }
        fs::write(bench.path("rsa.pub"), bench.client(&["key", "public", "--key", "rsa.pem"]).stdout).expect("writing");
        let mut certify = Command::new(&*PYTHON);
        certify.arg("-B").arg(testdata("cloud/certificates.py")).arg("rsa.pub").current_dir(bench.swtpm.dir());
        assert!(certify.status().expect("Python").success());
        Self { bench }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.path(name)
    }

    fn command(&self, code: &str, variables: &[(&str, &str)]) -> Command {
        let mut python = Command::new(&*PYTHON);
        python.args(["-B", "-c", code]).env("PYTHONPATH", self.path("site")).env("EKM_OTP_CLIENT", CLIENT);
        python.env_remove("XDG_RUNTIME_DIR").env("TPM2TOOLS_TCTI", self.bench.swtpm.tcti()).envs(variables.iter().copied());
        python.current_dir(self.bench.swtpm.dir()).stdin(Stdio::null());
        python
    }

    fn run(&self, code: &str, variables: &[(&str, &str)]) -> Output {
        self.command(code, variables).output().expect("Python")
    }

    /// An example of the README, up to where it uses a service's own library, which is not here; with other values, and with more after it.
    fn example(&self, title: &str, values: &[(&str, &str)], and_then: &str, variables: &[(&str, &str)]) -> String {
        let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/README.md")).expect("the README");
        let from = &readme[readme.find(&format!("## {title}\n")).unwrap_or_else(|| panic!("no {title}"))..];
        let mut code = from.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example").to_owned();
        for (from, to) in values {
            assert!(code.contains(from), "{from} is not in {code}");
            code = code.replace(from, to);
        }
        let uses = [
            "from google.cloud",
            "storage_client",
            "buckets",
            "for ",
            "    print",
            "blob",
            "from azure.storage",
            "    account_url",
            "    credential=",
        ];
        let mut lines: Vec<&str> = code.lines().filter(|line| !uses.iter().any(|used| line.starts_with(used))).collect();
        // The closing bracket of what was left out.
        if lines.iter().filter(|line| **line == ")").count() == 1 {
            lines.retain(|line| *line != ")" && !line.starts_with("container"));
        }
        lines.retain(|line| !line.starts_with("s3 ="));
        let ran = self.run(&format!("{}\n{and_then}", lines.join("\n")), variables);
        assert!(ran.status.success(), "{}\n{}", lines.join("\n"), text(&ran.stderr));
        text(&ran.stdout)
    }

    fn tcti(&self) -> String {
        self.bench.swtpm.tcti()
    }
}

#[test]
fn the_google_example_makes_tokens_that_google_auth_verifies() {
    let python = Python::new();
    let (tcti, key) = (python.tcti(), python.path("rsa.pem").display().to_string());
    let values = [("device:/dev/tpmrm0", tcti.as_str()), ("/path/to/key.pem", &key), ("$PROJECT_ID", "project")];
    let then = "
from google.auth import jwt
from google.auth.transport.requests import Request
pc.refresh(Request())
claims = jwt.decode(pc.token, certs=open('rsa.pub').read())
assert pc.valid and claims['exp'] - claims['iat'] == 3600 and claims['sub'] == claims['iss'] == pc.service_account_email, claims
assert 'kid' not in __import__('json').loads(__import__('base64').urlsafe_b64decode(pc.token.split('.')[0] + '=='))
narrow = pc.with_scopes(['https://www.googleapis.com/auth/devstorage.read_only']).with_quota_project('other')
headers = {}
narrow.before_request(Request(), 'GET', 'https://storage.googleapis.com/', headers)
scope = jwt.decode(narrow.token, certs=open('rsa.pub').read())['scope']
print(claims['iss'], claims['scope'], scope, headers['x-goog-user-project'])
";
    let told = python.example("Google Cloud", &values, then, &[]);
    let scopes = "https://www.googleapis.com/auth/cloud-platform https://www.googleapis.com/auth/devstorage.read_only";
    assert_eq!(told, format!("jwt-access-svc-account@project.iam.gserviceaccount.com {scopes} other\n"));
}

#[test]
fn the_aws_examples_make_sessions_that_are_refreshed_across_an_expiry() {
    let python = Python::new();
    let folder = python.bench.swtpm.dir();
    let (tcti, key) = (python.tcti(), python.path("aws.pem").display().to_string());
    let sts = Peer::start("aws/sts.py", &["--lifetime", "3"], folder);
    let url = sts.url("http");
    let values = [
        ("device:/dev/tpmrm0", tcti.as_str()),
        ("/path/to/key.pem", &key),
        ("\"AWS_ACCESS_KEY_ID\"", "\"AKIATESTTESTTESTTEST\", tags={\"team\": \"blue\"}"),
        ("role/gcpsts", "role/app"),
    ];
    let then = "
import time
sts = session.client('sts')
first = sts.get_caller_identity()['Arn']
time.sleep(3.5)
print(first == sts.get_caller_identity()['Arn'], first, session.region_name)
";
    let told = python.example("AWS, by a secret access key", &values, then, &[("AWS_ENDPOINT_URL_STS", &url)]);
    assert_eq!(told, "True arn:aws:sts::123456789012:assumed-role/app/foo us-east-2\n");
    let calls = sts.told();
    let call = calls.iter().find(|line| line.starts_with("AssumeRole")).expect("a call");
    assert!(call.contains(r#""RoleSessionName": "foo""#) && call.contains(r#""Tags.member.1.Key": "team""#), "{call}");
    assert!(call.contains(r#""DurationSeconds": "1000""#), "{call}");

    let service = Peer::start("aws/roles_anywhere.py", &["--anchor", "root.pem", "--region", "us-east-2"], folder);
    let (url, key) = (service.url("http"), python.path("rsa.pem").display().to_string());
    let certificate = python.path("rsa.chain.crt").display().to_string();
    let values = [("device:/dev/tpmrm0", tcti.as_str()), ("/path/to/key.pem", &key), ("certs/alice-cert.crt", &certificate)];
    let then = "print(session.get_credentials().get_frozen_credentials().access_key)";
    let told = python.example("AWS, by a certificate (IAM Roles Anywhere)", &values, then, &[("AWS_ENDPOINT_URL_ROLESANYWHERE", &url)]);
    assert_eq!(told, "ASIATESTANYWHERE0001\n");
    let call = service.told().join("");
    assert!(call.contains(r#""durationSeconds": 1000"#) && call.contains(r#""roleSessionName": "foo""#), "{call}");
}

#[test]
fn the_azure_example_is_a_credential_that_keeps_its_tokens() {
    let python = Python::new();
    let entra = Peer::start("azure/entra.py", &["--registered", "rsa.direct.crt"], python.bench.swtpm.dir());
    let (tcti, key) = (python.tcti(), python.path("rsa.pem").display().to_string());
    let certificate = python.path("rsa.direct.crt").display().to_string();
    let values = [("device:/dev/tpmrm0", tcti.as_str()), ("/path/to/key.pem", &key), ("certs/azclient.crt", &certificate)];
    let then = "
import time
from concurrent.futures import ThreadPoolExecutor
scope = 'https://storage.azure.com/.default'
tokens = set(ThreadPoolExecutor(4).map(lambda _: pc.get_token(scope).token, range(8)))
one = pc.get_token_info(scope)
print(len(tokens), one.token in tokens, 3000 < one.expires_on - time.time() < 3600)
";
    let told = python.example("Azure", &values, then, &[("AZURE_AUTHORITY_HOST", &entra.url("http"))]);
    assert_eq!(told, "1 True True\n");
    assert_eq!(entra.told().len(), 1);
}

#[test]
fn a_key_that_is_bound_to_registers_is_used_with_the_policy_of_the_example() {
    let python = Python::new();
    let (bench, tcti) = (&python.bench, python.tcti());
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={}", "0".repeat(64))]);
    let made = bench.client(&["key", "create", "--kid", "app", "--kind", "rsa2048", "--pcrs", "sha256:23", "--out", "bound.pem"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    // At a handle there is no file that states the policy.
    assert!(bench.client(&["key", "persist", "--key", "bound.pem", "--handle", "0x81008001"]).status.success());
    let then = format!(
        "
from ekm_otp.gcp.gcpcredentials import GCPCredentials
pc = GCPCredentials(tcti='{tcti}', keyfile='handle:0x81008001', policy_impl=policy_impl, email='a@b')
try:
    pc.refresh(None)
    print(pc.valid)
except Exception as e:
    print(type(e).__name__, e)
"
    );
    assert_eq!(python.example("A key that is bound to registers", &[], &then, &[]), "True\n");
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={}", "0".repeat(64))]);
    let told = python.example("A key that is bound to registers", &[], &then, &[]);
    assert!(told.starts_with("RefreshError") && told.contains("23"), "{told}");
}

#[test]
fn a_password_is_in_no_argument_and_a_failure_is_the_programs_own_line() {
    let python = Python::new();
    write_private(&python.path("pw"), "passwd");
    let made =
        python.bench.client(&["key", "import", "--kid", "g", "--aws-secret-file", "secret", "--out", "g.pem", "--password-file", "pw"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let sts = Peer::start("aws/sts.py", &[], python.bench.swtpm.dir());
    let spy = "#!/bin/sh\necho \"$@\" >> arguments\nexec \"$REAL\" \"$@\"\n";
    write_private(&python.path("spy"), spy);
    fs::set_permissions(python.path("spy"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("chmod");
    let code = "
import sys
from ekm_otp.aws.awshmaccredentials import AWSHMACCredentials
from ekm_otp.client import ClientError
def ask(**more):
    given = dict(keyfile='g.pem', aws_access_key_id='AKIATESTTESTTESTTEST', region='us-east-1', binary='./spy')
    try:
        return AWSHMACCredentials(**{**given, **more}).get_session().get_credentials().access_key
    except ClientError as e:
        return f'{e.exit_code} {e}'
print(ask(password='passwd'))
print(ask(password='wrong'))
print(ask())
print(ask(binary='./none'))
print(ask(keyfile='--help', password='passwd'))
";
    let told = text(&python.run(code, &[("AWS_ENDPOINT_URL_STS", &sts.url("http")), ("REAL", CLIENT)]).stdout);
    let told: Vec<&str> = told.lines().collect();
    assert!(told[0].starts_with("ASIATEST"), "{told:?}");
    assert!(told[1].starts_with("77 ") && told[1].contains("password of the key is wrong"), "{told:?}");
    assert!(told[2].starts_with("77 ") && told[2].contains("password of the key is wanted"), "{told:?}");
    assert!(told[3].starts_with("69 ") && told[3].contains("cannot be run"), "{told:?}");
    assert!(told[4].starts_with("64 ") || told[4].starts_with("69 "), "a name that begins with dashes is no flag: {told:?}");
    assert!(!fs::read_to_string(python.path("arguments")).expect("the arguments").contains("passwd"));
}

#[test]
fn the_package_s_own_tests_pass() {
    let python = Python::new();
    let entra = Peer::start("azure/entra.py", &["--registered", "rsa.direct.crt"], python.bench.swtpm.dir());
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/tests").display().to_string();
    let code = "import sys, unittest; unittest.main(module=None, argv=['unittest', 'discover', '-s', sys.argv[1]])";
    let mut ran = python.command(code, &[("ENTRA", &entra.url("http"))]);
    let ran = ran.arg(tests).output().expect("Python");
    let told = text(&ran.stderr);
    let number = told.split("\nRan ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.status.success() && number.is_some_and(|number| number >= 15), "{told}");
}
