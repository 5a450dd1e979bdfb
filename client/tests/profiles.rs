//! The configuration file: a URL alone is enough, what wins over what, and what is refused before anything is sent. All secrets are test data.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use common::{Bench, Server, failed, run, succeeds, text, write_private};

/// Writes `ekm-otp/config.toml` below the bench's folder, with `KEYS` and `PORT` replaced.
fn configure(bench: &Bench, config: &str) -> String {
    let folder = bench.path("config");
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("config.toml");
    write_private(&path, config);
    path.display().to_string()
}

/// The client with this file and these variables.
fn client(bench: &Bench, config: &str, variables: &[(&str, &str)], args: &[&str]) -> Output {
    run(bench, &[&[("EKM_OTP_CONFIG", config)], variables].concat(), "", args)
}

/// A profile for the server on this port. The key lies beside the file's folder.
fn profile(name: &str, port: u16, more: &str) -> String {
    format!(
        "[profile.{name}]\norigins = [\"https://localhost:{port}\"]\nkid = \"client1\"\nkey = \"../client1.pem\"\nca = \"../server.pem\"\n{more}\n"
    )
}

#[test]
fn a_url_alone_is_enough() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/whoami", server.port);
    let tcti = format!("tcti = \"{}\"", bench.swtpm.tcti());
    configure(&bench, &profile("work", server.port, &tcti));
    // As it is found where nothing says where it is, and from another folder.
    for (variable, below) in [("XDG_CONFIG_HOME", "xdg"), ("HOME", "home/.config")] {
        let folder = bench.path(below).join("ekm-otp");
        fs::create_dir_all(folder.parent().expect("one")).expect("a folder");
        std::os::unix::fs::symlink(bench.path("config"), &folder).expect("a link");
        let named = bench.path(below.trim_end_matches("/.config"));
        let output = common::client()
            .args(["get", &url])
            .env_remove("EKM_OTP_CONFIG")
            .env_remove("XDG_CONFIG_HOME")
            .env("HOME", "/nonexistent")
            .env(variable, named)
            .env_remove("TPM2TOOLS_TCTI")
            .current_dir("/")
            .output()
            .expect("the client");
        assert!(succeeds(&output).contains("client1"), "{variable}");
    }
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/whoami", server.port);
    let config = configure(&bench, &profile("work", server.port, "credential = \"jws\"\nmutual = \"prefer\"\n"));
    let get = |variables: &[(&str, &str)], flags: &[&str]| client(&bench, &config, variables, &[&["get", &url, "-v"], flags].concat());

    // The server refuses what nobody knows, and says who that was.
    for (variables, flags, kid) in [
        (&[("EKM_OTP_KID", "variable1")][..], &[][..], "variable1"),
        (&[("EKM_OTP_KID", "variable1")], &["--kid", "flag1"], "flag1"),
        (&[("EKM_OTP_KID", "")], &["--kid", "flag2"], "flag2"),
    ] {
        let (code, told) = failed(&get(variables, flags));
        assert!(code == Some(77) && told.contains(&format!("The key id was {kid}")), "{kid}: {code:?} {told}");
    }
    // A claim needs a token: which kind it is can be seen.
    assert!(succeeds(&get(&[], &["--claim", "a=1"])).contains("client1"));
    let otp = get(&[("EKM_OTP_CREDENTIAL", "otp")], &["--claim", "a=1"]);
    assert!(failed(&otp).1.contains("--claim needs a token"));
    succeeds(&get(&[("EKM_OTP_CREDENTIAL", "otp")], &["--claim", "a=1", "--credential", "jwe"]));
    // The proof before the request, or in its answer.
    assert!(text(&get(&[], &[]).stderr).contains("verified, in this answer"));
    assert!(text(&get(&[("EKM_OTP_MUTUAL", "require")], &[]).stderr).contains("before the request"));
    assert!(text(&get(&[("EKM_OTP_MUTUAL", "prefer")], &["--mutual", "require"]).stderr).contains("before the request"));
    // One key that cannot be read hides no other: the flag's CA is used, not the file's.
    assert!(failed(&get(&[("EKM_OTP_CA", "missing.pem")], &[])).1.contains("missing.pem"));
    succeeds(&get(&[("EKM_OTP_CA", "missing.pem")], &["--ca", "server.pem"]));
}

#[test]
fn what_goes_with_one_key_is_not_tried_with_another() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/whoami", server.port);
    // With the password of the profile's key, this one would not open: and a guarded one would count it as a wrong one.
    write_private(&bench.path("password.txt"), "not this key's\n");
    let config = configure(&bench, &profile("work", server.port, "password_file = \"../password.txt\"\n"));
    let (code, told) = failed(&client(&bench, &config, &[], &["get", &url]));
    assert_eq!(code, Some(77), "{told}");
    succeeds(&client(&bench, &config, &[], &["get", &url, "--key", "client1.pem"]));
    succeeds(&client(&bench, &config, &[("EKM_OTP_KEY", "client1.pem")], &["get", &url]));
}

#[test]
fn of_several_keys_the_first_that_can_be_used_is_used() {
    let bench = Bench::new();
    bench.create_key();
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/whoami", server.port);
    let origin = format!("origins = \"https://localhost:{}\"\nca = \"../server.pem\"", server.port);
    let keys = "keys = [{ kid = \"client1-2\", key = \"gone.pem\" }, { kid = \"client1\", key = \"../client1.pem\" }]";
    let config = configure(&bench, &format!("[profile.work]\n{origin}\n{keys}\n"));
    let output = client(&bench, &config, &[], &["get", &url]);
    assert!(succeeds(&output).contains("client1"));
    let told = text(&output.stderr);
    assert!(told.contains("warning: the key of client1-2 is not used") && told.contains("gone.pem"), "{told}");
    // The one that is asked for, and none that is not there.
    let output = client(&bench, &config, &[], &["get", &url, "--kid", "client1"]);
    assert!(succeeds(&output).contains("client1") && text(&output.stderr).is_empty(), "{}", text(&output.stderr));
    let (code, told) = failed(&client(&bench, &config, &[], &["get", &url, "--kid", "other"]));
    assert!(code == Some(64) && told.contains("no key of the key id other") && told.contains("line 1"), "{told}");
}

/// Somebody listens, and nobody comes.
#[test]
fn a_profile_is_used_for_its_own_servers_only() {
    let bench = Bench::new();
    bench.create_key();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let url = format!("https://localhost:{port}/");
    let config = configure(&bench, &(profile("work", 1, "") + &profile("home", 2, "")));
    for (variables, args, told) in [
        (&[][..], vec!["get", &url, "-P", "work"], "the profile work is for https://localhost:1 and no other server"),
        (&[("EKM_OTP_PROFILE", "home")], vec!["get", &url], "the profile home is for https://localhost:2 and no other server"),
        (&[], vec!["get", &url, "--profile-name", "wrok"], "has no profile wrok: work is meant?"),
        (&[], vec!["get", &url], "no profile in"),
        // What a server is called counts, not where it is dialled.
        (&[], vec!["get", "https://localhost:1/", "--server-name", "elsewhere.test"], "has https://elsewhere.test:1 among its"),
        (
            &[("EKM_OTP_KID", "client1"), ("EKM_OTP_KEY", "client1.pem"), ("EKM_OTP_ORIGINS", "https://a.test,https://b.test")],
            vec!["get", &url],
            "are for $EKM_OTP_ORIGINS only",
        ),
    ] {
        let (code, found) = failed(&client(&bench, &config, variables, &args));
        assert!(code == Some(64) && found.contains(told), "{args:?}: {code:?} {found}");
        assert!(listener.accept().is_err(), "{args:?}: something was sent");
    }
    // Two have it: which is meant is to be said, or can be told by the key id.
    let two = profile("work", port, "") + &profile("other", port, "").replace("client1\"", "client2\"");
    let config = configure(&bench, &two);
    let (code, found) = failed(&client(&bench, &config, &[], &["get", &url]));
    assert!(code == Some(64) && found.contains("the profiles other and work have"), "{found}");
    assert!(listener.accept().is_err(), "something was sent");
}

#[test]
fn what_is_wrong_with_the_file_is_told_with_its_line_all_at_once() {
    let bench = Bench::new();
    let get = |config: &str| failed(&client(&bench, config, &[], &["get", "https://localhost/"]));
    let config = "kid = \"a\"\n[profile.work]\norgins = [\"https://a.test\"]\ncredential = \"otpp\"\nsecret = \"aGlkZGVuIGluIHRlc3Rz\"\ntls12 = \"yes\"\n\
                  [profile.\"a b\"]\norigins = [\"https://a.test/path\"]\nkeys = [{ kid = \"a\" }]\n[profil.x]\n";
    let path = configure(&bench, config);
    let (code, told) = get(&path);
    assert_eq!(code, Some(64), "{told}");
    for (line, words) in [
        (1, "`kid` belongs to a profile"),
        (2, "has no `origins`"),
        (3, "`orgins`: `origins` is meant?"),
        (4, "credential"),
        (5, "no secret stands in this file"),
        (6, "true or false, without quotes"),
        (7, "a profile's name has letters"),
        (8, "what stands behind it belongs to a request"),
        (9, "each has a `kid`, and a `key`"),
        (10, "`profil`: `profile` is meant?"),
    ] {
        let there = told.lines().any(|told| told.contains(&format!("line {line}: ")) && told.contains(words));
        assert!(there, "line {line}, {words}: {told}");
    }
    assert!(!told.contains("aGlkZGVu"), "what may be a secret is shown: {told}");
    let (code, told) = get(&configure(&bench, "[profile.work\norigins = 1\n"));
    assert!(code == Some(64) && told.contains("line 1: this is not TOML"), "{told}");
    let (code, told) = get(&bench.path("missing.toml").display().to_string());
    assert!(code == Some(69) && told.contains("$EKM_OTP_CONFIG names it"), "{told}");
}

#[test]
fn a_file_that_others_can_change_is_not_read() {
    let bench = Bench::new();
    let config = configure(&bench, "[profile.work]\norigins = [\"https://localhost:1\"]\nkid = \"a\"\nsecret_file = \"gone\"\n");
    let (file, folder) = (bench.path("config/config.toml"), bench.path("config"));
    let mode = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    let get = || failed(&client(&bench, &config, &[], &["get", "https://localhost:1/"]));
    assert_eq!(get().0, Some(69), "it is read: {}", get().1);
    for (path, bad, good, told) in [
        (&file, 0o622, 0o600, "chmod og-w"),
        (&file, 0o660, 0o600, "its mode is 0660"),
        (&folder, 0o777, 0o755, "so everyone can put another file there"),
    ] {
        mode(path, bad);
        let (code, found) = get();
        assert!(code == Some(77) && found.contains("others can change it") && found.contains(told), "{bad:o}: {code:?} {found}");
        mode(path, good);
    }
    // Where names can be taken by their owners alone, others cannot.
    mode(&folder, 0o1777);
    assert_eq!(get().0, Some(69), "{}", get().1);
    mode(&folder, 0o755);
    // A link's own folder counts, and where it leads.
    let links = bench.path("links");
    fs::create_dir(&links).expect("a folder");
    std::os::unix::fs::symlink(&file, links.join("config.toml")).expect("a link");
    mode(&links, 0o777);
    let linked = links.join("config.toml").display().to_string();
    let (code, found) = failed(&client(&bench, &linked, &[], &["get", "https://localhost:1/"]));
    assert!(code == Some(77) && found.contains("links"), "{code:?} {found}");
}

#[test]
fn what_is_said_where_is_shown() {
    let bench = Bench::new();
    let text = profile("work", 1, "mutual = \"prefer\"") + "[profile.b]\norigins = [\"https://b.test\", \"https://c.test\"]\n";
    let config = configure(&bench, &text);
    let listed = succeeds(&client(&bench, &config, &[], &["profile", "list"]));
    assert_eq!(listed, "b     https://b.test https://c.test  \nwork  https://localhost:1  client1\n");
    let shown = succeeds(&client(&bench, &config, &[("EKM_OTP_KEY", "other.pem")], &["profile", "show", "work"]));
    for (key, value, from) in [
        ("kid", "\"client1\"", "line 3"),
        ("key", "other.pem", "$EKM_OTP_KEY"),
        ("mutual", "\"prefer\"", "line 6"),
        ("credential", "\"otp\"", "default"),
    ] {
        let line = shown.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap_or_else(|| panic!("no {key}: {shown}"));
        assert!(line.contains(value) && line.ends_with(from), "{line}");
    }
    assert!(failed(&client(&bench, &config, &[], &["profile", "show", "wrk"])).1.contains("work is meant?"));
}

/// What a tool of Debian's has to say of a file.
fn looked_at(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {program} ({e}): install its Debian package"));
    assert!(output.status.success(), "{program} {args:?}");
    text(&output.stderr)
}

/// Every command and subcommand, by its help.
fn commands(before: &[String]) -> Vec<Vec<String>> {
    let help = common::client().args(before).arg("--help").output().expect("the client");
    let help = text(&help.stdout);
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default().lines().take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let below = names.filter(|name| *name != "help").map(|name| [before, &[name.to_owned()]].concat());
    below.flat_map(|command| [vec![command.clone()], commands(&command)].concat()).collect()
}

#[test]
fn completions_and_manual_pages_know_every_command_and_are_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = commands(&[]);
    assert!(all.len() > 50, "{all:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = succeeds(&common::client().args(["completions", shell]).output().expect("the client"));
        for word in all.iter().flatten().map(String::as_str).chain(["require-post-quantum", "profile-name"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
        fs::write(folder.path().join(shell), script).expect("writing");
    }
    looked_at("bash", &["-n", &folder.path().join("bash").display().to_string()]);
    let man = folder.path().join("man1");
    succeeds(&common::client().args(["man", "--out"]).arg(&man).output().expect("the client"));
    for command in &all {
        let page = man.join(format!("ekm-otp-client-{}.1", command.join("-")));
        let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{}", page.display());
    }
    let pages: Vec<String> = fs::read_dir(&man).expect("pages").map(|page| page.expect("a page").path().display().to_string()).collect();
    assert_eq!(pages.len(), all.len() + 1, "with the program's own");
    let warnings = looked_at(
        "groff",
        &[&["-man", "-Kutf8", "-Tutf8", "-ww", "-z"][..], &pages.iter().map(String::as_str).collect::<Vec<_>>()].concat(),
    );
    assert_eq!(warnings, "");
}
