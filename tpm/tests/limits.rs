//! Keys that tpm2-tools made with limits: what they cannot do is known before it is tried. All of them are test data.

use ekm_otp_swtpm::Swtpm;
use ekm_otp_tpm::{DigestAlgorithm, KeyFile, Parent, SignatureScheme, TpmError, TpmHandle};

/// A key under the H-2 primary, made by tpm2_create with these arguments.
fn made(swtpm: &Swtpm, args: &[&str]) -> KeyFile {
    std::fs::write(swtpm.dir().join("unique.dat"), [0, 0]).expect("writing");
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let primary = ["-Q", "-C", "o", "-G", "ecc", "-g", "sha256", "-a", attributes, "-u", "unique.dat", "-c", "primary.ctx"];
    swtpm.tool("tpm2_createprimary", &primary);
    swtpm.tool("tpm2_create", &[&["-Q", "-C", "primary.ctx", "-u", "k.pub", "-r", "k.priv"], args].concat());
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    let read = |name: &str| std::fs::read(swtpm.dir().join(name)).expect("reading");
    KeyFile::from_blobs(Parent::H2Primary, &read("k.pub"), &read("k.priv")).expect("a key").with_empty_auth(true)
}

const SIGNS: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign";
const RESTRICTED: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";

#[tokio::test]
async fn what_a_key_cannot_do_is_told_before_it_is_tried() {
    let swtpm = Swtpm::start();
    let tpm = TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread");
    for (args, algorithm) in [
        (
            &["-G", "rsa2048:rsassa-sha256:null", "-a", RESTRICTED][..],
            "RSA-2048, RSASSA with SHA-256 only, restricted: it signs only what the TPM itself made",
        ),
        (&["-G", "ecc256:ecdaa-sha256", "-a", SIGNS], "ECC P-256, ECDAA only"),
        (&["-G", "hmac:sha384", "-a", SIGNS], "HMAC-SHA384"),
        (&["-G", "rsa1024", "-a", SIGNS], "RSA-1024"),
        (&["-G", "rsa2048:rsassa-sha256", "-a", SIGNS], "RSA-2048, RSASSA with SHA-256 only"),
        (&["-G", "ecc256:ecdsa-sha256", "-a", SIGNS], "ECC P-256, ECDSA with SHA-256 only"),
    ] {
        let file = made(&swtpm, args);
        assert_eq!(file.describe().algorithm, algorithm, "{args:?}");
        let key = tpm.load(file);
        let told = |error: TpmError| match &error {
            TpmError::NotForThis { .. } => error.to_string(),
            other => panic!("{args:?}: {other}"),
        };
        for scheme in [SignatureScheme::RsaSsa, SignatureScheme::Ecdsa] {
            let refused = key.sign(scheme, DigestAlgorithm::Sha384, &[7; 48]).await.expect_err(algorithm);
            assert!(told(refused).starts_with(&format!("{algorithm}: this cannot ")), "{args:?}");
        }
        assert!(told(key.hmac(b"message").await.expect_err(algorithm)).contains("cannot make HMACs"), "{args:?}");
        let is_fixed = algorithm.ends_with(" with SHA-256 only");
        let scheme = if algorithm.starts_with("RSA") { SignatureScheme::RsaSsa } else { SignatureScheme::Ecdsa };
        assert_eq!(key.sign(scheme, DigestAlgorithm::Sha256, &[7; 32]).await.is_ok(), is_fixed, "{args:?}: what it is made for");
    }
}

#[tokio::test]
async fn a_key_with_another_name_algorithm_is_used_and_its_name_shown() {
    let swtpm = Swtpm::start();
    let tpm = TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread");
    let file = made(&swtpm, &["-G", "hmac", "-g", "sha384", "-a", SIGNS]);
    let description = file.describe();
    assert_eq!((description.name_algorithm.as_str(), description.name.len()), ("sha384", 50), "{description}");
    tpm.load(file).hmac(b"message").await.expect("a MAC");
}
