//! What a pinned endorsement key promises: whatever somebody in the bus answers, nothing secret leaves. They have a TPM of their own, with
//! keys that they know, and let it answer instead of ours: one question, or all from one on. All secrets are test data.

#[allow(dead_code, reason = "each test file uses its part")]
mod relay;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{
    DigestAlgorithm, KeyFile, KeyKind, KeySource, NewKey, Parent, Password, PolicyPlan, PrimaryAlgorithm, Settings, SignatureScheme,
    TpmError, TpmHandle,
};
use relay::{Relay, code_of, transmit};
use tempfile::TempDir;
use zeroize::Zeroizing;

const SECRET: &[u8; 32] = b"a secret of the tests of the pin";
const EK: u32 = 0x8101_0001;
const STORED: u32 = 0x8100_0001;

/// TPM_CC (TCG part 2, 6.5.2)
const CC_CREATE_PRIMARY: u32 = 0x131;
const CC_CONTEXT_LOAD: u32 = 0x161;
const CC_READ_PUBLIC: u32 = 0x173;
const CC_START_AUTH_SESSION: u32 = 0x176;
/// Object_ChangeAuth, Create, HMAC, Import, Load, Sign, Duplicate: they carry a secret, a password's HMAC, or what a secret makes.
const SECRET_COMMANDS: [u32; 7] = [0x150, 0x153, 0x155, 0x156, 0x157, 0x15d, 0x14b];

/// Which questions the other TPM answers.
#[derive(Clone, Copy, Debug)]
enum Swap {
    None,
    /// The n-th of this command.
    One(u32, usize),
    /// All from the n-th on.
    From(usize),
}

/// What was seen in the bus.
#[derive(Debug, Default)]
struct Seen {
    commands: HashMap<u32, usize>,
    /// Whose public area was told for a handle: the other TPM's?
    is_others: HashMap<u32, bool>,
    /// What somebody with the other TPM's keys can read.
    leaks: Vec<String>,
}

struct Scene {
    real: Swtpm,
    other: Swtpm,
    name: Vec<u8>,
    /// HMAC keys of the real TPM: plain, with a password, bound to registers, movable, under the endorsement key, under the primary of tpm2-tools.
    files: Vec<(KeyFile, Option<Password>)>,
    /// Where the real TPM's H-2 primary is kept, if it is.
    kept: Option<TempDir>,
}

fn password() -> Option<Password> {
    Some(Password::new(b"test password".to_vec()).expect("a password"))
}

fn new(parent: Parent, password: Option<Password>, pcrs: Option<&str>, movable: bool) -> NewKey {
    NewKey { parent, password, policy: pcrs.map(|text| text.parse().expect("registers")), movable, ..NewKey::new(KeyKind::HmacSha256) }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal")).collect()
}

/// With an endorsement key and a storage key at persistent handles.
fn tpm() -> Swtpm {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=10000", "--recovery-time=9", "--lockout-recovery-time=9"]);
    swtpm.tool("tpm2_createek", &["-Q", "-c", "0x81010001", "-G", "ecc", "-u", "ek.pub"]);
    swtpm.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc", "-c", "primary.ctx"]);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "primary.ctx", "0x81000001"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm
}

fn open(tcti: &str, name: Option<&[u8]>) -> TpmHandle {
    open_with(tcti, Settings { session_key_name: name.map(<[u8]>::to_vec), ..Settings::default() })
}

fn open_with(tcti: &str, settings: Settings) -> TpmHandle {
    TpmHandle::open_with(tcti.parse().expect("a TCTI string"), settings).expect("a thread")
}

impl Scene {
    async fn new() -> Self {
        let (real, other) = (tpm(), tpm());
        let honest = open(&real.tcti(), None);
        let name = unhex(&honest.ek_name().await.expect("a name"));
        let mut files = Vec::new();
        for key in [
            new(Parent::H2Primary, None, None, false),
            new(Parent::H2Primary, password(), Some("sha256:16"), false),
            new(Parent::Persistent(STORED), password(), None, true),
            new(Parent::Persistent(EK), None, None, false),
            new(Parent::ToolsPrimary(PrimaryAlgorithm::Ecc), password(), None, false),
        ] {
            let password = key.password.clone();
            files.push((honest.create_hmac_key(key, Zeroizing::new(SECRET.to_vec())).await.expect("a key"), password));
        }
        Self { real, other, name, files, kept: None }
    }

    async fn with_kept_primary() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
        let scene = Self { kept: Some(folder), ..Self::new().await };
        open_with(&scene.real.tcti(), scene.settings()).load(scene.files[0].0.clone()).prepare().await.expect("loaded");
        scene
    }

    fn settings(&self) -> Settings {
        let kept_primaries = self.kept.as_ref().map(|folder| folder.path().join("kept"));
        Settings { session_key_name: Some(self.name.clone()), kept_primaries, ..Settings::default() }
    }

    /// What was kept of the real TPM, for the address at which somebody listens.
    fn keep_for(&self, tcti: &str) {
        let Some(folder) = self.settings().kept_primaries else { return };
        let file = |tcti: &str| folder.join(tcti.replace([':', '=', ',', '.'], "-") + ".h2");
        std::fs::copy(file(&self.real.tcti()), file(tcti)).expect("it was kept");
    }

    /// Runs an operation over a bus that somebody is in.
    async fn attack<T>(&self, swap: Swap, operation: impl AsyncFnOnce(TpmHandle) -> Result<T, TpmError>) -> (Result<T, TpmError>, Seen) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (real, other, noted) = (self.real.port(), self.other.port(), Arc::clone(&seen));
        let relay = Relay::answering(&self.real, move |command| {
            let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
            let code = code_of(command);
            let before = seen.commands.values().sum::<usize>();
            let count = seen.commands.entry(code).or_default();
            let is_others = match swap {
                Swap::None => false,
                Swap::One(swapped, n) => code == swapped && *count == n,
                Swap::From(n) => before >= n,
            };
            *count += 1;
            let handle = |bytes: &[u8]| u32::from_be_bytes(bytes[10..14].try_into().expect("4 bytes"));
            if code == CC_START_AUTH_SESSION && seen.is_others.get(&handle(command)) == Some(&true) {
                seen.leaks.push(format!("a session is salted to a key of the other TPM, {:08x}", handle(command)));
            }
            let answer = transmit(if is_others { other } else { real }, command)?;
            if code_of(&answer) == 0 {
                match code {
                    CC_CREATE_PRIMARY | CC_CONTEXT_LOAD => drop(seen.is_others.insert(handle(&answer), is_others)),
                    CC_READ_PUBLIC => drop(seen.is_others.insert(handle(command), is_others)),
                    _ if is_others && SECRET_COMMANDS.contains(&code) => seen.leaks.push(format!("the other TPM obeys 0x{code:x}")),
                    _ => {}
                }
            }
            Some(answer)
        });
        self.keep_for(&relay.tcti());
        let tpm = open_with(&relay.tcti(), self.settings());
        let result = operation(tpm).await;
        drop(relay);
        let seen = Arc::try_unwrap(seen).expect("the relay has ended").into_inner().unwrap_or_else(PoisonError::into_inner);
        (result, seen)
    }

    /// The operation for every n: one answer to each question about keys, and all answers from each on. `is_right` judges what it returns.
    async fn nothing_leaves<T>(
        &self,
        what: &str,
        operation: impl AsyncFn(TpmHandle) -> Result<T, TpmError>,
        is_right: impl Fn(&T) -> bool,
    ) {
        let (honest, seen) = self.attack(Swap::None, &operation).await;
        assert!(honest.as_ref().is_ok_and(&is_right), "{what}: {:?}", honest.err());
        let total = seen.commands.values().sum::<usize>();
        let keys = [CC_CREATE_PRIMARY, CC_READ_PUBLIC, CC_CONTEXT_LOAD].into_iter();
        assert_eq!(seen.commands.contains_key(&CC_CONTEXT_LOAD), self.kept.is_some(), "{what}: {:x?}", seen.commands);
        let one = keys.flat_map(|code| (0..seen.commands.get(&code).copied().unwrap_or_default()).map(move |n| Swap::One(code, n)));
        for swap in one.chain((0..total).map(Swap::From)) {
            let (result, seen) = self.attack(swap, &operation).await;
            assert_eq!(seen.leaks, Vec::<String>::new(), "{what}, {swap:?}: {:?}", result.err());
            assert!(result.as_ref().map_or(true, &is_right), "{what}, {swap:?}: a wrong answer is believed");
        }
    }
}

#[tokio::test]
async fn a_secret_that_is_put_into_the_tpm_goes_into_no_other() {
    let scene = Scene::new().await;
    for key in [
        new(Parent::H2Primary, None, None, false),
        new(Parent::H2Primary, password(), Some("sha256:16"), false),
        new(Parent::Persistent(STORED), password(), None, false),
        new(Parent::Persistent(EK), password(), None, true),
        new(Parent::ToolsPrimary(PrimaryAlgorithm::Ecc), password(), None, false),
        new(Parent::ToolsPrimary(PrimaryAlgorithm::Rsa), None, None, false),
    ] {
        let create = async |tpm: TpmHandle| tpm.create_hmac_key(key.clone(), Zeroizing::new(SECRET.to_vec())).await;
        scene.nothing_leaves(&format!("{key:?}"), create, |_| true).await;
    }
}

#[tokio::test]
async fn neither_what_is_maced_nor_a_password_is_shown_to_another_tpm() {
    let scene = Scene::new().await;
    let (first, _) = &scene.files[0];
    let right = *open(&scene.real.tcti(), None).load(first.clone()).hmac(b"message").await.expect("a MAC");
    for (i, (file, password)) in scene.files.iter().enumerate() {
        let source = || KeySource::from(file.clone()).with_password(password.clone());
        let hmac = async |tpm: TpmHandle| tpm.load(source()).hmac(b"message").await;
        scene.nothing_leaves(&format!("hmac {i}"), hmac, |mac| **mac == right).await;
    }
    let (file, password) = &scene.files[2];
    let change = async |tpm: TpmHandle| {
        let new = Some(Password::new(b"test password, changed".to_vec()).expect("a password"));
        tpm.load(KeySource::from(file.clone()).with_password(password.clone())).change_password(new).await
    };
    scene.nothing_leaves("a password is changed", change, |_| true).await;
    let attempt = async |tpm: TpmHandle| tpm.load(file.clone()).works_without_password(u32::MAX).await;
    scene.nothing_leaves("a key is tried without its password", attempt, |works| *works == Some(false)).await;
}

#[tokio::test]
async fn a_primary_that_was_kept_lets_no_other_tpm_in() {
    let scene = Scene::with_kept_primary().await;
    let right = *open(&scene.real.tcti(), None).load(scene.files[0].0.clone()).hmac(b"message").await.expect("a MAC");
    for (i, (file, password)) in scene.files[..2].iter().enumerate() {
        let source = || KeySource::from(file.clone()).with_password(password.clone());
        let hmac = async |tpm: TpmHandle| tpm.load(source()).hmac(b"message").await;
        scene.nothing_leaves(&format!("hmac {i}"), hmac, |mac| **mac == right).await;
    }
}

#[tokio::test]
async fn a_movable_key_goes_to_no_other_parent_and_a_false_parent_is_not_shown() {
    let scene = Scene::new().await;
    let honest = open(&scene.real.tcti(), None);
    for parent in [Parent::H2Primary, Parent::Persistent(STORED), Parent::Persistent(EK)] {
        let right = honest.parent_public(parent).await.expect("a public area");
        let show = async |tpm: TpmHandle| tpm.parent_public(parent).await;
        scene.nothing_leaves(&format!("{parent:?} is shown"), show, |shown| *shown == right).await;
    }
    let target = honest.parent_public(Parent::H2Primary).await.expect("a public area");
    drop(honest);
    let (file, password) = &scene.files[2];
    let move_it = async |tpm: TpmHandle| tpm.load(KeySource::from(file.clone()).with_password(password.clone())).duplicate(&target).await;
    scene.nothing_leaves("a key is duplicated", move_it, |_| true).await;
}

#[tokio::test]
async fn registers_that_somebody_in_the_bus_made_up_are_not_believed() {
    let scene = Scene::new().await;
    scene.other.tool("tpm2_pcrextend", &["16:sha256=3d45f2b9d6f0a5d9f0c7b3a1e8d4c6b2a09f8e7d6c5b4a39281706f5e4d3c2b1"]);
    let right = open(&scene.real.tcti(), None)
        .policy("sha256:16".parse::<PolicyPlan>().expect("registers"), false)
        .await
        .expect("a policy")
        .digest();
    let policy = async |tpm: TpmHandle| tpm.policy("sha256:16".parse::<PolicyPlan>().expect("registers"), false).await;
    let (_, seen) = scene.attack(Swap::None, policy).await;
    for n in 0..seen.commands.values().sum() {
        let (result, _) = scene.attack(Swap::From(n), policy).await;
        assert!(result.as_ref().map_or(true, |policy| policy.digest() == right), "{n}: {result:?}");
    }
}

#[tokio::test]
async fn another_key_at_the_pinned_handle_is_not_used() {
    let swtpm = tpm();
    let tpm = open(&swtpm.tcti(), None);
    let file = tpm.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(SECRET.to_vec())).await.expect("a key");
    let name = file.describe().name;
    tpm.persist(file, 0x8100_8001).await.expect("persisted");
    let at = |name: &[u8]| KeySource::handle(0x8100_8001, Default::default()).with_name(Some(name.to_vec()));
    tpm.load(at(&name)).hmac(b"message").await.expect("the key that is pinned");
    let mut other = name.clone();
    other[33] ^= 1;
    let refused = tpm.load(at(&other)).hmac(b"message").await.expect_err("another name");
    assert!(matches!(refused, TpmError::OtherKey { handle: 0x8100_8001, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_signature_is_not_right_because_somebody_in_the_bus_says_so() {
    let swtpm = tpm();
    let honest = open(&swtpm.tcti(), None);
    let (name, file) = (unhex(&honest.ek_name().await.expect("a name")), honest.create_key(NewKey::new(KeyKind::EccP256)).await);
    let file = file.expect("a key");
    let (scheme, algorithm) = (SignatureScheme::Ecdsa, DigestAlgorithm::Sha256);
    let signature = honest.load(file.clone()).sign(scheme, algorithm, &[7; 32]).await.expect("a signature");
    let port = swtpm.port();
    let relay = Relay::answering(&swtpm, move |command| match code_of(command) {
        // TPM2_VerifySignature: success, with a ticket (TCG part 2, 10.7.4: TPM_ST_VERIFIED, TPM_RH_NULL, no digest).
        0x177 => Some([&[0x80, 0x01, 0, 0, 0, 18, 0, 0, 0, 0][..], &[0x80, 0x22, 0x40, 0, 0, 7, 0, 0]].concat()),
        _ => transmit(port, command),
    });
    // Without a pin it is believed: the attack works.
    for (name, is_believed) in [(None, true), (Some(name.as_slice()), false)] {
        let verified = open(&relay.tcti(), name).load(file.clone()).verify(scheme, algorithm, &[8; 32], &signature).await;
        assert_eq!(verified.as_ref().ok(), is_believed.then_some(&true), "{verified:?}");
    }
    let pinned = open(&swtpm.tcti(), Some(&name)).load(file);
    assert!(pinned.verify(scheme, algorithm, &[7; 32], &signature).await.expect("an answer"));
    assert!(!pinned.verify(scheme, algorithm, &[8; 32], &signature).await.expect("an answer"));
}

#[tokio::test]
async fn the_rsa_endorsement_key_is_pinned_as_well_as_the_ecc_one() {
    let (swtpm, other) = (tpm(), tpm());
    swtpm.tool("tpm2_createek", &["-Q", "-G", "rsa", "-c", "ek.ctx"]);
    swtpm.tool("tpm2_readpublic", &["-Q", "-c", "ek.ctx", "-n", "ek.name"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let name = std::fs::read(swtpm.dir().join("ek.name")).expect("a name");
    let honest = open(&swtpm.tcti(), None);
    let file = honest.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(SECRET.to_vec())).await.expect("a key");
    let (key, unpinned) = (open(&swtpm.tcti(), Some(&name)).load(file.clone()), honest.load(file));
    for _ in 0..2 {
        assert_eq!(key.hmac(b"message").await.expect("a MAC"), unpinned.hmac(b"message").await.expect("a MAC"));
    }
    let refused = open(&other.tcti(), Some(&name)).create_key(NewKey::new(KeyKind::EccP256)).await;
    assert!(matches!(refused, Err(TpmError::SessionKey { .. })), "{refused:?}");
}
