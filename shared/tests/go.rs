//! The profile `go` against `testdata/v1/go.json`: its check values, tokens that jwcrypto made, and those that the Go original printed.
#![cfg(feature = "jose")]

use std::time::Duration;

use ekm_otp::go::{self, ApiKey, Bearer, Usage};
use ekm_otp::{KeyId, Secret, Tag};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Vectors {
    kid: String,
    now: u64,
    derivations: Vec<Derivation>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Derivation {
    name: String,
    secret: String,
    client: String,
    ekm_api: String,
    ekm_sig: String,
    ekm_enc: String,
    apikey: String,
    sig_key: String,
    enc_key: String,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    kid: Option<String>,
    sig_key: Option<String>,
    enc_key: Option<String>,
    presented: Vec<Presented>,
}

#[derive(Deserialize)]
struct Presented {
    token: Option<String>,
    client: Option<String>,
    apikey: Option<String>,
    expect: String,
    claims: Option<Map<String, Value>>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../testdata/v1/go.json")).expect("go.json")
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits")).collect()
}

fn tag(hex: &str) -> Tag {
    Tag::from_bytes(unhex(hex).try_into().expect("32 bytes"))
}

/// The key as the holder of the secret answers it.
fn mac(derivation: &Derivation, usage: Usage<'_>) -> Tag {
    let ekm = match usage {
        Usage::ApiKey(_) => &derivation.ekm_api,
        Usage::Signing => &derivation.ekm_sig,
        Usage::Encryption => &derivation.ekm_enc,
    };
    let secret = Secret::weak(unhex(&derivation.secret)).expect("a secret");
    secret.mac(&usage.mac_input(&unhex(ekm).try_into().expect("32 bytes")))
}

#[test]
fn each_key_is_the_one_of_the_independent_implementation() {
    let vectors = vectors();
    assert!(vectors.derivations.len() >= 8);
    for derivation in &vectors.derivations {
        let client = KeyId::new(&derivation.client).expect("a key id");
        assert_eq!(*ApiKey::new(mac(derivation, Usage::ApiKey(&client))).encode(), derivation.apikey, "{}", derivation.name);
        // Keys show by what they verify: a token that is signed with the vector's key.
        let claims = json!({"iss": "i", "sub": "s"}).as_object().expect("an object").clone();
        let jws = go::sign(&tag(&derivation.sig_key), &claims).expect("a token");
        let jwe = go::encrypt(&tag(&derivation.enc_key), &client, &jws).expect("a token");
        let (signing, encryption) = (mac(derivation, Usage::Signing), mac(derivation, Usage::Encryption));
        for token in [&jws, &jwe] {
            let read = Bearer::read(token.as_bytes()).expect("a token").verify(&signing, &encryption, vectors.now, Duration::ZERO);
            assert_eq!(read, Ok(claims.clone()), "{}", derivation.name);
        }
    }
}

#[test]
fn label_and_context_are_those_of_the_original() {
    let client = KeyId::new("client1").expect("a key id");
    let of = |usage: Usage<'_>| (usage.label(), usage.context().to_vec());
    assert_eq!(of(Usage::ApiKey(&client)), (&b"EXPORTER-my_label"[..], b"client1".to_vec()));
    assert_eq!(of(Usage::Signing), (&b"EXPORTER-Channel-Binding"[..], b"sig_key".to_vec()));
    assert_eq!(of(Usage::Encryption), (&b"EXPORTER-Channel-Binding"[..], b"enc_key".to_vec()));
}

#[test]
fn each_credential_gets_its_verdict() {
    let vectors = vectors();
    let derivation = vectors.derivations.iter().find(|derivation| derivation.name == "cases").expect("the keys of the cases");
    let known = KeyId::new(&vectors.kid).expect("a key id");
    let (mut good, mut bad, mut wrong) = (0, 0, Vec::new());
    for case in &vectors.cases {
        let kid = case.kid.as_deref().map_or_else(|| known.clone(), |kid| KeyId::new(kid).expect("a key id"));
        let signing = tag(case.sig_key.as_deref().unwrap_or(&derivation.sig_key));
        let encryption = tag(case.enc_key.as_deref().unwrap_or(&derivation.enc_key));
        for presented in &case.presented {
            let judged = if case.kind == "apikey" {
                let is_client = presented.client.as_deref() == Some(kid.as_str());
                let key = ApiKey::new(mac(derivation, Usage::ApiKey(&kid)));
                (is_client && key.verify(presented.apikey.as_deref().unwrap_or_default().as_bytes())).then(Map::new)
            } else {
                let token = Bearer::read(presented.token.as_deref().expect("a token").as_bytes()).ok();
                let token = token.filter(|token| token.kid().is_none_or(|named| *named == kid));
                let token = token.filter(|token| token.kid().is_some() == (case.kind == "jwe"));
                token.and_then(|token| token.verify(&signing, &encryption, vectors.now, Duration::from_secs(60)).ok())
            };
            let expected = (presented.expect == "ok").then(|| presented.claims.clone().unwrap_or_default());
            if expected.is_some() {
                good += 1
            } else {
                bad += 1
            }
            if judged != expected {
                wrong.push(format!("{}: {judged:?} instead of {expected:?}", case.name));
            }
        }
    }
    assert!(good > 20 && bad > 150, "too few cases: {good} good, {bad} bad");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_key_shows_in_debug() {
    let key = ApiKey::new(tag(&"ab".repeat(32)));
    let token = go::sign(&tag(&"cd".repeat(32)), &Map::new()).expect("a token");
    let shown = format!("{key:?} {:?}", Bearer::read(token.as_bytes()).expect("a token"));
    assert!(!shown.contains("abab") && !shown.contains("q6ur") && !shown.contains("eyJ"), "{shown}");
}
