//! `seal`, `unseal`, `reseal`: what is sealed opens where and while it may, with tpm2-tools as with ours, and no plaintext is left anywhere else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

mod common;
use common::{Bench, client, failed, run, succeeds, text, write_private};

// Test data, used nowhere else.
const SECRET: &str = "mysecret of the sealing tests";

fn tool(bench: &Bench, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    bench.swtpm.tool(words[0], &words[1..])
}

/// Ours: the client's arguments in one line.
fn ours(bench: &Bench, input: &str, line: &str) -> String {
    succeeds(&run(bench, &[], input, &line.split_whitespace().collect::<Vec<_>>()))
}

fn refused(bench: &Bench, line: &str) -> (Option<i32>, String) {
    let output = run(bench, &[], "", &line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(text(&output.stdout), "", "something left: {line}");
    failed(&output)
}

fn extend(bench: &Bench, register: u8) {
    tool(bench, &format!("tpm2_pcrextend {register}:sha256={}", "ab".repeat(32)));
}

fn leaves_nothing(bench: &Bench) {
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
    let here =
        fs::read_dir(bench.swtpm.dir()).expect("a folder").map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let left: Vec<_> = here.filter(|name| name.starts_with(".ekm-otp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_tpm2_tools_seal_opens_here_and_what_is_sealed_here_opens_with_tpm2_tools() {
    let bench = Bench::new();
    extend(&bench, 7);
    // The seed's own steps: a parent by tpm2_createprimary, a policy of registers.
    tool(&bench, "tpm2_createprimary -Q -C o -g sha256 -G rsa -c primary.ctx");
    tool(&bench, "tpm2_pcrread -Q -o pcr.bin sha256:0,1,2,7");
    tool(&bench, "tpm2_createpolicy -Q --policy-pcr -l sha256:0,1,2,7 -f pcr.bin -L pcr.policy");
    fs::write(bench.path("secret"), SECRET).expect("written");
    tool(&bench, "tpm2_create -Q -C primary.ctx -L pcr.policy -i secret -u seal.pub -r seal.priv");
    tool(&bench, "tpm2_flushcontext -t");
    ours(&bench, "", "key convert --public seal.pub --private seal.priv --out theirs.pem");
    assert_eq!(ours(&bench, "", "unseal --key theirs.pem --pcrs sha256:0,1,2,7 --parent-template rsa"), SECRET);

    // Ours, the same: the policy comes to the same, and theirs opens it, by itself and with a session.
    ours(&bench, SECRET, "seal --pcrs sha256:0,1,2,7 --out ours.pem --parent-template rsa");
    assert_eq!(ours(&bench, "", "policy digest ours.pem").trim(), hex(&fs::read(bench.path("pcr.policy")).expect("a policy")));
    ours(&bench, "", "key convert --key ours.pem --public ours.pub --private ours.priv");
    tool(&bench, "tpm2_createprimary -Q -C o -g sha256 -G rsa -c primary.ctx");
    tool(&bench, "tpm2_load -Q -C primary.ctx -u ours.pub -r ours.priv -c ours.ctx");
    tool(&bench, "tpm2_flushcontext -t");
    assert_eq!(tool(&bench, "tpm2_unseal -c ours.ctx -p pcr:sha256:0,1,2,7"), SECRET);
    tool(&bench, "tpm2_startauthsession --policy-session -S session.ctx");
    tool(&bench, "tpm2_policypcr -Q -S session.ctx -l sha256:0,1,2,7");
    assert_eq!(tool(&bench, "tpm2_unseal -c ours.ctx -p session:session.ctx"), SECRET);
    tool(&bench, "tpm2_flushcontext session.ctx");
    tool(&bench, "tpm2_flushcontext -t");

    // Under a policy of which tpm2-tools tell the digest alone.
    ours(&bench, SECRET, "seal --policy pcr.policy --out digest.pem");
    assert_eq!(ours(&bench, "", "unseal --key digest.pem --pcrs sha256:0,1,2,7"), SECRET);
    ours(&bench, "", "policy create --pcrs sha256:0,1,2,7 --out policy.json");
    ours(&bench, "", "policy digest policy.json --out again.policy");
    assert_eq!(fs::read(bench.path("again.policy")).expect("a policy"), fs::read(bench.path("pcr.policy")).expect("a policy"));

    // A changed register shuts all of them, and its registers are named.
    extend(&bench, 7);
    for line in [
        "unseal --key theirs.pem --pcrs sha256:0,1,2,7 --parent-template rsa",
        "unseal --key ours.pem --parent-template rsa",
        "unseal --key digest.pem --pcrs sha256:0,1,2,7",
    ] {
        let (code, told) = refused(&bench, line);
        assert!(code == Some(77) && told.contains("sha256:0,1,2,7"), "{line}: {told}");
    }
    leaves_nothing(&bench);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_sealed_file_is_of_the_type_that_others_read_and_takes_its_password() {
    let bench = Bench::new();
    write_private(&bench.path("pw"), "pw");
    ours(&bench, SECRET, "seal --pcrs sha256:16 --password-file pw --out both.pem");
    assert_eq!(ours(&bench, "", "unseal --key both.pem --password-file pw"), SECRET);
    let (code, told) = refused(&bench, "unseal --key both.pem");
    assert!(code == Some(77) && told.contains("password"), "{told}");
    // id-sealedkey, 2.23.133.10.1.5
    assert!(tool(&bench, "openssl asn1parse -in both.pem").contains("2.23.133.10.1.5"));
    assert!(ours(&bench, "", "key inspect both.pem").contains("sealed data"));
    assert!(ours(&bench, "", "policy show both.pem").contains("PCR sha256:16 as when the key was made, and the key's password"));
    // Without anything: told.
    let output = run(&bench, &[], SECRET, &["seal", "--out", "open.pem"]);
    assert!(text(&output.stderr).contains("whoever may use this TPM opens it"), "{}", text(&output.stderr));
    assert_eq!(ours(&bench, "", "unseal --key open.pem"), SECRET);
    // Not a key, and a key is no sealed data.
    let (code, told) = refused(&bench, "key sign --key open.pem --scheme ecdsa");
    assert!(code == Some(64), "{told}");
    bench.create_key();
    let (code, told) = refused(&bench, "unseal --key client1.pem");
    assert!(code == Some(64) && told.contains("holds a key, which never leaves the TPM"), "{told}");
    // At a handle.
    ours(&bench, "", "key persist --key open.pem --handle 0x81008020");
    assert_eq!(ours(&bench, "", "unseal --key handle:0x81008020=open.pem"), SECRET);
    leaves_nothing(&bench);
}

/// The client in the folder, to be started with other ends than `run` gives it.
fn in_folder(bench: &Bench, args: &[&str]) -> Command {
    let mut command = client();
    command.args(args).env("TPM2TOOLS_TCTI", bench.swtpm.tcti()).current_dir(bench.swtpm.dir());
    command
}

/// That many bytes which repeat late.
fn long(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 7 + i / 65_521) % 256).expect("a byte")).collect()
}

#[test]
fn what_a_tpm_does_not_take_is_encrypted_with_a_sealed_key_and_every_change_is_refused() {
    let bench = Bench::new();
    for len in [128, 129, 65_536, 65_537, 1_000_000] {
        fs::write(bench.path("in"), long(len)).expect("written");
        ours(&bench, "", &format!("seal --pcrs sha256:16 --in in --out {len}.sealed"));
        let mode = fs::metadata(bench.path(&format!("{len}.sealed"))).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let opened = in_folder(&bench, &["unseal", "--key", &format!("{len}.sealed")]).output().expect("the client");
        assert!(opened.status.success() && opened.stdout == long(len), "{len}: {}", text(&opened.stderr));
    }
    // To standard output and from it.
    fs::write(bench.path("in"), "x".repeat(200_000)).expect("written");
    let input = fs::File::open(bench.path("in")).expect("a file");
    let piped = in_folder(&bench, &["seal", "--pcrs", "sha256:16"]).stdin(input).output().expect("the client");
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    fs::write(bench.path("piped.sealed"), &piped.stdout).expect("written");
    assert_eq!(ours(&bench, "", "unseal --key piped.sealed"), "x".repeat(200_000));

    let sealed = fs::read(bench.path("1000000.sealed")).expect("a file");
    let start = sealed.windows(12).position(|window| window == b"ENVELOPE 1: ").expect("the envelope");
    // A test's folder is on a disk.
    let out = ["unseal", "--key", "1000000.sealed", "--out", "whole", "--allow-disk"];
    succeeds(&run(&bench, &[], "", &out));
    let refuses = |bytes: &[u8], why: &str| {
        fs::write(bench.path("changed"), bytes).expect("written");
        let output = run(&bench, &[], "", &["unseal", "--key", "changed", "--out", "none", "--allow-disk"]);
        let (code, told) = failed(&output);
        assert!(code == Some(1) && told.contains(why), "{told}");
        assert!(!bench.path("none").exists(), "a part of it is left");
    };
    for at in [sealed.len() - 1, sealed.len() - 500_000, start + 100] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        refuses(&changed, "damaged, cut off, or of another file");
    }
    refuses(&sealed[..sealed.len() - 40], "damaged, cut off, or of another file");
    let end = b"-----END TSS2 PRIVATE KEY-----\n";
    let key = sealed.windows(end.len()).position(|window| window == end).expect("the key's end") + end.len();
    refuses(&sealed[..key], "the file was cut off");
    // What takes the key would part it from its data.
    for line in [
        "key passwd --key 1000000.sealed --out none --remove",
        "key persist --key 1000000.sealed --handle 0x81008021",
        "key convert --key 1000000.sealed --public a --private b",
    ] {
        let (code, told) = refused(&bench, line);
        assert!(code == Some(64) && told.contains("would be parted from it"), "{line}: {told}");
    }
    assert!(ours(&bench, "", "key inspect 1000000.sealed").contains("sealed data"));
    assert!(ours(&bench, "", "policy show 1000000.sealed").starts_with("policy: PCR sha256:16"));
    let output = in_folder(&bench, &["unseal", "--key", "128.sealed"])
        .env("TSS2_LOG", "all+trace")
        .env("TSS2_LOGFILE", "trace")
        .output()
        .expect("the client");
    assert!(output.status.code() == Some(64) && !bench.path("trace").exists(), "{}", text(&output.stderr));
    // The key of one, the envelope of another.
    let other = fs::read(bench.path("65537.sealed")).expect("a file");
    let cut = other.windows(12).position(|window| window == b"ENVELOPE 1: ").expect("the envelope");
    refuses(&[&other[..cut], &sealed[start..]].concat(), "damaged, cut off, or of another file");
    leaves_nothing(&bench);
}

#[test]
fn a_long_file_takes_constant_memory_both_ways() {
    let bench = Bench::new();
    let peak = |args: &[&str], stdin: Stdio, stdout: Stdio| {
        let mut child = in_folder(&bench, args).stdin(stdin).stdout(stdout).spawn().expect("the client");
        let status = format!("/proc/{}/status", child.id());
        let mut most = 0_u64;
        while child.try_wait().expect("a child").is_none() {
            let now = fs::read_to_string(&status).unwrap_or_default();
            let line =
                now.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            most = most.max(line.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(child.wait().expect("a child").success());
        most
    };
    let mut peaks = Vec::new();
    for (name, len) in [("short", 1 << 20), ("long", 17 << 20)] {
        let file = fs::File::create(bench.path(name)).expect("a file");
        file.set_len(len).expect("holes");
        let sealed = format!("{name}.sealed");
        let sealing = peak(&["seal", "--pcrs", "sha256:16", "--in", name, "--out", &sealed], Stdio::null(), Stdio::null());
        let opened = fs::File::create(bench.path("opened")).expect("a file");
        let opening = peak(&["unseal", "--key", &sealed], Stdio::null(), opened.into());
        assert_eq!(fs::metadata(bench.path("opened")).expect("a file").len(), len);
        peaks.push((sealing, opening));
    }
    let (short, long) = (peaks[0], peaks[1]);
    // In KiB. What is 16 MiB longer takes not even 4 of them more.
    assert!(long.0 < short.0 + 4096 && long.1 < short.1 + 4096, "{short:?} {long:?}");
}

#[test]
fn a_program_gets_the_secret_in_its_environment_and_a_file_is_made_in_memory_only() {
    let bench = Bench::new();
    ours(&bench, SECRET, "seal --pcrs sha256:16 --out secret.pem");
    let args = ["unseal", "--key", "secret.pem", "--env", "THE_SECRET", "--exec", "sh", "-c", "printf %s \"$THE_SECRET\"; exit 7"];
    let output = run(&bench, &[], "", &args);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(7), SECRET));
    assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new(), "what was loaded is flushed before the program runs");
    leaves_nothing(&bench);
}

#[test]
fn resealing_keeps_the_old_state_until_the_new_one_is_confirmed() {
    let bench = Bench::new();
    write_private(&bench.path("pw"), "pw");
    let next = "c7f4ac2dc5ca6a4d0c9f6ab4bbbdbce3c5a3a1c4de2a7bb7b5d4bb3ff8bf0f5a";
    for (name, flags, long_input) in [("short", "", false), ("long", "", true), ("guarded", " --password-file pw", false)] {
        let input = if long_input { "x".repeat(100_000) } else { SECRET.to_owned() };
        tool(&bench, "tpm2_pcrreset 16");
        ours(&bench, &input, &format!("seal --pcrs sha256:16 --out {name}{flags}"));
        let before = fs::read(bench.path(name)).expect("a file");
        // Nothing to confirm; no file that states no policy; the wrong state.
        let (code, told) = refused(&bench, &format!("reseal --key {name} --confirm{flags}"));
        assert!(code == Some(64) && told.contains("nothing to confirm"), "{told}");
        assert_eq!(fs::read(bench.path(name)).expect("a file"), before);
        // What the register will hold after the next event.
        let value = {
            extend(&bench, 16);
            let told = tool(&bench, "tpm2_pcrread sha256:16");
            tool(&bench, "tpm2_pcrreset 16");
            told.split("0x").nth(1).expect("a value").trim().to_owned()
        };
        assert_ne!(value, next);
        ours(&bench, "", &format!("reseal --key {name} --new-pcrs sha256:16={value}{flags}"));
        assert_eq!(ours(&bench, "", &format!("unseal --key {name}{flags}")), input, "the old state opens it");
        let (code, told) = refused(&bench, &format!("reseal --key {name} --confirm{flags}"));
        assert!(code == Some(77) && told.contains("the new state is not there"), "{told}");
        // The same state is no new one; one that never comes gives way to the next.
        let (code, told) = refused(&bench, &format!("reseal --key {name} --new-pcrs sha256:16{flags}"));
        assert!(code == Some(64) && told.contains("the new state is the old one"), "{told}");
        ours(&bench, "", &format!("reseal --key {name} --new-pcrs sha256:16={}{flags}", "ee".repeat(32)));
        ours(&bench, "", &format!("reseal --key {name} --new-pcrs sha256:16={value}{flags}"));
        extend(&bench, 16);
        assert_eq!(ours(&bench, "", &format!("unseal --key {name}{flags}")), input, "the new state opens it, too");
        ours(&bench, "", &format!("reseal --key {name} --confirm{flags}"));
        assert_eq!(ours(&bench, "", &format!("unseal --key {name}{flags}")), input);
        tool(&bench, "tpm2_pcrreset 16");
        let (code, told) = refused(&bench, &format!("unseal --key {name}{flags}"));
        assert!(code == Some(77) && told.contains("sha256:16"), "{told}");
    }
    // A policy whose branches have no names, or those that somebody gave; by a link, and for another group.
    tool(&bench, "tpm2_pcrreset 16");
    let element = r#"{"type": "POLICYPCR", "currentPCRandBanks": [{"hash": "sha256", "pcrSelect": [16]}]}"#;
    let never = r#"{"type": "POLICYLOCALITY", "locality": ["FOUR"]}"#;
    for (n, names) in [["", ""], ["new", "old"]].iter().enumerate() {
        let branch = |name: &str, element: &str| format!(r#"{{"name": "{name}", "description": "d", "policy": [{element}]}}"#);
        let json =
            format!(r#"{{"policy": [{{"type": "POLICYOR", "branches": [{}, {}]}}]}}"#, branch(names[0], never), branch(names[1], element));
        fs::write(bench.path("own.json"), json).expect("written");
        ours(&bench, SECRET, &format!("seal --policy own.json --out own{n}"));
        fs::set_permissions(bench.path(&format!("own{n}")), fs::Permissions::from_mode(0o640)).expect("its mode");
        std::os::unix::fs::symlink(format!("own{n}"), bench.path(&format!("link{n}"))).expect("a link");
        ours(&bench, "", &format!("reseal --key link{n} --new-pcrs sha256:16,23"));
        ours(&bench, "", &format!("reseal --key link{n} --confirm"));
        assert!(fs::symlink_metadata(bench.path(&format!("link{n}"))).expect("a link").is_symlink());
        assert_eq!(fs::metadata(bench.path(&format!("own{n}"))).expect("a file").permissions().mode() & 0o777, 0o640);
        assert!(ours(&bench, "", &format!("policy show own{n}")).starts_with("policy: PCR sha256:16,23 as"));
    }
    leaves_nothing(&bench);
}

#[test]
fn a_recovery_password_is_asked_for_only_where_the_boot_state_is_not_there_and_no_slip_becomes_one() {
    let bench = Bench::new();
    write_private(&bench.path("pw"), "pw");
    write_private(&bench.path("wrong"), "pv");
    ours(&bench, "", "policy create --pcrs sha256:16 --out state.json");
    ours(&bench, "", "policy create --password --out recovery.json");
    ours(&bench, "", "policy create --or recovery.json --or state.json --out either.json");
    ours(&bench, SECRET, "seal --policy either.json --password-file pw --out secret.pem");
    assert_eq!(ours(&bench, "", "unseal --key secret.pem"), SECRET, "nobody is asked");
    let before = fs::read(bench.path("secret.pem")).expect("a file");
    let (code, told) = refused(&bench, "reseal --key secret.pem --new-pcrs sha256:23 --password-file pw");
    assert!(code == Some(64) && told.contains("it opens in several ways"), "{told}");
    ours(&bench, "", "policy create --pcrs sha256:23 --out new.json");
    ours(&bench, "", "policy create --or recovery.json --or new.json --out new-either.json");
    let (code, told) = refused(&bench, "reseal --key secret.pem --new-policy new-either.json --password-file wrong");
    assert!(code == Some(77) && told.contains("the password of the key is wrong"), "{told}");
    assert_eq!(fs::read(bench.path("secret.pem")).expect("a file"), before);
    ours(&bench, "", "policy digest new.json --out new.policy");
    let (code, told) = refused(&bench, "reseal --key secret.pem --new-policy new.policy --password-file pw");
    assert!(code == Some(64) && told.contains("a digest alone"), "{told}");
    let (code, told) = refused(&bench, "policy sign new.policy --key nobody.pem");
    assert!(code == Some(64) && told.contains("its digest alone is known"), "{told}");
    assert_eq!(ours(&bench, "", "policy digest new.policy"), ours(&bench, "", "policy digest new.json"));
    assert!(ours(&bench, "", "policy show new.policy").contains("not told, the file is a digest alone"));
    ours(&bench, "", "reseal --key secret.pem --new-policy new-either.json --password-file pw");
    extend(&bench, 16);
    extend(&bench, 23);
    let (code, told) = refused(&bench, "unseal --key secret.pem");
    assert!(
        code == Some(77) && told.contains("the key's password is wanted") && told.contains("sha256:16") && told.contains("sha256:23"),
        "{told}"
    );
    assert_eq!(ours(&bench, "", "unseal --key secret.pem --password-file pw"), SECRET);
    leaves_nothing(&bench);
}

#[test]
fn a_policy_that_is_signed_after_an_update_opens_what_was_sealed_before_it() {
    let bench = Bench::new();
    tool(&bench, "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out vendor.pem");
    tool(&bench, "openssl pkey -in vendor.pem -pubout -out vendor.pub");
    fs::set_permissions(bench.path("vendor.pem"), fs::Permissions::from_mode(0o600)).expect("its mode");
    ours(&bench, "", "policy create --authorized-by vendor.pub --policy-ref 0107 --out any.json");
    ours(&bench, SECRET, "seal --policy any.json --out secret.pem");
    ours(&bench, "", "policy create --pcrs sha256:7,16 --out today.json");
    ours(&bench, "", "policy sign today.json --key vendor.pem --policy-ref 0107 --out today.signed");
    assert_eq!(ours(&bench, "", "unseal --key secret.pem --signed-policy today.signed"), SECRET);
    extend(&bench, 16);
    let (code, told) = refused(&bench, "unseal --key secret.pem --signed-policy today.signed");
    assert!(code == Some(77) && told.contains("PCR sha256:7,16 has another value"), "{told}");
    // By a key in the TPM, whose public part is the vendor's of another sealing.
    ours(&bench, "", "key create --kid v --kind p256 --out tpm.pem");
    fs::write(bench.path("tpm.pub"), ours(&bench, "", "key public --key tpm.pem")).expect("written");
    ours(&bench, "", "policy create --authorized-by tpm.pub --out any2.json");
    ours(&bench, SECRET, "seal --policy any2.json --out secret2.pem");
    ours(&bench, "", "policy create --pcrs sha256:7,16 --out now.json");
    ours(&bench, "", "policy sign now.json --key tpm.pem --out now.signed");
    assert_eq!(ours(&bench, "", "unseal --key secret2.pem --signed-policy now.signed"), SECRET);
    let (code, told) = refused(&bench, "unseal --key secret.pem --signed-policy now.signed");
    assert!(code == Some(77) && told.contains("none is signed by this key, with this reference"), "{told}");
    // Uses that are signed, and the branches of files.
    ours(&bench, "", "policy create --signed-by vendor.pub --out signed-use.json");
    ours(&bench, "", "policy create --or signed-use.json --or today.json --out either.json");
    assert!(ours(&bench, "", "policy show either.json").contains("(signed-use"), "branches are called by their files");
    ours(&bench, SECRET, "seal --policy either.json --out either.pem");
    assert_eq!(ours(&bench, "", "unseal --key either.pem --policy-signing-key vendor.pem"), SECRET);
    let (code, told) = refused(&bench, "unseal --key either.pem");
    assert!(
        code == Some(77) && told.contains("its use must be signed") && told.contains("\"today\": PCR sha256:7,16 has another value"),
        "{told}"
    );
    leaves_nothing(&bench);
}

#[test]
fn a_full_disk_a_closed_pipe_and_a_signal_leave_no_plaintext_no_handle_and_the_sealed_file_as_it_was() {
    let bench = Bench::new();
    fs::write(bench.path("in"), long(3 << 20)).expect("written");
    ours(&bench, "", "seal --pcrs sha256:16 --in in --out sealed");
    let before = fs::read(bench.path("sealed")).expect("a file");
    // /dev/full is a full disk.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let output = in_folder(&bench, &["unseal", "--key", "sealed"]).stdout(full).output().expect("the client");
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("No space left"), "{}", text(&output.stderr));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let output = in_folder(&bench, &["seal", "--pcrs", "sha256:16", "--in", "in"]).stdout(full).output().expect("the client");
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("No space left"), "{}", text(&output.stderr));
    // A file system of 1 MiB would want root: a limit of the file's size does as well. bash counts in KiB.
    let script = format!("ulimit -f 1024; trap '' XFSZ; exec {} unseal --key sealed --out cut --allow-disk", common::CLIENT);
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
        .current_dir(bench.swtpm.dir())
        .output()
        .expect("bash");
    assert!(output.status.code() == Some(1) && !bench.path("cut").exists(), "{}", text(&output.stderr));
    let script = format!("ulimit -f 1024; trap '' XFSZ; exec {} reseal --key sealed --new-pcrs sha256:23", common::CLIENT);
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
        .current_dir(bench.swtpm.dir())
        .output()
        .expect("bash");
    assert!(output.status.code() == Some(1), "{}", text(&output.stderr));
    assert_eq!(fs::read(bench.path("sealed")).expect("a file"), before);

    // Ctrl-C while the reader of a pipe stalls, and while the input does.
    for args in [&["unseal", "--key", "sealed"][..], &["seal", "--pcrs", "sha256:16", "--out", "half"]] {
        let mut child = in_folder(&bench, args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client");
        let mut input = child.stdin.take().expect("its input");
        if args[0] == "seal" {
            input.write_all(&long(1 << 20)).expect("it reads");
        } else {
            // It has begun to write once there is something to read.
            let mut first = [0; 1];
            child.stdout.as_mut().expect("its output").read_exact(&mut first).expect("plaintext");
        }
        std::thread::sleep(Duration::from_millis(300));
        let pid = i32::try_from(child.id()).expect("a process");
        assert!(Command::new("kill").args(["-INT", &pid.to_string()]).status().expect("kill").success());
        assert_eq!(child.wait().expect("a child").code(), Some(130), "{args:?}");
        drop(input);
        assert!(!bench.path("half").exists());
    }
    assert_eq!(fs::read(bench.path("sealed")).expect("a file"), before);
    leaves_nothing(&bench);
}

/// A TPM that is gone, frozen or full while something is opened: an error, nothing to read, and the file opens again afterwards.
#[test]
fn a_tpm_that_is_killed_frozen_or_full_gives_an_error_and_nothing_else() {
    let mut bench = Bench::new();
    fs::write(bench.path("in"), long(300_000)).expect("written");
    ours(&bench, "", "seal --pcrs sha256:16 --in in --out long.sealed");
    ours(&bench, SECRET, "seal --pcrs sha256:16 --out short.sealed");
    let unseal = |bench: &Bench, name: &str| {
        let mut command = in_folder(bench, &["unseal", "--key", name, "--out", "opened", "--allow-disk"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client")
    };
    // At some points of its way.
    for (delay, name) in [(0, "long.sealed"), (5, "short.sealed"), (15, "long.sealed"), (30, "short.sealed")] {
        let child = unseal(&bench, name);
        std::thread::sleep(Duration::from_millis(delay));
        bench.swtpm.kill();
        let output = child.wait_with_output().expect("its output");
        bench.swtpm.restart();
        // It may have been quicker.
        if !output.status.success() {
            assert!(output.status.code() == Some(69) && !bench.path("opened").exists(), "{:?}: {}", output.status, text(&output.stderr));
        }
        let _ = fs::remove_file(bench.path("opened"));
    }
    let gone = {
        bench.swtpm.kill();
        let output = unseal(&bench, "short.sealed").wait_with_output().expect("its output");
        bench.swtpm.restart();
        output
    };
    assert!(gone.status.code() == Some(69) && text(&gone.stderr).contains("cannot reach the TPM"), "{}", text(&gone.stderr));

    // Frozen: it waits, and a signal ends it.
    bench.swtpm.freeze();
    let mut frozen = unseal(&bench, "short.sealed");
    std::thread::sleep(Duration::from_millis(300));
    assert!(frozen.try_wait().expect("a child").is_none(), "it waits");
    assert!(Command::new("kill").args(["-INT", &frozen.id().to_string()]).status().expect("kill").success());
    assert_eq!(frozen.wait().expect("a child").code(), Some(130));
    bench.swtpm.thaw();
    assert!(!bench.path("opened").exists());

    // Full of what killed processes left, in a TPM that is ours alone: it is flushed.
    tool(&bench, "tpm2_createprimary -Q -C o -c a.ctx");
    tool(&bench, "tpm2_createprimary -Q -C o -c b.ctx");
    tool(&bench, "tpm2_createprimary -Q -C o -c c.ctx");
    let output = unseal(&bench, "short.sealed").wait_with_output().expect("its output");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(ours(&bench, "", "unseal --key short.sealed"), SECRET);
    leaves_nothing(&bench);
}
