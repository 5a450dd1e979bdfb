//! The field codec against the corpora of `testdata/fields`: every legal spelling is read, every fault is refused.

use ekm_otp::field::{AuthenticationInfo, Challenge, Credential, CredentialError, Presented};
use ekm_otp::{Derivation, Ekm, KeyId, Prk, Secret, ServerName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Corpus<Case> {
    cases: Vec<Case>,
}

fn corpus<Case: DeserializeOwned>(text: &str, at_least: usize) -> Vec<Case> {
    let corpus: Corpus<Case> = serde_json::from_str(text).expect("a corpus");
    assert!(corpus.cases.len() >= at_least, "too few cases: {}", corpus.cases.len());
    corpus.cases
}

/// The corpora hold bytes as latin-1 text.
fn bytes(fields: &[String]) -> Vec<Vec<u8>> {
    fields.iter().map(|field| field.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect()).collect()
}

fn read(fields: &[Vec<u8>]) -> Result<Credential<'_>, CredentialError> {
    Credential::read(fields.iter().map(Vec::as_slice))
}

/// The keys of the vector in `testdata/v1` whose password or proof is `value`.
fn prk_of_vector(value: &str) -> Option<Prk> {
    let file: serde_json::Value = serde_json::from_str(include_str!("../../testdata/v1/vectors.json")).expect("vectors.json");
    let vectors = file["vectors"].as_array().expect("vectors");
    let vector = vectors.iter().find(|v| v["otp"] == value || v["proof"] == value)?;
    let text = |name: &str| vector[name].as_str().expect("a text").to_owned();
    let unhex = |text: String| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits")).collect()
    };
    let secret = Secret::weak(unhex(text("secret"))).expect("a secret");
    let ekm = Ekm::from_bytes(unhex(text("ekm")).try_into().expect("48 bytes"));
    let sni = text("server_name");
    let server_name = ServerName::from_sni((!sni.is_empty()).then_some(sni.as_str())).expect("a server name");
    let derivation = Derivation::new(&ekm, &KeyId::new(&text("kid")).expect("a key id"), &server_name);
    let tag = secret.mac(derivation.mac_input());
    Some(derivation.finish(tag))
}

/// Whether it shows the password of these keys.
fn shows(prk: &Prk, credential: &Credential<'_>) -> bool {
    matches!(&credential.presented, Presented::Otp(otp) if prk.otp().verify(otp))
}

#[test]
fn each_faulty_authorization_field_is_refused_for_its_fault() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        fields: Vec<String>,
        kind: String,
    }
    for case in corpus::<Case>(include_str!("../../testdata/fields/authorization-refused.json"), 30) {
        let kind = match read(&bytes(&case.fields)) {
            Err(CredentialError::Missing) => "missing",
            Err(CredentialError::Malformed(_)) => "malformed",
            other => panic!("{}: {other:?}", case.name),
        };
        assert_eq!(kind, case.kind, "{}", case.name);
    }
}

#[test]
fn each_legal_spelling_of_a_credential_is_read() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        fields: Vec<String>,
        kid: String,
        channel: String,
        otp: String,
    }
    let mut compared = 0;
    for case in corpus::<Case>(include_str!("../../testdata/fields/authorization-accepted.json"), 12) {
        let fields = bytes(&case.fields);
        let credential = read(&fields).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!(credential.kid.as_str(), case.kid, "{}", case.name);
        assert_eq!(credential.channel.encode(), case.channel, "{}", case.name);
        if let Some(prk) = prk_of_vector(&case.otp) {
            assert!(shows(&prk, &credential), "{}", case.name);
            compared += 1;
        }
    }
    assert!(compared >= 12, "only {compared} passwords were compared");
}

#[test]
fn every_bit_of_a_presented_value_counts() {
    let ekm = Ekm::from_bytes(std::array::from_fn(|i| u8::try_from(i).expect("48 values")));
    let derivation = Derivation::new(&ekm, &KeyId::new("client1").expect("a key id"), &ServerName::none());
    let tag = Secret::new(vec![1; 32]).expect("a secret").mac(derivation.mac_input());
    let prk = derivation.finish(tag);
    let (channel, otp, proof) = (ekm.channel().encode(), prk.otp().encode(), prk.server_proof().encode());
    let is_right = |channel: &str, otp: &str| {
        let field = format!(r#"EKM-OTP kid="client1", channel="{channel}", otp="{otp}""#);
        let credential = Credential::read([field.as_bytes()]).expect("a credential");
        (credential.channel.matches(&ekm.channel()), shows(&prk, &credential))
    };
    assert_eq!(is_right(&channel, &otp), (true, true));
    for other in one_bit_off(&otp) {
        assert_eq!(is_right(&channel, &other), (true, false), "otp {other}");
    }
    for other in one_bit_off(&channel) {
        assert_eq!(is_right(&other, &otp), (false, true), "channel {other}");
    }
    for other in one_bit_off(&proof) {
        match AuthenticationInfo::read([format!(r#"proof="{other}""#).as_bytes()]) {
            AuthenticationInfo::Proof(other) => assert!(!prk.server_proof().verify(&other)),
            other => panic!("{other:?}"),
        }
    }
}

/// All values that differ from this one in one bit, in canonical base64url.
fn one_bit_off(text: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let bytes = URL_SAFE_NO_PAD.decode(text).expect("base64url");
    (0..bytes.len() * 8)
        .map(|bit| {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            URL_SAFE_NO_PAD.encode(other)
        })
        .collect()
}

#[test]
fn a_proof_is_found_only_where_there_is_exactly_one_well_formed() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        fields: Vec<String>,
        proof: Option<String>,
    }
    for case in corpus::<Case>(include_str!("../../testdata/fields/authentication-info.json"), 12) {
        let found = AuthenticationInfo::read(bytes(&case.fields).iter().map(Vec::as_slice));
        match (found, case.proof) {
            (AuthenticationInfo::Proof(found), Some(proof)) => {
                let prk = prk_of_vector(&proof).expect("the proof of a vector");
                assert!(prk.server_proof().verify(&found), "{}", case.name);
            }
            (AuthenticationInfo::Absent | AuthenticationInfo::Malformed, None) => {}
            (found, proof) => panic!("{}: {found:?}, expected {proof:?}", case.name),
        }
    }
}

#[test]
fn our_challenge_is_found_among_others() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        fields: Vec<String>,
        realm: Option<String>,
        error: Option<String>,
    }
    for case in corpus::<Case>(include_str!("../../testdata/fields/www-authenticate.json"), 10) {
        let found = Challenge::read(bytes(&case.fields).iter().map(Vec::as_slice));
        assert_eq!(found.as_ref().map(|c| c.realm.clone()), case.realm, "{}", case.name);
        assert_eq!(found.and_then(|c| c.error), case.error, "{}", case.name);
    }
}

#[test]
fn a_challenge_that_was_written_is_read_back() {
    for realm in ["demo", "", "with \"quotes\" and \\", "a, b=c"] {
        let challenge = Challenge { realm: realm.to_owned(), error: Some("channel".to_owned()) };
        let field = challenge.write().expect("printable ASCII");
        assert_eq!(Challenge::read([field.as_bytes()]), Some(challenge), "{field}");
    }
    assert!(Challenge { realm: "two\r\nlines".to_owned(), error: None }.write().is_err());
}

#[test]
fn nothing_secret_shows_in_debug() {
    let secret = Secret::new((0x41..0x61).collect()).expect("32 bytes");
    let ekm = Ekm::from_bytes([0x42; 48]);
    let derivation = Derivation::new(&ekm, &KeyId::new("client1").expect("a key id"), &ServerName::none());
    let mut shown = format!("{secret:?} {ekm:?} {derivation:?} {:?}", ekm.channel());
    let tag = secret.mac(derivation.mac_input());
    shown += &format!(" {tag:?}");
    let prk = derivation.finish(tag);
    let (otp, proof) = (prk.otp(), prk.server_proof());
    let field = Credential::write(&KeyId::new("client1").expect("a key id"), &ekm.channel(), &otp);
    let credential = Credential::read([field.as_bytes()]).expect("a credential");
    shown += &format!(" {prk:?} {otp:?} {proof:?} {credential:?}");
    assert_eq!(
        shown,
        "Secret(..) Ekm { .. } Derivation { .. } Channel(..) Tag(..) Prk(..) Otp(..) ServerProof(..) \
         Credential { kid: \"client1\", channel: Channel(..), presented: Otp(PresentedOtp(..)) }"
    );
}

#[test]
fn secrets_outside_16_to_64_bytes_are_refused_unless_told_otherwise() {
    for (len, ok) in [(0, false), (1, false), (15, false), (16, true), (64, true), (65, false)] {
        assert_eq!(Secret::new(vec![1; len]).is_ok(), ok, "{len} bytes");
    }
    for (len, ok) in [(0, false), (1, true), (15, true), (64, true), (65, false)] {
        assert_eq!(Secret::weak(vec![1; len]).is_ok(), ok, "{len} bytes, told otherwise");
    }
}

#[test]
fn secrets_that_hmac_cannot_tell_apart_are_the_same() {
    let secret = |bytes: &[u8]| Secret::new(bytes.to_vec()).expect("a secret");
    let short = [5; 16];
    let padded = [&short[..], &[0; 20]].concat();
    assert!(secret(&short).same_hmac_key(&secret(&padded)));
    assert!(!secret(&short).same_hmac_key(&secret(&[5; 17])));
}
