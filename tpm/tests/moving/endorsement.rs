//! Endorsement keys as parents: they take a policy, not a password.

use ekm_otp_swtpm::{Swtpm, Tap};
use ekm_otp_tpm::{KeyKind, Parent, PrimaryAlgorithm, PrivateKey, Protected, Settings, TpmError, TpmHandle};

use super::*;

const EK: u32 = 0x8101_0001;

#[tokio::test]
async fn keys_are_made_imported_and_used_under_an_endorsement_key() {
    for algorithm in ["ecc", "rsa"] {
        let swtpm = Swtpm::start();
        swtpm.tool("tpm2_createek", &["-Q", "-c", "0x81010001", "-G", algorithm, "-u", "ek.pub"]);
        let tap = Tap::on(&swtpm);
        let tpm = open(&tap.tcti());
        let file = hmac_key(&tpm, under(Parent::Persistent(EK), KeyKind::HmacSha256)).await;
        assert_eq!(file.parent(), Parent::Persistent(EK), "{algorithm}: as the file notes it");
        assert_eq!(mac(&tpm, file.clone()).await, MAC, "{algorithm}");
        assert!(!tap.take().shows(SECRET), "{algorithm}: the secret is on the bus");

        // A password and registers on top of it.
        let pcrs = Some("sha256:16".parse().expect("registers"));
        let new = NewKey { password: password("right"), policy: pcrs, ..under(Parent::Persistent(EK), KeyKind::EccP256) };
        let file = written(&tpm.create_key(new).await.unwrap_or_else(|e| panic!("{algorithm}: {e}")));
        signs(&swtpm, &tpm, KeySource::from(file.clone()).with_password(password("right")), &file).await;

        swtpm.tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]);
        let key = PrivateKey::from_pem(&String::from_utf8(read(&swtpm, "key.pem")).expect("PEM")).expect("a key");
        let file =
            tpm.import_key(under(Parent::Persistent(EK), KeyKind::EccP256), key).await.unwrap_or_else(|e| panic!("{algorithm}: {e}"));
        signs(&swtpm, &tpm, file.clone(), &file).await;

        tpm.persist(file.clone(), 0x8100_0010).await.unwrap_or_else(|e| panic!("{algorithm}: {e}"));
        signs(&swtpm, &tpm, KeySource::handle(0x8100_0010, Default::default()), &file).await;
        leaves_nothing(&swtpm, tpm);
    }
}

#[tokio::test]
async fn keys_are_made_imported_and_used_under_an_endorsement_key_that_is_kept_nowhere() {
    for algorithm in [PrimaryAlgorithm::Rsa, PrimaryAlgorithm::Ecc] {
        let swtpm = Swtpm::start();
        let tap = Tap::on(&swtpm);
        let tpm = open(&tap.tcti());
        let parent = Parent::EndorsementKey(algorithm);
        let file = hmac_key(&tpm, under(parent, KeyKind::HmacSha256)).await;
        // The file names the hierarchy, and no template.
        assert_eq!(file.parent(), Parent::EndorsementKey(PrimaryAlgorithm::Rsa));
        let file = file.with_parent(parent);
        assert_eq!(mac(&tpm, file.clone()).await, MAC, "{algorithm:?}");
        assert!(!tap.take().shows(SECRET), "{algorithm:?}: the secret is on the bus");

        let pcrs = Some("sha256:16".parse().expect("registers"));
        let new = NewKey { password: password("right"), policy: pcrs, ..under(parent, KeyKind::EccP256) };
        let file = written(&tpm.create_key(new).await.unwrap_or_else(|e| panic!("{algorithm:?}: {e}"))).with_parent(parent);
        signs(&swtpm, &tpm, KeySource::from(file.clone()).with_password(password("right")), &file).await;

        // Under the other one it is not this TPM's.
        let other = if algorithm == PrimaryAlgorithm::Rsa { PrimaryAlgorithm::Ecc } else { PrimaryAlgorithm::Rsa };
        let refused = tpm.load(file.with_parent(Parent::EndorsementKey(other))).prepare().await.expect_err("another parent");
        assert!(matches!(refused, TpmError::OtherPrimary(_)) && refused.to_string().contains("ek-ecc"), "{refused:?}");
        leaves_nothing(&swtpm, tpm);
    }
}

#[tokio::test]
async fn a_pinned_session_key_goes_with_an_endorsement_key_as_parent() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_createek", &["-Q", "-c", "0x81010001", "-G", "rsa", "-u", "ek.pub"]);
    let name = open(&swtpm.tcti()).ek_name().await.expect("a name");
    let name = (0..name.len()).step_by(2).map(|i| u8::from_str_radix(&name[i..i + 2], 16).expect("hexadecimal")).collect();
    let settings = Settings { session_key_name: Some(name), ..Settings::default() };
    let tpm = TpmHandle::open_with(swtpm.tcti().parse().expect("a TCTI string"), settings).expect("a thread");
    let file = hmac_key(&tpm, under(Parent::Persistent(EK), KeyKind::HmacSha256)).await;
    assert_eq!(mac(&tpm, file).await, MAC);
    leaves_nothing(&swtpm, tpm);
}

#[tokio::test]
async fn a_parent_that_cannot_be_used_is_told_why() {
    let swtpm = Swtpm::start();
    swtpm.tool("tpm2_createek", &["-Q", "-c", "0x81010001", "-G", "ecc", "-u", "ek.pub"]);
    // A parent under a policy of its own: PolicyPassword.
    write(&swtpm, "unique.dat", &[0, 0]);
    swtpm.tool("tpm2_startauthsession", &["-S", "s.ctx"]);
    swtpm.tool("tpm2_policypassword", &["-Q", "-S", "s.ctx", "-L", "policy"]);
    swtpm.tool("tpm2_flushcontext", &["s.ctx"]);
    let without =
        H2.map(|arg| if arg.contains("userwithauth") { "fixedtpm|fixedparent|sensitivedataorigin|noda|restricted|decrypt" } else { arg });
    swtpm.tool("tpm2_createprimary", &[&without[..], &["-L", "policy"]].concat());
    swtpm.tool("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "primary.ctx", "0x81000002"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    swtpm.tool("tpm2_changeauth", &["-c", "endorsement", "a secret of the endorsement hierarchy"]);

    let tpm = open(&swtpm.tcti());
    let create = |parent| tpm.create_key(under(Parent::Persistent(parent), KeyKind::EccP256));
    let refused = create(EK).await.expect_err("the endorsement hierarchy has a password");
    assert!(matches!(refused, TpmError::Auth { what: Protected::Endorsement, .. }), "{refused:?}");
    assert!(refused.to_string().starts_with("the endorsement hierarchy has a password, which cannot be given here: "), "{refused}");
    let refused = create(0x8100_0002).await.expect_err("the parent's policy is its own");
    assert!(matches!(refused, TpmError::ParentPolicy(0x8100_0002)), "{refused:?}");
    assert!(refused.to_string().ends_with("(only an endorsement key's can): name another parent"), "{refused}");
    leaves_nothing(&swtpm, tpm);
}
