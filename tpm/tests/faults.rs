//! A TPM that is killed, frozen, taken away, or full of what others left: a right answer or a clear error, and no handle left.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{BusEncryption, KeyFile, KeyKind, KeySource, NewKey, Parent, TpmError, TpmHandle, TpmKey};
use zeroize::Zeroizing;

fn open(swtpm: &Swtpm) -> TpmHandle {
    TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread")
}

async fn key(tpm: &TpmHandle) -> TpmKey {
    let file = tpm.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(vec![7; 32])).await.expect("create");
    tpm.load(file)
}

#[tokio::test]
async fn a_killed_tpm_is_told_and_the_next_request_works_once_it_is_back() {
    let mut swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let key = key(&tpm).await;
    let mac = *key.hmac(b"input").await.expect("hmac");

    swtpm.kill();
    for _ in 0..2 {
        let error = key.hmac(b"input").await.expect_err("there is no TPM");
        assert!(matches!(error, TpmError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("cannot reach the TPM at swtpm:"), "{error}");
    }
    swtpm.restart();
    assert_eq!(*key.hmac(b"input").await.expect("hmac after the restart"), mac);

    // Where it is back before anyone noticed, nobody notices.
    swtpm.restart();
    assert_eq!(*key.hmac(b"input").await.expect("hmac after a quick restart"), mac);
    drop((key, tpm));
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_frozen_tpm_is_told_at_the_deadline_and_works_again_once_it_thaws() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm).with_deadline(Duration::from_millis(300));
    let patient = tpm.clone().with_deadline(Duration::from_secs(30));
    let file = patient.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(vec![7; 32])).await.expect("create");
    let key = tpm.load(file.clone());
    let mac = *key.hmac(b"input").await.expect("hmac");
    swtpm.freeze();
    let error = key.hmac(b"input").await.expect_err("it is frozen");
    assert!(matches!(error, TpmError::Deadline(_)), "{error:?}");
    swtpm.thaw();
    assert_eq!(*patient.load(file).hmac(b"input").await.expect("hmac"), mac);
}

#[tokio::test]
async fn a_frozen_tpm_bounds_its_queue() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm).with_deadline(Duration::from_millis(200));
    let key = std::sync::Arc::new(key(&tpm.clone().with_deadline(Duration::from_secs(30))).await);
    let _ = key.prepare().await;
    swtpm.freeze();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let tpm = tpm.clone();
            tokio::spawn(async move { tpm.random(Parent::H2Primary, 8).await })
        })
        .collect();
    let mut busy = 0;
    for task in waiting {
        match task.await.expect("a task") {
            Err(TpmError::Busy(_)) => busy += 1,
            Err(TpmError::Deadline(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(busy > 0, "the queue has no bound");
    swtpm.thaw();
}

#[tokio::test]
async fn handles_are_flushed_when_the_last_user_is_gone() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let first = key(&tpm).await;
    first.hmac(b"input").await.expect("hmac");
    // Three slots are all that swtpm has: a dropped key gives its own back.
    for _ in 0..5 {
        key(&tpm).await.hmac(b"input").await.expect("hmac");
    }
    // A dropped key gives its slot back while the TPM stays in use: only the first key and the session are left.
    tpm.random(Parent::H2Primary, 8).await.expect("an answer after the last key was dropped");
    assert_eq!(swtpm.loaded_handles().len(), 2, "{:?}", swtpm.loaded_handles());
    drop(first);
    drop(tpm);
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

#[tokio::test]
async fn two_clients_share_a_tpm_and_leave_each_others_keys_alone() {
    let swtpm = Swtpm::start();
    let tap = Tap::on(&swtpm);
    let first = TpmHandle::open(tap.tcti().parse().expect("a TCTI string")).expect("a thread");
    let first_key = key(&first).await;
    let mac = *first_key.hmac(b"input").await.expect("hmac");
    // Another spelling of the same TPM.
    let tcti = tap.tcti().replace("127.0.0.1", "localhost");
    let second = TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread");
    let file = second.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(vec![8; 32])).await.expect("create");
    let second_key = second.load(KeySource::from(file).with_bus(BusEncryption::Off));
    let other_mac = *second_key.hmac(b"input").await.expect("hmac");
    assert_ne!(mac, other_mac);
    for _ in 0..3 {
        let _ = tap.take();
        assert_eq!(*first_key.hmac(b"input").await.expect("hmac"), mac);
        assert_eq!(*second_key.hmac(b"input").await.expect("hmac"), other_mac);
        assert_eq!(tap.take().commands.len(), 2, "one of them had to load its key again");
    }
    drop((first_key, first));
    assert_eq!(*second_key.hmac(b"input").await.expect("hmac"), other_mac);
    drop((second_key, second));
    assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
}

/// Runs as a process of its own: loads a key, says so, and waits to be killed.
#[tokio::test]
async fn helper_that_waits_to_be_killed() {
    let Ok(tcti) = std::env::var("EKM_OTP_TEST_TCTI") else { return };
    let tpm = TpmHandle::open(tcti.parse().expect("a TCTI string")).expect("a thread");
    let pem = std::fs::read_to_string(std::env::var("EKM_OTP_TEST_KEY").expect("a key")).expect("reading");
    let key = tpm.load(KeyFile::from_pem(&pem).expect("a key file"));
    key.hmac(b"input").await.expect("hmac");
    println!("loaded");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn what_a_killed_process_left_behind_is_flushed_by_the_next() {
    let swtpm = Swtpm::start();
    let path = swtpm.dir().join("k.pem");
    // With a policy, a policy session is left behind, too.
    for pcrs in [None, Some("sha256:0,16".parse().expect("registers"))] {
        let tpm = open(&swtpm);
        let new = NewKey { policy: pcrs, ..NewKey::new(KeyKind::HmacSha256) };
        let file = tpm.create_hmac_key(new, Zeroizing::new(vec![7; 32])).await.expect("create");
        drop(tpm);
        std::fs::write(&path, file.to_pem().expect("a key file")).expect("writing");
        // More often than the TPM has slots.
        for _ in 0..4 {
            let mut helper = ekm_otp_swtpm::command(std::env::current_exe().expect("this test"), "")
                .args(["--exact", "helper_that_waits_to_be_killed", "--nocapture"])
                .env("EKM_OTP_TEST_TCTI", swtpm.tcti())
                .env("EKM_OTP_TEST_KEY", &path)
                .stdout(Stdio::piped())
                .spawn()
                .expect("a process");
            let stdout = BufReader::new(helper.stdout.take().expect("its output"));
            assert!(stdout.lines().any(|line| line.expect("a line").ends_with("loaded")), "the helper did not load its key");
            helper.kill().expect("SIGKILL");
            helper.wait().expect("its end");
            let left = if file.policy().is_empty() { 2 } else { 3 };
            assert_eq!(swtpm.loaded_handles().len(), left, "too little was left behind: the test shows nothing");
        }
        let tpm = open(&swtpm);
        tpm.load(file).hmac(b"input").await.expect("hmac");
        drop(tpm);
        assert_eq!(swtpm.loaded_handles(), Vec::<String>::new());
    }
}

/// libtss2's sockets are not closed on exec, and swtpm serves one connection at a time: a program that is started while one is open, and
/// inherits it, would wait for itself.
#[tokio::test]
async fn what_a_test_starts_inherits_no_connection_to_a_tpm() {
    let swtpm = Swtpm::start();
    let stopped = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let tpm = open(&swtpm);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
                runtime.block_on(tpm.random(Parent::H2Primary, 8)).expect("random");
            }
        });
        let inherited = (0..100).map(|_| swtpm.tool("ls", &["-l", "/proc/self/fd"])).find(|open| open.contains("socket:"));
        stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        busy.join().expect("a thread");
        assert_eq!(inherited, None);
    });
}

/// Three bytes stand behind the public area, inside its TPM2B. Test data.
const TRAILING: &str = "-----BEGIN TSS2 PRIVATE KEY-----
MIHNBgZngQUKAQOgAwEB/wIEQAAAAQQ1ADMACAALAAQEUgAAAAUACwAgAAECAwQF
BgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8AAAAEgYAAfmRlZmdoaWprbG1ub3Bx
cnN0dXZ3eHl6e3x9fn+AgYKDhIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6Ch
oqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TFxsfIycrLzM3Oz9DR
0tPU1dbX2Nna29zd3t/g4Q==
-----END TSS2 PRIVATE KEY-----
";

#[tokio::test]
async fn damaged_key_files_are_refused_with_a_reason() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm);
    let pem =
        tpm.create_hmac_key(NewKey::new(KeyKind::HmacSha256), Zeroizing::new(vec![7; 32])).await.expect("create").to_pem().expect("write");
    let lines: Vec<&str> = pem.lines().collect();
    for (fault, text) in [
        ("empty", String::new()),
        ("other_label", pem.replace("TSS2 PRIVATE KEY", "PRIVATE KEY")),
        ("line_missing", [&lines[..2], &lines[3..]].concat().join("\n")),
        ("end_missing", lines[..lines.len() - 1].join("\n")),
        ("not_base64", pem.replace('A', "!")),
        ("importable_key_oid", pem.replace("ngQUKAQO", "ngQUKAQS")),
        ("binary", "\u{0}\u{1}\u{2}".to_owned()),
        ("bytes_behind_the_public_area", TRAILING.to_owned()),
    ] {
        assert!(KeyFile::from_pem(&text).is_err(), "{fault}");
    }
    assert!(KeyFile::from_pem(&pem).is_ok(), "the undamaged file");
}
