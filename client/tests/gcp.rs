//! Tokens of Google Cloud from keys in the TPM, against services of our own in Python, which let google-auth and PyJWT verify them, and with google-auth as the user. All
//! names and keys are test data.

#![cfg(feature = "cloud")]

mod common;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../../tpm/tests/relay/mod.rs"]
mod relay;

use std::fs;
use std::process::{Command, Output};

use common::cloud::{Peer, Running, control, failed, json, left_until, python};
use common::{Bench, mode_of, text, write_private};
use ekm_otp_swtpm::Tap;
use relay::{Act, CC_SIGN, Relay};
use serde_json::Value;

const EMAIL: &str = "sa@project.iam.gserviceaccount.com";
const PROVIDER: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/tpm";

/// A software TPM with the key of a service account, from the file that Google makes: `sa.pem`, `profile.json`, `sa.pub`.
fn bench() -> Bench {
    let bench = Bench::new();
    let made = "umask 077; openssl genrsa -traditional -out plain.key 2048; openssl pkcs8 -topk8 -nocrypt -in plain.key -out pkcs8.key";
    let made = Command::new("sh").args(["-ec", made]).current_dir(bench.swtpm.dir()).output().expect("openssl");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let key = fs::read_to_string(bench.path("pkcs8.key")).expect("the key");
    let file = serde_json::json!({
        "type": "service_account", "project_id": "project", "private_key_id": "0123abcd", "private_key": key, "client_email": EMAIL,
        "client_id": "1", "token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
    });
    write_private(&bench.path("sa.json"), &file.to_string());
    let import = ["key", "import", "--kid", "sa", "--gcp-service-account", "sa.json", "--out", "sa.pem", "--profile-out", "profile.json"];
    let made = bench.client(&import);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stderr).contains("delete it"), "{}", text(&made.stderr));
    let public = bench.client(&["key", "public", "--key", "sa.pem"]);
    fs::write(bench.path("sa.pub"), public.stdout).expect("writing");
    bench
}

fn google(bench: &Bench, flags: &[&str]) -> Peer {
    Peer::start("gcp/token_services.py", &[&["--public-key", "sa.pub", "--key-id", "0123abcd"], flags].concat(), bench.swtpm.dir())
}

fn gcp(bench: &Bench, google: &Peer, command: &[&str], flags: &[&str]) -> Output {
    gcp_of(bench, &bench.swtpm.tcti(), google, command, flags)
}

fn gcp_of(bench: &Bench, tcti: &str, google: &Peer, command: &[&str], flags: &[&str]) -> Output {
    let endpoint = format!("{}/token", google.url("http"));
    let own = ["--key", "sa.pem", "--profile", "profile.json", "--endpoint", &endpoint];
    bench.client_with(&[&["gcp"], command, &own[..], flags].concat(), tcti)
}

fn told(google: &Peer) -> Vec<Value> {
    google.told().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_key_is_taken_out_of_googles_file_and_stays_nowhere_else() {
    let bench = bench();
    for name in ["sa.pem", "profile.json"] {
        assert_eq!(mode_of(&bench.path(name)), 0o600);
        let file = fs::read_to_string(bench.path(name)).expect("the file");
        assert!(!file.contains("BEGIN PRIVATE KEY") && !file.contains("private_key\""), "{name}: {file}");
    }
    let profile: Value = serde_json::from_slice(&fs::read(bench.path("profile.json")).expect("the file")).expect("JSON");
    assert_eq!(
        (&profile["client_email"], &profile["private_key_id"], &profile["client_id"]),
        (&EMAIL.into(), &"0123abcd".into(), &"1".into())
    );
    // An assertion that goes elsewhere would be good at Google's, too.
    let elsewhere = serde_json::json!({"type": "service_account", "client_email": EMAIL, "token_uri": "https://evil.example.test/token"});
    fs::write(bench.path("elsewhere.json"), elsewhere.to_string()).expect("writing");
    let (code, told) = failed(&bench.client(&["gcp", "token", "--key", "sa.pem", "--profile", "elsewhere.json"]));
    assert_eq!(code, Some(64));
    assert!(told.contains("token_uri is not Google's"), "{told}");
    // Both files, or neither.
    let import = ["key", "import", "--kid", "sa", "--gcp-service-account", "sa.json", "--out", "new.pem", "--profile-out", "profile.json"];
    assert_eq!(failed(&bench.client(&import)).0, Some(64));
    assert!(!bench.path("new.pem").exists());
    for (file, why) in [("{}", "\"type\" is missing"), ("{\"type\": \"authorized_user\"}", "authorized_user"), ("x", "no JSON")] {
        write_private(&bench.path("wrong.json"), file);
        let import = ["key", "import", "--kid", "sa", "--gcp-service-account", "wrong.json", "--out", "w.pem", "--profile-out", "w.json"];
        let (code, told) = failed(&bench.client(&import));
        assert_eq!(code, Some(64));
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn google_auth_verifies_what_the_account_signs_itself() {
    let bench = bench();
    let jwt = |flags: &[&str]| bench.client(&[&["gcp", "jwt", "--key", "sa.pem"], flags].concat());
    let verify = "
import json, sys, time, jwt
from google.auth import jwt as google
token, audience = sys.argv[1], sys.argv[2] or None
claims = google.decode(token, certs=open('sa.pub').read(), audience=audience)
print(json.dumps([jwt.get_unverified_header(token), claims, claims['exp'] - claims['iat'], abs(claims['iat'] - time.time()) < 60]))
";
    let verified = |made: &Output, audience: &str| {
        let ran = python(verify, &[text(&made.stdout).trim(), audience], &[], bench.swtpm.dir());
        json(&ran)
    };
    let seen = verified(&jwt(&["--profile", "profile.json"]), "");
    assert_eq!(seen[0], serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "0123abcd"}));
    let claims = |seen: &Value, name: &str| seen[1][name].clone();
    assert_eq!((claims(&seen, "iss"), claims(&seen, "sub")), (EMAIL.into(), EMAIL.into()));
    assert_eq!(claims(&seen, "scope"), "https://www.googleapis.com/auth/cloud-platform");
    assert_eq!((&seen[2], &seen[3]), (&3600.into(), &true.into()));
    // As the seed names it; without a key id there is none, and no null.
    let seen = verified(
        &jwt(&["--email", EMAIL, "--audience", "https://storage.googleapis.com/", "--expire_in", "60"]),
        "https://storage.googleapis.com/",
    );
    assert_eq!(seen[0], serde_json::json!({"alg": "RS256", "typ": "JWT"}));
    assert_eq!((claims(&seen, "scope"), &seen[2]), (Value::Null, &60.into()));
    let made = json(&jwt(&["--profile", "profile.json", "--format", "json"]));
    assert_eq!(made["token_type"], "Bearer");
    assert!(made["expires_at"].as_str().is_some_and(|end| end.ends_with('Z') && end.len() == 20), "{made}");
    let (code, told) = failed(&jwt(&["--email", EMAIL, "--expire_in", "3601"]));
    assert_eq!(code, Some(64));
    assert!(told.contains("1 to 3600"), "{told}");
}

#[test]
fn tokens_come_from_the_endpoint_with_one_signature_each() {
    let bench = bench();
    let (google, tap) = (google(&bench, &[]), Tap::on(&bench.swtpm));
    let call = |command: &[&str], flags: &[&str]| gcp_of(&bench, &tap.tcti(), &google, command, flags);
    let made = call(&["token"], &["--scopes", "a,b"]);
    assert_eq!(text(&made.stdout), "ya29.test-data.1\n", "{}", text(&made.stderr));
    let user = json(&call(&["token"], &["--subject", "alice@example.test", "--format", "json"]));
    assert_eq!(user["access_token"], "ya29.test-data.2");
    let id = call(&["id-token"], &["--audience", "https://app.example.test"]);
    assert!(text(&id.stdout).starts_with("ey"), "{}", text(&id.stderr));
    let scope = "https://www.googleapis.com/auth/cloud-platform";
    assert_eq!(
        told(&google),
        [
            serde_json::json!({"scope": "a b", "sub": null}),
            serde_json::json!({"scope": scope, "sub": "alice@example.test"}),
            serde_json::json!({"id": "https://app.example.test"}),
        ]
    );
    let iam = google.url("http");
    let other = ["--service-account", "other@project.iam.gserviceaccount.com", "--iam-endpoint", &iam];
    let made = call(&["impersonate"], &[&other[..], &["--lifetime", "10m", "--delegates", "b@c"]].concat());
    assert!(text(&made.stdout).starts_with("ya29.other"), "{}", text(&made.stderr));
    let made = call(&["impersonate"], &[&other[..], &["--audience", "https://app.example.test"]].concat());
    assert!(text(&made.stdout).starts_with("ey"), "{}", text(&made.stderr));
    assert_eq!(
        told(&google),
        [
            serde_json::json!({"operation": "generateAccessToken", "scope": [scope], "lifetime": "600s", "delegates": ["projects/-/serviceAccounts/b@c"]}),
            serde_json::json!({"operation": "generateIdToken", "audience": "https://app.example.test", "includeEmail": true}),
        ]
    );
    assert_eq!(tap.take().commands.iter().filter(|command| **command == CC_SIGN).count(), 5);
}

#[test]
fn refusals_say_what_to_do() {
    let bench = bench();
    let google = google(&bench, &[]);
    let iam = google.url("http");
    for (command, flags, code, words) in [
        (&["token"][..], &["--keyid", "other"][..], "invalid_grant", "Google does not know this key"),
        (&["token"], &["--email", "gone@project.iam.gserviceaccount.com"], "invalid_grant", "no such service account"),
        (&["token"], &["--subject", "bob@example.test"], "unauthorized_client", "domain-wide delegation"),
        (&["impersonate"], &["--service-account", "x@y", "--iam-endpoint", &iam], "PERMISSION_DENIED", "serviceAccountTokenCreator"),
    ] {
        let (exit, told) = failed(&gcp(&bench, &google, command, flags));
        assert_eq!(exit, Some(77), "{told}");
        assert!(told.contains(code) && told.contains(words), "{told}");
    }
    assert!(google.told().is_empty());
}

#[test]
fn what_passes_is_tried_again_and_a_clock_that_is_off_is_corrected_once() {
    let bench = bench();
    let google = google(&bench, &[]);
    control(&google, r#"{"fail": [[500, {}], [429, {}, {"Retry-After": "1"}]]}"#);
    assert!(gcp(&bench, &google, &["token"], &[]).status.success());
    assert_eq!(google.told().len(), 3);
    control(&google, r#"{"fail": [[503, {}, {"Retry-After": "3600"}]]}"#);
    let (code, told) = failed(&gcp(&bench, &google, &["token"], &["--timeout", "2s"]));
    assert_eq!(code, Some(69));
    assert!(told.contains("Google's token endpoint (localhost)"), "{told}");
    // A token of an hour is good for a clock that is 20 minutes behind.
    for clock in [4000, -1200] {
        control(&google, &format!("{{\"clock\": {clock}}}"));
        for kind in [&["token", "--format", "json"][..], &["id-token", "--audience", "https://app.example.test", "--format", "json"]] {
            let made = gcp(&bench, &google, kind, &[]);
            // Who looks at the end looks at this machine's clock, right or not.
            let left = left_until(&json(&made)["expires_at"]);
            assert!((3500..=3605).contains(&left), "{kind:?}, clock {clock}: {left} s left of an hour");
            assert!(text(&made.stderr).contains("the clock of this machine"), "{}", text(&made.stderr));
        }
    }
    control(&google, r#"{"clock": 0, "delay": 30}"#);
    assert_eq!(failed(&gcp(&bench, &google, &["token"], &["--timeout", "1s"])).0, Some(69));
    let relay = Relay::on(&bench.swtpm, |code| if code == CC_SIGN { Act::BreakBefore } else { Act::Pass });
    let _ = google.told();
    assert_eq!(failed(&gcp_of(&bench, &relay.tcti(), &google, &["token"], &[])).0, Some(69));
    assert!(google.told().is_empty());
}

/// Makes the configuration of an external account whose tokens an executable makes, and asks google-auth for a token.
const FEDERATED: &str = "
import json, sys
from google.auth import pluggable
from google.auth.transport.requests import Request
url, command, audience = sys.argv[1:]
json.dump({
    'type': 'external_account', 'audience': audience, 'subject_token_type': 'urn:ietf:params:oauth:token-type:jwt', 'token_url': url + '/sts',
    'credential_source': {'executable': {'command': command, 'timeout_millis': 20000}},
}, open('wif.json', 'w'))
credentials = pluggable.Credentials.from_file('wif.json')
try:
    credentials.refresh(Request())
    print(credentials.token)
except Exception as e:
    print(e)
";

#[test]
fn google_auth_runs_the_executable_and_takes_its_tokens() {
    for kind in ["rsa2048", "p256"] {
        let bench = Bench::new();
        let made = bench.client(&["key", "create", "--kid", "wif", "--kind", kind, "--out", "wif.pem"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let jwks = bench.client(&["gcp", "jwks", "--key", "wif.pem"]);
        fs::write(bench.path("jwks.json"), &jwks.stdout).expect("writing");
        // Its id is what an independent implementation makes it (RFC 7638).
        let thumbprint = "
import json
from jwcrypto.jwk import JWK
key = json.load(open('jwks.json'))['keys'][0]
print(JWK(**{name: value for name, value in key.items() if name != 'kid'}).thumbprint() == key['kid'])
";
        let same = Command::new(common::cloud::peers()).args(["-c", thumbprint]).current_dir(bench.swtpm.dir()).output().expect("Python");
        assert_eq!(text(&same.stdout).trim(), "True", "{}", text(&same.stderr));

        let google = Peer::start("gcp/token_services.py", &["--jwks", "jwks.json"], bench.swtpm.dir());
        let ask = |key: &str, tcti: &str| {
            let key = bench.path(key);
            let command = format!(
                "{} gcp executable --key {} --issuer https://machines.example.test --subject machine-17",
                common::CLIENT,
                key.display()
            );
            let variables = [("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1"), ("TPM2TOOLS_TCTI", tcti)];
            let ran = python(FEDERATED, &[&google.url("http"), &command, PROVIDER], &variables, bench.swtpm.dir());
            assert!(ran.status.success(), "{}", text(&ran.stderr));
            text(&ran.stdout)
        };
        assert_eq!(ask("wif.pem", &bench.swtpm.tcti()), "federated.test-data.1\n");
        let algorithm = if kind == "p256" { "ES256" } else { "RS256" };
        assert_eq!(told(&google), [serde_json::json!({"subject": "machine-17", "alg": algorithm})]);
        // A failure is told in our words, not as a broken answer.
        let failure = ask("none.pem", &bench.swtpm.tcti());
        assert!(failure.contains("EXIT_69") && failure.contains("none.pem"), "{failure}");
        let failure = ask("wif.pem", "swtpm:host=127.0.0.1,port=1");
        assert!(failure.contains("EXIT_69"), "{failure}");
    }
}

#[test]
fn the_executable_says_nothing_but_one_object_and_exits_with_0() {
    let bench = Bench::new();
    let own = ["gcp", "executable", "--issuer", "https://i", "--subject", "s", "--audience", "a", "--key"];
    let made = bench.client(&[&own[..], &["none.pem"]].concat());
    assert_eq!((made.status.code(), text(&made.stderr).as_str()), (Some(0), ""));
    let answer: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    assert_eq!((&answer["version"], &answer["success"]), (&1.into(), &false.into()));
    assert!(answer["code"].is_string() && answer["message"].is_string(), "{answer}");
}

#[test]
fn google_auth_works_unchanged_with_the_metadata_server_across_an_expiry() {
    let bench = bench();
    // In their last quarter new ones are made.
    let (google, tap) = (google(&bench, &["--lifetime", "4"]), Tap::on(&bench.swtpm));
    let endpoint = format!("{}/token", google.url("http"));
    let mut serve = common::client();
    serve.args(["gcp", "metadata-server", "--port", "0", "--key", "sa.pem", "--profile", "profile.json", "--endpoint", &endpoint]);
    let mut serving = Running::start(serve.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", tap.tcti()).env("RUST_LOG", "trace"), 3);
    let host = serving.variable("GCE_METADATA_HOST");
    let code = "
import google.auth, google.auth.compute_engine, json, time
from google.auth.transport.requests import Request
from google.oauth2 import id_token
credentials, project = google.auth.default(scopes=['https://www.googleapis.com/auth/devstorage.read_only'])
first = (credentials.refresh(Request()), credentials.token)[1]
time.sleep(3.5)
second = (credentials.refresh(Request()), credentials.token)[1]
identity = id_token.fetch_id_token(Request(), 'https://app.example.test')
print(json.dumps([type(credentials).__module__, project, credentials.service_account_email, first != second, first, identity.count('.')]))
";
    let home = bench.path("home").display().to_string();
    let all = serving.variables();
    let own = all.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let variables: Vec<_> = own.chain([("HOME", home.as_str()), ("CLOUDSDK_CONFIG", &home)]).collect();
    let seen = json(&python(code, &[], &variables, bench.swtpm.dir()));
    assert_eq!(seen[0], "google.auth.compute_engine.credentials");
    assert_eq!((&seen[1], &seen[2], &seen[3], &seen[5]), (&"project".into(), &EMAIL.into(), &true.into(), &2.into()), "{seen}");
    let told = told(&google);
    assert!(told.iter().any(|call| call["scope"] == "https://www.googleapis.com/auth/devstorage.read_only"), "{told:?}");
    assert!(told.iter().any(|call| call["id"] == "https://app.example.test"), "{told:?}");
    let signed = tap.take().commands.iter().filter(|command| **command == CC_SIGN).count();
    assert_eq!(signed, told.len(), "one TPM2_Sign for each token");

    // Who does not say that it means a metadata server, a foreign name, a failure.
    let curl = |fields: &[&str], path: &str| {
        let fields = fields.iter().flat_map(|field| ["-H", field]);
        let ran = Command::new("curl").args(["-s", "-w", "%{http_code}", &format!("http://{host}{path}")]).args(fields).output();
        text(&ran.expect("curl").stdout)
    };
    let token = "/computeMetadata/v1/instance/service-accounts/default/token";
    assert!(curl(&[], token).ends_with("403"));
    assert!(curl(&["Metadata-Flavor: Google", "Host: evil.example.test"], token).ends_with("403"));
    assert!(curl(&["Metadata-Flavor: Google", "X-Forwarded-For: 192.0.2.1"], token).ends_with("403"));
    let failures = ["[400, {\"error\": \"invalid_grant\", \"error_description\": \"Invalid JWT Signature.\"}]"; 4].join(",");
    control(&google, &format!("{{\"fail\": [{failures}]}}"));
    let failed = curl(&["Metadata-Flavor: Google"], &format!("{token}?scopes=x"));
    assert!(failed.ends_with("503") && failed.contains("invalid_grant") && !failed.contains("access_token"), "{failed}");
    let (code, told) = serving.end();
    assert_eq!(code, Some(143));
    assert!(!told.contains("ya29") && !told.contains("eyJ"), "{told}");
}

#[test]
fn a_token_that_is_kept_costs_nothing() {
    let bench = bench();
    let (google, tap) = (google(&bench, &[]), Tap::on(&bench.swtpm));
    let endpoint = format!("{}/token", google.url("http"));
    let mut serve = common::client();
    serve.args(["gcp", "metadata-server", "--port", "0", "--key", "sa.pem", "--profile", "profile.json", "--endpoint", &endpoint]);
    let serving = Running::start(serve.current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", tap.tcti()), 3);
    let url = format!("http://{}/computeMetadata/v1/instance/service-accounts/default/token", serving.variable("GCE_METADATA_HOST"));
    let (_, _) = (google.told(), tap.take());
    let code = "
import json, sys, urllib.request as r
from concurrent.futures import ThreadPoolExecutor
ask = lambda _: json.load(r.urlopen(r.Request(sys.argv[1], headers={'Metadata-Flavor': 'Google'})))['access_token']
print(json.dumps(sorted(set(ThreadPoolExecutor(8).map(ask, range(50))))))
";
    assert_eq!(json(&python(code, &[&url], &[], bench.swtpm.dir())), serde_json::json!(["ya29.test-data.1"]));
    assert!(google.told().is_empty() && tap.take().commands.is_empty());
}

#[test]
fn a_key_that_tpm2_tools_made_as_the_seed_does_works() {
    let bench = bench();
    let google = google(&bench, &[]);
    let swtpm = &bench.swtpm;
    fs::write(bench.path("unique.dat"), [0, 0]).expect("writing");
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let primary = ["-Q", "-C", "o", "-G", "ecc", "-g", "sha256", "-c", "primary.ctx", "-a", attributes, "-u", "unique.dat"];
    swtpm.tool("tpm2_createprimary", &primary);
    let import =
        ["-Q", "-C", "primary.ctx", "-G", "rsa2048:rsassa:null", "-g", "sha256", "-i", "plain.key", "-u", "rsa.pub", "-r", "rsa.prv"];
    swtpm.tool("tpm2_import", &[&import[..], &["-p", "passwd"]].concat());
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let made = bench.client(&["key", "convert", "--public", "rsa.pub", "--private", "rsa.prv", "--out", "rsatpm.pem"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let endpoint = format!("{}/token", google.url("http"));
    let mut client = common::client();
    client.args(["gcp", "token", "--keyfile", "rsatpm.pem", "--email", EMAIL, "--keyid", "0123abcd", "--endpoint", &endpoint]);
    client.current_dir(swtpm.dir()).env("TPM2TOOLS_TCTI", swtpm.tcti()).env("TPM_KEY_AUTH", "passwd");
    let token = client.output().expect("the client");
    assert_eq!(text(&token.stdout), "ya29.test-data.1\n", "{}", text(&token.stderr));
}

#[test]
fn the_doctor_asks_google() {
    let bench = bench();
    let google = google(&bench, &[]);
    let endpoint = format!("{}/token", google.url("http"));
    let own = ["doctor", "--gcp", "profile.json", "--key", "sa.pem", "--endpoint", &endpoint];
    let told = bench.client(&own);
    assert!(told.status.success() && text(&told.stdout).contains(&format!("Google gives tokens to {EMAIL}")), "{}", text(&told.stdout));
    control(&google, r#"{"fail": [[400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}]]}"#);
    let told = bench.client(&own);
    assert_eq!(told.status.code(), Some(77));
    assert!(text(&told.stdout).contains("was the key deleted"), "{}", text(&told.stdout));
}
