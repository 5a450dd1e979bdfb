//! The `key` commands as a person uses them, on a software TPM. All secrets and passwords are test data.

mod common;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../../tpm/tests/relay/mod.rs"]
mod relay;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::{Bench, Server, failed, mode_of, run, succeeds, text, write_private};
use relay::{Relay, code_of, transmit};

fn askpass(bench: &Bench, answer: &str) -> String {
    let path = bench.path("askpass");
    fs::write(&path, format!("#!/bin/sh\necho \"$1\" >> asked\necho '{answer}'\n")).expect("writing");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("chmod");
    path.to_str().expect("a path").to_owned()
}

#[test]
fn a_password_comes_from_file_environment_or_helper_and_is_wanted_only_where_there_is_one() {
    let bench = Bench::new();
    write_private(&bench.path("pw"), "open sesame\n");
    let create = ["key", "create", "--kid", "client1", "--out", "client1.pem", "--secret-out", "secrets.toml", "--password-file", "pw"];
    succeeds(&run(&bench, &[], "", &create));
    assert_eq!(mode_of(&bench.path("client1.pem")), 0o600);
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    let get = ["get", &url, "--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"];

    assert_eq!(succeeds(&run(&bench, &[], "", &[&get[..], &["--password-file", "pw"]].concat())), "ok\n");
    assert_eq!(succeeds(&run(&bench, &[], "open sesame", &[&get[..], &["--password-file", "-"]].concat())), "ok\n");
    assert_eq!(succeeds(&run(&bench, &[("TPM_KEY_AUTH", "open sesame")], "", &get)), "ok\n");
    let helper = askpass(&bench, "open sesame");
    assert_eq!(succeeds(&run(&bench, &[("SSH_ASKPASS", &helper)], "", &get)), "ok\n");
    assert_eq!(
        fs::read_to_string(bench.path("asked")).expect("the helper's log"),
        "Password of the key (Enter if it has none): \n",
        "asked once"
    );

    let (code, told) = failed(&run(&bench, &[], "", &get));
    assert_eq!(code, Some(77));
    assert!(told.contains("password of the key is wanted") && told.contains("--password-file or TPM_KEY_AUTH"), "{told}");
    let (code, told) = failed(&run(&bench, &[("TPM_KEY_AUTH", "close sesame")], "", &get));
    assert_eq!(code, Some(77));
    assert!(told.contains("the password of the key is wrong"), "{told}");
    fs::set_permissions(bench.path("pw"), fs::Permissions::from_mode(0o644)).expect("chmod");
    let (code, told) = failed(&run(&bench, &[], "", &[&get[..], &["--password-file", "pw"]].concat()));
    assert_eq!(code, Some(77));
    assert!(told.contains("chmod 600"), "{told}");
    let (code, told) = failed(&run(&bench, &[("TPM_KEY_AUTH", &"x".repeat(33))], "", &get));
    assert_eq!(code, Some(64));
    assert!(told.contains("at most 32") && !told.contains("xxx"), "{told}");
    // No argument takes a password.
    let help = succeeds(&run(&bench, &[], "", &["get", "--help"]));
    assert!(!help.contains("--password "), "{help}");
}

#[test]
fn passwd_sets_changes_and_removes_a_password() {
    let bench = Bench::new();
    let create = ["key", "create", "--kid", "client1", "--out", "a.pem", "--secret-out", "secrets.toml"];
    succeeds(&run(&bench, &[("TPM_KEY_AUTH", "first")], "", &create));
    let passwd = |from: &str, to: &str, variables: &[(&str, &str)], flags: &[&str]| {
        run(&bench, variables, "", &[&["key", "passwd", "--key", from, "--out", to][..], flags].concat())
    };
    succeeds(&passwd("a.pem", "b.pem", &[("TPM_KEY_AUTH", "first"), ("TPM_KEY_NEW_AUTH", "second")], &[]));
    let (code, told) = failed(&passwd("b.pem", "c.pem", &[("TPM_KEY_AUTH", "first"), ("TPM_KEY_NEW_AUTH", "third")], &[]));
    assert_eq!(code, Some(77), "{told}");
    assert!(!bench.path("c.pem").exists(), "nothing is left where it failed");
    succeeds(&passwd("b.pem", "c.pem", &[("TPM_KEY_AUTH", "second")], &["--remove"]));
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    let get = |key: &str, password: &str| {
        run(&bench, &[("TPM_KEY_AUTH", password)], "", &["get", &url, "--kid", "client1", "--key", key, "--ca", "server.pem"])
    };
    for (key, password) in [("a.pem", "first"), ("b.pem", "second"), ("c.pem", "")] {
        assert_eq!(succeeds(&get(key, password)), "ok\n", "{key}");
    }
    let helper = askpass(&bench, "fourth");
    succeeds(&passwd("c.pem", "d.pem", &[("SSH_ASKPASS", &helper)], &[]));
    assert_eq!(fs::read_to_string(bench.path("asked")).expect("the log").lines().count(), 2, "a new one is asked for twice");
    assert_eq!(succeeds(&get("d.pem", "fourth")), "ok\n");
}

#[test]
fn a_key_bound_to_registers_authenticates_until_one_changes() {
    let bench = Bench::new();
    let create = ["key", "create", "--kid", "client1", "--out", "client1.pem", "--secret-out", "secrets.toml", "--pcrs", "sha256:0,16"];
    let made = run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &create);
    succeeds(&made);
    let takes = "PCR sha256:0 as when the key was made, and PCR sha256:16 as when the key was made, and the key's password";
    assert!(text(&made.stderr).contains(takes), "{}", text(&made.stderr));
    let inspected = succeeds(&run(&bench, &[], "", &["key", "inspect", "client1.pem"]));
    assert!(inspected.contains(takes) && inspected.contains("this TPM:    loads it"), "{inspected}");

    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    let get = ["get", &url, "--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"];
    assert_eq!(succeeds(&run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &get)), "ok\n");
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    let (code, told) = failed(&run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &get));
    assert_eq!(code, Some(77));
    assert!(told.contains("changed since it was made: sha256:16."), "{told}");
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

#[test]
fn signing_keys_are_made_imported_and_used() {
    let bench = Bench::new();
    for (kind, scheme) in [("rsa2048", "rsassa"), ("rsa3072", "rsapss"), ("p256", "ecdsa"), ("p384", "ecdsa")] {
        let (key, out) = (format!("{kind}.pem"), format!("{kind}.signature"));
        succeeds(&run(&bench, &[], "", &["key", "create", "--kid", kind, "--kind", kind, "--out", &key]));
        let signed = run(&bench, &[], "message", &["key", "sign", "--key", &key, "--scheme", scheme]);
        assert!(signed.status.success(), "{}", text(&signed.stderr));
        fs::write(bench.path(&out), &signed.stdout).expect("writing");
        let verify = |input: &str| run(&bench, &[], input, &["key", "verify", "--key", &key, "--scheme", scheme, "--signature", &out]);
        succeeds(&verify("message"));
        assert_eq!(failed(&verify("massage")).0, Some(77));
        let public = succeeds(&run(&bench, &[], "", &["key", "public", "--key", &key]));
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public}");
    }
    bench.swtpm.tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "private.pem"]);
    succeeds(&run(&bench, &[], "", &["key", "import", "--kid", "mine", "--pem", "private.pem", "--out", "mine.pem"]));
    let public = succeeds(&run(&bench, &[], "", &["key", "public", "--key", "mine.pem"]));
    assert_eq!(public, bench.swtpm.tool("openssl", &["pkey", "-in", "private.pem", "-pubout"]));

    for (fault, args) in [
        ("ECC P-256: this cannot sign with RSASSA", vec!["key", "sign", "--key", "p256.pem", "--scheme", "rsassa"]),
        ("ECC P-256: this cannot make HMACs", vec!["get", "https://localhost:1/", "--kid", "x", "--key", "p256.pem"]),
        ("for HMAC keys", vec!["key", "create", "--kid", "x", "--kind", "p256", "--out", "x.pem", "--secret-out", "y"]),
        ("possible values", vec!["key", "create", "--kid", "x", "--kind", "ed25519", "--out", "x.pem"]),
    ] {
        let (code, told) = failed(&run(&bench, &[], "message", &args));
        assert_eq!(code, Some(64), "{told}");
        assert!(told.contains(fault), "{fault}: {told}");
        assert!(!bench.path("x.pem").exists());
    }
}

#[test]
fn a_session_with_the_pinned_endorsement_key_works_and_with_another_sends_nothing() {
    let bench = Bench::new();
    let name = succeeds(&run(&bench, &[], "", &["key", "ek-name"]));
    let create =
        ["key", "create", "--kid", "client1", "--out", "client1.pem", "--secret-out", "secrets.toml", "--session-key-name", name.trim()];
    succeeds(&run(&bench, &[], "", &create));
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    let get = |name: &str| {
        run(&bench, &[], "", &["get", &url, "--kid", "client1", "--key", "client1.pem", "--ca", "server.pem", "--session-key-name", name])
    };
    assert_eq!(succeeds(&get(name.trim())), "ok\n");
    let (code, told) = failed(&get(&format!("000b{}", "0".repeat(64))));
    assert_eq!(code, Some(77));
    assert!(told.contains(&format!("its name is {}", name.trim())) && told.contains("nothing secret was sent"), "{told}");
    assert_eq!(failed(&get("000b12")).0, Some(64));
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

#[test]
fn a_persistent_key_is_listed_used_without_its_file_and_evicted() {
    let bench = Bench::new();
    let create = ["key", "create", "--kid", "client1", "--out", "client1.pem", "--secret-out", "secrets.toml", "--pcrs", "sha256:16"];
    succeeds(&run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &create));
    let kept = run(&bench, &[], "", &["key", "persist", "--key", "client1.pem", "--handle", "0x81008001"]);
    succeeds(&kept);
    assert!(text(&kept.stderr).contains("name them with --pcrs"), "{}", text(&kept.stderr));
    let (code, told) = failed(&run(&bench, &[], "", &["key", "persist", "--key", "client1.pem", "--handle", "0x81008001"]));
    assert!(code == Some(64) && told.contains("is taken"), "{told}");
    let list = succeeds(&run(&bench, &[], "", &["key", "list"]));
    assert!(list.starts_with("0x81008001  HMAC-SHA256   000b") && list.trim_end().ends_with("fixedtpm|fixedparent|sign"), "{list}");

    fs::remove_file(bench.path("client1.pem")).expect("removing");
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    let get = ["get", &url, "--kid", "client1", "--key", "handle:0x81008001", "--ca", "server.pem", "--pcrs", "sha256:16"];
    assert_eq!(succeeds(&run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &get)), "ok\n");
    succeeds(&run(&bench, &[], "", &["key", "evict", "0x81008001"]));
    assert_eq!(succeeds(&run(&bench, &[], "", &["key", "list"])), "");
    let (code, told) = failed(&run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &get));
    assert!(code == Some(69) && told.contains("0x81008001"), "{code:?} {told}");
}

#[test]
fn a_movable_key_moves_to_another_tpm_and_works_there() {
    let (here, there) = (Bench::new(), Bench::new());
    let create = ["key", "create", "--kid", "client1", "--movable", "--out", "client1.pem", "--secret-out", "secrets.toml"];
    succeeds(&run(&here, &[("TPM_KEY_AUTH", "pw")], "", &create));
    succeeds(&run(&there, &[], "", &["key", "parent", "--out", "parent.pub"]));
    fs::copy(there.path("parent.pub"), here.path("parent.pub")).expect("copying");
    let duplicate = ["key", "duplicate", "--key", "client1.pem", "--to", "parent.pub", "--out", "moving.pem"];
    succeeds(&run(&here, &[("TPM_KEY_AUTH", "pw")], "", &duplicate));
    fs::copy(here.path("moving.pem"), there.path("moving.pem")).expect("copying");
    succeeds(&run(&there, &[], "", &["key", "import", "--kid", "client1", "--duplicate", "moving.pem", "--out", "moved.pem"]));

    let server = Server::start(&here, &[]);
    fs::copy(here.path("server.pem"), there.path("server.pem")).expect("copying");
    let url = format!("https://localhost:{}/get", server.port);
    let get = ["get", &url, "--kid", "client1", "--key", "moved.pem", "--ca", "server.pem"];
    assert_eq!(succeeds(&run(&there, &[("TPM_KEY_AUTH", "pw")], "", &get)), "ok\n");

    // Back at home the other TPM's file is of no use, and a key that was not made movable stays.
    let (code, told) = failed(&run(&here, &[], "", &["key", "import", "--kid", "x", "--duplicate", "moving.pem", "--out", "x.pem"]));
    assert!(code == Some(64) && told.contains("encrypted to another TPM"), "{code:?} {told}");
    assert!(!here.path("x.pem").exists());
    succeeds(&run(&here, &[], "", &["key", "create", "--kid", "fixed", "--out", "fixed.pem", "--secret-out", "fixed.toml"]));
    let (code, told) = failed(&run(&here, &[], "", &["key", "duplicate", "--key", "fixed.pem", "--to", "parent.pub", "--out", "y.pem"]));
    assert!(code == Some(64) && told.contains("cannot be moved"), "{code:?} {told}");
}

#[test]
fn keys_are_converted_to_the_two_files_of_tpm2_tools_and_back() {
    let bench = Bench::new();
    succeeds(&run(&bench, &[], "", &["key", "create", "--kid", "mine", "--kind", "p256", "--out", "mine.pem"]));
    succeeds(&run(&bench, &[], "", &["key", "convert", "--key", "mine.pem", "--public", "mine.pub", "--private", "mine.priv"]));
    succeeds(&run(&bench, &[], "", &["key", "convert", "--out", "again.pem", "--public", "mine.pub", "--private", "mine.priv"]));
    let public = |key: &str| succeeds(&run(&bench, &[], "", &["key", "public", "--key", key]));
    assert_eq!(public("again.pem"), public("mine.pem"));
    let signed = run(&bench, &[], "message", &["key", "sign", "--key", "again.pem", "--scheme", "ecdsa"]);
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    fs::write(bench.path("signature"), &signed.stdout).expect("writing");
    succeeds(&run(&bench, &[], "message", &["key", "verify", "--key", "mine.pem", "--scheme", "ecdsa", "--signature", "signature"]));
    let (code, told) =
        failed(&run(&bench, &[], "", &["key", "convert", "--out", "z.pem", "--public", "mine.priv", "--private", "mine.pub"]));
    assert!(code == Some(64) && told.contains("damaged"), "{told}");
}

#[test]
fn a_key_of_tpm2_tools_is_used_with_the_registers_and_the_password_that_its_file_does_not_state() {
    let bench = Bench::new();
    let tool = |tool: &str, args: &[&str]| drop(bench.swtpm.tool(tool, args));
    write_private(&bench.path("secret.b64"), "dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=");
    write_private(
        &bench.path("secrets.toml"),
        "[client1]\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\nclient = \"Alice\"\n",
    );
    fs::write(bench.path("secret"), b"test data, used nowhere else ...").expect("writing");
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    fs::write(bench.path("unique"), [0, 0, 0, 0]).expect("writing");
    tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc", "-g", "sha256", "-c", "primary.ctx", "-a", attributes, "-u", "unique"]);
    tool("tpm2_startauthsession", &["-S", "session"]);
    tool("tpm2_policypcr", &["-Q", "-S", "session", "-l", "sha256:0,16"]);
    tool("tpm2_policyauthvalue", &["-S", "session", "-L", "policy"]);
    tool("tpm2_flushcontext", &["session"]);
    let import = ["-Q", "-C", "primary.ctx", "-G", "hmac", "-i", "secret", "-u", "key.pub", "-r", "key.priv", "-L", "policy", "-p", "pw"];
    tool("tpm2_import", &[&import[..], &["-a", "sign"]].concat());
    tool("tpm2_encodeobject", &["-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv", "-o", "theirs.pem"]);
    tool("tpm2_flushcontext", &["-t"]);

    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    let get = |pcrs: &str| {
        let args = ["get", &url, "--kid", "client1", "--key", "theirs.pem", "--ca", "server.pem", "--pcrs", pcrs];
        run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &args)
    };
    assert_eq!(succeeds(&get("sha256:0,16")), "ok\n");
    let doctor = ["doctor", "--key", "theirs.pem", "--pcrs", "sha256:0,16", "--json"];
    let report = text(&run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &doctor).stdout);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap_or_else(|e| panic!("{e}: {report}"));
    let policy = report.as_array().and_then(|lines| lines.iter().find(|line| line["check"] == "key-policy")).expect("a line");
    assert_eq!(policy["status"], "ok", "{policy}");
    let (code, told) = failed(&get("sha256:16"));
    assert!(code == Some(77) && told.contains("not bound to sha256:16 as they are now"), "{code:?} {told}");
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    let (code, told) = failed(&get("sha256:0,16"));
    assert!(code == Some(77) && told.contains("have changed since"), "{code:?} {told}");
}

#[test]
fn registers_that_hold_nothing_are_warned_of_and_a_bank_that_is_off_is_named() {
    let mut bench = Bench::new();
    let create = |bench: &Bench, pcrs: &str, out: &str| {
        run(bench, &[], "", &["key", "create", "--kid", "c", "--kind", "p256", "--out", out, "--pcrs", pcrs])
    };
    let warned = create(&bench, "sha1:0,16", "empty.pem");
    assert!(warned.status.success() && text(&warned.stderr).contains("nothing was measured into sha1:0,16 "), "{}", text(&warned.stderr));
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("0:sha1={}", "ab".repeat(20))]);
    let warned = text(&create(&bench, "sha1:0", "measured.pem").stderr);
    assert!(!warned.contains("warning"), "{warned}");

    bench.swtpm.tool("tpm2_pcrallocate", &["sha1:none+sha256:all"]);
    bench.swtpm.restart();
    let off = "no PCR bank sha1, or it is switched off";
    let (_, told) = failed(&create(&bench, "sha1:0", "off.pem"));
    assert!(told.contains(off) && !bench.path("off.pem").exists(), "{told}");
    let (_, told) = failed(&run(&bench, &[], "message", &["key", "sign", "--key", "measured.pem", "--scheme", "ecdsa"]));
    assert!(told.contains(off), "{told}");
}

#[test]
fn a_signature_is_verified_in_software_too() {
    let bench = Bench::new();
    for (kind, scheme) in [("rsa2048", "rsapss"), ("p256", "ecdsa")] {
        let key = format!("{kind}.pem");
        succeeds(&run(&bench, &[], "", &["key", "create", "--kid", kind, "--kind", kind, "--out", &key]));
        let signed = run(&bench, &[], "message", &["key", "sign", "--key", &key, "--scheme", scheme]);
        fs::write(bench.path("signature"), &signed.stdout).expect("writing");
        let port = bench.swtpm.port();
        let liar = Relay::answering(&bench.swtpm, move |command| match code_of(command) {
            // TPM2_VerifySignature: success, with a ticket (TCG part 2, 10.7.4: TPM_ST_VERIFIED, TPM_RH_NULL, no digest).
            0x177 => Some([&[0x80, 0x01, 0, 0, 0, 18, 0, 0, 0, 0][..], &[0x80, 0x22, 0x40, 0, 0, 7, 0, 0]].concat()),
            _ => transmit(port, command),
        });
        let tcti = liar.tcti();
        let verify = |input: &str| {
            let args = ["key", "verify", "--key", &key, "--scheme", scheme, "--signature", "signature", "--tcti", &tcti];
            run(&bench, &[], input, &args)
        };
        succeeds(&verify("message"));
        let (_, told) = failed(&verify("massage"));
        assert!(told.contains("about the signature contradict"), "{told}");
    }
}

#[test]
fn a_key_is_put_under_the_primary_that_is_named() {
    let bench = Bench::new();
    for template in ["rsa", "ecc", "ek-rsa", "ek-ecc"] {
        let (made, imported) = (format!("{template}.pem"), format!("{template}-hmac.pem"));
        let named = ["--parent-template", template];
        let told = |output: std::process::Output| {
            (output.status.success(), text(&output.stderr).contains(&format!("--parent-template {template}")))
        };
        let create = [&["key", "create", "--kid", "k", "--kind", "p256", "--out", &made][..], &named].concat();
        assert_eq!(told(bench.client(&create)), (true, template != "ek-rsa"), "{template}");
        write_private(&bench.path("secret"), "dGVzdCBkYXRhLCBhIHNlY3JldA==");
        let import = [&["key", "import", "--kid", "k", "--secret-file", "secret", "--out", &imported][..], &named].concat();
        assert_eq!(told(bench.client(&import)), (true, template != "ek-rsa"), "{template}");
        for key in [made, imported] {
            assert!(succeeds(&bench.client(&[&["key", "inspect", &key][..], &named].concat())).contains("this TPM:    loads it"));
            // The file tells of one template only.
            let alone = bench.client(&["key", "inspect", &key]);
            assert_eq!(text(&alone.stdout).contains("this TPM:    loads it"), template == "ek-rsa", "{template}");
        }
    }
    let (code, told) =
        failed(&bench.client(&["key", "convert", "--key", "rsa.pem", "--public", "a", "--private", "b", "--parent-template", "rsa"]));
    assert!(code == Some(64) && told.contains("go with --out"), "{told}");
}

#[test]
fn a_key_under_another_primary_template_is_told_and_loaded_where_that_is_named() {
    let bench = Bench::new();
    let tool = |tool: &str, args: &[&str]| drop(bench.swtpm.tool(tool, args));
    for (template, flags) in [("rsa", &[][..]), ("ecc", &["-G", "ecc"])] {
        let (context, file) = (format!("{template}.ctx"), format!("{template}.pem"));
        tool("tpm2_createprimary", &[&["-Q", "-C", "o", "-c", &context], flags].concat());
        tool("tpm2_create", &["-Q", "-C", &context, "-G", "ecc256", "-u", "key.pub", "-r", "key.priv"]);
        tool("tpm2_encodeobject", &["-C", &context, "-u", "key.pub", "-r", "key.priv", "-o", &file]);
        tool("tpm2_flushcontext", &["-t"]);

        let sign = ["key", "sign", "--key", &file, "--scheme", "ecdsa"];
        let (code, told) = failed(&run(&bench, &[], "message", &sign));
        assert!(code == Some(64) && told.contains("another primary template") && told.contains("--parent-template"), "{code:?} {told}");
        let named = ["--parent-template", template];
        let signed = run(&bench, &[], "message", &[&sign[..], &named].concat());
        assert!(signed.status.success() && !signed.stdout.is_empty(), "{template}: {}", text(&signed.stderr));
        let inspected = run(&bench, &[], "", &[&["key", "inspect", &file][..], &named].concat());
        assert!(succeeds(&inspected).contains("this TPM:    loads it"));
        let report = run(&bench, &[], "", &[&["doctor", "--key", &file][..], &named].concat());
        assert!(text(&report.stdout).contains("loads it, under the owner's primary of --parent-template"), "{}", text(&report.stdout));
    }
}

#[test]
fn a_key_file_is_read_by_tpm2_tools_unless_it_has_a_description() {
    let bench = Bench::new();
    for (flags, is_read) in [(&[][..], true), (&["--describe"][..], false)] {
        let out = format!("{is_read}.pem");
        let create = ["key", "create", "--kid", "mine", "--kind", "p256", "--out", &out];
        succeeds(&run(&bench, &[], "", &[&create[..], flags].concat()));
        let load = bench.swtpm.try_tool("tpm2_load", &["-Q", "-r", &out, "-c", "key.ctx"]);
        assert_eq!(load.status.success(), is_read, "{flags:?}: {}", text(&load.stderr));
        bench.swtpm.tool("tpm2_flushcontext", &["-t"]);
    }
}

#[test]
fn an_entry_can_be_appended_to_a_registry_whose_last_line_lacks_its_end() {
    let bench = Bench::new();
    bench.create_key();
    let made = run(&bench, &[], "", &["key", "create", "--kid", "client2", "--out", "client2.pem", "--secret-out", "client2.toml"]);
    succeeds(&made);
    let read = |name: &str| fs::read_to_string(bench.path(name)).expect("reading");
    write_private(&bench.path("secrets.toml"), &format!("{}{}", read("secrets.toml").trim_end(), read("client2.toml")));
    let server = Server::start(&bench, &[]);
    for kid in ["client1", "client2"] {
        let url = format!("https://localhost:{}/get", server.port);
        let key = format!("{kid}.pem");
        succeeds(&run(&bench, &[], "", &["get", &url, "--kid", kid, "--key", &key, "--ca", "server.pem"]));
    }
}

#[test]
fn a_secret_is_read_as_openssl_and_xxd_write_it_or_refused_by_name() {
    let bench = Bench::new();
    let base64 = bench.swtpm.tool("openssl", &["rand", "-base64", "64"]);
    assert!(base64.trim().contains('\n'), "it has several lines: {base64}");
    let import = |name: &str, text: &str, format: &str| {
        let out = format!("{name}.pem");
        run(&bench, &[], text, &["key", "import", "--kid", "c", "--secret-file", "-", "--secret-format", format, "--out", &out])
    };
    succeeds(&import("lines", &base64, "base64"));
    succeeds(&import("mark", &format!("\u{feff}{base64}"), "base64"));
    succeeds(&import("xxd", &"0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab\n".repeat(2).replace("cdef", "cdef "), "hex"));
    for (name, text, told) in [
        ("entry", "[\"c\"]\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\n".to_owned(), "is an entry of a registry"),
        ("long", format!("{base64}{}", " ".repeat(5000)), "holds more than 4096 bytes"),
    ] {
        let (code, shown) = failed(&import(name, &text, "base64"));
        assert_eq!(code, Some(64), "{shown}");
        assert!(shown.contains(told) && !shown.contains("dGVzdCBk"), "{shown}");
    }
}

#[test]
fn a_misspelt_tcti_is_told_with_where_it_came_from() {
    let bench = Bench::new();
    for (variables, args, told) in [
        (&[("TPM2TOOLS_TCTI", "swtpm:prot=1")][..], &["key", "list"][..], "TPM2TOOLS_TCTI swtpm:prot=1: "),
        (&[("TPM2TOOLS_TCTI", ""), ("TCTI", "mssim:")], &["key", "list"], "TCTI mssim:: "),
        (&[], &["key", "list", "--tcti", "nonsense"], "--tcti nonsense: "),
    ] {
        let (code, shown) = failed(&run(&bench, variables, "", args));
        assert_eq!(code, Some(64), "{shown}");
        assert!(shown.starts_with(&format!("ekm-otp-client: {told}")), "{shown}");
    }
}

#[test]
fn a_key_at_a_handle_is_used_and_inspected_too() {
    let bench = Bench::new();
    bench.create_key();
    succeeds(&bench.client(&["key", "persist", "--key", "client1.pem", "--handle", "0x81008001"]));
    let server = Server::start(&bench, &[]);
    let url = format!("https://localhost:{}/get", server.port);
    for key in ["handle:0x81008001", "handle:0x81008001=client1.pem"] {
        let get = ["get", &url, "--kid", "client1", "--key", key, "--ca", "server.pem"];
        assert_eq!(succeeds(&bench.client(&get)), "ok\n", "it has no password, and none is asked for");
    }
    let shown = succeeds(&bench.client(&["key", "inspect", "handle:0x81008001"]));
    assert!(shown.starts_with("kind:        HMAC-SHA256\n") && shown.contains("\nname:        000b"), "{shown}");
    succeeds(&bench.client(&["key", "inspect", "handle:0x81008001=client1.pem"]));
    succeeds(&run(&bench, &[], "", &["key", "create", "--kid", "c", "--kind", "p256", "--out", "another.pem"]));
    for file in ["another.pem", "none.pem"] {
        let (_, told) = failed(&bench.client(&["key", "inspect", &format!("handle:0x81008001={file}")]));
        assert!(told.contains("is not the pinned one") || told.contains("none.pem: No such file"), "{told}");
    }
    let other = format!("handle:0x81008001=000b{}", "0".repeat(64));
    let (code, told) = failed(&bench.client(&["key", "inspect", &other]));
    assert_eq!(code, Some(77), "{told}");
    assert!(told.contains("is not the pinned one: its name is 000b"), "{told}");
}
