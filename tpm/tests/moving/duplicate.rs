//! Keys on their way from one TPM to another.

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{
    DuplicatedKey, KeyDescription, KeyFile, KeyFileError, KeyKind, KeySource, NewKey, Parent, PrivateKey, Protected, TpmError,
};

use super::*;

fn movable(kind: KeyKind) -> NewKey {
    NewKey { movable: true, ..NewKey::new(kind) }
}

async fn movable_key(tpm: &TpmHandle, kind: KeyKind, password: Option<Password>) -> KeyFile {
    let new = NewKey { password, ..movable(kind) };
    match kind {
        KeyKind::HmacSha256 => hmac_key(tpm, new).await,
        _ => written(&tpm.create_key(new).await.unwrap_or_else(|e| panic!("{kind}: {e}"))),
    }
}

/// As it would be read from a file.
fn carried(key: &DuplicatedKey) -> DuplicatedKey {
    DuplicatedKey::from_pem(&key.to_pem().expect("written")).expect("read")
}

#[tokio::test]
async fn a_movable_key_is_the_same_in_the_other_tpm_and_its_secret_is_on_neither_bus() {
    let (old, new) = (Swtpm::start(), Swtpm::start());
    persist_primary(&new, "0x81000001");
    new.tool("tpm2_createek", &["-Q", "-c", "0x81010001", "-G", "rsa", "-u", "ek.pub"]);
    let (old_tap, new_tap) = (Tap::on(&old), Tap::on(&new));
    let (from, to) = (open(&old_tap.tcti()), open(&new_tap.tcti()));
    let name = |public: &[u8]| KeyDescription::from_public_blob(public).expect("a public area").name;
    let primary = to.parent_public(Parent::H2Primary).await.expect("a public area");
    assert_eq!(primary, to.parent_public(Parent::Persistent(0x8100_0001)).await.expect("a public area"));
    assert_ne!(name(&primary), name(&from.parent_public(Parent::H2Primary).await.expect("a public area")));

    for (kind, parent, secret) in [
        (KeyKind::HmacSha256, Parent::H2Primary, None),
        (KeyKind::HmacSha256, Parent::Persistent(0x8100_0001), password("right")),
        (KeyKind::HmacSha256, Parent::Persistent(0x8101_0001), None),
        (KeyKind::Rsa2048, Parent::H2Primary, None),
        (KeyKind::Rsa3072, Parent::Persistent(0x8101_0001), password("right")),
        (KeyKind::EccP256, Parent::H2Primary, password("right")),
        (KeyKind::EccP384, Parent::Persistent(0x8100_0001), None),
    ] {
        let file = movable_key(&from, kind, secret.clone()).await.with_description("client1");
        let origin: &[&str] = if kind == KeyKind::HmacSha256 { &[] } else { &["sensitivedataorigin"] };
        let guard: &[&str] = if secret.is_some() { &[] } else { &["noda"] };
        assert_eq!(file.describe().attributes, [origin, &["userwithauth"], guard, &["sign"]].concat(), "{kind}");
        assert!(file.policy().is_empty() && file.may_need_password() == secret.is_some(), "{kind}: it is used as any other");

        let target = to.parent_public(parent).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        let source = KeySource::from(file.clone()).with_password(secret.clone());
        let moving = from.load(source.clone()).duplicate(&target).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        let moving = carried(&moving);
        assert_eq!((moving.describe(), moving.description()), (file.describe(), Some("client1")));
        let arrived = to.import_duplicate(parent, moving).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        let arrived = written(&arrived);
        assert_eq!((arrived.parent(), arrived.description(), arrived.may_need_password()), (parent, Some("client1"), secret.is_some()));
        assert_eq!(arrived.describe(), file.describe(), "{kind}");
        let here = KeySource::from(arrived.clone()).with_password(secret.clone());
        if kind == KeyKind::HmacSha256 {
            assert_eq!(mac(&from, source).await, MAC);
            assert_eq!(mac(&to, here).await, MAC);
            for (bus, tap) in [("old", &old_tap), ("new", &new_tap)] {
                let recording = tap.take();
                assert!(!recording.commands.is_empty(), "nothing was recorded");
                assert!(!recording.shows(SECRET), "the secret is on the bus of the {bus} TPM");
                assert!(!recording.shows(b"right"), "the password is on the bus of the {bus} TPM");
            }
        } else {
            // One public key for both: the file that was written in the old TPM.
            signs(&old, &from, source, &file).await;
            signs(&new, &to, here, &file).await;
        }
        holds_no_object(&old, &from).await;
        holds_no_object(&new, &to).await;
    }
    leaves_nothing(&old, from);
    leaves_nothing(&new, to);
}

#[tokio::test]
async fn a_moved_key_keeps_its_password_and_moves_on_from_there() {
    let (first, second, third) = (Swtpm::start(), Swtpm::start(), Swtpm::start());
    let tpms = [open(&first.tcti()), open(&second.tcti()), open(&third.tcti())];
    let mut file = movable_key(&tpms[0], KeyKind::HmacSha256, password("right")).await;
    for [from, to] in [[0, 1], [1, 2]] {
        let target = tpms[to].parent_public(Parent::H2Primary).await.expect("a public area");
        let key = tpms[from].load(KeySource::from(file).with_password(password("right")));
        file = tpms[to].import_duplicate(Parent::H2Primary, key.duplicate(&target).await.expect("duplicated")).await.expect("imported");
        for (given, was_given) in [(None, false), (password("wrong"), true)] {
            let refused = tpms[to].load(KeySource::from(file.clone()).with_password(given)).hmac(b"message").await;
            assert!(matches!(refused, Err(TpmError::Auth { what: Protected::Key, was_given: g, .. }) if g == was_given), "{refused:?}");
        }
        assert_eq!(mac(&tpms[to], KeySource::from(file.clone()).with_password(password("right"))).await, MAC);
    }
}

#[tokio::test]
async fn a_password_is_asked_for_before_a_key_is_moved() {
    let (old, new) = (Swtpm::start(), Swtpm::start());
    let (from, to) = (open(&old.tcti()), open(&new.tcti()));
    let target = to.parent_public(Parent::H2Primary).await.expect("a public area");
    let made_with = movable_key(&from, KeyKind::HmacSha256, password("right")).await;
    let made_without = movable_key(&from, KeyKind::HmacSha256, None).await;
    let given_later = from.load(made_without).change_password(password("right")).await.expect("changed");
    for file in [made_with, given_later] {
        for (given, was_given) in [(None, false), (password("wrong"), true)] {
            let refused = from.load(KeySource::from(file.clone()).with_password(given)).duplicate(&target).await;
            assert!(matches!(refused, Err(TpmError::Auth { what: Protected::Key, was_given: g, .. }) if g == was_given), "{refused:?}");
        }
        holds_no_object(&old, &from).await;
        from.load(KeySource::from(file).with_password(password("right"))).duplicate(&target).await.expect("duplicated");
    }
    leaves_nothing(&old, from);
}

#[tokio::test]
async fn a_persistent_key_and_an_imported_one_can_be_movable_too() {
    let (old, new) = (Swtpm::start(), Swtpm::start());
    let (from, to) = (open(&old.tcti()), open(&new.tcti()));
    let target = to.parent_public(Parent::H2Primary).await.expect("a public area");
    old.tool("openssl", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"]);
    let key = PrivateKey::from_pem(&String::from_utf8(read(&old, "key.pem")).expect("PEM")).expect("a key");
    let file = from.import_key(movable(KeyKind::Rsa2048), key).await.expect("imported");
    from.persist(file.clone(), 0x8100_0010).await.expect("persisted");
    old.tool("tpm2_changeauth", &["-c", "owner", "the owner's secret"]);
    drop(from);
    let from = open(&old.tcti());
    let moving = from.load(KeySource::handle(0x8100_0010, Default::default())).duplicate(&target).await.expect("duplicated");
    let arrived = to.import_duplicate(Parent::H2Primary, carried(&moving)).await.expect("imported");
    assert!(!arrived.may_need_password());
    signs(&new, &to, arrived, &file).await;
    leaves_nothing(&old, from);
    leaves_nothing(&new, to);
}

#[tokio::test]
async fn a_key_that_was_not_made_movable_stays_and_the_error_says_why() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let target = tpm.parent_public(Parent::H2Primary).await.expect("a public area");
    let fixed = hmac_key(&tpm, NewKey::new(KeyKind::HmacSha256)).await;
    let refused = tpm.load(fixed).duplicate(&target).await.expect_err("it is fixed").to_string();
    assert!(refused.contains("cannot be moved to another TPM: it is fixed to this one (fixedtpm, fixedparent)"), "{refused}");

    swtpm.tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]);
    let key = PrivateKey::from_pem(&String::from_utf8(read(&swtpm, "key.pem")).expect("PEM")).expect("a key");
    let imported = tpm.import_key(NewKey::new(KeyKind::EccP256), key).await.expect("imported");
    let refused = tpm.load(imported).duplicate(&target).await.expect_err("it has no policy").to_string();
    assert!(refused.contains("it has no policy that allows it"), "{refused}");

    let pcrs = Some("sha256:16".parse().expect("registers"));
    let bound = tpm.create_key(NewKey { policy: pcrs, ..NewKey::new(KeyKind::EccP256) }).await.expect("created");
    let refused = tpm.load(bound).duplicate(&target).await.expect_err("it is fixed").to_string();
    assert!(refused.contains("it is fixed to this one"), "{refused}");
    leaves_nothing(&swtpm, tpm);
}

#[tokio::test]
async fn only_a_storage_key_is_taken_as_the_new_parent() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let key = tpm.load(movable_key(&tpm, KeyKind::HmacSha256, None).await);
    let signing = tpm.create_key(NewKey::new(KeyKind::EccP256)).await.expect("create").public_blob().expect("encoded");
    let hmac = hmac_key(&tpm, NewKey::new(KeyKind::HmacSha256)).await.public_blob().expect("encoded");
    let storage = tpm.parent_public(Parent::H2Primary).await.expect("a public area");
    for (fault, public, told) in [
        ("signing key", signing, "it is no storage key (RSA or ECC, restricted|decrypt)"),
        ("HMAC key", hmac, "it is no storage key (RSA or ECC, restricted|decrypt)"),
        ("cut off", storage[..storage.len() - 1].to_vec(), "its public area is damaged"),
        ("nothing", Vec::new(), "its public area is damaged"),
        ("PEM", b"-----BEGIN PUBLIC KEY-----".to_vec(), "its public area is damaged"),
    ] {
        let refused = key.duplicate(&public).await.expect_err(fault);
        assert!(matches!(refused, TpmError::NewParent(why) if why.contains(told)), "{fault}: {refused:?}");
    }
    // A point that is not on the curve.
    let mut damaged = storage;
    *damaged.last_mut().expect("a byte") ^= 1;
    let refused = key.duplicate(&damaged).await.expect_err("no point");
    assert!(refused.to_string().contains("TPM2_LoadExternal for the new parent failed"), "{refused}");
    let ecc = tpm.persist(tpm.create_key(NewKey::new(KeyKind::EccP256)).await.expect("create"), 0x8100_0010).await.expect("persisted");
    let refused = tpm.parent_public(Parent::Persistent(ecc.handle)).await;
    assert!(matches!(refused, Err(TpmError::NotAParent(0x8100_0010))), "{refused:?}");
    drop(key);
    leaves_nothing(&swtpm, tpm);
}

#[tokio::test]
async fn a_key_for_another_tpm_or_a_damaged_one_does_not_arrive() {
    let (old, new, other) = (Swtpm::start(), Swtpm::start(), Swtpm::start());
    let (from, to, elsewhere) = (open(&old.tcti()), open(&new.tcti()), open(&other.tcti()));
    new.tool("tpm2_createek", &["-Q", "-c", "0x81010001", "-G", "rsa", "-u", "ek.pub"]);
    let target = to.parent_public(Parent::H2Primary).await.expect("a public area");
    let key = from.load(movable_key(&from, KeyKind::HmacSha256, None).await);
    let moving = key.duplicate(&target).await.expect("duplicated");
    for (tpm, parent) in [(&elsewhere, Parent::H2Primary), (&to, Parent::Persistent(0x8101_0001)), (&from, Parent::H2Primary)] {
        let refused = tpm.import_duplicate(parent, moving.clone()).await.expect_err("it is another's");
        assert!(matches!(refused, TpmError::Duplicate(_)), "{refused:?}");
        assert!(refused.to_string().contains("was encrypted to another TPM or parent than this"), "{refused}");
    }
    holds_no_object(&new, &to).await;

    let blobs = [moving.public_blob().expect("encoded"), moving.duplicate_blob(), moving.secret_blob()];
    for (fault, blob, at) in [
        ("public: userWithAuth", 0, 9),
        ("public: policy", 0, 12),
        ("public: unique", 0, blobs[0].len() - 1),
        ("duplicate: integrity", 1, 10),
        ("duplicate: sensitive area", 1, blobs[1].len() - 1),
        ("secret: point", 2, blobs[2].len() - 1),
    ] {
        let mut damaged = blobs.clone();
        damaged[blob][at] ^= 0x40;
        let damaged = DuplicatedKey::from_blobs(&damaged[0], &damaged[1], &damaged[2]).unwrap_or_else(|e| panic!("{fault}: {e}"));
        let refused = to.import_duplicate(Parent::H2Primary, damaged).await.map(|_| ()).expect_err(fault);
        assert!(matches!(refused, TpmError::Duplicate(_)), "{fault}: {refused:?}");
    }
    // In clear: TPM2_Import would take it, over the bus.
    let bare = DuplicatedKey::from_blobs(&blobs[0], &blobs[1], &[0, 0]).map(|_| ());
    assert_eq!(bare, Err(KeyFileError::Secret));
    let arrived = to.import_duplicate(Parent::H2Primary, moving).await.expect("the undamaged one, at its own TPM");
    assert_eq!(mac(&to, arrived).await, MAC);
    drop(key);
    for (swtpm, tpm) in [(&old, from), (&new, to), (&other, elsewhere)] {
        leaves_nothing(swtpm, tpm);
    }
}

#[tokio::test]
async fn a_moving_key_and_a_loadable_one_are_told_apart() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let file = movable_key(&tpm, KeyKind::HmacSha256, None).await;
    let target = tpm.parent_public(Parent::H2Primary).await.expect("a public area");
    let moving = tpm.load(file.clone()).duplicate(&target).await.expect("duplicated").to_pem().expect("written");
    let told = KeyFile::from_pem(&moving).map(|_| ()).expect_err("it cannot be loaded");
    assert_eq!(told, KeyFileError::Importable);
    let told = DuplicatedKey::from_pem(&file.to_pem().expect("written")).map(|_| ()).expect_err("it is in its TPM already");
    assert_eq!(told, KeyFileError::NotImportable("2.23.133.10.1.3".into()));
    // OpenSSL's parser sees the fields where the format has them: [2] is the secret.
    write(&swtpm, "moving.pem", moving.as_bytes());
    let dump = swtpm.tool("openssl", &["asn1parse", "-in", "moving.pem"]);
    assert!(dump.contains("2.23.133.10.1.4") && dump.contains("cont [ 2 ]") && dump.contains(":40000001"), "{dump}");
}

/// tpm2_duplicate on one TPM, this crate on the other.
#[tokio::test]
async fn what_tpm2_duplicate_makes_arrives_here() {
    let (old, new) = (Swtpm::start(), Swtpm::start());
    let to = open(&new.tcti());
    write(&old, "target.pub", &to.parent_public(Parent::H2Primary).await.expect("a public area"));
    create_primary(&old);
    old.tool("tpm2_startauthsession", &["-S", "s.ctx"]);
    old.tool("tpm2_policycommandcode", &["-Q", "-S", "s.ctx", "-L", "policy", "TPM2_CC_Duplicate"]);
    old.tool("tpm2_flushcontext", &["s.ctx"]);
    write(&old, "message", b"message");
    for (kind, attributes) in [
        ("hmac:sha256", "sensitivedataorigin|userwithauth|sign"),
        ("rsa2048", "sensitivedataorigin|userwithauth|sign"),
        ("ecc384", "sensitivedataorigin|userwithauth|sign"),
    ] {
        let create = ["-Q", "-C", "primary.ctx", "-G", kind, "-p", "pw", "-L", "policy", "-a", attributes, "-u", "k.pub", "-r", "k.priv"];
        old.tool("tpm2_create", &create);
        old.tool("tpm2_flushcontext", &["-t"]);
        old.tool("tpm2_load", &["-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx"]);
        old.tool("tpm2_flushcontext", &["-t"]);
        old.tool("tpm2_loadexternal", &["-Q", "-C", "n", "-u", "target.pub", "-c", "target.ctx"]);
        old.tool("tpm2_flushcontext", &["-t"]);
        old.tool("tpm2_startauthsession", &["--policy-session", "-S", "s.ctx"]);
        old.tool("tpm2_policycommandcode", &["-Q", "-S", "s.ctx", "TPM2_CC_Duplicate"]);
        let duplicate = ["-C", "target.ctx", "-c", "k.ctx", "-G", "null", "-p", "session:s.ctx", "-r", "dup.priv", "-s", "dup.seed"];
        old.tool("tpm2_duplicate", &duplicate);
        old.tool("tpm2_flushcontext", &["s.ctx"]);
        old.tool("tpm2_flushcontext", &["-t"]);

        let moving = DuplicatedKey::from_blobs(&read(&old, "k.pub"), &read(&old, "dup.priv"), &read(&old, "dup.seed")).expect("a key");
        let file = to.import_duplicate(Parent::H2Primary, carried(&moving)).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        let source = KeySource::from(file.clone()).with_password(password("pw"));
        if kind == "hmac:sha256" {
            let theirs = old.tool("tpm2_hmac", &["-g", "sha256", "-c", "k.ctx", "-p", "pw", "--hex", "message"]);
            old.tool("tpm2_flushcontext", &["-t"]);
            assert_eq!(mac(&to, source.clone()).await, theirs.trim());
        } else {
            signs(&new, &to, source.clone(), &file).await;
        }
        // Its policy has no PolicyAuthValue: known here all the same.
        to.load(source).duplicate(&read(&old, "target.pub")).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
    leaves_nothing(&new, to);
}

/// This crate on one TPM, tpm2_import on the other.
#[tokio::test]
async fn what_is_duplicated_here_arrives_with_tpm2_import() {
    let (old, new) = (Swtpm::start(), Swtpm::start());
    let from = open(&old.tcti());
    create_primary(&new);
    new.tool("tpm2_readpublic", &["-Q", "-c", "primary.ctx", "-o", "target.pub"]);
    new.tool("tpm2_flushcontext", &["-t"]);
    write(&new, "message", b"message");
    let target = read(&new, "target.pub");
    assert_eq!(target, open(&new.tcti()).parent_public(Parent::H2Primary).await.expect("a public area"));
    for kind in [KeyKind::HmacSha256, KeyKind::Rsa2048, KeyKind::EccP256] {
        let file = movable_key(&from, kind, password("pw")).await;
        let key = from.load(KeySource::from(file.clone()).with_password(password("pw")));
        let moving = key.duplicate(&target).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        write(&new, "dup.pub", &moving.public_blob().expect("encoded"));
        write(&new, "dup.priv", &moving.duplicate_blob());
        write(&new, "dup.seed", &moving.secret_blob());
        let import = ["-Q", "-C", "primary.ctx", "-u", "dup.pub", "-i", "dup.priv", "-s", "dup.seed", "-r", "k.priv"];
        new.tool("tpm2_import", &import);
        new.tool("tpm2_flushcontext", &["-t"]);
        new.tool("tpm2_load", &["-Q", "-C", "primary.ctx", "-u", "dup.pub", "-r", "k.priv", "-c", "k.ctx"]);
        new.tool("tpm2_flushcontext", &["-t"]);
        if kind == KeyKind::HmacSha256 {
            assert_eq!(new.tool("tpm2_hmac", &["-g", "sha256", "-c", "k.ctx", "-p", "pw", "--hex", "message"]).trim(), MAC);
        } else {
            write(&new, "public.pem", file.public_pem().expect("a public key").as_bytes());
            new.tool("tpm2_sign", &["-Q", "-g", "sha256", "-f", "plain", "-c", "k.ctx", "-p", "pw", "-o", "signature", "message"]);
            let verify = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "message"];
            assert!(new.tool("openssl", &verify).contains("Verified OK"), "{kind}");
        }
        new.tool("tpm2_flushcontext", &["-t"]);
    }
    leaves_nothing(&old, from);
}
