//! The two files of tpm2-tools, both ways; and a key file's question: is it this TPM's?

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{KeyFile, KeyFileError, KeyKind, NewKey, Parent, TpmError};

use super::*;

#[tokio::test]
async fn keys_of_tpm2_create_work_here() {
    let swtpm = Swtpm::start();
    persist_primary(&swtpm, "0x81000001");
    write(&swtpm, "secret", SECRET);
    swtpm.tool("tpm2_import", &["-Q", "-C", "primary.ctx", "-G", "hmac", "-i", "secret", "-u", "hmac.pub", "-r", "hmac.priv"]);
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    for kind in ["rsa2048", "ecc256"] {
        let (public, private) = (format!("{kind}.pub"), format!("{kind}.priv"));
        let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
        let args = ["-Q", "-C", "primary.ctx", "-G", kind, "-a", attributes, "-p", "pw", "-u", &public, "-r", &private];
        swtpm.tool("tpm2_create", &args);
        swtpm.tool("tpm2_flushcontext", &["-t"]);
    }
    let tpm = open(&swtpm.tcti());
    for parent in [Parent::H2Primary, Parent::Persistent(0x8100_0001)] {
        let file = |name: &str| {
            let (public, private) = (read(&swtpm, &format!("{name}.pub")), read(&swtpm, &format!("{name}.priv")));
            let file = KeyFile::from_blobs(parent, &public, &private).expect("a key");
            assert_eq!((file.public_blob().expect("encoded"), file.private_blob()), (public, private));
            assert_eq!(file.parent(), parent);
            written(&file)
        };
        assert_eq!(mac(&tpm, file("hmac")).await, MAC);
        for kind in ["rsa2048", "ecc256"] {
            let file = file(kind);
            assert!(file.may_need_password() && !file.clone().with_empty_auth(true).may_need_password());
            signs(&swtpm, &tpm, KeySource::from(file.clone()).with_password(password("pw")), &file).await;
        }
    }
    leaves_nothing(&swtpm, tpm);
}

#[tokio::test]
async fn our_keys_work_with_tpm2_load() {
    let swtpm = Swtpm::start();
    create_primary(&swtpm);
    write(&swtpm, "message", b"message");
    let tpm = open(&swtpm.tcti());
    let mut files = vec![hmac_key(&tpm, NewKey::new(KeyKind::HmacSha256)).await];
    for kind in [KeyKind::Rsa2048, KeyKind::EccP256] {
        files.push(tpm.create_key(NewKey::new(kind)).await.expect("create"));
    }
    leaves_nothing(&swtpm, tpm);
    for file in files {
        write(&swtpm, "k.pub", &file.public_blob().expect("encoded"));
        write(&swtpm, "k.priv", &file.private_blob());
        swtpm.tool("tpm2_load", &["-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv", "-c", "k.ctx"]);
        swtpm.tool("tpm2_flushcontext", &["-t"]);
        match file.public_pem() {
            None => assert_eq!(swtpm.tool("tpm2_hmac", &["-g", "sha256", "-c", "k.ctx", "--hex", "message"]).trim(), MAC),
            Some(public) => {
                write(&swtpm, "public.pem", public.as_bytes());
                swtpm.tool("tpm2_sign", &["-Q", "-g", "sha256", "-f", "plain", "-c", "k.ctx", "-o", "signature", "message"]);
                let verify = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "message"];
                assert!(swtpm.tool("openssl", &verify).contains("Verified OK"));
            }
        }
        swtpm.tool("tpm2_flushcontext", &["-t"]);
    }
}

#[tokio::test]
async fn damaged_blobs_are_refused() {
    let swtpm = Swtpm::start();
    let tpm = open(&swtpm.tcti());
    let file = hmac_key(&tpm, NewKey::new(KeyKind::HmacSha256)).await;
    let (public, private) = (file.public_blob().expect("encoded"), file.private_blob());
    let read = |public: &[u8], private: &[u8]| KeyFile::from_blobs(Parent::H2Primary, public, private).map(|_| ());
    assert_eq!(read(&public, &private), Ok(()));
    for damaged in [&public[..public.len() - 1], &public[2..], &[&public[..], &[0]].concat(), &[], &[0, 0]] {
        assert_eq!(read(damaged, &private), Err(KeyFileError::Public));
    }
    for damaged in [&private[..private.len() - 1], &[&private[..], &[0]].concat(), &[]] {
        assert_eq!(read(&public, damaged), Err(KeyFileError::Private));
    }
}

#[tokio::test]
async fn whether_a_key_file_is_this_tpms_is_told_before_it_is_used() {
    let (ours, other) = (Swtpm::start(), Swtpm::start());
    let tpm = open(&ours.tcti());
    for kind in [KeyKind::HmacSha256, KeyKind::EccP256] {
        let file = match kind {
            KeyKind::HmacSha256 => hmac_key(&tpm, NewKey::new(kind)).await,
            _ => tpm.create_key(NewKey::new(kind)).await.expect("create"),
        };
        tpm.load(file.clone()).prepare().await.expect("it is this TPM's");
        let elsewhere = open(&other.tcti());
        let refused = elsewhere.load(file).prepare().await;
        assert!(matches!(refused, Err(TpmError::OtherPrimary(_))), "{refused:?}");
        leaves_nothing(&other, elsewhere);
    }
    leaves_nothing(&ours, tpm);
}
