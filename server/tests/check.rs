//! `check` tells all that is wrong with a configuration and with what it names, each with its line and what to write instead.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::Value;
use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_ekm-otp-server");
// Test data, used nowhere else.
const SECRET: &str = "dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=";

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("writing");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// NAME.pem and NAME.key, as `change` makes them.
fn certificate(folder: &TempDir, name: &str, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) {
    let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).expect("names");
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    fs::write(folder.path().join(format!("{name}.pem")), certificate.pem()).expect("writing");
    write_private(&folder.path().join(format!("{name}.key")), &key.serialize_pem());
}

fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    certificate(&folder, "good", &["a.test", "*.wild.test", "127.0.0.1"], |_| {});
    write_private(&folder.path().join("secrets.toml"), &format!("[client1]\nsecret = \"{SECRET}\"\nclient = \"Alice\"\n"));
    fs::write(folder.path().join("server.toml"), config).expect("writing");
    folder
}

/// Exit code and what is shown.
fn check(folder: &TempDir, flags: &[&str]) -> (i32, String) {
    let mut command = Command::new(SERVER);
    command.args(["check", "--config", "server.toml"]).args(flags).current_dir(folder.path()).env_remove("EKM_OTP_LOG");
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("the server");
    let told = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(!told.contains("dGVz"), "a secret is shown: {told}");
    (status.code().expect("an exit code"), told)
}

const HEAD: &str = "listen = \"127.0.0.1:0\"\nsecrets = \"secrets.toml\"\n";

fn site(names: &str, certificate: &str) -> String {
    format!(
        "[[site]]\nserver_names = [{names}]\ncertificate = \"{certificate}.pem\"\nprivate_key = \"{certificate}.key\"\nupstream = \"demo\"\n"
    )
}

#[test]
fn a_good_configuration_is_summed_up_and_exits_0() {
    let folder = folder(&format!("{HEAD}{}", site("\"a.test\", \"x.wild.test\", \"127.0.0.1\"", "good")));
    let (code, told) = check(&folder, &[]);
    assert_eq!(code, 0, "{told}");
    for part in
        ["site a.test, x.wild.test, 127.0.0.1: certificate", "expires 4096-01-01T00:00:00Z", "1 keys", "would start with this (0 warnings)"]
    {
        assert!(told.contains(part), "{part:?} is missing: {told}");
    }
    let (code, told) = check(&folder, &["--json"]);
    let report: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((code, &report["ok"], &report["registry"]["keys"]), (0, &Value::from(true), &Value::from(1)), "{told}");
    assert_eq!(report["sites"][0]["server_names"][1], "x.wild.test", "{told}");
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let config = format!(
        "lissten = \"127.0.0.1:0\"\n\
         secrets = \"secrets.toml\"\n\
         leeway = \"{SECRET}\"\n\
         realm = \"r\u{e9}alm\"\n\
         credentials = [\n  \"jws\",\n  \"hotp\",\n]\n\
         [[site]]\n\
         server_names = [\"a.test\", \"not a name\"]\n\
         certificate = \"good.pem\"\n\
         upstream = \"gopher://app\"\n\
         [[site]]\n\
         server_names = [\"a.test\", \"other.test\"]\n\
         certificate = \"good.pem\"\n\
         private_key = \"good.key\"\n\
         upstream = \"demo\"\n\
         listen = \"127.0.0.1:1\"\n\
         relm = 3\n"
    );
    let folder = folder(&config);
    let (code, told) = check(&folder, &[]);
    assert_eq!(code, 64, "{told}");
    for part in [
        "line 1: unknown key `lissten`: `listen` is meant?",
        "line 3: leeway: write u64",
        "line 4: realm: a realm consists of printable ASCII",
        "line 7: credentials: a credential is of one of the kinds otp, jws, jwe",
        "line 10: server_names: ",
        "line 9: `private_key` is missing",
        "line 12: upstream: ",
        "line 14: server_names: the certificate in good.pem is not for other.test",
        "line 18: `listen` is not a site's: put it above the first [[site]]",
        "line 19: unknown key `relm`",
    ] {
        assert!(told.contains(part), "{part:?} is missing:\n{told}");
    }
    // `run` tells the same before it starts.
    let mut run = Command::new(SERVER);
    run.args(["run", "--config", "server.toml"]).current_dir(folder.path()).stdin(Stdio::null()).env_remove("EKM_OTP_LOG");
    let Output { status, stderr, .. } = run.output().expect("the server");
    let run = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(64), "{run}");
    assert!(run.contains("line 1: ") && run.contains("line 19: ") && !run.contains("dGVz"), "{run}");
    let (code, told) = check(&folder, &["--json"]);
    let report: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((code, &report["ok"], &report["errors"][0]["line"]), (64, &Value::from(false), &Value::from(1)), "{told}");
}

#[test]
fn text_that_is_not_toml_is_told_by_line_and_not_quoted() {
    for (config, line) in [
        (format!("realm = {SECRET}\n"), "line 1: this is not TOML"),
        (format!("realm = \"api\"\nsecrets = \"{SECRET}\nleeway = 3\n"), "line 2: this is not TOML"),
        ("[site]\nserver_names = []\n".to_owned(), "line 1: sites are a list: write [[site]], with two brackets"),
        (format!("realm = \"a\"\nrealm = \"{SECRET}\"\n"), "line 2: this is not TOML: duplicate key"),
        (format!("\"{SECRET}\" = 1\n"), "line 1: unknown key this"),
    ] {
        let folder = folder(&config);
        let (code, told) = check(&folder, &[]);
        assert_eq!(code, 64, "{told}");
        assert!(told.contains(line), "{line:?} is missing:\n{told}");
    }
}

#[test]
fn certificates_are_looked_at_as_clients_will() {
    let sites: String = ["old", "young", "soon", "ca", "foreign", "chain"].map(|name| site(&format!("\"{name}.test\""), name)).concat();
    let folder = folder(&format!("{HEAD}{sites}"));
    certificate(&folder, "old", &["old.test"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    certificate(&folder, "young", &["young.test"], |params| params.not_before = date_time_ymd(4000, 1, 1));
    let week = std::time::SystemTime::now() + std::time::Duration::from_secs(7 * 24 * 3600);
    certificate(&folder, "soon", &["soon.test"], |params| params.not_after = week.into());
    certificate(&folder, "ca", &["ca.test"], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    certificate(&folder, "foreign", &["foreign.test"], |_| {});
    write_private(&folder.path().join("foreign.key"), &KeyPair::generate().expect("a key").serialize_pem());
    // The issuer's certificate is not the next one, but a stranger's.
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name.push(rcgen::DnType::CommonName, "issuer");
    let issuer = CertifiedIssuer::self_signed(issuer, KeyPair::generate().expect("a key")).expect("an issuer");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(["chain.test".to_owned()]).expect("a name").signed_by(&key, &issuer).expect("a certificate");
    let stranger = fs::read_to_string(folder.path().join("good.pem")).expect("reading");
    fs::write(folder.path().join("chain.pem"), leaf.pem() + &stranger + &issuer.pem()).expect("writing");
    write_private(&folder.path().join("chain.key"), &key.serialize_pem());
    let (code, told) = check(&folder, &[]);
    assert_eq!(code, 64, "{told}");
    for part in [
        "error: server.toml: line 5: certificate: old.pem expired at 2020-01-01T00:00:00Z: renew it",
        "error: server.toml: line 10: certificate: young.pem is good from 4000-01-01T00:00:00Z on only",
        "warning: server.toml: line 15: certificate: soon.pem expires soon, at ",
        "warning: server.toml: line 20: certificate: ca.pem begins with a CA's certificate",
        "error: server.toml: line 25: the private key in foreign.key does not belong to the certificate in foreign.pem",
        "error: server.toml: line 30: certificate: chain.pem: certificate 1 was not issued by the one behind it",
    ] {
        assert!(told.contains(part), "{part:?} is missing:\n{told}");
    }
}

#[test]
fn what_cannot_be_opened_has_its_exit_code() {
    let config = |certificate: &str, more: &str| format!("{HEAD}{more}{}", site("\"a.test\"", certificate));
    let missing = folder(&config("missing", ""));
    assert_eq!(check(&missing, &[]).0, 69);
    let open = folder(&config("good", ""));
    fs::set_permissions(open.path().join("secrets.toml"), fs::Permissions::from_mode(0o644)).expect("chmod");
    let (code, told) = check(&open, &[]);
    assert_eq!(code, 77, "{told}");
    // What the configuration can mend counts first, and the rest is told all the same.
    let both = folder(&config("missing", "leeway = 601\n"));
    let (code, told) = check(&both, &[]);
    assert_eq!(code, 64, "{told}");
    assert!(told.contains("cannot read missing.pem") && told.contains("at most 600 seconds"), "{told}");
    let elsewhere = folder(&config("good", ""));
    assert_eq!(check(&elsewhere, &["--listen", "192.0.2.1:8443"]).0, 69);
}
