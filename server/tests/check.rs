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
        "line 3: leeway: write seconds, a whole number without quotes, such as 3600",
        "line 4: realm: a realm consists of printable ASCII",
        "line 7: credentials: \"hotp\": a credential is of one of the kinds otp, jws, jwe",
        "line 10: server_names: ",
        "line 9: `private_key` is missing",
        "line 12: upstream: \"gopher://app\": is no upstream",
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
        (
            format!("realm = \"a\"\nrealm = \"{SECRET}\"\n"),
            "line 2: this is not TOML: duplicate key `realm`: it stands in this table already",
        ),
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

/// A configuration that is good but for these lines, which stand above its site, and those, which stand in it.
fn with(top: &str, of_site: &str) -> TempDir {
    folder(&format!("{HEAD}{top}\n{}{of_site}\n", site("\"a.test\"", "good")))
}

#[test]
fn a_value_of_the_wrong_kind_is_told_in_words_of_people() {
    for (top, of_site, told_as) in [
        ("max_age = \"1h\"", "", "line 3: max_age: \"1h\": write seconds, a whole number from 1 on without quotes, such as 3600"),
        ("drain = \"30s\"", "", "line 3: drain: \"30s\": write seconds, a whole number without quotes"),
        ("leeway = -1", "", "line 3: leeway: -1: write seconds, a whole number"),
        ("max_headers = \"many\"", "", "line 3: max_headers: \"many\": write a whole number from 1 on without quotes, such as 100"),
        ("tls12 = \"yes\"", "", "line 3: tls12: \"yes\": write true or false, without quotes"),
        ("realm = 3", "", "line 3: realm: 3: write a text in quotes"),
        ("log_format = \"xml\"", "", "line 3: log_format: \"xml\": write \"text\" or \"json\""),
        ("", "allow = [\"Bob\"]", "line 9: allow: write a list of tables, such as allow = [{ client = \"alice.*\" }"),
        ("", "allow = { client = \"Bob\" }", "line 9: allow: write a list of tables, such as"),
        ("", "allow = [{ cleint = \"Bob\" }]", "line 9: allow: `cleint` is no key of it: write `client` or `claims`"),
        ("", "authorities = [\"a\"]", "line 9: authorities: write a table of lists, such as"),
        ("", "credentials = []", "line 9: credentials: names no kind: take it out to accept all of them"),
        ("", "identity_kid = \"host\"", "line 9: identity_kid: Host has a meaning of its own"),
        ("", "identity_kid = \"ekm_otp_client\"", "line 9: identity_kid: looks to an app like the name of identity_client"),
        ("unsafe_upstream = true", "", "line 3: `unsafe_upstream` can only be given as the flag --unsafe-upstream"),
        ("", "unsafe_upstream = true", "line 9: `unsafe_upstream` can only be given as the flag --unsafe-upstream"),
        ("log = \"foo=bar=baz\"", "", "line 3: log: "),
    ] {
        let (code, told) = check(&with(top, of_site), &[]);
        assert_eq!(code, 64, "{top}{of_site}: {told}");
        assert!(told.contains(told_as), "{told_as:?} is missing:\n{told}");
        assert!(told.contains(": 1 errors, 0 warnings"), "more than that is told:\n{told}");
        for word in ["u64", "struct", "sequence", "variant", "nonzero"] {
            assert!(!told.contains(word), "{word}: {told}");
        }
    }
}

#[test]
fn sites_under_another_name_are_read_and_told() {
    let config = format!("{HEAD}{}relm = 1\n", site("\"a.test\"", "good").replace("[[site]]", "[[sites]]"));
    let (code, told) = check(&folder(&config), &[]);
    assert_eq!(code, 64, "{told}");
    assert!(told.contains("line 3: unknown table `sites`: `[[site]]` is meant?") && told.contains("line 8: unknown key `relm`"), "{told}");
    assert!(told.contains(": 2 errors, 0 warnings"), "{told}");
}

#[test]
fn one_bracket_that_is_not_closed_is_one_error() {
    for (list, told_as) in [
        ("open = [\"GET=/a\"", "line 10: this is not TOML: missing comma between array elements (or a bracket above is not closed)"),
        (
            "allow = [{ client = \"a\" ]",
            "line 9: this is not TOML: invalid inline table element (each bracket that is opened must be closed)",
        ),
        ("[[site]", "line 9: this is not TOML: unclosed array table (each"),
    ] {
        let (code, told) =
            check(&with("", &format!("{list}\nidle_timeout = 3\nupstream_host = \"a\"\n[[site]]\nupstream = \"demo\"")), &[]);
        assert_eq!(code, 64, "{told}");
        assert!(told.contains(told_as) && told.contains(": 1 errors, 0 warnings"), "{told_as:?} is missing:\n{told}");
    }
}

#[test]
fn what_the_start_would_end_with_is_found_and_nothing_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let stranger = taken.local_addr().expect("its address");
    // Answers whoever looks whether it is a server, as no server does.
    std::thread::spawn(move || {
        for socket in taken.incoming() {
            let _ = std::io::Write::write_all(&mut socket.expect("a connection"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    for (top, told_as) in [
        ("access_log = \"nowhere/access.log\"".to_owned(), "access_log: cannot open nowhere/access.log: there is no folder nowhere"),
        ("audit_log = \"nowhere/audit.log\"".to_owned(), "audit_log: cannot open nowhere/audit.log: there is no folder nowhere"),
        ("admin = \"unix:nowhere/a.sock\"".to_owned(), "admin: cannot listen on unix:nowhere/a.sock: there is no folder nowhere"),
        (format!("admin = \"{stranger}\""), "admin: cannot listen on 127.0.0.1:"),
        ("registry_key = \"nowhere\"\nregistry = \"sqlite://nowhere/r.db\"".to_owned(), "there is no folder nowhere"),
        ("registry_key = \"nowhere\"\nregistry = \"postgres:///x?host=/nowhere\"".to_owned(), "cannot open nowhere"),
        ("registry_key = \"key\"\nregistry = \"postgres:///x?host=/nowhere\"".to_owned(), "the registry's database: "),
    ] {
        let config = format!("{HEAD}{top}\n{}", site("\"a.test\"", "good"));
        let config = if top.contains("registry =") { config.replace("secrets = \"secrets.toml\"\n", "") } else { config };
        let folder = folder(&config);
        write_private(&folder.path().join("key"), &format!("ekm-otp-registry-key-1:{SECRET}\n"));
        let begin = std::time::Instant::now();
        let (code, told) = check(&folder, &[]);
        assert_eq!(code, 69, "{told}");
        assert!(told.contains(told_as) && told.contains(": 1 errors, 0 warnings"), "{told_as:?} is missing:\n{told}");
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "it waited for what does not come");
    }
    let made = with("access_log = \"access.log\"\naudit_log = \"audit.log\"\nadmin = \"unix:admin.sock\"", "");
    let (code, told) = check(&made, &[]);
    assert_eq!(code, 0, "{told}");
    let config = format!("{HEAD}registry = \"sqlite://r.db\"\nregistry_key = \"key\"\n{}", site("\"a.test\"", "good"));
    let new = folder(&config.replace("secrets = \"secrets.toml\"\n", ""));
    let (code, told) = check(&new, &[]);
    assert!(code == 0 && told.contains("r.db is not there yet: the first start makes it"), "{told}");
    for (folder, file) in [(&made, "access.log"), (&made, "audit.log"), (&made, "admin.sock"), (&new, "r.db")] {
        assert!(!folder.path().join(file).exists(), "{file} was made");
    }
}

#[test]
fn a_private_key_for_everyone_and_a_name_that_is_not_this_machine_are_warned_of() {
    let folder = folder(&format!("{HEAD}{}", site("\"a.test\"", "good").replace("\"demo\"", "\"http://app.invalid:3000\"")));
    fs::set_permissions(folder.path().join("good.key"), fs::Permissions::from_mode(0o644)).expect("chmod");
    let (code, told) = check(&folder, &[]);
    assert_eq!(code, 0, "{told}");
    for part in [
        "line 5: private_key: everyone on this machine can use good.key: chmod o= good.key",
        "line 7: upstream: app.invalid has no address now",
    ] {
        assert!(told.contains(&format!("warning: server.toml: {part}")), "{part:?} is missing:\n{told}");
    }
}

/// Exit code and text of `check --ready`.
fn ready(address: &str) -> (i32, String) {
    let output = Command::new(SERVER).args(["check", "--ready", address]).stdin(Stdio::null()).output().expect("the server");
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().expect("an exit code"), told)
}

#[test]
fn readiness_is_asked_of_a_running_server_and_no_stranger_is_believed() {
    for (admin, name) in [("unix:admin.sock", None), ("127.0.0.1:0", Some("address=127.0.0.1:"))] {
        let folder = with(&format!("admin = \"{admin}\""), "");
        let mut command = Command::new(SERVER);
        command.args(["run", "--config", "server.toml"]).current_dir(folder.path()).env_remove("EKM_OTP_LOG").stdin(Stdio::null());
        let mut server = command.stderr(Stdio::piped()).spawn().expect("the server");
        let mut log = std::io::BufReader::new(server.stderr.take().expect("its log"));
        let address = loop {
            let mut line = String::new();
            assert!(std::io::BufRead::read_line(&mut log, &mut line).expect("a line") > 0, "the server ended");
            if line.contains("metrics, health and status are served") {
                break match name {
                    Some(name) => format!("127.0.0.1:{}", line.split_once(name).expect("a port").1.trim()),
                    None => format!("unix:{}", folder.path().join("admin.sock").display()),
                };
            }
        };
        let (code, told) = ready(&address);
        assert!(code == 0 && told.contains("ok workers: ") && told.contains("ok registry: "), "{code}: {told}");
        let (code, told) = check(&folder, &["--admin", &address]);
        assert!(code == 0 && told.contains(" is in use by a running ekm-otp-server"), "{told}");
        server.kill().expect("its end");
        server.wait().expect("its end");
        let (code, told) = ready(&address);
        assert!(code == 69 && told.contains("cannot ask "), "{code}: {told}");
    }
    for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nok workers: all\n", ""]
    {
        let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = stranger.local_addr().expect("its address").to_string();
        let answering = std::thread::spawn(move || {
            let mut socket = stranger.accept().expect("a connection").0;
            let _ = std::io::Read::read(&mut socket, &mut [0; 4096]);
            std::io::Write::write_all(&mut socket, answer.as_bytes()).expect("writing");
        });
        let (code, told) = ready(&address);
        answering.join().expect("the stranger");
        assert!(code == 69 && told.contains("not as the admin listener"), "{code}: {told}");
    }
}

#[test]
fn a_server_that_is_not_ready_is_told_by_the_exit_code_and_why() {
    let text = "ok workers: all threads answer\nFAILS registry: too old\n";
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = stranger.local_addr().expect("its address").to_string();
    let answering = std::thread::spawn(move || {
        let mut socket = stranger.accept().expect("a connection").0;
        let _ = std::io::Read::read(&mut socket, &mut [0; 4096]);
        let answer = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        std::io::Write::write_all(&mut socket, answer.as_bytes()).expect("writing");
    });
    let (code, told) = ready(&address);
    answering.join().expect("the server");
    assert!(code == 69 && told.contains("FAILS registry: too old"), "{code}: {told}");
}
