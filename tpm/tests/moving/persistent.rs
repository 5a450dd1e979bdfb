//! Keys at persistent handles.

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{KeyKind, KeySource, NewKey, Policy, Protected, TpmError};

use super::*;

const HANDLE: u32 = 0x8100_0010;

#[tokio::test]
async fn a_persisted_key_works_without_its_file_is_listed_and_can_be_evicted() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    assert_eq!(tpm.persistent().await.expect("a list"), []);
    let file = hmac_key(&tpm, NewKey::new(KeyKind::HmacSha256)).await;
    let kept = tpm.persist(file.clone(), HANDLE).await.expect("persisted");
    assert_eq!((kept.handle, &kept.description), (HANDLE, &file.describe()));
    let rsa = written(&tpm.create_key(NewKey::new(KeyKind::Rsa2048)).await.expect("create"));
    let other = tpm.persist(rsa.clone(), 0x817f_ffff).await.expect("the last handle of the owner");
    assert_eq!(tpm.persistent().await.expect("a list"), [kept, other.clone()]);
    holds_no_object(&swtpm, &tpm).await;
    leaves_nothing(&swtpm, tpm);

    let tpm = open(&swtpm.tcti());
    let source = || KeySource::handle(HANDLE, Policy::default());
    assert_eq!(mac(&tpm, source()).await, MAC);
    signs(&swtpm, &tpm, KeySource::handle(0x817f_ffff, Policy::default()), &rsa).await;
    tpm.evict(HANDLE).await.expect("evicted");
    assert_eq!(tpm.persistent().await.expect("a list"), [other]);
    let gone = tpm.load(source()).hmac(b"message").await.expect_err("it was evicted");
    assert!(matches!(gone, TpmError::NoKey { handle: HANDLE, .. }), "{gone:?}");
    let again = tpm.evict(HANDLE).await.expect_err("it was evicted");
    assert!(again.to_string().starts_with("there is no key at the persistent handle 0x81000010, or"), "{again}");
    assert_eq!(mac(&tpm, file).await, MAC, "its file goes on working");
    leaves_nothing(&swtpm, tpm);
}

#[tokio::test]
async fn a_persisted_key_keeps_its_password_and_its_policy() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_dictionarylockout", &["--setup-parameters", "--max-tries=20", "--recovery-time=120", "--lockout-recovery-time=60"]);
    let tpm = open(&swtpm.tcti());
    for pcrs in [None, Some("sha256:16,23")] {
        let pcrs = pcrs.map(|pcrs| pcrs.parse().expect("registers"));
        let file = hmac_key(&tpm, NewKey { password: password("right"), policy: pcrs, ..NewKey::new(KeyKind::HmacSha256) }).await;
        // Neither password nor registers are needed to persist it.
        tpm.persist(file.clone(), HANDLE).await.expect("persisted");
        let source = || KeySource::handle(HANDLE, file.policy().clone());
        assert_eq!(mac(&tpm, source().with_password(password("right"))).await, MAC);
        for (given, was_given) in [(None, false), (password("wrong"), true)] {
            let refused = tpm.load(source().with_password(given)).hmac(b"message").await;
            assert!(matches!(refused, Err(TpmError::Auth { what: Protected::Key, was_given: g, .. }) if g == was_given), "{refused:?}");
        }
        if !file.policy().is_empty() {
            let unstated = KeySource::handle(HANDLE, Policy::default()).with_password(password("right"));
            let refused = tpm.load(unstated).hmac(b"message").await;
            assert!(matches!(refused, Err(TpmError::Policy(_))), "{refused:?}");
            swtpm.tool("tpm2_pcrextend", &[&format!("23:sha256={}", "ab".repeat(32))]);
            let changed = tpm.load(source().with_password(password("right"))).hmac(b"message").await;
            assert!(matches!(&changed, Err(TpmError::PcrChanged(which)) if which == "sha256:23"), "{changed:?}");
        }
        tpm.evict(HANDLE).await.expect("evicted");
    }
    leaves_nothing(&swtpm, tpm);
}

#[tokio::test]
async fn a_taken_handle_or_one_that_is_not_the_owners_is_refused_and_nothing_changes() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let file = hmac_key(&tpm, NewKey::new(KeyKind::HmacSha256)).await;
    tpm.persist(file.clone(), HANDLE).await.expect("persisted");
    let before = tpm.persistent().await.expect("a list");
    let other = tpm.create_key(NewKey::new(KeyKind::EccP256)).await.expect("create");
    let taken = tpm.persist(other.clone(), HANDLE).await.expect_err("it is taken");
    assert!(matches!(taken, TpmError::HandleTaken(HANDLE)), "{taken:?}");
    holds_no_object(&swtpm, &tpm).await;
    for handle in [0, 0x8000_0000, 0x80ff_ffff, 0x8180_0000, 0x8200_0000, u32::MAX] {
        let refused = tpm.persist(other.clone(), handle).await.expect_err("not the owner's");
        assert!(refused.to_string().contains("use 0x81000000 to 0x817fffff"), "{refused}");
        assert!(matches!(tpm.evict(handle).await, Err(TpmError::HandleRange(_))), "{handle:08x}");
    }
    assert_eq!(tpm.persistent().await.expect("a list"), before);
    assert_eq!(mac(&tpm, KeySource::handle(HANDLE, Policy::default())).await, MAC);
    leaves_nothing(&swtpm, tpm);
}

#[tokio::test]
async fn a_tpm_with_no_room_for_one_more_key_says_so_and_goes_on() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let file = tpm.create_key(NewKey::new(KeyKind::Rsa3072)).await.expect("create");
    let mut handle = 0x8100_0000;
    let full = loop {
        match tpm.persist(file.clone(), handle).await {
            Ok(_) => handle += 1,
            Err(error) => break error,
        }
        assert!(handle < 0x8100_0400, "it never fills up");
    };
    assert!(matches!(full, TpmError::NvFull(_)), "{full:?}");
    assert_eq!(tpm.persistent().await.expect("a list").len(), (handle - 0x8100_0000) as usize);
    tpm.evict(0x8100_0000).await.expect("evicted");
    tpm.persist(file, handle).await.expect("there is room again");
    leaves_nothing(&swtpm, tpm);
}

#[tokio::test]
async fn the_owners_password_is_asked_for_honoured_and_never_on_the_bus() {
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    persist_primary(&swtpm, "0x81000001");
    swtpm.tool("tpm2_changeauth", &["-c", "owner", "the owner's secret"]);
    for parent in [Parent::H2Primary, Parent::Persistent(0x8100_0001)] {
        let tpm = open_as_owner(&tap.tcti(), "the owner's secret");
        let file = hmac_key(&tpm, under(parent, KeyKind::HmacSha256)).await;
        let _ = tpm.persist(file.clone(), HANDLE).await.expect("persisted");
        assert_eq!(mac(&tpm, KeySource::handle(HANDLE, Policy::default())).await, MAC);
        tpm.evict(HANDLE).await.expect("evicted");
        tpm.persist(file.clone(), HANDLE).await.expect("persisted");
        leaves_nothing(&swtpm, tpm);
        assert!(!tap.take().shows(b"the owner's secret"), "the owner's password is on the bus");

        for (tpm, was_given) in [(open(&swtpm.tcti()), false), (open_as_owner(&swtpm.tcti(), "wrong"), true)] {
            for refused in [tpm.persist(file.clone(), 0x8100_0011).await.map(|_| ()), tpm.evict(HANDLE).await] {
                let error = refused.expect_err("the owner did not say so");
                assert!(matches!(error, TpmError::Auth { what: Protected::Owner, was_given: g, .. } if g == was_given), "{error:?}");
                let told = if was_given { "the password of the owner hierarchy is wrong" } else { "give it with --owner-password-file" };
                assert!(error.to_string().contains(told), "{error}");
            }
            // To use and to list what is there takes no owner.
            assert_eq!(mac(&tpm, KeySource::handle(HANDLE, Policy::default())).await, MAC);
            assert_eq!(tpm.persistent().await.expect("a list").len(), 2);
            leaves_nothing(&swtpm, tpm);
        }
        let tpm = open_as_owner(&swtpm.tcti(), "the owner's secret");
        tpm.evict(HANDLE).await.expect("evicted");
    }

    // The tap sees one where it travels in clear: the test can fail.
    let change = ["-Q", "-c", "owner", "-p", "the owner's secret", "the owner's other secret", "-T", &tap.tcti()];
    swtpm.tool("tpm2_changeauth", &change);
    assert!(tap.take().shows(b"the owner's other secret"), "the tap is deaf");
}

#[tokio::test]
async fn a_policy_is_replayed_for_a_persistent_key_where_the_owners_password_is_not_known() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let pcrs = Some("sha256:16".parse().expect("registers"));
    let file = hmac_key(&tpm, NewKey { policy: pcrs, ..NewKey::new(KeyKind::HmacSha256) }).await;
    tpm.persist(file.clone(), HANDLE).await.expect("persisted");
    leaves_nothing(&swtpm, tpm);
    swtpm.tool("tpm2_changeauth", &["-c", "owner", "the owner's secret"]);
    let tpm = open(&swtpm.tcti());
    assert_eq!(mac(&tpm, KeySource::handle(HANDLE, file.policy().clone())).await, MAC);
    leaves_nothing(&swtpm, tpm);
}
