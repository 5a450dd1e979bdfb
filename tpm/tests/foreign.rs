//! Key files of tpm2-tools, tpm2-pytss and tpm2-openssl work here, and ours work there: HMAC, RSA and ECC keys, with and without a password,
//! with a policy over registers, with both. What one of them cannot do is told in `docs/tpm.md`.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use ekm_otp_swtpm::{Swtpm, command};
use ekm_otp_tpm::{
    DigestAlgorithm, KeyFile, KeyKind, KeySource, NewKey, NewSealed, Parent, Password, Policy, PolicyPlan, SignatureScheme, TpmError,
    TpmHandle,
};
use sha2::Digest as _;
use zeroize::Zeroizing;

// Test data, used nowhere else.
const SECRET: &str = "a secret of the interop tests...";
const PASSWORD: &str = "a test password";
const MESSAGE: &str = "message";
/// Python: hmac.new(b"a secret of the interop tests...", b"message", "sha256").hexdigest()
const MAC: &str = "59c0f1b675bdd646aec050034862fff58278b01bd9ed57bdc2e64b45693cb925";
const PCRS: &str = "sha256:0,16";

const KINDS: [KeyKind; 3] = [KeyKind::HmacSha256, KeyKind::Rsa2048, KeyKind::EccP256];
const SIGNING: [KeyKind; 2] = [KeyKind::Rsa2048, KeyKind::EccP256];

/// What it takes to use a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Guard {
    has_password: bool,
    has_policy: bool,
}

const PASSWORDS: [Guard; 2] = [Guard { has_password: false, has_policy: false }, Guard { has_password: true, has_policy: false }];
const POLICIES: [Guard; 2] = [Guard { has_password: false, has_policy: true }, Guard { has_password: true, has_policy: true }];

impl Guard {
    fn all() -> impl Iterator<Item = Self> {
        PASSWORDS.into_iter().chain(POLICIES)
    }

    fn password(self) -> Option<Password> {
        self.has_password.then(|| Password::new(PASSWORD.into()).expect("a password"))
    }

    /// Arguments that belong to a password.
    fn args(self, args: &[&'static str]) -> Vec<&'static str> {
        if self.has_password { args.to_vec() } else { Vec::new() }
    }
}

fn open(swtpm: &Swtpm) -> TpmHandle {
    TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread")
}

fn pcrs() -> PolicyPlan {
    PCRS.parse().expect("registers")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal digits")).collect()
}

fn read(swtpm: &Swtpm, name: &str) -> KeyFile {
    KeyFile::from_pem(&std::fs::read_to_string(swtpm.dir().join(name)).expect("reading")).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn write(swtpm: &Swtpm, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(swtpm.dir().join(name), bytes).expect("writing");
}

/// A TPM whose register 16 is not zero, and the message in its directory.
fn start() -> Swtpm {
    let swtpm = Swtpm::start();
    // Each test tries some wrong passwords.
    swtpm.tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=100", "--recovery-time=9", "--lockout-recovery-time=9"]);
    swtpm.tool("tpm2_pcrextend", &[&format!("16:sha256={}", "ab".repeat(32))]);
    write(&swtpm, "message", MESSAGE);
    swtpm
}

/// The H-2 template as tpm2-tools write it.
fn create_primary(swtpm: &Swtpm) {
    write(swtpm, "unique.dat", [0, 0, 0, 0]);
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let args = ["-Q", "-C", "o", "-G", "ecc", "-g", "sha256", "-a", attributes, "-u", "unique.dat", "-c", "primary.ctx"];
    swtpm.tool("tpm2_createprimary", &args);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
}

/// A key of ours, as `ours.pem`, and its parts as `ours.pub` and `ours.priv`. Nothing of it is left in the TPM.
async fn make_ours(swtpm: &Swtpm, kind: KeyKind, guard: Guard, parent: Parent) -> KeyFile {
    let tpm = open(swtpm);
    let new = NewKey { kind, parent, password: guard.password(), policy: guard.has_policy.then(pcrs), movable: false };
    let file = match kind {
        KeyKind::HmacSha256 => tpm.create_hmac_key(new, Zeroizing::new(SECRET.into())).await,
        _ => tpm.create_key(new).await,
    };
    let file = file.unwrap_or_else(|e| panic!("{kind}, {guard:?}: {e}"));
    write(swtpm, "ours.pem", file.to_pem().expect("a key file"));
    write(swtpm, "ours.pub", file.public_blob().expect("a public area"));
    write(swtpm, "ours.priv", file.private_blob());
    file
}

/// OpenSSL, without any TPM, says that this is a signature of the message by this key.
fn verify(swtpm: &Swtpm, file: &KeyFile, signature: &[u8]) {
    write(swtpm, "public.pem", file.public_pem().expect("a public key"));
    write(swtpm, "signature", signature);
    let said = swtpm.tool("openssl", &["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "message"]);
    assert!(said.contains("Verified OK"), "{said}");
}

/// Uses a key here, through its file. An HMAC key's MAC is returned; a signature is verified.
async fn use_here(swtpm: &Swtpm, file: KeyFile, password: Option<Password>) -> Result<Option<String>, TpmError> {
    // As it would be read from a file of ours.
    let file = KeyFile::from_pem(&file.to_pem().expect("written")).expect("read");
    let tpm = open(swtpm);
    let key = tpm.load(KeySource::from(file.clone()).with_password(password));
    let scheme = match file.describe().kind.expect("a kind") {
        KeyKind::HmacSha256 => return key.hmac(MESSAGE.as_bytes()).await.map(|mac| Some(hex(&*mac))),
        KeyKind::Rsa2048 => SignatureScheme::RsaSsa,
        _ => SignatureScheme::Ecdsa,
    };
    let signature = key.sign(scheme, DigestAlgorithm::Sha256, &sha2::Sha256::digest(MESSAGE)).await?;
    verify(swtpm, &file, &signature);
    Ok(None)
}

/// That a foreign key works here with what it takes, and not without.
async fn works_here(swtpm: &Swtpm, file: &KeyFile, guard: Guard, mac: Option<&str>) {
    let made = use_here(swtpm, file.clone(), guard.password()).await;
    assert_eq!(made.unwrap_or_else(|e| panic!("{guard:?}: {e}: {file:?}")).as_deref(), mac, "{guard:?}");
    if guard.has_password {
        let none = use_here(swtpm, file.clone(), None).await;
        assert!(matches!(none, Err(TpmError::Auth { was_given: false, .. })), "{guard:?}: {none:?}");
    }
    if guard.has_policy {
        let stripped = use_here(swtpm, file.clone().with_policy(Policy::default()), guard.password()).await;
        assert!(matches!(stripped, Err(TpmError::Policy(_))), "{guard:?}: {stripped:?}");
    }
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

mod tpm2_tools {
    use super::*;

    /// A policy session with what our files state: one TPM2_PolicyPCR for each register, then the password.
    fn start_policy(swtpm: &Swtpm, guard: Guard) -> String {
        if !guard.has_policy {
            return guard.args(&[PASSWORD]).concat();
        }
        swtpm.tool("tpm2_startauthsession", &["--policy-session", "-S", "s.ctx"]);
        for register in ["sha256:0", "sha256:16"] {
            swtpm.tool("tpm2_policypcr", &["-Q", "-S", "s.ctx", "-l", register]);
        }
        if guard.has_password {
            swtpm.tool("tpm2_policyauthvalue", &["-Q", "-S", "s.ctx"]);
        }
        format!("session:s.ctx{}", guard.args(&["+", PASSWORD]).concat())
    }

    #[tokio::test]
    async fn ours_work_with_tpm2_tools() {
        let swtpm = start();
        create_primary(&swtpm);
        for kind in KINDS {
            for guard in Guard::all() {
                let file = make_ours(&swtpm, kind, guard, Parent::H2Primary).await;
                // Its reader knows no policy in a file.
                let parts: &[&str] =
                    if guard.has_policy { &["-C", "primary.ctx", "-u", "ours.pub", "-r", "ours.priv"] } else { &["-r", "ours.pem"] };
                swtpm.tool("tpm2_load", &[&["-Q", "-c", "k.ctx"][..], parts].concat());
                swtpm.tool("tpm2_flushcontext", &["-t"]);
                let auth = start_policy(&swtpm, guard);
                if kind == KeyKind::HmacSha256 {
                    assert_eq!(swtpm.tool("tpm2_hmac", &["-c", "k.ctx", "-p", &auth, "--hex", "message"]).trim(), MAC, "{guard:?}");
                } else {
                    let scheme = if kind == KeyKind::Rsa2048 { "rsassa" } else { "ecdsa" };
                    let args =
                        ["-Q", "-c", "k.ctx", "-p", &auth, "-g", "sha256", "-s", scheme, "-f", "plain", "-o", "theirs.sig", "message"];
                    swtpm.tool("tpm2_sign", &args);
                    verify(&swtpm, &file, &std::fs::read(swtpm.dir().join("theirs.sig")).expect("a signature"));
                }
                swtpm.tool("tpm2_flushcontext", &["-t"]);
                if guard.has_policy {
                    swtpm.tool("tpm2_flushcontext", &["s.ctx"]);
                }
            }
        }
    }

    /// tpm2-tools put no policy into a key file, and make one TPM2_PolicyPCR for all registers: both are stated here.
    #[tokio::test]
    async fn theirs_work_here() {
        let swtpm = start();
        write(&swtpm, "secret", SECRET);
        create_primary(&swtpm);
        for guard in Guard::all() {
            let mut restricted = Vec::new();
            if guard.has_policy {
                swtpm.tool("tpm2_startauthsession", &["-S", "trial.ctx"]);
                swtpm.tool("tpm2_policypcr", &["-Q", "-S", "trial.ctx", "-l", PCRS, "-L", "policy"]);
                if guard.has_password {
                    swtpm.tool("tpm2_policyauthvalue", &["-Q", "-S", "trial.ctx", "-L", "policy"]);
                }
                swtpm.tool("tpm2_flushcontext", &["trial.ctx"]);
                restricted = vec!["-L", "policy"];
            }
            let password = guard.args(&["-p", PASSWORD]);
            let created = if guard.has_policy {
                "fixedtpm|fixedparent|sensitivedataorigin|sign"
            } else {
                "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
            };
            let imported = if guard.has_policy { "sign" } else { "userwithauth|sign" };
            for (kind, tool, args) in [
                (KeyKind::HmacSha256, "tpm2_import", ["-G", "hmac", "-i", "secret", "-a", imported].as_slice()),
                (KeyKind::HmacSha256, "tpm2_create", &["-G", "hmac", "-a", created]),
                (KeyKind::Rsa2048, "tpm2_create", &["-G", "rsa2048", "-a", created]),
                (KeyKind::EccP256, "tpm2_create", &["-G", "ecc256", "-a", created]),
            ] {
                let files = ["-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv"];
                swtpm.tool(tool, &[args, &files, &password, &restricted].concat());
                swtpm.tool("tpm2_flushcontext", &["-t"]);
                swtpm.tool(
                    "tpm2_encodeobject",
                    &[&["-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-o", "k.pem"][..], &guard.args(&["-p"])].concat(),
                );
                swtpm.tool("tpm2_flushcontext", &["-t"]);
                let mut file = read(&swtpm, "k.pem");
                assert_eq!((file.parent(), file.describe().kind), (Parent::H2Primary, Some(kind)));
                if guard.has_policy {
                    let asked = file.describe().auth_policy.expect("a policy");
                    let policy = open(&swtpm).policy_for(pcrs(), &asked).await.unwrap_or_else(|e| panic!("{guard:?}: {e}"));
                    assert_eq!(policy.needs_password(), guard.has_password);
                    file = file.with_policy(policy);
                }
                let mut mac = (kind == KeyKind::HmacSha256).then(|| MAC.to_owned());
                if tool == "tpm2_create" && kind == KeyKind::HmacSha256 {
                    // Whose secret nobody knows: the same MAC in both tools.
                    mac = match guard.has_policy {
                        true => use_here(&swtpm, file.clone(), guard.password()).await.expect("a MAC"),
                        false => {
                            swtpm.tool("tpm2_load", &["-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx"]);
                            swtpm.tool("tpm2_flushcontext", &["-t"]);
                            let args = ["-c", "k.ctx", "-p", &guard.args(&[PASSWORD]).concat(), "--hex", "message"];
                            let mac = swtpm.tool("tpm2_hmac", &args);
                            swtpm.tool("tpm2_flushcontext", &["-t"]);
                            Some(mac.trim().to_owned())
                        }
                    };
                }
                works_here(&swtpm, &file, guard, mac.as_deref()).await;
            }
        }
    }
}

mod tpm2_pytss {
    use super::*;

    /// testdata/python, with tpm2-pytss in its virtual environment.
    fn peers() -> PathBuf {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/python");
        let made = command(peers.join("setup.sh"), "").arg("tss").stdin(Stdio::null()).output().expect("testdata/python/setup.sh");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "testdata/python/setup.sh failed, and nothing is tested without it:\n{said}");
        peers
    }

    fn try_tss_key(peers: &Path, swtpm: &Swtpm, action: &str, key: &str, args: &[&str]) -> Output {
        let mut command = command(peers.join(".venv/bin/python"), "");
        command.arg(peers.join("tss_key.py")).args([action, &swtpm.tcti(), key]).args(args);
        command.current_dir(swtpm.dir()).stdin(Stdio::null()).output().expect("Python")
    }

    fn tss_key(peers: &Path, swtpm: &Swtpm, action: &str, key: &str, args: &[&str]) -> String {
        let output = try_tss_key(peers, swtpm, action, key, args);
        assert!(output.status.success(), "{action} {key} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[tokio::test]
    async fn ours_work_with_tpm2_pytss() {
        let (peers, swtpm) = (peers(), start());
        for kind in KINDS {
            for guard in Guard::all() {
                let file = make_ours(&swtpm, kind, guard, Parent::H2Primary).await;
                let mut args = [&["--message", MESSAGE][..], &guard.args(&["--password", PASSWORD])].concat();
                let mut key = "ours.pem";
                if guard.has_policy {
                    // Its reader knows no policy in a file.
                    let refused = try_tss_key(&peers, &swtpm, "use", key, &args);
                    let said = String::from_utf8_lossy(&refused.stderr);
                    assert!(!refused.status.success() && said.contains("from_pem"), "it reads policies now: {said}");
                    key = "ours";
                    args.extend(["--pcr", "sha256:0", "--pcr", "sha256:16"]);
                    args.extend(guard.args(&["--policy-password"]));
                }
                let made = tss_key(&peers, &swtpm, "use", key, &args);
                match kind {
                    KeyKind::HmacSha256 => assert_eq!(made, MAC, "{guard:?}"),
                    _ => verify(&swtpm, &file, &unhex(&made)),
                }
                assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
            }
        }
    }

    #[tokio::test]
    async fn sealed_data_opens_both_ways() {
        let (peers, swtpm) = (peers(), start());
        for guard in Guard::all() {
            let policy = open(&swtpm).policy(pcrs(), guard.has_password).await.expect("registers");
            let digest = hex(&policy.digest());
            let password = guard.has_password.then(|| Password::new(PASSWORD.into()).expect("a password"));
            // Theirs here.
            let mut args = [&["--kind", "sealed", "--secret", SECRET][..], &guard.args(&["--password", PASSWORD])].concat();
            if guard.has_policy {
                args.extend(["--policy-digest", &digest]);
            }
            tss_key(&peers, &swtpm, "make", "theirs.pem", &args);
            let mut file = read(&swtpm, "theirs.pem");
            assert!(file.is_sealed());
            if guard.has_policy {
                file = file.with_policy(policy);
            }
            let source = KeySource::from(file).with_password(password.clone());
            assert_eq!(*open(&swtpm).load(source).unseal().await.expect("unsealed"), SECRET.as_bytes(), "{guard:?}");
            // Ours there: its reader takes no such file, and the two blobs.
            let plan = guard.has_policy.then(pcrs);
            let new = NewSealed { parent: Parent::H2Primary, password, policy: plan };
            let file = open(&swtpm).seal(new, Zeroizing::new(SECRET.into())).await.expect("sealed");
            std::fs::write(swtpm.dir().join("ours.pub"), file.public_blob().expect("a blob")).expect("written");
            std::fs::write(swtpm.dir().join("ours.priv"), file.private_blob()).expect("written");
            let mut args = [&["--message", "none"][..], &guard.args(&["--password", PASSWORD])].concat();
            if guard.has_policy {
                args.extend(["--pcr", "sha256:0", "--pcr", "sha256:16"]);
                args.extend(guard.args(&["--policy-password"]));
            }
            assert_eq!(unhex(&tss_key(&peers, &swtpm, "use", "ours", &args)), SECRET.as_bytes(), "{guard:?}");
            assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
        }
    }

    /// What TSSPrivKey writes never states a policy.
    #[tokio::test]
    async fn theirs_work_here() {
        let (peers, swtpm) = (peers(), start());
        for kind in KINDS {
            for guard in Guard::all() {
                let mut args = [&["--kind", kind.as_str()][..], &guard.args(&["--password", PASSWORD])].concat();
                if kind == KeyKind::HmacSha256 {
                    args.extend(["--secret", SECRET]);
                }
                let policy = open(&swtpm).policy(pcrs(), guard.has_password).await.expect("registers");
                let digest = hex(&policy.digest());
                if guard.has_policy {
                    args.extend(["--policy-digest", &digest]);
                }
                tss_key(&peers, &swtpm, "make", "theirs.pem", &args);
                let mut file = read(&swtpm, "theirs.pem");
                assert_eq!((file.parent(), file.describe().kind), (Parent::H2Primary, Some(kind)));
                if guard.has_policy {
                    file = file.with_policy(policy);
                }
                works_here(&swtpm, &file, guard, (kind == KeyKind::HmacSha256).then_some(MAC)).await;
            }
        }
    }
}

/// The provider knows RSA and ECC keys and no HMAC keys, and no policy in a key file.
mod tpm2_openssl {
    use super::*;

    const PARENT: u32 = 0x8100_0001;

    fn try_openssl(swtpm: &Swtpm, args: &[&str]) -> Output {
        swtpm.try_tool("openssl", args)
    }

    fn openssl(swtpm: &Swtpm, args: &[&str]) {
        let output = try_openssl(swtpm, args);
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn start_with_provider() -> Swtpm {
        let swtpm = start();
        let found = try_openssl(&swtpm, &["list", "-providers", "-provider", "tpm2"]);
        let said = String::from_utf8_lossy(&found.stderr);
        assert!(found.status.success(), "openssl has no provider tpm2: install the Debian package `tpm2-openssl`: {said}");
        // Another one than the H-2 primary.
        swtpm.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc", "-c", "other.ctx"]);
        swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "other.ctx", &format!("{PARENT:#x}")]);
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        swtpm
    }

    #[tokio::test]
    async fn ours_work_with_tpm2_openssl() {
        let swtpm = start_with_provider();
        write(&swtpm, "digest", sha2::Sha256::digest(MESSAGE));
        for kind in SIGNING {
            for guard in PASSWORDS {
                for parent in [Parent::H2Primary, Parent::Persistent(PARENT)] {
                    let file = make_ours(&swtpm, kind, guard, parent).await;
                    let passin = if guard.has_password { format!("pass:{PASSWORD}") } else { "pass:".into() };
                    let args = ["-sign", "-inkey", "ours.pem", "-passin", &passin, "-in", "digest", "-out", "theirs.sig"];
                    let sign = [&["pkeyutl", "-provider", "tpm2", "-provider", "default", "-pkeyopt", "digest:sha256"][..], &args].concat();
                    openssl(&swtpm, &sign);
                    verify(&swtpm, &file, &std::fs::read(swtpm.dir().join("theirs.sig")).expect("a signature"));
                    if guard.has_password {
                        let args = sign.iter().map(|arg| if *arg == passin { "pass:wrong" } else { *arg }).collect::<Vec<_>>();
                        assert!(!try_openssl(&swtpm, &args).status.success(), "{kind}: it signs with a wrong password");
                    }
                }
            }
        }
        assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn theirs_work_here() {
        let swtpm = start_with_provider();
        for (kind, args) in [
            (KeyKind::Rsa2048, ["-algorithm", "RSA", "-pkeyopt", "bits:2048"]),
            (KeyKind::EccP256, ["-algorithm", "EC", "-pkeyopt", "group:P-256"]),
        ] {
            for guard in PASSWORDS {
                for parent in [Parent::H2Primary, Parent::Persistent(PARENT)] {
                    let (auth, handle) = (format!("user-auth:{PASSWORD}"), format!("parent:{PARENT:#x}"));
                    let mut args = [&["genpkey", "-provider", "tpm2", "-provider", "default", "-out", "theirs.pem"][..], &args].concat();
                    if guard.has_password {
                        args.extend(["-pkeyopt", &auth]);
                    }
                    if parent != Parent::H2Primary {
                        args.extend(["-pkeyopt", &handle]);
                    }
                    openssl(&swtpm, &args);
                    let file = read(&swtpm, "theirs.pem");
                    assert_eq!((file.parent(), file.describe().kind, file.may_need_password()), (parent, Some(kind), guard.has_password));
                    works_here(&swtpm, &file, guard, None).await;
                }
            }
        }
    }
}
