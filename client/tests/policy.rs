//! `--policy`: policies in JSON, for new keys and for those whose file states none. All secrets and passwords are test data.

mod common;

use std::fs;

use common::{Bench, failed, run, succeeds, text, write_private};

/// What a register holds once 32 zeros were extended into it: SHA-256 of 64 zeros.
const EXTENDED: &str = "F5A5FD42D16A20302798EF6ED309979B43003D2320D9F0E8EA9831A92759FB4B";
const SIGN: [&str; 6] = ["key", "sign", "--key", "k.pem", "--scheme", "ecdsa"];

fn policy_23(more: &str) -> String {
    let pcr = format!(r#"{{"pcr": 23, "hashAlg": "TPM2_ALG_SHA256", "digest": "{EXTENDED}"}}"#);
    format!(r#"{{"description": "a test's", "policy": [{{"type": "POLICYPCR", "pcrs": [{pcr}]}}{more}]}}"#)
}

/// With the policy of register 23 as `pcr.json`, and one with the key's password, too, as `both.json`.
fn start() -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("pcr.json"), policy_23("")).expect("writing");
    fs::write(bench.path("both.json"), policy_23(r#", {"type": "POLICYAUTHVALUE"}"#)).expect("writing");
    bench
}

fn extend(bench: &Bench, byte: &str) {
    bench.swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={}", byte.repeat(32))]);
}

fn signs(bench: &Bench, variables: &[(&str, &str)], key: &str, flags: &[&str]) -> std::process::Output {
    let sign = SIGN.map(|arg| if arg == "k.pem" { key } else { arg });
    run(bench, variables, "message", &[&sign[..], flags].concat())
}

#[test]
fn a_new_key_is_bound_to_the_policy_in_a_file_and_states_it() {
    let bench = start();
    let create = |name: &str, policy: &str, variables: &[(&str, &str)]| {
        run(&bench, variables, "", &["key", "create", "--kid", "k", "--kind", "p256", "--out", name, "--policy", policy])
    };
    // As the register will be.
    let made = create("pcr.pem", "pcr.json", &[]);
    succeeds(&made);
    assert!(text(&made.stderr).contains("to use it takes: PCR sha256:23 as when the key was made\n"), "{}", text(&made.stderr));
    succeeds(&create("both.pem", "both.json", &[("TPM_KEY_AUTH", "pw")]));
    let (code, told) = failed(&signs(&bench, &[], "pcr.pem", &[]));
    assert!(code == Some(77) && told.contains("changed since it was made: sha256:23"), "{told}");
    extend(&bench, "00");
    succeeds_quietly(&signs(&bench, &[], "pcr.pem", &[]));
    succeeds_quietly(&signs(&bench, &[("TPM_KEY_AUTH", "pw")], "both.pem", &[]));
    let (code, told) = failed(&signs(&bench, &[("TPM_KEY_AUTH", "wrong")], "both.pem", &[]));
    assert!(code == Some(77) && told.contains("the password of the key is wrong"), "{told}");
    extend(&bench, "ab");
    let (code, told) = failed(&signs(&bench, &[("TPM_KEY_AUTH", "pw")], "both.pem", &[]));
    assert!(code == Some(77) && told.contains("changed since it was made: sha256:23."), "{told}");

    // Imported keys, too.
    bench
        .swtpm
        .tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-outform", "der", "-out", "ec.der"]);
    let import = ["key", "import", "--kid", "k", "--pem", "ec.der", "--out", "imported.pem", "--policy", "pcr.json"];
    succeeds(&run(&bench, &[], "", &import));
    let (_, told) = failed(&signs(&bench, &[], "imported.pem", &[]));
    assert!(told.contains("changed since it was made: sha256:23."), "{told}");

    // A password and a policy that do not go together, and nothing is left of it.
    for (policy, variables, why) in [
        ("pcr.json", &[("TPM_KEY_AUTH", "pw")][..], "add POLICYAUTHVALUE to it, or leave the password out"),
        ("both.json", &[], "give one, or leave POLICYAUTHVALUE out"),
    ] {
        let (code, told) = failed(&create("none.pem", policy, variables));
        assert!(code == Some(64) && told.contains(why) && !bench.path("none.pem").exists(), "{told}");
    }
    let both = ["key", "create", "--kid", "k", "--kind", "p256", "--out", "none.pem", "--policy", "pcr.json", "--pcrs", "sha256:0"];
    let (code, told) = failed(&run(&bench, &[], "", &both));
    assert!(code == Some(64) && told.contains("cannot be used with"), "{told}");
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

/// Its standard output is a signature.
fn succeeds_quietly(output: &std::process::Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!output.stdout.is_empty());
}

#[test]
fn a_key_whose_file_states_no_policy_is_used_with_it_stated() {
    let bench = start();
    extend(&bench, "00");
    let create = ["key", "create", "--kid", "k", "--kind", "p256", "--out", "stated.pem", "--policy", "both.json"];
    succeeds(&run(&bench, &[("TPM_KEY_AUTH", "pw")], "", &create));
    succeeds(&bench.client(&["key", "convert", "--key", "stated.pem", "--public", "k.pub", "--private", "k.priv"]));
    succeeds(&bench.client(&["key", "convert", "--out", "bare.pem", "--public", "k.pub", "--private", "k.priv"]));
    succeeds(&bench.client(&["key", "persist", "--key", "bare.pem", "--handle", "0x81008001"]));
    let pw = [("TPM_KEY_AUTH", "pw")];
    for key in ["bare.pem", "handle:0x81008001", "handle:0x81008001=bare.pem"] {
        succeeds_quietly(&signs(&bench, &pw, key, &["--policy", "both.json"]));
        let (code, told) = failed(&signs(&bench, &pw, key, &["--policy", "pcr.json"]));
        assert!(code == Some(77) && told.contains("not bound to sha256:23: the registers have the values that are stated"), "{told}");
        let (code, _) = failed(&signs(&bench, &pw, key, &[]));
        assert_eq!(code, Some(77), "without its policy");
    }
    // The file at a handle brings its policy, and then none is to be stated beside.
    succeeds_quietly(&signs(&bench, &pw, "handle:0x81008001=stated.pem", &[]));
    for key in ["stated.pem", "handle:0x81008001=stated.pem"] {
        let (code, told) = failed(&signs(&bench, &pw, key, &["--policy", "both.json"]));
        assert!(code == Some(64) && told.contains("states its policy itself: PCR sha256:23"), "{told}");
    }
    let doctor = |policy: &str| text(&run(&bench, &pw, "", &["doctor", "--key", "bare.pem", "--policy", policy, "--json"]).stdout);
    let line = |report: &str| -> serde_json::Value {
        let report: serde_json::Value = serde_json::from_str(report).unwrap_or_else(|e| panic!("{e}: {report}"));
        report.as_array().and_then(|lines| lines.iter().find(|line| line["check"] == "key-policy")).expect("a line").clone()
    };
    assert_eq!(line(&doctor("both.json"))["status"], "ok");
    let other = line(&doctor("pcr.json"));
    assert!(other["status"] != "ok" && other["finding"].as_str().is_some_and(|text| text.contains("--policy")), "{other}");

    extend(&bench, "ab");
    for key in ["bare.pem", "handle:0x81008001"] {
        let (code, told) = failed(&signs(&bench, &pw, key, &["--policy", "both.json"]));
        assert!(code == Some(77) && told.contains("changed since it was made: sha256:23."), "{told}");
        let (code, told) = failed(&signs(&bench, &pw, key, &["--policy", "pcr.json"]));
        assert!(code == Some(77) && told.contains("the TPM has others now: sha256:23."), "{told}");
    }
    let changed = line(&doctor("both.json"));
    assert!(changed["status"] != "ok" && changed["finding"].as_str().is_some_and(|text| text.contains("sha256:23")), "{changed}");
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}

#[test]
fn what_is_no_policy_is_refused_by_name_before_the_tpm_is_asked() {
    let bench = start();
    let long = format!("{}{}", policy_23(""), " ".repeat(64 * 1024));
    for (name, bytes, why) in [
        ("nv.json", policy_23(r#", {"type": "POLICYACTION"}"#).into_bytes(), r#"policy[1] is of the type "POLICYACTION", which cannot be"#),
        ("text.json", b"sha256:23".to_vec(), "this is not JSON"),
        ("two.json", [policy_23(""), policy_23("")].concat().into_bytes(), "trailing characters"),
        ("bytes.json", vec![0xff, 0xfe], "it is neither text (UTF-8) nor a digest of 32 bytes"),
        ("long.json", long.into_bytes(), "longer than 65536 bytes"),
    ] {
        fs::write(bench.path(name), bytes).expect("writing");
        let create = ["key", "create", "--kid", "k", "--kind", "p256", "--out", "none.pem", "--policy", name];
        let (code, told) = failed(&bench.client_with(&create, "swtpm:host=127.0.0.1,port=1"));
        assert!(code == Some(64) && told.contains(&format!("--policy {name}: ")) && told.contains(why), "{told}");
        assert!(told.lines().count() == 1 && !bench.path("none.pem").exists(), "{told}");
    }
    let create = ["key", "create", "--kid", "k", "--kind", "p256", "--out", "none.pem", "--policy", "absent.json"];
    let (code, told) = failed(&bench.client(&create));
    assert!(code == Some(69) && told.contains("cannot open absent.json"), "{told}");
}

#[test]
fn a_key_under_another_primary_template_is_made_persistent() {
    let bench = Bench::new();
    let tool = |tool: &str, args: &[&str]| drop(bench.swtpm.tool(tool, args));
    tool("tpm2_createprimary", &["-Q", "-C", "o", "-c", "primary.ctx"]);
    tool("tpm2_create", &["-Q", "-C", "primary.ctx", "-G", "ecc256:ecdsa:null", "-u", "k.pub", "-r", "k.priv"]);
    tool("tpm2_flushcontext", &["-t"]);
    succeeds(&bench.client(&["key", "convert", "--out", "k.pem", "--public", "k.pub", "--private", "k.priv", "--no-password"]));
    let persist = ["key", "persist", "--key", "k.pem", "--handle", "0x81008001"];
    let (code, told) = failed(&bench.client(&persist));
    assert!(code == Some(64) && told.contains("--parent-template rsa or ecc"), "{told}");
    succeeds(&bench.client(&[&persist[..], &["--parent-template", "rsa"]].concat()));
    succeeds_quietly(&signs(&bench, &[], "handle:0x81008001=k.pem", &[]));
}

#[test]
fn inspect_takes_its_key_as_the_other_commands_do() {
    let bench = Bench::new();
    write_private(&bench.path("pw"), "pw");
    let create = ["key", "create", "--kid", "k", "--kind", "p256", "--out", "k.pem", "--password-file", "pw"];
    succeeds(&bench.client(&create));
    let shown = succeeds(&bench.client(&["key", "inspect", "k.pem"]));
    for flag in ["--key", "--key-file"] {
        assert_eq!(succeeds(&bench.client(&["key", "inspect", flag, "k.pem"])), shown);
    }
    for args in [["key", "inspect"].as_slice(), &["key", "inspect", "k.pem", "--key", "k.pem"]] {
        assert_eq!(failed(&bench.client(args)).0, Some(64));
    }
    succeeds(&bench.client(&["key", "convert", "--key", "k.pem", "--public", "k.pub", "--private", "k.priv"]));
    // What nothing tells is stated: with a password unless it is said that there is none.
    for (flags, told) in [([].as_slice(), "password:    yes, or the file does not tell"), (&["--no-password"], "password:    none")] {
        let _ = fs::remove_file(bench.path("again.pem"));
        let convert = ["key", "convert", "--out", "again.pem", "--public", "k.pub", "--private", "k.priv"];
        succeeds(&bench.client(&[&convert[..], flags].concat()));
        let shown = succeeds(&bench.client(&["key", "inspect", "--key", "again.pem"]));
        assert!(shown.contains(told), "{shown}");
    }
}

/// What the commands of tpm2-tools come to in a trial session.
fn trial(bench: &Bench, lines: &[&str]) -> String {
    let tool = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        bench.swtpm.tool(words[0], &words[1..]);
    };
    tool("tpm2_startauthsession -S trial.ctx");
    for line in lines {
        tool(&format!("{line} -S trial.ctx -L trial.policy"));
    }
    tool("tpm2_flushcontext trial.ctx");
    fs::read(bench.path("trial.policy")).expect("a policy").iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn each_step_of_policy_create_comes_to_what_tpm2_tools_make() {
    let bench = Bench::new();
    let tool = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        drop(bench.swtpm.tool(words[0], &words[1..]));
    };
    let ours = |name: &str, flags: &str| {
        let words: Vec<&str> = flags.split_whitespace().collect();
        let out = format!("{name}.json");
        succeeds(&bench.client(&[&["policy", "create", "--out", &out], words.as_slice()].concat()));
        succeeds(&bench.client(&["policy", "digest", &out])).trim().to_owned()
    };
    tool("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem");
    tool("openssl pkey -in key.pem -pubout -out key.pub");
    tool("tpm2_loadexternal -Q -C o -G rsa -u key.pub -c key.ctx -n key.name");
    tool("tpm2_flushcontext -t");
    fs::write(bench.path("ref"), [1, 7]).expect("written");
    for (name, flags, lines) in [
        ("pcrs", "--pcrs sha256:0,7+sha1:16", &["tpm2_policypcr -l sha256:0,7+sha1:16"][..]),
        ("two", "--pcrs sha256:0 --pcrs sha256:7", &["tpm2_policypcr -l sha256:0", "tpm2_policypcr -l sha256:7"]),
        ("password", "--password", &["tpm2_policyauthvalue"]),
        ("secret", "--secret owner", &["tpm2_policysecret -Q -c o"]),
        ("command", "--command TPM2_Unseal", &["tpm2_policycommandcode TPM2_CC_Unseal"]),
        ("locality", "--locality 0", &["tpm2_policylocality zero"]),
        ("authorize", "--authorized-by key.pub --policy-ref 0107", &["tpm2_policyauthorize -Q -n key.name -q ref"]),
        (
            "all",
            "--pcrs sha256:16 --secret owner --command unseal --locality 0 --password",
            &[
                "tpm2_policypcr -l sha256:16",
                "tpm2_policysecret -Q -c o",
                "tpm2_policycommandcode TPM2_CC_Unseal",
                "tpm2_policylocality zero",
                "tpm2_policyauthvalue",
            ],
        ),
    ] {
        assert_eq!(ours(name, flags), trial(&bench, lines), "{name}");
    }
    succeeds(&bench.client(&["policy", "digest", "pcrs.json", "--out", "pcrs.policy"]));
    succeeds(&bench.client(&["policy", "digest", "password.json", "--out", "password.policy"]));
    let or = ours("or", "--or pcrs.json --or password.json");
    assert_eq!(or, trial(&bench, &["tpm2_policyor -l sha256:pcrs.policy,password.policy"]));

    // What is asked for wrongly is said, and no file is left.
    for (flags, why) in [
        ("", "nothing is asked for"),
        ("--or pcrs.json", "two to eight times"),
        ("--or pcrs.json --or pcrs.policy", "a branch must be known"),
        ("--secret 0x01800000", "neither owner, endorsement, lockout, platform nor a persistent handle"),
        ("--command nothing", "no command that uses an object is named so"),
        ("--locality 5", "5 is not in 0..5"),
        ("--policy-ref xx --authorized-by key.pub", "hexadecimal digits"),
        ("--authorized-by key.pem", "it is not one public key in PEM"),
    ] {
        let words: Vec<&str> = flags.split_whitespace().collect();
        let (code, told) = failed(&bench.client(&[&["policy", "create", "--out", "none.json"], words.as_slice()].concat()));
        assert!(code == Some(64) && told.contains(why) && !bench.path("none.json").exists(), "{flags}: {told}");
    }
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
}
