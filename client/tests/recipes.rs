//! The recipes by which people put cloud secrets into a TPM with tpm2-tools (the READMEs of aws_hmac, aws-tpm-process-credential and
//! cloud_auth_tpm), line by line: the keys that they make work here. All secrets and passwords are test data.
//!
//! What differs from the printed lines: `-Q`, and `tpm2_flushcontext -t` after each line, since swtpm has room for three objects and no resource
//! manager; lines that only show something are left out. `tpm2 import` is the same program as `tpm2_import`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Bench, failed, run, succeeds, text};
use ekm_otp_tpm::{KeyFile, KeySource, Parent, Password, PolicyPlan, TpmError, TpmHandle};

/// `unique.dat` and the H-2 primary, as each recipe makes them.
const PRIMARY: &str = r#"
    printf '\x00\x00' > unique.dat
    tpm2_createprimary -Q -C o -G ecc  -g sha256  -c primary.ctx -a "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt" -u unique.dat
"#;
/// The AWS secret with its prefix, as the recipes of aws-tpm-process-credential and cloud_auth_tpm write it.
const AWS_SECRET: &str = r#"
    export secret="AWS4$AWS_SECRET_ACCESS_KEY"
    echo -n $secret > hmac.key
"#;
const POLICY_23: &str = "
    tpm2_startauthsession -S session.dat
    tpm2_policypcr -Q -S session.dat -l sha256:23  -L policy.dat
    tpm2_flushcontext session.dat
";
/// A policy, as cloud_auth_tpm's README has it: what register 23 holds once 32 zeros were extended into it.
const POLICY_JSON: &str = r#"{
        "description": "Policy PCR 23 TPM2_ALG_SHA256",
        "policy": [
            {
                "type": "POLICYPCR",
                "pcrs": [
                    {
                        "pcr": 23,
                        "hashAlg": "TPM2_ALG_SHA256",
                        "digest": "F5A5FD42D16A20302798EF6ED309979B43003D2320D9F0E8EA9831A92759FB4B"
                    }
                ]
            }
        ]
    }"#;
const EXTEND_ZEROS: &str = "tpm2_pcrextend 23:sha256=0000000000000000000000000000000000000000000000000000000000000000";
/// As aws-tpm-process-credential's README alters it.
const ALTER: &str = "tpm2_pcrextend 23:sha256=0xC78009FDF07FC56A11F122370658A353AAA542ED63E44C4BC15FF4CD105AB33C";

/// Runs a recipe's lines with the real tools, and returns what they print.
fn recipe(bench: &Bench, parts: &[&str]) -> String {
    let mut script = "set -euo pipefail\n".to_owned();
    for line in parts.concat().replace("\\\n", " ").lines().map(str::trim).filter(|line| !line.is_empty()) {
        script += &format!("{line}\ntpm2_flushcontext -t\n");
    }
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("TPM2TOOLS_TCTI", bench.swtpm.tcti())
        .envs([("AWS_SECRET_ACCESS_KEY", "testdatatestdatatestdatatestdatatestdata"), ("plain", "foo"), ("KEY_PASSWORD", "passwd")])
        .envs([("passphrase", "testpwd"), ("PCR", "23"), ("HASH", "sha256"), ("PCRBANK", "sha256:23")])
        .current_dir(bench.swtpm.dir())
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    assert!(output.status.success(), "{script}\n{}", text(&output.stderr));
    text(&output.stdout)
}

/// OpenSSL's HMAC of `foo` under `hmac.key`.
fn mac_of_openssl(bench: &Bench) -> String {
    fs::write(bench.path("data.in"), "foo").expect("writing");
    let hex: String = fs::read(bench.path("hmac.key")).expect("the key").iter().map(|byte| format!("{byte:02x}")).collect();
    let told = bench.swtpm.tool("openssl", &["dgst", "-sha256", "-mac", "hmac", "-macopt", &format!("hexkey:{hex}"), "data.in"]);
    told.trim().rsplit(' ').next().expect("a MAC").to_owned()
}

fn open(bench: &Bench) -> TpmHandle {
    TpmHandle::open(bench.swtpm.tcti().parse().expect("a TCTI string")).expect("a thread")
}

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text.into()).expect("a password"))
}

/// The key's HMAC of `foo`, as the library makes it.
async fn mac(bench: &Bench, source: KeySource) -> Result<String, TpmError> {
    let mac = open(bench).load(source).hmac(b"foo").await?;
    Ok(mac.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn key_file(bench: &Bench, name: &str) -> KeyFile {
    let file = KeyFile::from_pem(&fs::read_to_string(bench.path(name)).expect("reading")).expect("a key file");
    assert_eq!(file.parent(), Parent::H2Primary, "{name}");
    file
}

/// The key at a handle and the one in a file, with the policy that is stated for both.
async fn both(bench: &Bench, handle: u32, file: &str, plan: Option<PolicyPlan>) -> Result<[KeySource; 2], TpmError> {
    let file = key_file(bench, file);
    let at_handle = |policy| KeySource::handle(handle, policy).with_name(Some(file.describe().name));
    let Some(plan) = plan else { return Ok([at_handle(Default::default()), file.into()]) };
    let tpm = open(bench);
    let of_handle = tpm.load(at_handle(Default::default())).prepare().await?.auth_policy.expect("a policy");
    let policy = tpm.policy_for(plan, &of_handle).await?;
    Ok([at_handle(policy.clone()), file.with_policy(policy).into()])
}

mod aws_hmac {
    use super::*;

    #[tokio::test]
    async fn an_imported_secret_works_at_its_persistent_handle() {
        let bench = Bench::new();
        // The secret without its prefix, as it is printed there.
        let told = recipe(
            &bench,
            &[
                "echo -n $AWS_SECRET_ACCESS_KEY > hmac.key\n echo -n $plain > data.in",
                PRIMARY,
                "tpm2 import -Q -C primary.ctx -G hmac -i hmac.key -u hmac.pub -r hmac.priv
                 tpm2 load -Q -C primary.ctx -u hmac.pub -r hmac.priv -c hmac.ctx
                 tpm2_evictcontrol -Q -C o -c hmac.ctx 0x81008001
                 echo -n $plain | tpm2_hmac -g sha256 -c 0x81008001 | xxd -p -c 256",
            ],
        );
        let wanted = mac_of_openssl(&bench);
        assert_eq!(told.trim(), wanted, "tpm2-tools agree with OpenSSL");
        assert_eq!(mac(&bench, KeySource::handle(0x8100_8001, Default::default())).await.expect("a MAC"), wanted);
        let shown = succeeds(&bench.client(&["key", "inspect", "handle:0x81008001"]));
        assert!(shown.contains("HMAC-SHA256") && shown.contains("userwithauth|sign"), "{shown}");
    }
}

mod aws_tpm_process_credential {
    use super::*;

    const LOAD: &str = "tpm2_load -Q -C primary.ctx -u hmac.pub -r hmac.priv -c hmac.ctx";
    const ENCODE: &str = "tpm2_encodeobject -C primary.ctx -u hmac.pub -r  hmac.priv -o private.pem";

    fn make(bench: &Bench, policy: &str, import: &str, handle: &str) {
        let evict = format!("tpm2_evictcontrol -Q -C o -c hmac.ctx {handle}\n");
        let import = format!("tpm2_import -Q -C primary.ctx -G hmac -i hmac.key -u hmac.pub -r hmac.priv {import}\n");
        recipe(bench, &[AWS_SECRET, policy, PRIMARY, &import, LOAD, "\n", &evict, ENCODE]);
    }

    #[tokio::test]
    async fn a_secret_works_at_its_handle_and_from_its_file() {
        let bench = Bench::new();
        make(&bench, "", "", "0x81010002");
        for source in both(&bench, 0x8101_0002, "private.pem", None).await.expect("a key") {
            assert_eq!(mac(&bench, source).await.expect("a MAC"), mac_of_openssl(&bench));
        }
    }

    #[tokio::test]
    async fn a_secret_bound_to_register_23_works_until_that_is_extended() {
        let bench = Bench::new();
        make(&bench, POLICY_23, "-L policy.dat", "0x81010003");
        let registers = || "sha256:23".parse::<PolicyPlan>().expect("registers");
        let keys = both(&bench, 0x8101_0003, "private.pem", Some(registers())).await.expect("it is bound to these");
        for source in keys.clone() {
            assert_eq!(mac(&bench, source).await.expect("a MAC"), mac_of_openssl(&bench));
        }
        for source in both(&bench, 0x8101_0003, "private.pem", None).await.expect("a key") {
            assert!(matches!(mac(&bench, source).await, Err(TpmError::Policy(_))), "it is not used without its policy");
        }
        recipe(&bench, &[ALTER]);
        for source in keys {
            let refused = mac(&bench, source).await.expect_err("the register was extended").to_string();
            assert!(refused.contains("changed since it was made: sha256:23."), "{refused}");
        }
        // For who names the registers, as there with --pcrs=23.
        let refused = both(&bench, 0x8101_0003, "private.pem", Some(registers())).await.expect_err("the register was extended").to_string();
        assert!(refused.contains("not bound to sha256:23 as they are now"), "{refused}");
    }

    #[tokio::test]
    async fn a_secret_with_a_password_works_with_that_alone() {
        let bench = Bench::new();
        make(&bench, "", "-p $passphrase", "0x81010004");
        // Two wrong ones are too many already, as swtpm comes.
        bench
            .swtpm
            .tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=10", "--recovery-time=9", "--lockout-recovery-time=9"]);
        for source in both(&bench, 0x8101_0004, "private.pem", None).await.expect("a key") {
            let with = |text| source.clone().with_password(password(text));
            assert_eq!(mac(&bench, with("testpwd")).await.expect("a MAC"), mac_of_openssl(&bench));
            assert!(matches!(mac(&bench, with("wrong")).await, Err(TpmError::Auth { was_given: true, .. })));
            assert!(matches!(mac(&bench, source).await, Err(TpmError::Auth { was_given: false, .. })));
        }
    }
}

/// Its `util/load.py --public --private --out` is `key convert`; `--keyPassword` only says that there is one, without it `--no-password`.
mod cloud_auth_tpm {
    use super::*;

    /// An RSA key of OpenSSL's as `rsakey.pem`, an EC key as `eckey.pem`, and a message.
    fn start() -> Bench {
        let bench = Bench::new();
        bench.swtpm.tool("openssl", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsakey.pem"]);
        bench.swtpm.tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "eckey.pem"]);
        fs::write(bench.path("message"), "message").expect("writing");
        bench
            .swtpm
            .tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=10", "--recovery-time=9", "--lockout-recovery-time=9"]);
        bench
    }

    fn convert(bench: &Bench, name: &str, flags: &[&str]) -> String {
        let (public, private, out) = (format!("{name}.pub"), format!("{name}.prv"), format!("{name}tpm.pem"));
        let convert = ["key", "convert", "--public", &public, "--private", &private, "--out", &out];
        let converted = bench.client(&[&convert[..], flags].concat());
        succeeds(&converted);
        text(&converted.stderr)
    }

    /// `key sign` with `rsatpm.pem`; OpenSSL, without any TPM, says that the signature is `rsakey.pem`'s.
    fn signs(bench: &Bench, variables: &[(&str, &str)], flags: &[&str]) -> std::process::Output {
        let sign = ["key", "sign", "--key", "rsatpm.pem", "--scheme", "rsassa"];
        let signed = run(bench, variables, "message", &[&sign[..], flags].concat());
        if signed.status.success() {
            fs::write(bench.path("signature"), &signed.stdout).expect("writing");
            let verify = ["dgst", "-sha256", "-prverify", "rsakey.pem", "-signature", "signature", "message"];
            assert!(bench.swtpm.tool("openssl", &verify).contains("Verified OK"));
        }
        signed
    }

    #[test]
    fn an_rsa_key_with_a_password_signs() {
        let bench = start();
        recipe(
            &bench,
            &[
                PRIMARY,
                "tpm2_import -Q -C primary.ctx  -G rsa2048:rsassa:null \\
                    -g sha256 -i rsakey.pem -u rsa.pub -r rsa.prv -p $KEY_PASSWORD
                 tpm2_load -Q -C primary.ctx -u  rsa.pub -r  rsa.prv -c  rsa.ctx
                 tpm2_readpublic -c  rsa.ctx  -o  rsapub.pem -f PEM -Q",
            ],
        );
        convert(&bench, "rsa", &[]);
        succeeds(&signs(&bench, &[("TPM_KEY_AUTH", "passwd")], &[]));
        let (code, told) = failed(&signs(&bench, &[("TPM_KEY_AUTH", "wrong")], &[]));
        assert!(code == Some(77) && told.contains("the password of the key is wrong"), "{told}");
        assert_eq!(
            succeeds(&bench.client(&["key", "public", "--key", "rsatpm.pem"])),
            fs::read_to_string(bench.path("rsapub.pem")).expect("it")
        );
    }

    #[test]
    fn an_rsa_key_bound_to_register_23_signs_until_that_is_extended() {
        let bench = start();
        // So that the register is as the policy in JSON says.
        recipe(&bench, &[EXTEND_ZEROS]);
        recipe(
            &bench,
            &[
                PRIMARY,
                // In the README, tpm2_load writes `.ctx`: a slip, for what follows reads rsa.ctx.
                r#"tpm2_startauthsession -S session.dat
                   tpm2_policypcr -Q -S session.dat -l "$PCRBANK"  -L policy.dat
                   tpm2_flushcontext session.dat
                   tpm2_import -Q -C primary.ctx  -G rsa2048:rsassa:null \
                     -g sha256 -i rsakey.pem -u rsa.pub -r rsa.prv -L policy.dat
                   tpm2_load -Q -C primary.ctx -u rsa.pub -r rsa.prv -c rsa.ctx
                   tpm2_readpublic -c rsa.ctx  -o rsapub.pem -f PEM -Q"#,
            ],
        );
        let told = convert(&bench, "rsa", &[]);
        assert!(told.contains("name its registers with --pcrs, or it with --policy"), "{told}");
        fs::write(bench.path("policy.json"), POLICY_JSON).expect("writing");
        let ways = [["--pcrs", "sha256:23"], ["--policy", "policy.json"]];
        for way in ways {
            succeeds(&signs(&bench, &[], &way));
        }
        recipe(&bench, &[ALTER]);
        for (way, why) in ways.iter().zip(["not bound to sha256:23 as they are now", "changed since it was made: sha256:23."]) {
            let (code, told) = failed(&signs(&bench, &[], way));
            assert!(code == Some(77) && told.contains(why), "{told}");
        }
    }

    #[tokio::test]
    async fn an_aws_secret_with_a_password_macs() {
        let bench = start();
        recipe(
            &bench,
            &[
                AWS_SECRET,
                PRIMARY,
                "tpm2_import -Q -C primary.ctx -G hmac -i hmac.key -u hmac.pub -r hmac.prv  -p $KEY_PASSWORD
                 tpm2_load -Q -C primary.ctx -u hmac.pub -r hmac.prv -c hmac.ctx",
            ],
        );
        convert(&bench, "hmac", &[]);
        let source = KeySource::from(key_file(&bench, "hmactpm.pem"));
        assert_eq!(mac(&bench, source.clone().with_password(password("passwd"))).await.expect("a MAC"), mac_of_openssl(&bench));
        assert!(matches!(mac(&bench, source).await, Err(TpmError::Auth { was_given: false, .. })));
    }

    /// Its policy or its password does, each alone: tpm2_import leaves userwithauth where it is told both. `key convert` warns of it.
    #[test]
    fn a_key_with_a_policy_and_userwithauth_takes_either_and_that_is_warned_of() {
        let bench = start();
        let import =
            "tpm2_import -Q -C primary.ctx -G rsa2048:rsassa:null -g sha256 -i rsakey.pem -u rsa.pub -r rsa.prv -L policy.dat -p pw";
        recipe(&bench, &[POLICY_23, PRIMARY, import]);
        let told = convert(&bench, "rsa", &[]);
        assert!(told.contains("warning: the key has a policy, and its password, or none if it has none, does without it"), "{told}");
        succeeds(&signs(&bench, &[], &["--pcrs", "sha256:23"]));
        recipe(&bench, &[ALTER]);
        let (code, told) = failed(&signs(&bench, &[], &["--pcrs", "sha256:23"]));
        assert!(code == Some(77) && told.contains("not bound to sha256:23"), "{told}");
        succeeds(&signs(&bench, &[("TPM_KEY_AUTH", "pw")], &[]));
    }

    /// testdata/python, with tpm2-pytss in its virtual environment.
    fn peers() -> PathBuf {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/python");
        let made = Command::new(peers.join("setup.sh")).arg("tss").stdin(Stdio::null()).output().expect("testdata/python/setup.sh");
        assert!(made.status.success(), "testdata/python/setup.sh failed, and nothing is tested without it:\n{}", text(&made.stderr));
        peers
    }

    #[test]
    fn what_key_convert_writes_is_what_load_py_writes_and_other_tools_read_it() {
        let (bench, peers) = (start(), peers());
        let tss_key = |action: &str, key: &str, args: &[&str]| {
            let mut python = Command::new(peers.join(".venv/bin/python"));
            python.arg(peers.join("tss_key.py")).args([action, &bench.swtpm.tcti(), key]).args(args);
            succeeds(&python.current_dir(bench.swtpm.dir()).stdin(Stdio::null()).output().expect("Python"))
        };
        recipe(&bench, &[AWS_SECRET, POLICY_23, PRIMARY, "openssl dgst -sha256 -binary -out digest message"]);
        let mac = mac_of_openssl(&bench);
        let verify = |public: &str| {
            let verify = ["dgst", "-sha256", "-prverify", public, "-signature", "signature", "message"];
            assert!(bench.swtpm.tool("openssl", &verify).contains("Verified OK"), "{public}");
        };
        for (kind, input) in [("hmac", "hmac.key"), ("rsa2048:rsassa:null", "rsakey.pem"), ("ecc256:ecdsa:null", "eckey.pem")] {
            for (guard, has_password, has_policy) in [("", false, false), ("-p passwd", true, false), ("-L policy.dat", false, true)] {
                let case = format!("{kind} {guard}");
                recipe(&bench, &[&format!("tpm2_import -Q -C primary.ctx -G {kind} -g sha256 -i {input} -u k.pub -r k.prv {guard}")]);
                let _ = fs::remove_file(bench.path("ktpm.pem"));
                convert(&bench, "k", if has_password { &[] } else { &["--no-password"] });
                fs::copy(bench.path("k.prv"), bench.path("k.priv")).expect("copying");
                let mut args = if has_password { vec!["--password", "passwd"] } else { Vec::new() };
                let of_load_py = tss_key("convert", "k", &args);
                let der = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
                assert_eq!(der(&fs::read_to_string(bench.path("ktpm.pem")).expect("it")), der(&of_load_py), "{case}");

                if has_policy {
                    args.extend(["--pcr", "sha256:23"]);
                }
                args.extend(["--message", if kind == "hmac" { "foo" } else { "message" }]);
                let made = tss_key("use", "ktpm.pem", &args);
                if kind == "hmac" {
                    assert_eq!(made.trim(), mac, "{case}");
                    continue;
                }
                let signature = (0..made.trim().len()).step_by(2).map(|i| u8::from_str_radix(&made[i..i + 2], 16).expect("digits"));
                fs::write(bench.path("signature"), signature.collect::<Vec<u8>>()).expect("writing");
                verify(input);
                if !has_policy {
                    // The provider replays no policy.
                    let passin = if has_password { "pass:passwd" } else { "pass:" };
                    let sign = ["pkeyutl", "-provider", "tpm2", "-provider", "default", "-pkeyopt", "digest:sha256", "-sign", "-inkey"];
                    let files = ["ktpm.pem", "-passin", passin, "-in", "digest", "-out", "signature"];
                    bench.swtpm.tool("openssl", &[&sign[..], &files].concat());
                    verify(input);
                }
            }
        }
        assert_eq!(bench.swtpm.loaded_handles(), Vec::<String>::new());
    }
}

/// What is printed in the three READMEs: keys of other TPMs, whose public parts are read all the same.
mod printed_key_files {
    use super::*;

    const AWS_HMAC: &str = "
-----BEGIN TSS2 PRIVATE KEY-----
MIHyBgZngQUKAQMCBQCAAAAABDIAMAAIAAsABABSAAAABQALACARtTINyP8V6vtY
+rQgUZGuCdIC2M5nKogtjdpCuy0bRQSBrACqACCvE1r0clA9W8id4FJ/2OEKPZrC
wqFqkwFm1/l67eVQfwAQ+b5BGhOLbO0HSlHbFC1lgAh9EeefG97VL6iSh1EHT2oo
KSxrKjuK/EruAQxaOS9Kl/yooai6TJtlgxA7GHGzqetCpXvcq5EtJBVwV3lXJyil
4CPyaPh3C02I9J+2QAnLsVzlPYODcjRKEUqMlO6CDijxURnU5BdYUehpZaq11tJv
xr9pHcM=
-----END TSS2 PRIVATE KEY-----
";
    const AWS_TPM_PROCESS_CREDENTIAL: &str = "
-----BEGIN TSS2 PRIVATE KEY-----
MIHyBgZngQUKAQMCBQCAAAAABDIAMAAIAAsABABSAAAABQALACBkiLm1axCgdEJd
x2/m1J3k070HR2AY7fPXJ+ebWLciPQSBrACqACBcyk0W0lW71RgcPEeFJmOCmmOZ
Ww98+HwktElq9tPMWgAQRKX1ES2lUlg1h3psbVKbI38kuUWjFu1/27R/8r4cnGHx
K/2tVabz5qHl5T7UvnBJ8Cka1joTVmVugt9aNqHSlgovvnjwxWtok4rgyHPxPjly
CqYYr6ZsALXv/mmvs6dyeuz3Xo9YPFmzTxnvEfqZHhpNAOe8fB8HzouLczT2vRLl
nwb+VkA=
-----END TSS2 PRIVATE KEY-----
";
    const CLOUD_AUTH_TPM: &str = "
-----BEGIN TSS2 PRIVATE KEY-----
MIICNQYGZ4EFCgEDoAMBAQECBEAAAAEEggEaARgAAQALAAQAQAAAABAAFAALCAAA
AQABAQDsJluTxgm5EWCq1o8hbLVuilIwtoOhDFjnYa51Ig2KydrcmNAyIKMFF/TB
XQb31wUJgeATJte+dFNP4OE1eW68cgcjYUFpYxgW9CeNHDMxWWFswXbwLOV86dTQ
kysHJ3cQL6vBAXgcJ2jnKLrvZIT+Yi/U8ajKg98nUVCjuFF4CwS+1bVDoUyJ+ngi
1kVQ8koaKAClahWEG0ZR3i08ZcKLnJMdU9pPNDQftdPUp4GqK0SAtP9YUSzny9RT
GK2jSYGbUcVKXfCnfffrzACJE582no9NI37yNt3LzOO2e7G5TYcSijMtlozBCm6Y
o1QpmIZ5lzNCbcrhYXu8IA0wVJI/BIIBAAD+ACDBg/cpGTl++OOHhFwz+nBvPvNm
qdSNg+gqEzF1Eu2gNgAQ1qv0VDvcnIwo0DlItYWKfL7i1QHVMjp85eVgOGC8Qc65
VollWVse/DhTZOXz8N6qJhvXbj9HuRK2wdxka4mVjbAbgqNQdJfWbpyJk0d52hJ7
d71zvOwild71OLe/lvBqQlV3Hrk6Zvaed4C/38K3yPmICFR6YOfsFeDIAirzT+wp
9WGF9fq9CNzlKZgXAMoYLA6ZthtHKWdUUUYyyK0+yCqeNb32E5jN3Mn3GVxX9tc5
m5OgWpXX8bLqlRLY38P5J3HZOStjYxNBj5I3PdkvD7DFdlb7ZrJZoUg=
-----END TSS2 PRIVATE KEY-----
";

    #[test]
    fn are_read_and_told_to_be_another_tpm_s() {
        let bench = Bench::new();
        for (printed, kind, attributes, password) in [
            (AWS_HMAC, "HMAC-SHA256", "fixedtpm|fixedparent|userwithauth|sign", "yes, or the file does not tell"),
            (AWS_TPM_PROCESS_CREDENTIAL, "HMAC-SHA256", "fixedtpm|fixedparent|userwithauth|sign", "yes, or the file does not tell"),
            (CLOUD_AUTH_TPM, "RSA-2048, RSASSA with SHA-256 only", "userwithauth|sign", "none"),
        ] {
            fs::write(bench.path("printed.pem"), printed).expect("writing");
            let shown = succeeds(&bench.client(&["key", "inspect", "--key", "printed.pem"]));
            for line in [format!("kind:        {kind}"), format!("attributes:  {attributes}"), format!("password:    {password}")] {
                assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
            }
            assert!(shown.contains("parent:      H-2 primary") && shown.contains("does not belong to this TPM"), "{shown}");
        }
        fs::write(bench.path("public.pem"), succeeds(&bench.client(&["key", "public", "--key", "printed.pem"]))).expect("writing");
        let modulus = bench.swtpm.tool("openssl", &["rsa", "-pubin", "-in", "public.pem", "-noout", "-modulus"]);
        assert!(modulus.starts_with("Modulus=EC265B93C609B91160AAD68F216CB56E"), "as it is printed beside the file: {modulus}");
    }
}
