//! Next to tpm2-tools on a software TPM: their quotes are proven here, our credentials are opened there.

mod common;

use aws_lc_rs::hmac;
use common::hex;
use ekm_otp_attestation::tpm::{
    Attest, AttestationKey, Credential, EncryptionKey, Hash, PublicArea, PublicKey, Quote, QuoteExpected, QuoteNotProven, Scheme, Selected,
    Signature, duplicate_hmac_key, make_credential, read_pcr_file,
};
use ekm_otp_swtpm::Swtpm;

const NONCE: &[u8] = b"\x00\x01\x02 a nonce of the verifier";

fn file(swtpm: &Swtpm, name: &str) -> Vec<u8> {
    std::fs::read(swtpm.dir().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn write(swtpm: &Swtpm, name: &str, bytes: &[u8]) {
    std::fs::write(swtpm.dir().join(name), bytes).expect("writing");
}

fn tool(swtpm: &Swtpm, line: &str) -> String {
    let mut words = line.split_whitespace();
    let told = swtpm.tool(words.next().expect("a tool"), &words.collect::<Vec<_>>());
    // Three slots.
    swtpm.tool("tpm2_flushcontext", &["-t"]);
    told
}

/// An attestation key under the endorsement key.
fn attestation_key(swtpm: &Swtpm, algorithm: &str, hash: &str, scheme: &str) -> PublicArea {
    tool(swtpm, "tpm2_createek -G ecc -c ek.ctx -u ek.pub");
    tool(swtpm, &format!("tpm2_createak -Q -C ek.ctx -c ak.ctx -G {algorithm} -g {hash} -s {scheme} -u ak.pub -n ak.name -r ak.priv"));
    PublicArea::from_tpm2b(&file(swtpm, "ak.pub")).expect("a public area")
}

fn quote(swtpm: &Swtpm, registers: &str, hash: &str, more: &str) -> Attest {
    tool(
        swtpm,
        &format!("tpm2_quote -Q -c ak.ctx -l {registers} -g {hash} -q {} -m quote.msg -s quote.sig -o quote.pcrs {more}", hex(NONCE)),
    );
    Attest::read(&file(swtpm, "quote.msg")).expect("a quote")
}

#[test]
fn quotes_of_tpm2_tools_are_proven_in_all_schemes() {
    for (algorithm, hash, scheme, known) in [
        ("rsa", "sha256", "rsassa", (Scheme::RsaSsa, Hash::Sha256)),
        ("rsa", "sha256", "rsapss", (Scheme::RsaPss, Hash::Sha256)),
        ("rsa", "sha384", "rsassa", (Scheme::RsaSsa, Hash::Sha384)),
        ("rsa", "sha384", "rsapss", (Scheme::RsaPss, Hash::Sha384)),
        ("ecc", "sha256", "ecdsa", (Scheme::Ecdsa, Hash::Sha256)),
        ("ecc384", "sha384", "ecdsa", (Scheme::Ecdsa, Hash::Sha384)),
    ] {
        let swtpm = Swtpm::start();
        let area = attestation_key(&swtpm, algorithm, hash, scheme);
        assert_eq!(area.name(), file(&swtpm, "ak.name"), "{algorithm} {scheme}");
        assert_eq!(area.scheme(), Some(known));
        tool(&swtpm, &format!("tpm2_pcrextend 23:sha256={}", "ab".repeat(32)));
        let attest = quote(&swtpm, "sha1:0,1+sha256:0,7,23+sha384:1,2,3,4,5,6,7,8", hash, &format!("--scheme {scheme}"));
        assert_eq!(attest.selected().to_string(), "sha1:0,1+sha256:0,7,23+sha384:1,2,3,4,5,6,7,8");
        let values = read_pcr_file(&file(&swtpm, "quote.pcrs"), attest.selected()).expect("registers");
        assert_ne!(values.get(Hash::Sha256, 23), Some(&[0; 32][..]), "it was extended");
        assert_eq!(values.iter().count(), 13);
        let signature = Signature::from_tpmt(&file(&swtpm, "quote.sig")).expect("a signature");
        let key = AttestationKey::from_area(&area).expect("an attestation key");
        let expected = QuoteExpected::by(key).nonce(NONCE).values(values.clone()).pcrs(values);
        let quote = Quote { attest, signature };
        quote.clone().verify(&expected).unwrap_or_else(|e| panic!("{algorithm} {scheme} {hash}: {e}"));
        let refused = quote.verify(&expected.nonce(b"another")).expect_err("another nonce");
        assert_eq!(refused, QuoteNotProven::Nonce);
    }
}

#[test]
fn plain_signatures_values_alone_and_keys_in_pem_are_taken_too() {
    for (algorithm, scheme, known) in [("rsa", "rsassa", Scheme::RsaSsa), ("ecc", "ecdsa", Scheme::Ecdsa)] {
        let swtpm = Swtpm::start();
        attestation_key(&swtpm, algorithm, "sha256", scheme);
        tool(&swtpm, "tpm2_readpublic -Q -c ak.ctx -f pem -o ak.pem");
        let attest = quote(&swtpm, "sha1:0+sha256:0,1,2,3,4,5,6,7,8,9", "sha256", "-F values -f plain");
        let values = read_pcr_file(&file(&swtpm, "quote.pcrs"), attest.selected()).expect("registers");
        let signature = Signature::plain(known, Hash::Sha256, &file(&swtpm, "quote.sig")).expect("a signature");
        let key = AttestationKey::from_key(PublicKey::read(&file(&swtpm, "ak.pem")).expect("a key"));
        let verified = Quote { attest, signature }.verify(&QuoteExpected::by(key).nonce(NONCE).values(values)).expect("proven");
        assert_eq!(verified.attest().extra_data(), NONCE);
    }
}

#[test]
fn a_file_of_other_registers_or_with_a_changed_value_is_refused() {
    let swtpm = Swtpm::start();
    let area = attestation_key(&swtpm, "ecc", "sha256", "ecdsa");
    let attest = quote(&swtpm, "sha256:0,7", "sha256", "");
    let (registers, signature) = (file(&swtpm, "quote.pcrs"), Signature::from_tpmt(&file(&swtpm, "quote.sig")).expect("a signature"));
    let other = quote(&swtpm, "sha256:0,8", "sha256", "");
    assert!(read_pcr_file(&registers, other.selected()).expect_err("others").to_string().contains("sha256:0,8 is quoted"));
    assert!(read_pcr_file(&registers[1..], attest.selected()).is_err());
    assert!(read_pcr_file(&[], &Selected::default()).expect("nothing").is_empty());

    let mut changed = registers;
    let first_digest = 132 + 4 + 4 + 2;
    changed[first_digest] ^= 1;
    let values = read_pcr_file(&changed, attest.selected()).expect("registers");
    let key = AttestationKey::from_area(&area).expect("an attestation key");
    let refused = Quote { attest, signature }.verify(&QuoteExpected::by(key).values(values)).expect_err("changed");
    assert_eq!(refused, QuoteNotProven::Digest);
}

/// What such a key signs may be made up: TPM2_Sign signs a TPMS_ATTEST that somebody wrote.
#[test]
fn a_key_that_signs_anything_is_no_attestation_key() {
    let swtpm = Swtpm::start();
    tool(&swtpm, "tpm2_createprimary -Q -C o -c primary.ctx");
    tool(&swtpm, "tpm2_create -Q -C primary.ctx -G ecc:ecdsa-sha256:null -u free.pub -r free.priv");
    let area = PublicArea::read(&file(&swtpm, "free.pub")).expect("a public area");
    assert!(!area.is_attestation_key());
    assert!(AttestationKey::from_area(&area).expect_err("it signs anything").to_string().contains("no attestation key"));
    tool(&swtpm, "tpm2_createek -G ecc -c ek.ctx -u ek.pub");
    let ek = PublicArea::read(&file(&swtpm, "ek.pub")).expect("a public area");
    assert!(AttestationKey::from_area(&ek).is_err());
    assert!(EncryptionKey::from_area(&area).is_err());
}

#[test]
fn our_credentials_are_opened_by_tpm2_activatecredential() {
    for ek in [
        "tpm2_createek -G rsa -c ek.ctx -u ek.pub",
        "tpm2_createek -G ecc -c ek.ctx -u ek.pub",
        "tpm2_createprimary -Q -C e -g sha384 -G ecc384:aes256cfb -c ek.ctx",
        "tpm2_createprimary -Q -C e -g sha384 -G ecc256:aes128cfb -c ek.ctx",
        "tpm2_createprimary -Q -C e -g sha256 -G rsa2048:aes256cfb -c ek.ctx",
    ] {
        let swtpm = Swtpm::start();
        tool(&swtpm, ek);
        if ek.contains("createprimary") {
            tool(&swtpm, "tpm2_readpublic -Q -c ek.ctx -o ek.pub");
        }
        tool(
            &swtpm,
            "tpm2_createprimary -Q -C o -G ecc:ecdsa-sha256:null -a fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign -c ak.ctx",
        );
        tool(&swtpm, "tpm2_readpublic -Q -c ak.ctx -o ak.pub");
        let name = PublicArea::read(&file(&swtpm, "ak.pub")).expect("a public area").name();
        let to = EncryptionKey::from_area(&PublicArea::read(&file(&swtpm, "ek.pub")).expect("a public area")).expect("an endorsement key");
        for secret in [&b"x"[..], b"a secret of 32 bytes, no more...."[..32].as_ref()] {
            let credential = make_credential(&to, &name, secret).expect("a credential");
            assert_eq!(Credential::from_file(&credential.to_file()), Ok(credential.clone()));
            write(&swtpm, "cred", &credential.to_file());
            let session = if ek.contains("createek") {
                tool(&swtpm, "tpm2_startauthsession --policy-session -S session.ctx");
                tool(&swtpm, "tpm2_policysecret -Q -S session.ctx -c e");
                "-P session:session.ctx"
            } else {
                ""
            };
            tool(&swtpm, &format!("tpm2_activatecredential -Q -c ak.ctx -C ek.ctx -i cred -o opened {session}"));
            if !session.is_empty() {
                tool(&swtpm, "tpm2_flushcontext session.ctx");
            }
            assert_eq!(file(&swtpm, "opened"), secret, "{ek}");
            std::fs::remove_file(swtpm.dir().join("opened")).expect("removing");
        }
    }
}

#[test]
fn a_credential_of_tpm2_makecredential_is_read_and_written() {
    let swtpm = Swtpm::start();
    let area = attestation_key(&swtpm, "ecc", "sha256", "ecdsa");
    write(&swtpm, "secret", b"a secret");
    tool(&swtpm, &format!("tpm2_makecredential -Q -u ek.pub -s secret -n {} -o theirs", hex(&area.name())));
    let theirs = file(&swtpm, "theirs");
    let credential = Credential::from_file(&theirs).expect("a credential");
    assert_eq!(credential.to_file(), theirs);
    for damaged in [&theirs[..theirs.len() - 1], &theirs[1..], &[&theirs[..], &[0]].concat(), &[]] {
        assert!(Credential::from_file(damaged).is_err());
    }
}

#[test]
fn a_credential_for_no_name_or_a_long_secret_is_refused() {
    let swtpm = Swtpm::start();
    let area = attestation_key(&swtpm, "ecc", "sha256", "ecdsa");
    let to = EncryptionKey::from_area(&PublicArea::read(&file(&swtpm, "ek.pub")).expect("a public area")).expect("an endorsement key");
    for name in [&[][..], &area.name()[1..], &area.name()[..33], &[0x00, 0x10, 0x00]] {
        assert!(make_credential(&to, name, b"x").expect_err("no name").to_string().contains("name"));
    }
    assert!(make_credential(&to, &area.name(), &[]).is_err());
    assert!(make_credential(&to, &area.name(), &[7; 33]).expect_err("too long").to_string().contains("33 bytes"));
}

/// The storage keys that tpm2-tools and this project's client make, and one whose numbers differ from one another.
const STORAGE_KEYS: [&str; 5] = [
    "-G rsa",
    "-G ecc -a fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt",
    "-g sha384 -G ecc384:aes256cfb",
    "-g sha384 -G ecc256:aes128cfb",
    "-g sha256 -G rsa2048:aes256cfb",
];

#[test]
fn our_duplicates_are_imported_by_tpm2_import_and_make_the_secrets_hmacs() {
    for (at, primary) in STORAGE_KEYS.iter().enumerate() {
        let swtpm = Swtpm::start();
        tool(&swtpm, &format!("tpm2_createprimary -Q -C o {primary} -c parent.ctx"));
        tool(&swtpm, "tpm2_readpublic -Q -c parent.ctx -o parent.pub");
        let to = EncryptionKey::from_area(&PublicArea::read(&file(&swtpm, "parent.pub")).expect("a public area")).expect("a storage key");
        for length in [1, 32, 64] {
            // Test data, used nowhere else.
            let secret = vec![u8::try_from(at).expect("small") + 7; length];
            let made = duplicate_hmac_key(&to, &secret).expect("a duplicate");
            write(&swtpm, "key.pub", made.public());
            write(&swtpm, "key.dpriv", made.duplicate());
            write(&swtpm, "key.seed", made.seed());
            tool(&swtpm, "tpm2_import -Q -C parent.ctx -u key.pub -i key.dpriv -s key.seed -r key.priv");
            tool(&swtpm, "tpm2_load -Q -C parent.ctx -u key.pub -r key.priv -c key.ctx");
            write(&swtpm, "message", b"a message");
            tool(&swtpm, "tpm2_hmac -c key.ctx -o hmac message");
            let wanted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), b"a message");
            assert_eq!(file(&swtpm, "hmac"), wanted.as_ref(), "{primary}, {length} bytes");
            tool(&swtpm, "tpm2_flushcontext -l");
        }
        assert!(duplicate_hmac_key(&to, &[7; 65]).is_err() && duplicate_hmac_key(&to, &[]).is_err());
    }
}

/// The outer wrapper binds all of it.
#[test]
fn a_duplicate_that_was_changed_or_is_another_tpms_is_imported_nowhere() {
    let swtpm = Swtpm::start();
    tool(&swtpm, &format!("tpm2_createprimary -Q -C o {} -c parent.ctx", STORAGE_KEYS[1]));
    tool(&swtpm, "tpm2_readpublic -Q -c parent.ctx -o parent.pub");
    let other = Swtpm::start();
    tool(&other, &format!("tpm2_createprimary -Q -C o {} -c parent.ctx", STORAGE_KEYS[1]));
    let to = EncryptionKey::from_area(&PublicArea::read(&file(&swtpm, "parent.pub")).expect("a public area")).expect("a storage key");
    let made = duplicate_hmac_key(&to, &[7; 32]).expect("a duplicate");
    let imports = |tpm: &Swtpm, public: &[u8], duplicate: &[u8], seed: &[u8]| {
        [("key.pub", public), ("key.dpriv", duplicate), ("key.seed", seed)].iter().for_each(|(name, bytes)| write(tpm, name, bytes));
        let words = ["-Q", "-C", "parent.ctx", "-u", "key.pub", "-i", "key.dpriv", "-s", "key.seed", "-r", "key.priv"];
        tpm.try_tool("tpm2_import", &words).status.success()
    };
    let changed = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    assert!(imports(&swtpm, made.public(), made.duplicate(), made.seed()));
    assert!(!imports(&other, made.public(), made.duplicate(), made.seed()), "on another TPM");
    for at in [made.public().len() - 1, 9] {
        assert!(!imports(&swtpm, &changed(made.public(), at), made.duplicate(), made.seed()), "the public part, byte {at}");
    }
    for at in [4, made.duplicate().len() / 2, made.duplicate().len() - 1] {
        assert!(!imports(&swtpm, made.public(), &changed(made.duplicate(), at), made.seed()), "the private part, byte {at}");
    }
    assert!(!imports(&swtpm, made.public(), made.duplicate(), &changed(made.seed(), made.seed().len() - 1)), "the seed");
}
