//! Every value of protocol v1 equals what the independent implementation in `testdata/v1/generate.py` computed.

use ekm_otp::field::{AuthenticationInfo, Credential, Presented};
use ekm_otp::{Authority, Derivation, Ekm, KeyId, Prk, Secret, ServerName};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    secret: String,
    ekm: String,
    kid: String,
    server_name: String,
    mac_input: String,
    otp: String,
    proof: String,
    channel: String,
    authorization: String,
    authentication_info: String,
}

#[derive(Deserialize)]
struct ServerNames {
    cases: Vec<ServerNameCase>,
}

#[derive(Deserialize)]
struct ServerNameCase {
    name: String,
    input: String,
    server_name: String,
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits")).collect()
}

fn vectors() -> Vec<Vector> {
    let file: Vectors = serde_json::from_str(include_str!("../../testdata/v1/vectors.json")).expect("vectors.json");
    assert!(file.vectors.len() >= 12, "too few vectors: {}", file.vectors.len());
    file.vectors
}

/// Whether it shows the password of these keys.
fn shows(prk: &Prk, credential: &Credential) -> bool {
    matches!(&credential.presented, Presented::Otp(otp) if prk.otp().verify(otp))
}

#[test]
fn each_vector_is_derived_as_the_independent_implementation_did() {
    for v in vectors() {
        let secret = Secret::weak(unhex(&v.secret)).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        let ekm = Ekm::from_bytes(unhex(&v.ekm).try_into().expect("48 bytes"));
        let kid = KeyId::new(&v.kid).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        let server_name = ServerName::from_sni(Some(v.server_name.as_str()).filter(|n| !n.is_empty())).expect("a server name");

        let derivation = Derivation::new(&ekm, &kid, &server_name);
        assert_eq!(derivation.mac_input(), unhex(&v.mac_input), "{}: M", v.name);
        let tag = secret.mac(derivation.mac_input());
        let prk = derivation.finish(tag);
        assert_eq!(*prk.otp().encode(), v.otp, "{}: otp", v.name);
        assert_eq!(*prk.server_proof().encode(), v.proof, "{}: proof", v.name);
        assert_eq!(ekm.channel().encode(), v.channel, "{}: channel", v.name);
        assert_eq!(*Credential::write(&kid, &ekm.channel(), &prk.otp()), v.authorization, "{}: Authorization", v.name);
        assert_eq!(AuthenticationInfo::write(&prk.server_proof()), v.authentication_info, "{}: Authentication-Info", v.name);

        // And what was written is read back as the same values.
        let credential = Credential::read([v.authorization.as_bytes()]).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        assert_eq!(credential.kid, kid, "{}", v.name);
        assert!(credential.channel.matches(&ekm.channel()) && shows(&prk, &credential), "{}", v.name);
        match AuthenticationInfo::read([v.authentication_info.as_bytes()]) {
            AuthenticationInfo::Proof(proof) => assert!(prk.server_proof().verify(&proof), "{}", v.name),
            other => panic!("{}: {other:?}", v.name),
        }
    }
}

#[test]
fn an_otp_fits_no_other_vector() {
    let vectors = vectors();
    for a in &vectors {
        let credential = Credential::read([a.authorization.as_bytes()]).expect("a credential");
        for b in vectors.iter().filter(|b| b.otp != a.otp) {
            let secret = Secret::weak(unhex(&b.secret)).expect("a secret");
            let ekm = Ekm::from_bytes(unhex(&b.ekm).try_into().expect("48 bytes"));
            let server_name = ServerName::from_sni(Some(b.server_name.as_str()).filter(|n| !n.is_empty())).expect("a server name");
            let derivation = Derivation::new(&ekm, &KeyId::new(&b.kid).expect("a key id"), &server_name);
            let tag = secret.mac(derivation.mac_input());
            assert!(!shows(&derivation.finish(tag), &credential), "{} fits {}", a.name, b.name);
        }
    }
}

#[test]
fn a_url_host_becomes_the_server_name_that_the_vectors_give() {
    let file: ServerNames = serde_json::from_str(include_str!("../../testdata/v1/server-name.json")).expect("server-name.json");
    for case in file.cases {
        let name = ServerName::from_host(&case.input).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!(name.as_str(), case.server_name, "{}", case.name);
        let authority = Authority::parse(&format!("{}:8443", case.input)).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!(authority.server_name().as_str(), case.server_name, "{}", case.name);
    }
}

#[test]
fn a_host_that_is_no_name_and_no_address_is_refused() {
    for host in
        ["", ".", "a..b", "-a.test", "a b.test", "b\u{fc}cher.test", "[192.0.2.1]", "[::1", "192.0.2.1.", "a.test:1", "a/b", "*.test"]
    {
        assert!(ServerName::from_host(host).is_err(), "{host:?}");
    }
    for authority in ["", ":8443", "a.test:", "a.test:99999", "a.test:x", "me@a.test", "a.test/path", "[192.0.2.1]:1", "::1", "a.test:1:2"]
    {
        let read = Authority::parse(authority);
        // An empty port is legal (RFC 3986 section 3.2.3) and means the default one.
        assert_eq!(read.is_ok(), authority == "a.test:", "{authority:?}: {read:?}");
    }
}
