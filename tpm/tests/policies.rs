//! Policies that are made in code or read from JSON: they come to what tpm2-tools make, and whatever is not taken is refused by name.

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{
    BusEncryption, KeyFile, KeyKind, KeySource, NewKey, Parent, Password, PcrSelectionError, PolicyJsonError, PolicyPlan, TpmError,
    TpmHandle,
};
use zeroize::Zeroizing;

// Test data, used nowhere else.
const SECRET: &[u8; 32] = b"a secret of the policies' tests.";

fn open(swtpm: &Swtpm) -> TpmHandle {
    TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text.into()).expect("a password"))
}

/// A TPM whose registers 16 and 23 were extended, in all of its banks.
fn start() -> Swtpm {
    let swtpm = Swtpm::start();
    for (bank, len) in [("sha1", 20), ("sha256", 32), ("sha384", 48)] {
        for (register, byte) in [("16", "ab"), ("23", "cd")] {
            swtpm.tool("tpm2_pcrextend", &[&format!("{register}:{bank}={}", byte.repeat(len))]);
        }
    }
    swtpm
}

/// A register's value, as tpm2_pcrread tells it: `16 : 0xF5A5…`.
fn value(swtpm: &Swtpm, bank: &str, register: u8) -> String {
    let told = swtpm.tool("tpm2_pcrread", &[&format!("{bank}:{register}")]);
    told.split("0x").nth(1).expect("a value").trim().to_owned()
}

fn pcr(swtpm: &Swtpm, bank: &str, register: u8) -> String {
    format!(r#"{{"pcr": {register}, "hashAlg": "TPM2_ALG_{}", "digest": "{}"}}"#, bank.to_uppercase(), value(swtpm, bank, register))
}

/// What the commands of tpm2-tools come to in a trial session.
fn digest_of_tools(swtpm: &Swtpm, commands: &[(&str, &[&str])]) -> String {
    swtpm.tool("tpm2_startauthsession", &["-S", "trial.ctx"]);
    for (tool, args) in commands {
        swtpm.tool(tool, &[&["-S", "trial.ctx", "-L", "policy"][..], args].concat());
    }
    swtpm.tool("tpm2_flushcontext", &["trial.ctx"]);
    hex(&std::fs::read(swtpm.dir().join("policy")).expect("a policy"))
}

#[tokio::test]
async fn a_policy_in_json_comes_to_what_tpm2_tools_make_and_a_key_works_under_it() {
    let swtpm = start();
    let all = |pcrs: &[(&str, u8)]| pcrs.iter().map(|(bank, register)| pcr(&swtpm, bank, *register)).collect::<Vec<_>>().join(", ");
    let step = |pcrs: &[(&str, u8)]| format!(r#"{{"type": "POLICYPCR", "pcrs": [{}]}}"#, all(pcrs));
    let (auth_value, clear) = (r#"{"type": "POLICYAUTHVALUE"}"#, r#"{"type": "POLICYPASSWORD"}"#);
    let pcrs = |list: &'static str| ("tpm2_policypcr", vec!["-l", list]);
    for (steps, commands) in [
        (vec![step(&[("sha256", 23)])], vec![pcrs("sha256:23")]),
        // One command, in increasing order.
        (vec![step(&[("sha256", 23), ("sha256", 0), ("sha256", 16)])], vec![pcrs("sha256:0,16,23")]),
        (vec![step(&[("sha256", 16)]), step(&[("sha1", 23)])], vec![pcrs("sha256:16"), pcrs("sha1:23")]),
        // Banks as they are first named, whose order counts.
        (vec![step(&[("sha256", 23), ("sha1", 16), ("sha256", 16)])], vec![pcrs("sha256:16,23+sha1:16")]),
        (vec![step(&[("sha1", 16), ("sha384", 23), ("sha256", 16)])], vec![pcrs("sha1:16+sha384:23+sha256:16")]),
        (vec![step(&[("sha384", 0)]), auth_value.into()], vec![pcrs("sha384:0"), ("tpm2_policyauthvalue", vec![])]),
        (vec![auth_value.into(), step(&[("sha256", 16)])], vec![("tpm2_policyauthvalue", vec![]), pcrs("sha256:16")]),
        (vec![clear.into()], vec![("tpm2_policypassword", vec![])]),
    ] {
        let json = format!(r#"{{"description": "a test's", "policy": [{}]}}"#, steps.join(", "));
        let plan = PolicyPlan::from_json(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
        let policy = plan.given().expect("all values are given");
        let commands: Vec<_> = commands.iter().map(|(tool, args)| (*tool, args.as_slice())).collect();
        assert_eq!(hex(&policy.digest()), digest_of_tools(&swtpm, &commands), "{json}");

        let tpm = open(&swtpm);
        let secret = password("pw").filter(|_| policy.needs_password());
        let new = NewKey { policy: Some(plan.clone()), password: secret.clone(), ..NewKey::new(KeyKind::HmacSha256) };
        let file = tpm.create_hmac_key(new, Zeroizing::new(SECRET.to_vec())).await.unwrap_or_else(|e| panic!("{json}: {e}"));
        // What the file states, and what is stated anew for a file that lacks it, and by the next process.
        let written = KeyFile::from_pem(&file.to_pem().expect("written")).expect("read");
        assert_eq!(written.policy(), &policy);
        let asked = file.describe().auth_policy.expect("a policy");
        let stated = written.clone().with_policy(tpm.policy_for(plan, &asked).await.expect("it is this one"));
        for file in [written, stated] {
            let key = open(&swtpm).load(KeySource::from(file).with_password(secret.clone()));
            key.hmac(b"message").await.unwrap_or_else(|e| panic!("{json}: {e}"));
        }
    }
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn registers_as_they_are_are_taken_from_the_tpm() {
    let swtpm = start();
    let json = r#"{"policy": [{"type": "POLICYPCR", "currentPCRandBanks": [
        {"hash": "TPM2_ALG_SHA256", "pcrSelect": [23, 0]}, {"hash": "sha1", "pcrSelect": [16]}]}]}"#;
    let plan = PolicyPlan::from_json(json).expect("a policy");
    assert_eq!(plan.given(), None, "the TPM knows their values");
    let tpm = open(&swtpm);
    let policy = tpm.policy(plan.clone(), false).await.expect("the registers");
    assert_eq!(hex(&policy.digest()), digest_of_tools(&swtpm, &[("tpm2_policypcr", &["-l", "sha256:0,23+sha1:16"])]));
    let digest = policy.digest();
    assert_eq!(tpm.policy_for(plan.clone(), &digest).await.expect("it is this one"), policy);
    swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={}", "ab".repeat(32))]);
    let told = tpm.policy_for(plan, &digest).await.expect_err("one has changed").to_string();
    assert!(told.contains("not bound to sha256:0,23+sha1:16 as they are now"), "{told}");
}

#[tokio::test]
async fn a_register_that_differs_from_its_stated_value_is_named() {
    let swtpm = start();
    let tpm = open(&swtpm);
    let json = format!(
        r#"{{"policy": [{{"type": "POLICYPCR", "pcrs": [{}, {}]}}, {{"type": "POLICYAUTHVALUE"}}]}}"#,
        pcr(&swtpm, "sha256", 16),
        pcr(&swtpm, "sha256", 23)
    );
    let plan = PolicyPlan::from_json(&json).expect("a policy");
    let digest = plan.given().expect("all is given").digest();
    // Another key's.
    let told = tpm.policy_for(plan.clone(), &[7; 32]).await.expect_err("another policy").to_string();
    assert!(told.contains("not bound to sha256:16,23, and the key's password: the registers have the values"), "{told}");

    swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    let changed = tpm.policy_for(plan.clone(), &digest).await;
    assert!(matches!(&changed, Err(TpmError::PcrChanged(which)) if which == "sha256:16"), "of the two the one: {changed:?}");
    let told = tpm.policy_for(plan, &[7; 32]).await.expect_err("another policy").to_string();
    assert!(told.contains("the TPM has others now: sha256:16."), "{told}");
    // Without its password.
    let bare = PolicyPlan::from_json(&json.replace(r#", {"type": "POLICYAUTHVALUE"}"#, "")).expect("a policy");
    assert!(matches!(tpm.policy_for(bare, &digest).await, Err(TpmError::OtherPolicy { .. })));
}

#[tokio::test]
async fn a_policy_made_in_code_guards_a_key_at_a_handle() {
    let swtpm = start();
    let tpm = open(&swtpm);
    let stated = format!("sha256:16={},23", value(&swtpm, "sha256", 16)).parse().expect("registers");
    let plan = PolicyPlan::new().pcrs(stated).password();
    let new = |password| NewKey { policy: Some(plan.clone()), password, ..NewKey::new(KeyKind::HmacSha256) };
    let bare = PolicyPlan::new().pcrs("sha256:16".parse().expect("registers"));
    for (wrong, was_given) in [(new(None), false), (NewKey { policy: Some(bare), ..new(password("pw")) }, true)] {
        let refused = tpm.create_hmac_key(wrong, Zeroizing::new(SECRET.to_vec())).await.expect_err("password and policy do not fit");
        assert!(matches!(refused, TpmError::PolicyPassword { is_given } if is_given == was_given), "{refused}");
    }
    let file = tpm.create_hmac_key(new(password("pw")), Zeroizing::new(SECRET.to_vec())).await.expect("a key");
    tpm.persist(file, 0x8100_8001).await.expect("room");
    let policy = tpm.policy(plan, true).await.expect("registers");
    let key = || tpm.load(KeySource::handle(0x8100_8001, policy.clone()).with_password(password("pw")));
    key().hmac(b"message").await.expect("it is fulfilled");
    swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={}", "ab".repeat(32))]);
    let changed = key().hmac(b"message").await.expect_err("a register has changed").to_string();
    assert!(changed.contains("changed since it was made: one or more of sha256:16,23."), "{changed}");

    // Nothing to fulfil is no policy.
    let new = NewKey { policy: Some(PolicyPlan::new()), ..NewKey::new(KeyKind::HmacSha256) };
    let free = tpm.create_hmac_key(new, Zeroizing::new(SECRET.to_vec())).await.expect("a key");
    assert_eq!(free.describe().auth_policy, None);
    tpm.load(free).hmac(b"message").await.expect("it takes nothing");
}

#[test]
fn names_are_taken_in_any_case_and_with_or_without_their_prefix() {
    let json = |kind: &str, hash: &str| {
        let pcrs = format!(r#"[{{"PCR": 7, "HashAlg": "{hash}", "digest": "0x{}"}}]"#, "aB".repeat(32));
        format!("\u{feff}{{\"name\": \"n\", \"$schema\": 1, \"policy\": [{{\"type\": \"{kind}\", \"name\": 7, \"pcrs\": {pcrs}}}]}}\n")
    };
    let wanted: Result<_, PcrSelectionError> = format!("sha256:7={}", "ab".repeat(32)).parse().map(|pcrs| PolicyPlan::new().pcrs(pcrs));
    let wanted = wanted.expect("registers");
    for kind in ["POLICYPCR", "PolicyPCR", "policypcr", "PCR"] {
        for hash in ["TPM2_ALG_SHA256", "TPM_ALG_SHA256", "ALG_SHA256", "SHA256", "sha256", "tpm2_alg_sha256"] {
            assert_eq!(PolicyPlan::from_json(&json(kind, hash)), Ok(wanted.clone()), "{kind}, {hash}");
        }
    }
}

#[test]
fn whatever_is_not_taken_is_refused_by_name() {
    let zeros = "00".repeat(32);
    let pcr = format!(r#"{{"pcr": 7, "hashAlg": "sha256", "digest": "{zeros}"}}"#);
    let pcrs = |list: &str| format!(r#"{{"policy": [{{"type": "POLICYPCR", "pcrs": [{list}]}}]}}"#);
    let element = |members: &str| format!(r#"{{"policy": [{{{members}}}]}}"#);
    let good = pcrs(&pcr);
    PolicyPlan::from_json(&good).expect("the others differ from this in one thing");
    for (text, told) in [
        (String::new(), "not JSON"),
        (format!("{good} {{}}"), "trailing characters"),
        (good.replace("]}]}", "],}]}"), "trailing comma"),
        (good[..good.len() - 1].to_owned(), "EOF"),
        ("[".repeat(100_000), "recursion limit"),
        (format!("[{good}]"), "the policy is not an object"),
        ("{}".into(), r#"the policy has no "policy""#),
        (r#"{"policy": {}}"#.into(), "policy is not a list"),
        (r#"{"policy": []}"#.into(), "policy is an empty list"),
        (r#"{"policy": [7]}"#.into(), "policy[0] is not an object"),
        (element(r#""description": "none""#), r#"policy[0] has no "type""#),
        (element(r#""type": 3"#), "policy[0].type is not a text"),
        (element(r#""type": "POLICYACTION""#), r#"policy[0] is of the type "POLICYACTION", which cannot be fulfilled here"#),
        (element(r#""type": "POLICY""#), r#"of the type "POLICY""#),
        (element("\"type\": \"\\u001b[2J\""), r#"of the type "\u{1b}[2J""#),
        (element(r#""type": "POLICYAUTHVALUE", "type": "POLICYPASSWORD""#), r#"the member "type" stands twice"#),
        (element(r#""type": "POLICYAUTHVALUE", "Type": "POLICYPASSWORD""#), r#"the member "Type" stands twice"#),
        (element(r#""type": "POLICYAUTHVALUE", "pcrs": []"#), r#"policy[0] has "pcrs", which is not known here"#),
        (element(r#""type": "POLICYPCR""#), "policy[0] names registers in no way, or in two"),
        (element(&format!(r#""type": "POLICYPCR", "pcrs": [{pcr}], "currentPCRs": [7]"#)), "in no way, or in two"),
        (element(r#""type": "POLICYPCR", "currentPCRs": [7]"#), r#"which name no bank: write "currentPCRandBanks": [{"hash""#),
        (element(r#""type": "POLICYPCR", "currentPCRandBanks": []"#), "policy[0].currentPCRandBanks is an empty list"),
        (element(r#""type": "POLICYPCR", "currentPCRandBanks": [{"hash": "sha256", "pcrSelect": []}]"#), "[0].pcrSelect is an empty"),
        (element(r#""type": "POLICYPCR", "currentPCRandBanks": [{"hash": "sha256", "pcrSelect": [7, 7]}]"#), "sha256:7 stands twice"),
        (element(r#""type": "POLICYPCR", "currentPCRandBanks": [{"hashAlg": "sha256", "pcrSelect": [7]}]"#), r#"has no "hash""#),
        (pcrs(""), "policy[0].pcrs is an empty list"),
        (pcrs(&format!("{pcr}, {pcr}")), "the register sha256:7 stands twice"),
        (good.replace("00\"", "0g\""), "the digest of policy[0].pcrs[0] is not 32 bytes of hexadecimal digits, as sha256 wants it"),
        (good.replace("00\"", "\""), "is not 32 bytes"),
        (good.replace("00\"", "0000\""), "is not 32 bytes"),
        (good.replace("sha256", "sha1"), "is not 20 bytes"),
        (good.replace("sha256", "TPM2_ALG_SM3_256"), r#"names the bank "TPM2_ALG_SM3_256": use"#),
        (good.replace(r#""sha256""#, "11"), "policy[0].pcrs[0].hashAlg is not a text"),
        (good.replace(r#""pcr": 7"#, r#""pcr": 24"#), "policy[0].pcrs[0] names no register"),
        (good.replace(r#""pcr": 7"#, r#""pcr": -1"#), "names no register"),
        (good.replace(r#""pcr": 7"#, r#""pcr": 7.0"#), "names no register"),
        (good.replace(r#""pcr": 7"#, r#""pcr": "7""#), "names no register"),
        (good.replace(r#""pcr": 7"#, r#""pcr": 263"#), "names no register"),
        (good.replace(r#""pcr": 7, "#, ""), r#"policy[0].pcrs[0] has no "pcr""#),
        (good.replace(r#""pcr": 7, "#, r#""pcr": 7, "locality": 3, "#), r#"policy[0].pcrs[0] has "locality""#),
        (good.replace(r#"{"policy""#, r#"{"policyRef": "00", "policy""#), r#"the policy has "policyRef""#),
        (good.replace(r#"{"policy""#, r#"{"policyAuthorizations": [], "policy""#), "policyAuthorizations is an empty list"),
        (
            good.replace(r#"{"policy""#, r#"{"policyAuthorizations": [{"type": "tpm"}], "policy""#),
            r#"policyAuthorizations[0].type is not "pem""#,
        ),
        (
            element(r#""type": "POLICYOR", "branches": [{"policy": [{"type": "POLICYAUTHVALUE"}]}]"#),
            "policy[0].branches are not two to eight",
        ),
        (element(r#""type": "POLICYOR""#), r#"policy[0] has no "branches""#),
        (element(r#""type": "POLICYSECRET""#), "policy[0] says whose password in no way, or in two"),
        (element(r#""type": "POLICYSECRET", "objectPath": "/HS/SRK/mine""#), "a path in a store of the feature API"),
        (element(r#""type": "POLICYSIGNED", "keyPath": "/ext/mine""#), "a path in a store of the feature API"),
        (element(r#""type": "POLICYSIGNED", "keyPEM": "none""#), "the key of policy[0]: it is not one public key in PEM"),
        (element(r#""type": "POLICYSIGNED""#), r#"policy[0] has no "keyPEM""#),
        (element(r#""type": "POLICYCOMMANDCODE", "code": "Nothing""#), "policy[0].code is not the name or code of a command"),
        (element(r#""type": "POLICYLOCALITY", "locality": ["FIVE"]"#), "policy[0].locality is not localities"),
        (element(r#""type": "POLICYNAMEHASH", "nameHash": "00""#), "is not 32 bytes"),
        (element(r#""type": "POLICYNVWRITTEN", "writtenSet": "MAYBE""#), "policy[0].writtenSet is not YES or NO"),
        (
            format!(r#"{{"policy": [{{"type": "PCR", "pcrs": [{pcr}]}}, {{"type": "PCR", "pcrs": [{}]}}]}}"#, pcr.replace("00\"", "01\"")),
            "the register sha256:7 is to have two values",
        ),
    ] {
        let error = PolicyPlan::from_json(&text).expect_err(told).to_string();
        assert!(error.contains(told) && !error.contains('\n'), "{told}: {error}");
    }
}

#[test]
fn a_policy_that_does_not_come_to_the_digest_it_states_is_refused() {
    // TCG part 3, 23.17: SHA-256 of 32 zeros and TPM_CC_PolicyAuthValue, as tpm2_policyauthvalue -L tells, too.
    let digest = "8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e";
    let json = |digest: &str, hash: &str| {
        let digests = format!(r#""policyDigests": [{{"hashAlg": "TPM2_ALG_{hash}", "digest": "{digest}"}}]"#);
        [
            format!(r#"{{{digests}, "policy": [{{"type": "POLICYAUTHVALUE"}}]}}"#),
            format!(r#"{{"policy": [{{"type": "POLICYAUTHVALUE", {digests}}}]}}"#),
        ]
    };
    for text in json(digest, "SHA256").into_iter().chain(json(&"ab".repeat(48), "SHA384")) {
        assert_eq!(PolicyPlan::from_json(&text), Ok(PolicyPlan::new().password()), "{text}");
    }
    for text in json(&"ab".repeat(32), "SHA256") {
        let refused = PolicyPlan::from_json(&text);
        assert!(matches!(refused, Err(PolicyJsonError::PolicyDigest(_))), "{text}: {refused:?}");
    }
    for text in json(&digest[2..], "SHA256") {
        let refused = PolicyPlan::from_json(&text);
        assert!(matches!(refused, Err(PolicyJsonError::Digest { .. })), "{text}: {refused:?}");
    }
}

/// A policy session's parameters are encrypted with the key's password, too: who does not know it would get the MAC of something else, and no error.
#[tokio::test]
async fn a_key_whose_policy_does_not_ask_for_its_password_macs_what_it_is_told_without_it() {
    let swtpm = start();
    let write = |name: &str, bytes: &[u8]| std::fs::write(swtpm.dir().join(name), bytes).expect("writing");
    write("secret", SECRET);
    write("unique.dat", &[0, 0]);
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    swtpm.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc", "-a", attributes, "-u", "unique.dat", "-c", "primary.ctx"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    digest_of_tools(&swtpm, &[("tpm2_policypcr", &["-l", "sha256:16"])]);
    // Python: hmac.new(b"a secret of the policies' tests.", b"message", "sha256").hexdigest()
    let mac = "1c2cd2ef0851dd3b89da3af6c31db147105f65944071b3a30e6b5c740f0aabd8";
    for attributes in ["sign", "userwithauth|sign"] {
        let import = ["-Q", "-C", "primary.ctx", "-G", "hmac", "-i", "secret", "-u", "k.pub", "-r", "k.priv", "-L", "policy", "-p", "pw"];
        swtpm.tool("tpm2_import", &[&import[..], &["-a", attributes]].concat());
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        let read = |name: &str| std::fs::read(swtpm.dir().join(name)).expect("a file");
        let file = KeyFile::from_blobs(Parent::H2Primary, &read("k.pub"), &read("k.priv")).expect("a key");
        let tpm = open(&swtpm);
        let asked = file.describe().auth_policy.expect("a policy");
        let policy = tpm.policy_for("sha256:16".parse::<PolicyPlan>().expect("registers"), &asked).await.expect("it is this one");
        tpm.persist(file.clone(), 0x8100_8001).await.expect("room");
        for text in [None, password("pw"), password("another")] {
            for source in [KeySource::from(file.clone().with_policy(policy.clone())), KeySource::handle(0x8100_8001, policy.clone())] {
                for bus in [BusEncryption::On, BusEncryption::Off] {
                    let key = tpm.load(source.clone().with_password(text.clone()).with_bus(bus));
                    assert_eq!(hex(&*key.hmac(b"message").await.expect("a MAC")), mac, "{attributes}, {text:?}");
                }
            }
        }
        tpm.evict(0x8100_8001).await.expect("evicted");
    }
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

/// The policies of tpm2-tss' own tests of its feature API, and the digests that it wants of them (test/data/fapi/policy, test-fapi-policies.h; BSD-2-Clause).
#[test]
fn the_policies_of_the_feature_apis_tests_come_to_its_digests() {
    let rsa = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAoGL6IrCSAznmIIzBessI\n\
               mW7tPOUy78uWTIaub32KnYHn78KXprrZ3ykp6WDrOQeMjv4AA+14mJbg77apVYXy\nEnkFdOMa1hszSJnp6cJvx7ILngLvFUxzbVki/ehvgS3nRk67Njal+nMTe8hpe3UK\n\
               QeV/Ij+F0r6Yz91W+4LPmncAiUesRZLetI2BZsKwHYRMznmpIYpoua1NtS8QpEXR\nMmsUue19eS/XRAPmmCfnb5BX2Tn06iCpk6wO+RfMo9etcX5cLSAuIYEQYCvV2/0X\n\
               TfEw607vttBN0Y54LrVOKno1vRXd5sxyRlfB0WL42F4VG5TfcJo5u1Xq7k9m9K57\n8wIDAQAB\n-----END PUBLIC KEY-----";
    let ecc = "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoJTa3zftdAzHC96IjpqQ/dnLm+p7\\n\
               pEiLMi03Jd0oP0aYnnXFjolzIB/dBZ/t+BLh0PwLM5aAM/jugeLkHgpIyQ==\\n-----END PUBLIC KEY-----\\n";
    let authorize =
        |pem: &str| format!(r#"{{"type": "POLICYAUTHORIZE", "policyRef": [1, 2, 3, 4, 5], "keyPEM": "{}"}}"#, pem.replace('\n', "\\n"));
    let pcr = |hash: &str, register: u8, len: usize| {
        format!(r#"{{"type": "POLICYPCR", "pcrs": [{{"pcr": {register}, "hashAlg": "{hash}", "digest": "{}"}}]}}"#, "00".repeat(len))
    };
    for (element, digest) in [
        (pcr("TPM2_ALG_SHA256", 16, 32), "bff2d58e9813f97cefc14f72ad8133bc7092d652b7c877959254af140c841f36"),
        (pcr("TPM2_ALG_SHA256", 8, 32), "2a90ac03196573f129e70a9e04485bff581d2890fe5882d3c2667290d84b497b"),
        (format!(r#"{{"type": "POLICYSIGNED", "keyPEM": "{ecc}"}}"#), "07aefc36fb098f5f59f2f74d8854235a29d1f93b4ddd488f6ec667d9c1d716b6"),
        (authorize(rsa), "5164b89fcfdc398806c0fde7a3eb52371595fcbec1b1fcea57524c56fff67f46"),
        (r#"{"type": "POLICYLOCALITY", "locality": ["ZERO"]}"#.into(), "ddee6af14bf3c4e8127ced87bcf9a57e1c0c8ddb5e67735c8505f96f07b8dbb8"),
        (r#"{"type": "POLICYPASSWORD"}"#.into(), "8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e"),
        (r#"{"type": "AuthValue"}"#.into(), "8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e"),
        (r#"{"type": "CommandCode", "code": "sign"}"#.into(), "cc6918b226273b08f5bd406d7f10cf160f0a7d13dfd83b7770ccbcd1aa80d811"),
        (r#"{"type": "NvWritten", "writtenSet": "no"}"#.into(), "3c326323670e28ad37bd57f63b4cc34d26ab205ef22f275c58d47fab2485466e"),
    ] {
        let plan = PolicyPlan::from_json(&format!(r#"{{"description": "d", "policy": [{element}]}}"#))
            .unwrap_or_else(|e| panic!("{element}: {e}"));
        assert_eq!(hex(&plan.given().expect("given").digest()), digest, "{element}");
        let again = plan.to_json("d", &[]).expect("written");
        assert_eq!(hex(&PolicyPlan::from_json(&again).expect("read").given().expect("given").digest()), digest, "{again}");
    }
}
