//! Whole policies: they come to what the TPM says, each of their branches opens when it is fulfilled and not otherwise, and what is signed is believed
//! only with a right signature.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use ekm_otp_swtpm::{Swtpm, command};
use ekm_otp_tpm::{
    KeyFile, KeyKind, KeySource, NewKey, NewSealed, Parent, Password, PcrSelection, PolicyPlan, PolicySigner, Settings, SignatureScheme,
    SignedPolicy, TpmError, TpmHandle, VerifyingKey,
};
use zeroize::Zeroizing;

// Test data, used nowhere else.
const SECRET: &[u8] = b"sealed by the policies' tests";

fn open(swtpm: &Swtpm) -> TpmHandle {
    open_with(swtpm, Settings::default())
}

fn open_with(swtpm: &Swtpm, settings: Settings) -> TpmHandle {
    TpmHandle::open_with(swtpm.tcti().parse().expect("a TCTI string"), settings).expect("a thread")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text.into()).expect("a password"))
}

fn pcrs(text: &str) -> PolicyPlan {
    PolicyPlan::new().pcrs(text.parse::<PcrSelection>().expect("registers"))
}

async fn seal(tpm: &TpmHandle, plan: PolicyPlan, password: Option<Password>) -> KeyFile {
    let new = NewSealed { parent: Parent::H2Primary, password, policy: Some(plan) };
    let file = tpm.seal(new, Zeroizing::new(SECRET.to_vec())).await.expect("sealed");
    // As another process reads it.
    KeyFile::from_pem(&file.to_pem().expect("written")).expect("read")
}

async fn unseal(tpm: &TpmHandle, file: &KeyFile, password: Option<Password>) -> Result<(), TpmError> {
    let data = tpm.load(KeySource::from(file.clone()).with_password(password)).unseal().await?;
    assert_eq!(*data, SECRET);
    Ok(())
}

fn extend(swtpm: &Swtpm, register: u8) {
    swtpm.tool("tpm2_pcrextend", &[&format!("{register}:sha256={}", "ab".repeat(32))]);
}

/// testdata/python, with tpm2-pytss in its virtual environment.
fn python() -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/python");
    let made = command(peers.join("setup.sh"), "").arg("tss").stdin(Stdio::null()).output().expect("testdata/python/setup.sh");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "testdata/python/setup.sh failed, and nothing is tested without it:\n{said}");
    peers
}

#[tokio::test]
async fn two_hundred_random_trees_come_to_what_the_tpm_says_and_survive_json_and_key_file() {
    let (peers, swtpm) = (python(), Swtpm::start());
    let mut made = command(peers.join(".venv/bin/python"), "");
    let made =
        made.arg(peers.join("policy_trees.py")).args([&swtpm.tcti(), "200", "20261129"]).stdin(Stdio::null()).output().expect("Python");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let trees: serde_json::Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let trees = trees.as_array().expect("a list");
    assert_eq!(trees.len(), 200);
    let tpm = open(&swtpm);
    let (mut branched, mut filed) = (0, 0);
    for tree in trees {
        let text = tree["policy"].to_string();
        let plan = PolicyPlan::from_json(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let policy = plan.given().expect("every value is given");
        assert_eq!(hex(&policy.digest()), tree["digest"].as_str().expect("a digest"), "{text}");
        // NV indices are written into no JSON: a policy holds their names only.
        match plan.to_json("again", &[]) {
            Some(again) => assert_eq!(PolicyPlan::from_json(&again).expect("it is read").given().expect("given").digest(), policy.digest()),
            None => assert!(text.contains("POLICYNV\""), "{text}"),
        }
        branched += u32::from(text.contains("POLICYOR"));
        let password = password("pw").filter(|_| policy.needs_password());
        let new = NewSealed { parent: Parent::H2Primary, password, policy: Some(plan) };
        match tpm.seal(new, Zeroizing::new(SECRET.to_vec())).await {
            Ok(file) => {
                let read = KeyFile::from_pem(&file.to_pem().expect("written")).unwrap_or_else(|e| panic!("{text}: {e}"));
                assert_eq!(read.policy().digest(), policy.digest(), "{text}");
                assert_eq!(read.policy().needs_password(), policy.needs_password(), "{text}");
                filed += 1;
            }
            Err(TpmError::PolicySize) => {}
            Err(other) => panic!("{text}: {other}"),
        }
    }
    assert!(branched > 60 && filed > 150, "{branched} of them have branches, {filed} fit into a file");
}

#[tokio::test]
async fn each_branch_opens_when_it_is_fulfilled_and_what_keeps_the_others_shut_is_told() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let nested = PolicyPlan::new().or([("night", pcrs("sha256:23").password()), ("day", pcrs("sha256:16,23"))]);
    let zero = "00".repeat(32);
    let other = pcrs(&format!("sha256:8=ab{}", &zero[2..]));
    let plan = PolicyPlan::new().or([("boot", pcrs("sha256:7,16")), ("never", other), ("nested", nested)]);
    let file = seal(&tpm, plan, password("pw")).await;
    unseal(&tpm, &file, None).await.expect("the first branch is open");
    // The first is shut, and the last of the nested ones too: the password opens the other.
    extend(&swtpm, 16);
    unseal(&tpm, &file, password("pw")).await.expect("the nested one is open");
    let told = unseal(&tpm, &file, None).await.expect_err("it wants the password").to_string();
    for part in [
        "\"boot\": PCR sha256:7,16 has another value",
        "\"never\": PCR sha256:8",
        "\"night\": the key's password is wanted",
        "\"day\": PCR",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    extend(&swtpm, 23);
    let told = unseal(&tpm, &file, password("pw")).await.expect_err("all are shut").to_string();
    assert!(told.contains("\"night\": PCR sha256:23 has another value"), "{told}");
    assert!(file.policy().to_string().starts_with("one of (boot: PCR sha256:7,16"), "{}", file.policy());
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_in_a_branch_is_refused_and_a_command_or_locality_that_is_not_meant_too() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let file = seal(
        &tpm,
        PolicyPlan::new()
            .or([("a", pcrs("sha256:16=ab".to_owned().replace("ab", &"ab".repeat(32)).as_str())), ("b", PolicyPlan::new().password())]),
        password("pw"),
    )
    .await;
    let refused = unseal(&tpm, &file, password("no")).await.expect_err("another password");
    assert!(matches!(refused, TpmError::Auth { was_given: true, .. }), "{refused}");
    let sign_only = seal(&tpm, PolicyPlan::new().command_code("TPM2_Sign".parse().expect("a command")), None).await;
    let told = unseal(&tpm, &sign_only, None).await.expect_err("it may not be unsealed").to_string();
    assert!(told.ends_with("it is for TPM2_Sign only"), "{told}");
    let unseal_only = seal(&tpm, PolicyPlan::new().command_code("unseal".parse().expect("a command")).locality(1), None).await;
    unseal(&tpm, &unseal_only, None).await.expect("it is meant for this");
    let elsewhere = seal(&tpm, PolicyPlan::new().locality(0b1000), None).await;
    let told = unseal(&tpm, &elsewhere, None).await.expect_err("another locality").to_string();
    assert!(told.contains("from locality 3 only, and this is locality 0"), "{told}");
}

#[tokio::test]
async fn the_password_of_a_hierarchy_or_a_persistent_key_opens_what_asks_for_it() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let of_owner = seal(&tpm, PolicyPlan::new().secret(0x4000_0001, None, b"for this".to_vec()), None).await;
    unseal(&tpm, &of_owner, None).await.expect("the owner has no password");

    let guard = tpm.create_key(NewKey { password: password("guard"), ..NewKey::new(KeyKind::EccP256) }).await.expect("a key");
    let name = guard.describe().name;
    tpm.persist(guard, 0x8100_8009).await.expect("room");
    let of_key = seal(&tpm, PolicyPlan::new().secret(0x8100_8009, Some(name), Vec::new()), None).await;
    // swtpm has room for one handle's sessions.
    drop(tpm);
    let settings = |text: &str| Settings { secrets: vec![(0x8100_8009, password(text).expect("a password"))], ..Settings::default() };
    unseal(&open_with(&swtpm, settings("guard")), &of_key, None).await.expect("the key's password");
    let told = unseal(&open_with(&swtpm, settings("wrong")), &of_key, None).await.expect_err("another one").to_string();
    assert!(told.contains("the password of 0x81008009, which the policy asks for, is wrong"), "{told}");
    let tpm = open(&swtpm);
    let told = unseal(&tpm, &of_key, None).await.expect_err("it has a password").to_string();
    assert!(told.contains("the password of 0x81008009 is wanted (--policy-secret 0x81008009=FILE)"), "{told}");
    tpm.evict(0x8100_8009).await.expect("gone");
    let told = unseal(&tpm, &of_key, None).await.expect_err("there is no key").to_string();
    assert!(told.contains("the object whose password is wanted is at no persistent handle"), "{told}");

    drop(tpm);
    swtpm.tool("tpm2_changeauth", &["-c", "owner", "secret"]);
    let file = seal(
        &open_with(&swtpm, Settings { owner_password: password("secret"), ..Settings::default() }),
        PolicyPlan::new().or([("x", PolicyPlan::new().secret(0x4000_0001, None, Vec::new())), ("y", PolicyPlan::new().password())]),
        password("pw"),
    )
    .await;
    let handle = open_with(&swtpm, Settings { owner_password: password("secret"), ..Settings::default() });
    unseal(&handle, &file, None).await.expect("the owner's password");
    drop(handle);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

/// A key of OpenSSL's: its PEM.
fn make_key(swtpm: &Swtpm, name: &str, algorithm: &[&str]) -> VerifyingKey {
    swtpm.tool("openssl", &[&["genpkey", "-out", &format!("{name}.pem")], algorithm].concat());
    swtpm.tool("openssl", &["pkey", "-in", &format!("{name}.pem"), "-pubout", "-out", &format!("{name}.pub")]);
    VerifyingKey::from_pem(&std::fs::read_to_string(swtpm.dir().join(format!("{name}.pub"))).expect("a key")).expect("a key")
}

const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];

fn sign(swtpm: &Swtpm, name: &str, digest: &[u8]) -> Vec<u8> {
    std::fs::write(swtpm.dir().join("digest"), digest).expect("written");
    swtpm.tool(
        "openssl",
        &["pkeyutl", "-sign", "-inkey", &format!("{name}.pem"), "-in", "digest", "-pkeyopt", "digest:sha256", "-out", "signature"],
    );
    std::fs::read(swtpm.dir().join("signature")).expect("a signature")
}

#[tokio::test]
async fn a_public_key_has_the_name_that_tpm2_loadexternal_gives_it() {
    let swtpm = Swtpm::start();
    for (name, algorithm) in [("rsa", RSA), ("p256", P256), ("p384", P384)] {
        let key = make_key(&swtpm, name, algorithm);
        let kind = if name == "rsa" { "rsa" } else { "ecc" };
        swtpm.tool("tpm2_loadexternal", &["-C", "o", "-G", kind, "-u", &format!("{name}.pub"), "-c", "key.ctx", "-n", "key.name"]);
        assert_eq!(hex(key.name()), hex(&std::fs::read(swtpm.dir().join("key.name")).expect("a name")), "{name}");
        swtpm.tool("tpm2_flushcontext", &["-t"]);
    }
}

#[tokio::test]
async fn a_policy_that_the_key_signs_later_opens_what_was_sealed_before_and_a_stale_or_foreign_signature_does_not() {
    let swtpm = Swtpm::start();
    for (name, algorithm) in [("rsa", RSA), ("p256", P256)] {
        let key = make_key(&swtpm, name, algorithm);
        let policy_ref = b"machine 7".to_vec();
        let file = seal(&open(&swtpm), PolicyPlan::authorized_by(key.clone(), policy_ref.clone()), None).await;
        let told = unseal(&open(&swtpm), &file, None).await.expect_err("nothing is signed").to_string();
        assert!(told.contains("a policy is wanted that its key has signed, and none is given"), "{told}");

        let now = || async { open(&swtpm).policy(pcrs("sha256:16,23"), false).await.expect("registers") };
        let policy = now().await;
        let signature = sign(&swtpm, name, &policy.digest_to_sign(&policy_ref));
        let with = |signed: SignedPolicy| open_with(&swtpm, Settings { signed_policies: vec![signed], ..Settings::default() });
        let scheme = key.scheme();
        let good = SignedPolicy::new(policy.clone(), key.pem(), policy_ref.clone(), scheme, signature.clone());
        unseal(&with(good.clone()), &file, None).await.expect("it is signed");

        // For something else, by another key, with a bit changed, over another policy.
        let of_other = SignedPolicy::new(policy.clone(), key.pem(), b"machine 8".to_vec(), scheme, signature.clone());
        assert!(matches!(unseal(&with(of_other), &file, None).await, Err(TpmError::PolicyClosed(_))));
        make_key(&swtpm, "other", algorithm);
        let foreign = sign(&swtpm, "other", &policy.digest_to_sign(&policy_ref));
        let changed: Vec<u8> = signature.iter().enumerate().map(|(i, byte)| byte ^ u8::from(i == signature.len() - 1)).collect();
        let without_reference = sign(&swtpm, name, &policy.digest_to_sign(b""));
        for wrong in [foreign, changed, without_reference] {
            let signed = SignedPolicy::new(policy.clone(), key.pem(), policy_ref.clone(), scheme, wrong);
            let told = unseal(&with(signed), &file, None).await.expect_err("a wrong signature").to_string();
            assert!(told.contains("its signature is not this key's over this policy: it is stale, or somebody else's"), "{told}");
        }

        // An update: what was signed before is shut now, a new signature opens, and the file is the same.
        extend(&swtpm, 16);
        let told = unseal(&with(good.clone()), &file, None).await.expect_err("registers have changed").to_string();
        assert!(told.contains("PCR sha256:16,23 has another value"), "{told}");
        let updated = now().await;
        let stale = SignedPolicy::new(updated.clone(), key.pem(), policy_ref.clone(), scheme, signature);
        let told = unseal(&with(stale), &file, None).await.expect_err("the signature is of the old policy").to_string();
        assert!(told.contains("it is stale"), "{told}");
        let fresh = sign(&swtpm, name, &updated.digest_to_sign(&policy_ref));
        let fresh = SignedPolicy::new(updated, key.pem(), policy_ref.clone(), scheme, fresh);
        let both = Settings { signed_policies: vec![good, fresh], ..Settings::default() };
        unseal(&open_with(&swtpm, both), &file, None).await.expect("the fresh one opens");
    }
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_signed_policy_survives_json_and_systemds_signatures_are_taken() {
    let swtpm = Swtpm::start();
    let key = make_key(&swtpm, "rsa", RSA);
    let file = seal(&open(&swtpm), PolicyPlan::authorized_by(key.clone(), Vec::new()), None).await;
    let with = |text: &str| {
        let signed_policies = SignedPolicy::from_json(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        open_with(&swtpm, Settings { signed_policies, ..Settings::default() })
    };
    extend(&swtpm, 11);
    let tpm = open(&swtpm);
    let plan = tpm.with_values(pcrs("sha256:11"), false).await.expect("registers");
    let policy = plan.given().expect("given");
    let signature = sign(&swtpm, "rsa", &policy.digest_to_sign(b""));
    let signed = SignedPolicy::new(policy.clone(), key.pem(), Vec::new(), SignatureScheme::RsaSsa, signature.clone());
    let json = plan.to_json("today's", &[signed]).expect("it is given");
    assert_eq!(PolicyPlan::from_json(&json).expect("a policy"), plan);
    unseal(&with(&json), &file, None).await.expect("it is signed");

    // systemd-measure(1): of registers the numbers, of the key the fingerprint, of the policy the digest.
    swtpm.tool("openssl", &["pkey", "-pubin", "-in", "rsa.pub", "-outform", "DER", "-out", "rsa.der"]);
    let told = swtpm.tool("openssl", &["dgst", "-sha256", "-hex", "rsa.der"]);
    let fingerprint = told.rsplit(' ').next().expect("digits").trim().to_owned();
    let sig = swtpm.tool("openssl", &["base64", "-A", "-in", "signature"]);
    let entry =
        |pol: &str| format!(r#"{{"sha256": [{{"pcrs": [11], "pkfp": "{fingerprint}", "pol": "{pol}", "sig": "{}"}}]}}"#, sig.trim());
    let good = entry(&hex(&policy.digest()));
    unseal(&with(&good), &file, None).await.expect("systemd's is taken");
    for wrong in [entry(&"00".repeat(32)), good.replace(&fingerprint, &"00".repeat(32)), good.replace("[11]", "[12]")] {
        let told = unseal(&with(&wrong), &file, None).await.expect_err("it is of something else").to_string();
        assert!(told.contains("none is signed by this key, with this reference"), "{told}");
    }
    extend(&swtpm, 11);
    assert!(matches!(unseal(&with(&good), &file, None).await, Err(TpmError::PolicyClosed(_))), "the register has changed");
}

#[tokio::test]
async fn a_branch_that_shows_nothing_is_taken_before_one_that_shows_a_password_and_none_is_shown_unasked() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let guard = tpm.create_key(NewKey { password: password("guard"), ..NewKey::new(KeyKind::EccP256) }).await.expect("a key");
    let name = guard.describe().name;
    tpm.persist(guard, 0x8100_8009).await.expect("room");
    let of_key = || PolicyPlan::new().secret(0x8100_8009, Some(name.clone()), Vec::new());
    let failures =
        || swtpm.tool("tpm2_getcap", &["properties-variable"]).lines().find(|line| line.contains("LOCKOUT_COUNTER")).map(str::to_owned);
    let before = failures();
    // The right password, behind a branch that asks for one that was not given.
    let file = seal(&tpm, PolicyPlan::new().or([("key", of_key()), ("own", PolicyPlan::new().password())]), password("pw")).await;
    for _ in 0..4 {
        unseal(&tpm, &file, password("pw")).await.expect("its own password is right");
    }
    // A wrong one, which the open branch does not ask for.
    let file = seal(&tpm, PolicyPlan::new().or([("own", PolicyPlan::new().password()), ("boot", pcrs("sha256:16"))]), password("pw")).await;
    for given in [password("wrong"), None] {
        unseal(&tpm, &file, given.clone()).await.expect("the registers are right");
        let key = tpm.load(KeySource::from(file.clone()).with_password(given));
        assert!(key.opens_without_password().await.expect("it is looked at"));
    }
    assert_eq!(failures(), before, "nothing wrong was shown");
    extend(&swtpm, 16);
    assert!(!tpm.load(file.clone()).opens_without_password().await.expect("it is looked at"));
    unseal(&tpm, &file, password("pw")).await.expect("the password is right");
}

#[tokio::test]
async fn a_signed_policy_that_waits_for_its_own_key_is_an_error_and_no_endless_way() {
    let swtpm = Swtpm::start();
    let key = make_key(&swtpm, "p256", P256);
    let plan = PolicyPlan::authorized_by(key.clone(), Vec::new());
    let file = seal(&open(&swtpm), plan.clone(), None).await;
    let policy = plan.given().expect("no register is in it");
    let right = sign(&swtpm, "p256", &policy.digest_to_sign(b""));
    for signature in [right, vec![0x30, 6, 2, 1, 1, 2, 1, 1]] {
        let signed = SignedPolicy::new(policy.clone(), key.pem(), Vec::new(), key.scheme(), signature);
        let settings = Settings { signed_policies: vec![signed], ..Settings::default() };
        let told = unseal(&open_with(&swtpm, settings), &file, None).await.expect_err("it leads nowhere").to_string();
        assert!(told.contains("wait for each other") || told.contains("it is stale, or somebody else's"), "{told}");
    }
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

/// Signs with OpenSSL.
#[derive(Debug)]
struct Signer {
    pem: String,
    dir: PathBuf,
    name: String,
}

impl PolicySigner for Signer {
    fn public_pem(&self) -> &str {
        &self.pem
    }

    fn sign(&self, _: SignatureScheme, digest: &[u8; 32]) -> Result<Vec<u8>, String> {
        std::fs::write(self.dir.join("use"), digest).map_err(|e| e.to_string())?;
        let args = ["pkeyutl", "-sign", "-inkey", &self.name, "-in", "use", "-pkeyopt", "digest:sha256"];
        let output = command("openssl", "").args(args).current_dir(&self.dir).output().map_err(|e| e.to_string())?;
        output.status.success().then_some(output.stdout).ok_or_else(|| "openssl failed".to_owned())
    }
}

#[tokio::test]
async fn a_use_that_must_be_signed_is_signed_by_the_right_key_or_refused() {
    let swtpm = Swtpm::start();
    for (name, algorithm) in [("rsa", RSA), ("p256", P256)] {
        let key = make_key(&swtpm, name, algorithm);
        let file = seal(&open(&swtpm), PolicyPlan::new().signed(key.clone(), b"ref".to_vec()), None).await;
        let with = |pem: &str, name: &str| {
            let signer = Signer { pem: pem.to_owned(), dir: swtpm.dir().to_owned(), name: format!("{name}.pem") };
            open_with(&swtpm, Settings { policy_signers: vec![Arc::new(signer)], ..Settings::default() })
        };
        unseal(&with(key.pem(), name), &file, None).await.expect("it is signed");
        let told = unseal(&open(&swtpm), &file, None).await.expect_err("nobody signs").to_string();
        assert!(told.contains("its use must be signed, and the private key is not given"), "{told}");
        let other = make_key(&swtpm, "other", algorithm);
        unseal(&with(other.pem(), "other"), &file, None).await.expect_err("another key");
        unseal(&with(key.pem(), "other"), &file, None).await.expect_err("another key that says it is this one");
        // What is signed must not be one over a policy.
        let long = seal(&open(&swtpm), PolicyPlan::new().signed(key.clone(), vec![7; 28]), None).await;
        let told = unseal(&with(key.pem(), name), &long, None).await.expect_err("it is too long").to_string();
        assert!(told.contains("a reference of more than 27 bytes"), "{told}");
    }
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_had_here_is_computed_shown_and_refused_with_the_reason() {
    let swtpm = Swtpm::start();
    let json = r#"{"policy": [{"type": "POLICYNV", "operandB": "05", "operation": "UNSIGNED_GE", "nvPublic":
        {"nvIndex": 25165824, "nameAlg": "SHA256", "attributes": ["OWNERWRITE", "OWNERREAD", "WRITTEN"], "dataSize": 8}}]}"#;
    let plan = PolicyPlan::from_json(json).expect("a policy");
    assert!(plan.to_string().contains("the NV index 0x01800000, whose contents from byte 0 on is at least 05"), "{plan}");
    let file = seal(&open(&swtpm), plan, None).await;
    let told = unseal(&open(&swtpm), &file, None).await.expect_err("there is no such command").to_string();
    assert!(told.contains("it looks at the NV index 0x01800000, for which the TSS library of this program has no command"), "{told}");
    assert!(told.contains("TPM2_PolicyNV"), "{told}");
    // An NV policy beside another is no hindrance to that.
    let both = PolicyPlan::new().or([("nv", PolicyPlan::from_json(json).expect("a policy")), ("pcr", pcrs("sha256:16"))]);
    unseal(&open(&swtpm), &seal(&open(&swtpm), both, None).await, None).await.expect("the other branch");
}

#[tokio::test]
async fn a_movable_key_can_be_bound_to_registers() {
    let (old, new) = (Swtpm::start(), Swtpm::start());
    let (from, to) = (open(&old), open(&new));
    for secret in [None, password("pw")] {
        let plan: PolicyPlan = "sha256:16".parse().expect("registers");
        let made = NewKey { policy: Some(plan), movable: true, password: secret.clone(), ..NewKey::new(KeyKind::HmacSha256) };
        let file = from.create_hmac_key(made, Zeroizing::new(SECRET.to_vec())).await.expect("a key");
        let file = KeyFile::from_pem(&file.to_pem().expect("written")).expect("read");
        let key = |tpm: &TpmHandle, file: &KeyFile, secret: &Option<Password>| {
            tpm.load(KeySource::from(file.clone()).with_password(secret.clone()))
        };
        let mac = key(&from, &file, &secret).hmac(b"message").await.expect("the register is as it was");
        let target = to.parent_public(Parent::H2Primary).await.expect("a public area");
        if secret.is_some() {
            key(&from, &file, &None).duplicate(&target).await.expect_err("it wants the password");
        }
        let moving = key(&from, &file, &secret).duplicate(&target).await.expect("duplicated");
        let arrived = to.import_duplicate(Parent::H2Primary, moving).await.expect("imported");
        assert_eq!(*key(&to, &arrived, &secret).hmac(b"message").await.expect("used"), *mac);
        extend(&new, 16);
        let told = key(&to, &arrived, &secret).hmac(b"message").await.expect_err("bound there, too").to_string();
        assert!(told.contains("\"use\": PCR sha256:16 has another value") || told.contains("changed since it was made"), "{told}");
        // Nor is it moved on from there.
        let target = from.parent_public(Parent::H2Primary).await.expect("a public area");
        let told = key(&to, &arrived, &secret).duplicate(&target).await.expect_err("the registers are others").to_string();
        assert!(told.contains("\"move\": PCR sha256:16 has another value"), "{told}");
        new.tool("tpm2_pcrreset", &["16"]);
    }
}
