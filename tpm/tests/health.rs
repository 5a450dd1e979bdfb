//! What a TPM says about itself, and about a key that is not used. All secrets are test data.

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{
    BankState, Feature, Health, HierarchyState, KeyFile, KeyHealth, KeyKind, KeySource, LockoutState, NewKey, Password, PcrBank, Policy,
    PolicyPlan, Room, TpmError, TpmHandle,
};
use zeroize::Zeroizing;

fn open(tcti: &str) -> TpmHandle {
    TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread")
}

async fn health(swtpm: &Swtpm) -> Health {
    open(&swtpm.tcti()).health().await.expect("facts")
}

async fn create(swtpm: &Swtpm, new: NewKey) -> KeyFile {
    open(&swtpm.tcti()).create_hmac_key(new, Zeroizing::new(vec![7; 32])).await.expect("a key")
}

async fn look(swtpm: &Swtpm, source: impl Into<KeySource>) -> Result<KeyHealth, TpmError> {
    open(&swtpm.tcti()).load(source).health().await
}

fn password(text: &str) -> Option<Password> {
    Some(Password::new(text.into()).expect("a password"))
}

#[tokio::test]
async fn the_facts_are_those_that_tpm2_tools_tell() {
    let swtpm = Swtpm::start();
    let health = health(&swtpm).await;
    let fixed = swtpm.tool("tpm2_getcap", &["properties-fixed"]);
    let value = |name: &str, field: &str| {
        let (_, rest) = fixed.split_once(&format!("{name}:\n")).expect(name);
        let line = rest.lines().map(str::trim).find_map(|line| line.strip_prefix(field)).expect(field);
        line.trim().trim_matches('"').to_owned()
    };
    assert_eq!(health.family, "2.0");
    assert_eq!(health.manufacturer, value("TPM2_PT_MANUFACTURER", "value:"));
    assert_eq!(format!("{:.2}", f64::from(health.revision.expect("a revision")) / 100.0), value("TPM2_PT_REVISION", "value:"));
    assert_eq!(health.vendor, "SW   TPM");
    let (high, low) = health.firmware.expect("a firmware version");
    assert_eq!(format!("0x{high:X}"), value("TPM2_PT_FIRMWARE_VERSION_1", "raw:"));
    assert_eq!(format!("0x{low:X}"), value("TPM2_PT_FIRMWARE_VERSION_2", "raw:"));
    assert_eq!(health.features, Feature::ALL);
    let free = Room {
        objects: Some(0),
        objects_free: Some(3),
        sessions: Some(0),
        sessions_free: Some(3),
        active_sessions_free: Some(64),
        persistent: Some(0),
        persistent_free: health.room.persistent_free,
    };
    assert_eq!(health.room, free);
    assert!(health.room.persistent_free > Some(0));
    let state = HierarchyState { is_enabled: true, has_password: false };
    assert_eq!((health.owner, health.endorsement), (state, state));
    let banks = PcrBank::ALL.map(|bank| BankState { bank, is_measured: false });
    assert_eq!(health.banks, banks);
    assert!(!health.lockout.is_locked && health.lockout.failures == Some(0) && health.lockout.max_failures == Some(3));
}

#[tokio::test]
async fn what_others_left_is_counted_and_stays() {
    let swtpm = Swtpm::start();
    for expected in 1..=3 {
        swtpm.tool("tpm2_createprimary", &["-C", "o", "-Q", "-c", "primary.ctx"]);
        let room = health(&swtpm).await.room;
        assert_eq!((room.objects, room.objects_free), (Some(expected), Some(3 - expected)));
    }
    swtpm.tool("tpm2_startauthsession", &["-S", "session.ctx"]);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "0x80000000", "0x81000001"]);
    let before = swtpm.loaded_handles();
    let handle = open(&swtpm.tcti());
    let room = handle.health().await.expect("facts").room;
    assert_eq!((room.persistent, room.active_sessions_free), (Some(1), Some(63)));
    assert_eq!(swtpm.loaded_handles(), before);
    // While keys are in use, the same connection tells.
    let file = handle.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(vec![7; 32])).await.expect("a key");
    let key = handle.load(file);
    key.prepare().await.expect("loaded");
    assert_eq!(handle.health().await.expect("facts").room.objects, Some(1));
    drop((key, handle));
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn lockout_hierarchies_and_banks_are_told_as_they_are() {
    let mut swtpm = Swtpm::start();
    let file = create(&swtpm, NewKey { password: password("right"), ..NewKey::new(KeyKind::HmacSha256) }).await;
    swtpm.tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=2", "--recovery-time=120", "--lockout-recovery-time=60"]);
    for failures in 1..=2 {
        let tpm = open(&swtpm.tcti());
        tpm.load(KeySource::from(file.clone()).with_password(password("wrong"))).hmac(b"input").await.expect_err("a wrong password");
        let lockout = tpm.health().await.expect("facts").lockout;
        let expected = LockoutState {
            is_locked: failures == 2,
            failures: Some(failures),
            max_failures: Some(2),
            interval: Some(120),
            recovery: Some(60),
            has_password: false,
        };
        assert_eq!(lockout, expected);
    }
    swtpm.tool("tpm2_pcrextend", &[&format!("4:sha384={}", "ab".repeat(48))]);
    swtpm.tool("tpm2_changeauth", &["-c", "owner", "secret"]);
    swtpm.tool("tpm2_changeauth", &["-c", "lockout", "secret"]);
    let facts = health(&swtpm).await;
    assert!(facts.owner.has_password && !facts.endorsement.has_password && facts.lockout.has_password);
    assert_eq!(facts.banks.iter().map(|bank| bank.is_measured).collect::<Vec<_>>(), [false, false, true, false]);
    swtpm.tool("tpm2_hierarchycontrol", &["-C", "p", "ehEnable", "clear"]);
    swtpm.tool("tpm2_pcrallocate", &["sha1:none+sha256:all+sha384:none+sha512:none"]);
    let facts = health(&swtpm).await;
    assert!(facts.owner.is_enabled && !facts.endorsement.is_enabled);
    swtpm.restart();
    let banks = health(&swtpm).await.banks;
    assert_eq!(banks, [BankState { bank: PcrBank::Sha256, is_measured: false }]);
}

#[tokio::test]
async fn a_key_is_looked_at_and_not_used() {
    const TPM2_CC_HMAC: u32 = 0x155;
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    let plain = create(&swtpm, NewKey::new(KeyKind::HmacSha256)).await;
    let facts = open(&tap.tcti()).load(plain.clone()).health().await.expect("facts");
    assert!(facts.is_loaded && facts.policy_fits && !facts.may_need_password && !facts.is_guarded && facts.changed.is_empty(), "{facts:?}");
    assert_eq!((facts.description, facts.policy), (plain.describe(), Policy::default()));

    let guarded = NewKey {
        password: password("right"),
        policy: Some("sha256:7,16,23".parse().expect("registers")),
        ..NewKey::new(KeyKind::HmacSha256)
    };
    let guarded = create(&swtpm, guarded).await;
    for changed in [&[][..], &["sha256:16"], &["sha256:16", "sha256:23"]] {
        if let Some(register) = changed.last() {
            swtpm.tool("tpm2_pcrextend", &[&format!("{}:sha256={}", &register["sha256:".len()..], "ab".repeat(32))]);
        }
        let facts = open(&tap.tcti()).load(guarded.clone()).health().await.expect("facts");
        assert!(facts.is_loaded && facts.policy_fits && facts.may_need_password && facts.is_guarded, "{facts:?}");
        assert_eq!(facts.changed, changed);
    }
    assert!(!tap.take().commands.contains(&TPM2_CC_HMAC));
    assert_eq!(health(&swtpm).await.lockout.failures, Some(0), "a password was tried");

    // A file that does not state its policy, as tpm2-tools write them; and one that states another.
    for policy in [
        Policy::default(),
        open(&swtpm.tcti()).policy("sha256:7".parse::<PolicyPlan>().expect("registers"), false).await.expect("a policy"),
    ] {
        let facts = look(&swtpm, guarded.clone().with_policy(policy)).await.expect("facts");
        assert!(!facts.policy_fits, "{facts:?}");
    }
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
    let other = Swtpm::start();
    let error = look(&other, plain).await.expect_err("another TPM's");
    assert!(matches!(error, TpmError::OtherPrimary(_)), "{error:?}");
}

#[tokio::test]
async fn a_persistent_key_is_looked_at_too() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_createprimary", &["-C", "o", "-Q", "-c", "primary.ctx"]);
    swtpm.tool("tpm2_create", &["-Q", "-C", "primary.ctx", "-G", "hmac", "-c", "key.ctx", "-p", "right"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "key.ctx", "0x81000010"]);
    let facts = look(&swtpm, KeySource::handle(0x8100_0010, Policy::default())).await.expect("facts");
    assert!(facts.is_loaded && facts.policy_fits && facts.may_need_password && facts.is_guarded, "{facts:?}");
    let error = look(&swtpm, KeySource::handle(0x8100_0011, Policy::default())).await.expect_err("nothing there");
    assert!(matches!(error, TpmError::NoKey { handle: 0x8100_0011, .. }), "{error:?}");
}

#[tokio::test]
async fn a_parents_password_is_not_tried_where_that_counts() {
    let swtpm = Swtpm::start();
    let attributes = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth";
    for (is_guarded, attributes) in [(true, attributes.to_owned()), (false, format!("{attributes}|noda"))] {
        swtpm.tool("tpm2_createprimary", &["-C", "o", "-Q", "-c", "parent.ctx", "-a", &attributes]);
        swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "parent.ctx", "0x81000001"]);
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        let file =
            create(&swtpm, NewKey { parent: ekm_otp_tpm::Parent::Persistent(0x8100_0001), ..NewKey::new(KeyKind::HmacSha256) }).await;
        let facts = look(&swtpm, file).await.expect("facts");
        assert_eq!(facts.is_loaded, !is_guarded);
        swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "0x81000001"]);
    }
}
