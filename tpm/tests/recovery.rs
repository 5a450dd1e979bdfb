//! What a user sees of a TPM that breaks off, starts anew, is full, is another one, or wants to be asked again: a right answer or a clear
//! error, within the deadline, no password tried twice, and no handle left.

mod relay;

use std::hash::{BuildHasher as _, RandomState};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{
    BusEncryption, DigestAlgorithm, KeyFile, KeyKind, KeySource, NewKey, Parent, Password, Policy, Protected, Settings, SignatureScheme,
    TpmError, TpmHandle, TpmKey,
};
use relay::{Act, CC_CREATE, CC_GET_CAPABILITY, CC_HMAC, CC_LOAD, CC_OBJECT_CHANGE_AUTH, CC_SIGN, Relay};
use zeroize::Zeroizing;

const DIGEST: [u8; 32] = [7; 32];
const PARENT: u32 = 0x8100_0001;
const PERSISTENT: u32 = 0x8101_0001;

fn open(tcti: &str) -> TpmHandle {
    open_with(tcti, Settings::default())
}

fn open_with(tcti: &str, settings: Settings) -> TpmHandle {
    TpmHandle::open_with(tcti.parse().expect("a TCTI string"), settings).expect("a thread")
}

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text.into()).expect("a password"))
}

/// As it would be read from a file.
fn written(file: &KeyFile) -> KeyFile {
    KeyFile::from_pem(&file.to_pem().expect("written")).expect("read")
}

async fn make(tpm: &TpmHandle, new: NewKey) -> KeyFile {
    let made = match new.kind {
        KeyKind::HmacSha256 => tpm.create_hmac_key(new, Zeroizing::new(vec![7; 32])).await,
        _ => tpm.create_key(new).await,
    };
    written(&made.expect("create"))
}

fn hmac_key() -> NewKey {
    NewKey::new(KeyKind::HmacSha256)
}

/// An HMAC key with the password `right`.
fn guarded_key() -> NewKey {
    NewKey { password: password("right"), ..hmac_key() }
}

/// An HMAC key with the password `right`, bound to register 0.
fn bound_key() -> NewKey {
    NewKey { policy: Some("sha256:0".parse().expect("registers")), ..guarded_key() }
}

/// Many wrong passwords may be tried.
fn allow_wrong_passwords(swtpm: &Swtpm) {
    let args = ["--setup-parameters", "--max-tries=1000", "--recovery-time=100000", "--lockout-recovery-time=9"];
    swtpm.tool("tpm2_dictionarylockout", &args);
}

/// How many wrong passwords the TPM has counted.
fn counted(swtpm: &Swtpm) -> u32 {
    let properties = swtpm.tool("tpm2_getcap", &["properties-variable"]);
    let line = properties.lines().find_map(|line| line.strip_prefix("TPM2_PT_LOCKOUT_COUNTER: 0x")).expect("the counter");
    u32::from_str_radix(line, 16).expect("a number")
}

/// What is left of the acts that a test wants for some commands; all others pass.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Vec<(u32, Act)>>>);

impl Script {
    /// The next command with this code meets this.
    fn next(&self, code: u32, act: Act) {
        self.0.lock().expect("a lock").push((code, act));
    }

    fn is_done(&self) -> bool {
        self.0.lock().expect("a lock").is_empty()
    }

    fn relay(&self, swtpm: &Swtpm) -> Relay {
        let script = self.clone();
        Relay::on(swtpm, move |code| {
            let mut script = script.0.lock().expect("a lock");
            match script.iter().position(|(wanted, _)| *wanted == code) {
                Some(i) => script.remove(i).1,
                None => Act::Pass,
            }
        })
    }
}

/// TPM_RC_RETRY, TPM_RC_TESTING, TPM_RC_YIELDED (TCG part 2, 6.6.3): libtss2 asks up to 5 times, without a pause.
#[tokio::test]
async fn a_tpm_that_wants_to_be_asked_again_is_asked_again_and_an_endless_one_is_told() {
    let swtpm = Swtpm::start();
    let (left, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let code = Arc::new(AtomicU32::new(0));
    let relay = {
        let (left, seen, code) = (Arc::clone(&left), Arc::clone(&seen), Arc::clone(&code));
        Relay::on(&swtpm, move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
            match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
                Ok(_) => Act::Answer(code.load(Ordering::SeqCst)),
                Err(_) => Act::Pass,
            }
        })
    };
    let tpm = open(&relay.tcti());
    let key = tpm.load(make(&tpm, hmac_key()).await);
    let mac = *key.hmac(b"input").await.expect("hmac");
    for wanted in [0x922, 0x90a, 0x908] {
        code.store(wanted, Ordering::SeqCst);
        for times in [1, 4] {
            seen.store(0, Ordering::SeqCst);
            left.store(times, Ordering::SeqCst);
            assert_eq!(*key.hmac(b"input").await.expect("hmac"), mac);
            assert_eq!(seen.load(Ordering::SeqCst), times + 1, "nothing else was sent");
        }
        for key in [&key, &open(&relay.tcti()).load(make(&tpm, hmac_key()).await)] {
            left.store(u32::MAX, Ordering::SeqCst);
            let error = key.hmac(b"input").await.expect_err("it never answers");
            left.store(0, Ordering::SeqCst);
            assert!(matches!(error, TpmError::NotReady(code) if code == wanted), "{error:?}");
            assert_eq!(
                error.to_string(),
                format!("the TPM is not ready: it is testing itself or starting up; try again in a moment [{wanted:#x}]")
            );
            assert_eq!(*key.hmac(b"input").await.expect("once it is ready"), mac);
        }
    }
    drop((key, tpm));
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

/// A TPM says TPM_RC_RETRY to the first password after its start. And where it was not shut down, and a password had been shown to it, it
/// counts a wrong one: else switching it off would be a way to guess on.
#[tokio::test]
async fn the_first_password_after_a_start_is_taken() {
    let mut swtpm = Swtpm::start();
    let file = make(&open(&swtpm.tcti()), guarded_key()).await;
    for is_orderly in [true, false] {
        let with_password = || KeySource::from(file.clone()).with_password(password("right"));
        let mac = *open(&swtpm.tcti()).load(with_password()).hmac(b"input").await.expect("hmac");
        let before = counted(&swtpm);
        if is_orderly {
            swtpm.tool("tpm2_shutdown", &["--clear"]);
        }
        swtpm.restart();
        let tap = Tap::on(&swtpm);
        assert_eq!(*open(&tap.tcti()).load(with_password()).hmac(b"input").await.expect("hmac"), mac);
        let retry = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x22];
        assert!(tap.take().shows(&retry), "the TPM did not say TPM_RC_RETRY: the test shows nothing");
        assert_eq!(counted(&swtpm) - before, u32::from(!is_orderly));
    }
}

/// A connection that breaks is made anew, and the command repeated; but a password that is not known to be right is not shown again: if it is
/// wrong, the TPM has counted it already.
#[tokio::test]
async fn a_wrong_password_counts_once_for_each_call_wherever_the_connection_breaks() {
    let swtpm = Swtpm::start();
    allow_wrong_passwords(&swtpm);
    let script = Script::default();
    let relay = script.relay(&swtpm);
    let tpm = open(&relay.tcti());
    let files = [
        (CC_HMAC, make(&tpm, guarded_key()).await),
        (CC_HMAC, make(&tpm, bound_key()).await),
        (CC_SIGN, make(&tpm, NewKey { kind: KeyKind::EccP256, ..guarded_key() }).await),
        (CC_SIGN, make(&tpm, NewKey { kind: KeyKind::EccP256, ..bound_key() }).await),
        (CC_OBJECT_CHANGE_AUTH, make(&tpm, guarded_key()).await),
    ];
    let use_it = async |key: &TpmKey, command| match command {
        CC_HMAC => key.hmac(b"input").await.map(drop),
        CC_SIGN => key.sign(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &DIGEST).await.map(drop),
        _ => key.change_password(password("new")).await.map(drop),
    };
    for (command, file) in &files {
        for shown in [password("wrong"), None] {
            for (at, act) in [
                (0, Act::Pass),
                (*command, Act::BreakBefore),
                (*command, Act::BreakAfter),
                (CC_GET_CAPABILITY, Act::BreakBefore),
                (CC_GET_CAPABILITY, Act::BreakAfter),
            ] {
                let case = format!("{command:#x}, policy {}, {shown:?}, {act:?} at {at:#x}", file.policy());
                let key = tpm.load(KeySource::from(file.clone()).with_password(shown.clone()));
                key.prepare().await.expect("load");
                let before = counted(&swtpm);
                if at != 0 {
                    script.next(at, act);
                }
                let error = use_it(&key, *command).await.expect_err("a wrong password");
                assert!(script.is_done(), "{case}: the connection did not break");
                match act {
                    Act::BreakAfter | Act::BreakBefore if at == *command => {
                        assert!(matches!(error, TpmError::Interrupted(_)), "{case}: {error:?}");
                        assert_eq!(counted(&swtpm) - before, u32::from(act == Act::BreakAfter), "{case}: {error}");
                        let told = error.to_string();
                        assert!(
                            told.starts_with("the connection to the TPM broke while a password was shown to it, ")
                                && told.contains("try again"),
                            "{told}"
                        );
                    }
                    _ => {
                        assert!(
                            matches!(error, TpmError::Auth { what: Protected::Key, was_given, .. } if was_given == shown.is_some()),
                            "{case}: {error:?}"
                        );
                        assert_eq!(counted(&swtpm) - before, 1, "{case}: {error}");
                    }
                }
            }
        }
    }
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_password_that_was_right_is_shown_again_when_the_connection_breaks() {
    let swtpm = Swtpm::start();
    let script = Script::default();
    let relay = script.relay(&swtpm);
    let tpm = open(&relay.tcti());
    for new in [guarded_key(), bound_key(), hmac_key()] {
        let right = new.password.clone();
        let key = tpm.load(KeySource::from(make(&tpm, new).await).with_password(right));
        let mac = *key.hmac(b"input").await.expect("hmac");
        for act in [Act::BreakBefore, Act::BreakAfter] {
            script.next(CC_HMAC, act);
            assert_eq!(*key.hmac(b"input").await.expect("hmac"), mac, "{act:?}");
            assert!(script.is_done(), "{act:?}: the connection did not break");
        }
    }
    assert_eq!(counted(&swtpm), 0);
}

/// A parent with a password that is protected against guessing.
fn make_guarded_parent(swtpm: &Swtpm) {
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt";
    swtpm.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc", "-a", attributes, "-p", "parent", "-c", "primary.ctx"]);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "primary.ctx", &format!("{PARENT:#x}")]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
}

#[tokio::test]
async fn a_parents_wrong_password_counts_once_for_each_call() {
    let swtpm = Swtpm::start();
    allow_wrong_passwords(&swtpm);
    make_guarded_parent(&swtpm);
    let script = Script::default();
    let relay = script.relay(&swtpm);
    let with = |parent_password| open_with(&relay.tcti(), Settings { parent_password, ..Settings::default() });
    let under_it = || NewKey { parent: Parent::Persistent(PARENT), ..hmac_key() };
    let file = make(&with(password("parent")), under_it()).await;
    for shown in [password("wrong"), None] {
        let tpm = with(shown.clone());
        for (at, act) in [(0, Act::Pass), (1, Act::BreakAfter), (CC_GET_CAPABILITY, Act::BreakAfter)] {
            for command in [CC_LOAD, CC_CREATE] {
                // The connection is not new.
                tpm.random(Parent::H2Primary, 8).await.expect("random");
                let at = if at == 1 { command } else { at };
                let before = counted(&swtpm);
                if at != 0 {
                    script.next(at, act);
                }
                let result = match command {
                    CC_LOAD => tpm.load(file.clone()).prepare().await.map(drop),
                    _ => tpm.create_hmac_key(under_it(), Zeroizing::new(vec![7; 32])).await.map(drop),
                };
                let error = result.expect_err("a wrong password");
                let case = format!("{command:#x}, {shown:?}, {act:?} at {at:#x}: {error:?}");
                match at {
                    CC_LOAD | CC_CREATE => assert!(matches!(error, TpmError::Interrupted(_)), "{case}"),
                    _ => assert!(
                        matches!(error, TpmError::Auth { what: Protected::Parent, was_given, .. } if was_given == shown.is_some()),
                        "{case}"
                    ),
                }
                assert_eq!(counted(&swtpm) - before, 1, "{case}");
                assert!(script.is_done(), "{case}: the connection did not break");
            }
        }
        drop(tpm);
        assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
    }
    let tpm = with(password("parent"));
    tpm.load(file).hmac(b"input").await.expect("with the right password");
}

/// A wrong password that was shown to a frozen TPM counts when that thaws; what nobody waits for any longer is not tried at all.
#[tokio::test]
async fn a_frozen_tpm_counts_one_wrong_password_once() {
    let swtpm = Swtpm::start();
    allow_wrong_passwords(&swtpm);
    let tpm = open(&swtpm.tcti());
    let keys = {
        let mut keys = Vec::new();
        for new in [guarded_key(), bound_key()] {
            let file = make(&tpm, new).await;
            let key = tpm.clone().with_deadline(Duration::from_millis(300)).load(KeySource::from(file).with_password(password("wrong")));
            key.prepare().await.expect("load");
            keys.push(key);
        }
        keys
    };
    for key in &keys {
        let before = counted(&swtpm);
        swtpm.freeze();
        for _ in 0..3 {
            let started = Instant::now();
            let error = key.hmac(b"input").await.expect_err("it is frozen");
            assert!(matches!(error, TpmError::Deadline(_)), "{error:?}");
            assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        }
        swtpm.thaw();
        // Waits for what is in the queue before it.
        tpm.random(Parent::H2Primary, 8).await.expect("random");
        assert_eq!(counted(&swtpm) - before, 1);
    }
}

/// TPM2_StartAuthSession (TCG part 3, 11.1) of an HMAC session without salt, sent as it is: tpm2_startauthsession saves its sessions.
fn start_session(swtpm: &Swtpm) -> u32 {
    let nonce = [&[0, 16][..], &[7; 16]].concat();
    let handles = [0x40, 0, 0, 0x07, 0x40, 0, 0, 0x07];
    let parameters = [&nonce[..], &[0, 0], &[0], &[0, 0x10], &[0, 0x0b]].concat();
    let size = u32::try_from(10 + handles.len() + parameters.len()).expect("a size");
    let command = [&[0x80, 0x01][..], &size.to_be_bytes(), &0x176_u32.to_be_bytes(), &handles, &parameters].concat();
    let mut tpm = TcpStream::connect(("127.0.0.1", swtpm.port())).expect("swtpm");
    tpm.write_all(&command).expect("sent");
    let mut answer = [0; 14];
    tpm.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[6..10], [0; 4], "no session was started");
    u32::from_be_bytes(answer[10..].try_into().expect("4 bytes"))
}

/// Where nobody else uses the software TPM, what fills it is taken for the leftovers of a killed process. So there is somebody here.
#[tokio::test]
async fn a_full_tpm_is_told_and_what_to_do_and_it_works_once_it_is_emptied() {
    let swtpm = Swtpm::start();
    let somebody = open(&swtpm.tcti());
    let file = make(&somebody, hmac_key()).await;
    let bound = make(&somebody, bound_key()).await;
    let somebodys = somebody.load(file.clone());
    let mac = *somebodys.hmac(b"input").await.expect("hmac");

    // One of three slots for objects is somebody's, and one of three for sessions.
    let before = swtpm.loaded_handles();
    for _ in 0..2 {
        swtpm.tool("tpm2_createprimary", &["-Q", "-C", "n", "-G", "ecc", "-c", "other.ctx"]);
    }
    let others: Vec<_> = swtpm.loaded_handles().into_iter().filter(|handle| !before.contains(handle)).collect();
    let tpm = open(&swtpm.tcti());
    let key = tpm.load(KeySource::from(file).with_bus(BusEncryption::Off));
    let is_told = |result: Result<Zeroizing<[u8; 32]>, TpmError>, wanted: u32| {
        let error = result.expect_err("it is full");
        assert!(matches!(error, TpmError::Full(code) if code == wanted), "{error:?}");
        assert!(error.to_string().contains("has no free slot") && error.to_string().contains("tpm2_flushcontext"), "{error}");
    };
    for _ in 0..3 {
        is_told(key.hmac(b"input").await, 0x902);
        assert_eq!(*somebodys.hmac(b"input").await.expect("somebody else goes on"), mac);
    }
    for handle in &others {
        swtpm.tool("tpm2_flushcontext", &[handle.trim_start_matches("- ")]);
    }
    assert_eq!(*key.hmac(b"input").await.expect("it is not full any longer"), mac);
    drop((key, tpm));

    let sessions = [start_session(&swtpm), start_session(&swtpm)];
    let tpm = open(&swtpm.tcti());
    let key = tpm.load(KeySource::from(bound).with_password(password("right")));
    for _ in 0..3 {
        is_told(key.hmac(b"input").await, 0x903);
        assert_eq!(*somebodys.hmac(b"input").await.expect("somebody else goes on"), mac);
    }
    // A policy session is wanted too.
    swtpm.tool("tpm2_flushcontext", &[&format!("{:#x}", sessions[0])]);
    is_told(key.hmac(b"input").await, 0x903);
    swtpm.tool("tpm2_flushcontext", &[&format!("{:#x}", sessions[1])]);
    assert_eq!(*key.hmac(b"input").await.expect("it is not full any longer"), mac);

    drop((key, tpm, somebodys, somebody));
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

/// What others filled it with is flushed where nobody else uses it.
#[tokio::test]
async fn a_full_tpm_that_is_ours_alone_is_emptied() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let file = make(&tpm, hmac_key()).await;
    for _ in 0..3 {
        swtpm.tool("tpm2_createprimary", &["-Q", "-C", "n", "-G", "ecc", "-c", "other.ctx"]);
    }
    for _ in 0..2 {
        start_session(&swtpm);
    }
    tpm.load(file).hmac(b"input").await.expect("hmac");
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

/// Makes a key persistent with tpm2-tools.
fn persist(swtpm: &Swtpm, file: &KeyFile) {
    std::fs::write(swtpm.dir().join("k.pem"), file.to_pem().expect("a key file")).expect("writing");
    swtpm.tool("tpm2_load", &["-Q", "-r", "k.pem", "-c", "k.ctx"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "k.ctx", &format!("{PERSISTENT:#x}")]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
}

#[tokio::test]
async fn keys_go_on_working_when_the_tpm_starts_again() {
    let mut swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let free = make(&tpm, hmac_key()).await;
    persist(&swtpm, &free);
    let keys = [
        tpm.load(free),
        tpm.load(KeySource::handle(PERSISTENT, Policy::default())),
        tpm.load(KeySource::from(make(&tpm, guarded_key()).await).with_password(password("right"))),
        tpm.load(KeySource::from(make(&tpm, bound_key()).await).with_password(password("right"))),
    ];
    let signing = tpm.load(make(&tpm, NewKey::new(KeyKind::EccP256)).await);
    let mac = *keys[0].hmac(b"input").await.expect("hmac");
    for is_orderly in [false, true, false] {
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(*key.hmac(b"input").await.unwrap_or_else(|e| panic!("key {i}: {e}")), mac, "key {i}");
        }
        let signature = signing.sign(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &DIGEST).await.expect("sign");
        assert!(signing.verify(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &DIGEST, &signature).await.expect("verify"));
        if is_orderly {
            swtpm.tool("tpm2_shutdown", &["--clear"]);
        }
        swtpm.restart();
    }
    drop((keys, signing, tpm));
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

/// Cleared while keys are loaded, or started again without its state.
#[tokio::test]
async fn a_cleared_tpm_is_another_one_and_that_is_told() {
    let mut swtpm = Swtpm::start();
    for is_while_running in [true, false] {
        let tpm = open(&swtpm.tcti());
        let mut files = Vec::new();
        for new in [hmac_key(), guarded_key(), bound_key(), NewKey::new(KeyKind::EccP256)] {
            files.push((new.password.clone(), make(&tpm, new).await));
        }
        persist(&swtpm, &files[0].1);
        let keys: Vec<_> =
            files.iter().map(|(password, file)| tpm.load(KeySource::from(file.clone()).with_password(password.clone()))).collect();
        let persistent = tpm.load(KeySource::handle(PERSISTENT, Policy::default()));
        keys[0].hmac(b"input").await.expect("hmac");
        persistent.hmac(b"input").await.expect("hmac");
        if is_while_running {
            swtpm.tool("tpm2_clear", &["-c", "p"]);
        } else {
            swtpm.kill();
            for entry in std::fs::read_dir(swtpm.dir()).expect("its state") {
                std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
            }
            swtpm.restart();
        }
        for (key, (_, file)) in keys.iter().zip(&files) {
            let used = match file.describe().kind {
                Some(KeyKind::EccP256) => key.sign(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &DIGEST).await.map(drop),
                _ => key.hmac(b"input").await.map(drop),
            };
            let error = used.expect_err("it is another TPM");
            assert!(matches!(error, TpmError::OtherPrimary(_)), "{error:?}");
            assert!(error.to_string().starts_with("the key file does not belong to this TPM, or the TPM was cleared since"), "{error}");
        }
        let error = persistent.hmac(b"input").await.expect_err("it is another TPM").to_string();
        assert!(error.starts_with("there is no key at the persistent handle 0x81010001, or"), "{error}");
        let key = tpm.load(make(&tpm, hmac_key()).await);
        key.hmac(b"input").await.expect("a key that is made now");
        assert_eq!(counted(&swtpm), 0);
        drop((key, keys, persistent, tpm));
        assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
    }
}

/// TPM_RC_PCR_CHANGED: some register was extended between the policy's command and the key's.
#[tokio::test]
async fn a_register_that_changes_meanwhile_does_no_harm() {
    let swtpm = Arc::new(Swtpm::start());
    let (extend, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let relay = {
        let (tpm, extend, sent) = (Arc::clone(&swtpm), Arc::clone(&extend), Arc::clone(&sent));
        Relay::on(&swtpm, move |code| {
            sent.lock().expect("a lock").push(code);
            if code == CC_HMAC && extend.swap(false, Ordering::SeqCst) {
                tpm.tool("tpm2_pcrextend", &[&format!("10:sha256={}", "ab".repeat(32))]);
            }
            Act::Pass
        })
    };
    let tpm = open(&relay.tcti());
    let key = tpm.load(KeySource::from(make(&tpm, bound_key()).await).with_password(password("right")));
    let mac = *key.hmac(b"input").await.expect("hmac");
    sent.lock().expect("a lock").clear();
    extend.store(true, Ordering::SeqCst);
    assert_eq!(*key.hmac(b"input").await.expect("hmac"), mac);
    let sent = std::mem::take(&mut *sent.lock().expect("a lock"));
    let times = |wanted| sent.iter().filter(|code| **code == wanted).count();
    assert_eq!((times(CC_HMAC), times(CC_LOAD)), (2, 0), "the policy was replayed, and nothing loaded anew: {sent:x?}");
    assert_eq!(counted(&swtpm), 0);
}

/// Says so when a test ends, whatever its end.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// 100 right answers from several tasks and keys, while the TPM is killed and started again at random times, 10 times and more.
#[tokio::test]
async fn a_tpm_that_is_killed_under_load_gives_right_answers_or_clear_errors() {
    const DEADLINE: Duration = Duration::from_secs(5);
    let mut swtpm = Swtpm::start();
    allow_wrong_passwords(&swtpm);
    let tpm = open(&swtpm.tcti()).with_deadline(DEADLINE);
    let mut keys = Vec::new();
    for (new, secret) in [(hmac_key(), 7), (bound_key(), 8)] {
        let right = new.password.clone();
        let file = tpm.create_hmac_key(new, Zeroizing::new(vec![secret; 32])).await.expect("create");
        let key = Arc::new(tpm.load(KeySource::from(file).with_password(right)));
        let mac = *key.hmac(b"input").await.expect("hmac");
        keys.push((key, mac));
    }
    assert_ne!(keys[0].1, keys[1].1);
    let signing = Arc::new(tpm.load(make(&tpm, NewKey::new(KeyKind::EccP256)).await));

    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Stop(Arc::clone(&stopped));
    let begun = Instant::now();
    let kills = Arc::new(AtomicU32::new(0));
    let killer = {
        let kills = Arc::clone(&kills);
        tokio::task::spawn_blocking(move || {
            let random = RandomState::new();
            while !stopped.load(Ordering::SeqCst) {
                let kill = kills.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_micros(random.hash_one(kill) % 150_000));
                swtpm.kill();
                std::thread::sleep(Duration::from_micros(random.hash_one(!kill) % 20_000));
                swtpm.restart();
            }
            swtpm
        })
    };
    let mut tasks = Vec::new();
    for task in 0..5 {
        let (keys, signing, kills) = (keys.clone(), Arc::clone(&signing), Arc::clone(&kills));
        tasks.push(tokio::spawn(async move {
            let (mut right, mut errors) = (0, Vec::new());
            while right < 20 || kills.load(Ordering::SeqCst) <= 10 {
                assert!(begun.elapsed() < Duration::from_secs(100), "{right} right answers, and {errors:?}");
                let started = Instant::now();
                let answer = match task {
                    0..4 => {
                        let (key, mac) = &keys[task % 2];
                        key.hmac(b"input").await.map(|made| *made == *mac)
                    }
                    _ => match signing.sign(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &DIGEST).await {
                        Ok(signature) => signing.verify(SignatureScheme::Ecdsa, DigestAlgorithm::Sha256, &DIGEST, &signature).await,
                        Err(error) => Err(error),
                    },
                };
                assert!(started.elapsed() < 2 * DEADLINE + Duration::from_secs(1), "it hung for {:?}", started.elapsed());
                match answer {
                    Ok(true) => right += 1,
                    Ok(false) => panic!("a wrong MAC or signature"),
                    Err(error) => {
                        errors.push(error);
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                }
            }
            errors
        }));
    }
    let mut errors = Vec::new();
    for task in tasks {
        errors.extend(task.await.expect("a task"));
    }
    drop(stop);
    let swtpm = killer.await.expect("the killer");
    assert!(!errors.is_empty(), "nobody noticed");
    let unclear: Vec<_> = errors.iter().filter(|e| !matches!(e, TpmError::Unreachable { .. } | TpmError::Interrupted(_))).collect();
    assert!(unclear.is_empty(), "{unclear:?}");
    for (key, mac) in &keys {
        assert_eq!(*key.hmac(b"input").await.expect("at the end"), *mac);
    }
    drop((keys, signing, tpm));
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_persistent_key_that_cannot_be_read_hides_no_other() {
    let swtpm = Swtpm::start();
    let honest = TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread");
    for handle in [0x8100_0010, 0x8100_0011] {
        let key = honest.create_key(NewKey::new(KeyKind::EccP256)).await.expect("a key");
        honest.persist(key, handle).await.expect("persisted");
    }
    drop(honest);
    let mut is_first = true;
    // TPM2_ReadPublic, TPM_RC_HANDLE
    let relay = Relay::on(&swtpm, move |code| if code == 0x173 && std::mem::take(&mut is_first) { Act::Answer(0x18b) } else { Act::Pass });
    let tpm = TpmHandle::open(relay.tcti().parse().expect("a TCTI string")).expect("a thread");
    let keys = tpm.persistent().await.expect("a list");
    let kinds: Vec<_> = keys.iter().map(|key| (key.handle, key.description.kind)).collect();
    assert_eq!(kinds, [(0x8100_0010, None), (0x8100_0011, Some(KeyKind::EccP256))]);
}
