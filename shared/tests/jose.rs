//! Tokens against `testdata/v1/jose.json`, whose good ones jwcrypto made or reads: every fault is refused as what it is.
#![cfg(feature = "jose")]

use std::time::Duration;

use ekm_otp::field::{Credential, CredentialKind, Presented};
use ekm_otp::jose::{ClaimsError, ExtraClaims, SignedRequest, TokenVerifier, Window};
use ekm_otp::{Authority, Derivation, Ekm, KeyId, Prk, Secret, ServerName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const LEEWAY: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Vectors {
    secret: String,
    ekm: String,
    kid: String,
    server_name: String,
    channel: String,
    request: Request,
    now: u64,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
struct Request {
    method: String,
    target: String,
    authority: String,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    request: Option<Request>,
    presented: Vec<PresentedToken>,
}

#[derive(Deserialize)]
struct PresentedToken {
    token: String,
    expect: String,
    n: Option<u64>,
    iat: Option<u64>,
    exp: Option<u64>,
    claims: Option<Map<String, Value>>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../testdata/v1/jose.json")).expect("jose.json")
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits")).collect()
}

fn prk(vectors: &Vectors) -> Prk {
    let ekm = Ekm::from_bytes(unhex(&vectors.ekm).try_into().expect("48 bytes"));
    assert_eq!(ekm.channel().encode(), vectors.channel);
    let derivation =
        Derivation::new(&ekm, &KeyId::new(&vectors.kid).expect("a key id"), &ServerName::from_host(&vectors.server_name).expect("a name"));
    let tag = Secret::new(unhex(&vectors.secret)).expect("a secret").mac(derivation.mac_input());
    derivation.finish(tag)
}

/// n, iat, exp and the caller's own claims.
type Claims = (u64, u64, u64, Map<String, Value>);

/// The way of a token from its field to its claims, as a server takes it.
fn judge(field: &[u8], verifier: &TokenVerifier, request: &Request, now: u64, window: &mut Window) -> Result<Claims, &'static str> {
    let credential = Credential::read([field]).map_err(|_| "refused")?;
    let (Presented::Jws(token) | Presented::Jwe(token)) = &credential.presented else { return Err("refused") };
    let payload = verifier.verify(credential.presented.kind(), token).map_err(|_| "refused")?;
    let audience = Authority::parse(&request.authority).expect("an authority").audience();
    let signed = SignedRequest { audience: &audience, method: &request.method, target: &request.target };
    let claims = payload.check(&signed, now, LEEWAY).map_err(|e| match e {
        ClaimsError::Time(_) => "time",
        _ => "claims",
    })?;
    if window.admit(claims.n) { Ok((claims.n, claims.iat, claims.exp, claims.extra.into_map())) } else { Err("claims") }
}

#[test]
fn each_token_gets_its_verdict_and_each_fault_is_refused() {
    let vectors = vectors();
    let verifier = prk(&vectors).token_verifier(&KeyId::new(&vectors.kid).expect("a key id"));
    let (mut good, mut bad, mut wrong) = (0, 0, Vec::new());
    for case in &vectors.cases {
        let request = case.request.as_ref().unwrap_or(&vectors.request);
        let mut window = Window::new();
        for presented in &case.presented {
            let token = presented.token.replace('\\', r"\\").replace('"', "\\\"");
            let field = format!(r#"EKM-OTP kid="{}", channel="{}", {}="{token}""#, vectors.kid, vectors.channel, case.kind);
            let expected = match presented.expect.as_str() {
                "ok" => {
                    let number = |number: Option<u64>| number.expect("a good token has n, iat and exp");
                    good += 1;
                    Ok((number(presented.n), number(presented.iat), number(presented.exp), presented.claims.clone().unwrap_or_default()))
                }
                fault => {
                    bad += 1;
                    Err(fault)
                }
            };
            let judged = judge(field.as_bytes(), &verifier, request, vectors.now, &mut window);
            if judged != expected {
                wrong.push(format!("{}: {judged:?} instead of {expected:?}", case.name));
            }
        }
    }
    assert!(good > 100 && bad > 500, "too few cases: {good} good, {bad} bad");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_was_refused_is_refused_again() {
    // Each with a verifier of its own, which has accepted nothing yet: a header is remembered once it has passed, and not before.
    let vectors = vectors();
    let (prk, kid) = (prk(&vectors), KeyId::new(&vectors.kid).expect("a key id"));
    let mut refused = 0;
    for case in &vectors.cases {
        for presented in case.presented.iter().filter(|presented| presented.expect == "refused") {
            let verifier = prk.token_verifier(&kid);
            let token = ekm_otp::field::PresentedToken::from_bytes(presented.token.as_bytes());
            let kind = if case.kind == "jws" { CredentialKind::Jws } else { CredentialKind::Jwe };
            let [first, again] = [(); 2].map(|()| verifier.verify(kind, &token).is_ok());
            assert_eq!(first, again, "{}", case.name);
            refused += u32::from(!again);
        }
    }
    assert!(refused > 200, "too few cases: {refused}");
}

#[test]
fn what_we_sign_we_take_once_and_only_for_its_request() {
    let vectors = vectors();
    let (prk, kid) = (prk(&vectors), KeyId::new(&vectors.kid).expect("a key id"));
    let verifier = prk.token_verifier(&kid);
    let channel = Ekm::from_bytes(unhex(&vectors.ekm).try_into().expect("48 bytes")).channel();
    let extra = json!({"role": "admin", "shift": {"from": 9}});
    let extra = ExtraClaims::new(extra.as_object().expect("an object").clone()).expect("free names");
    let request = &vectors.request;
    let audience = Authority::parse(&request.authority).expect("an authority").audience();
    for signer in [prk.jws_signer(&kid), prk.jwe_signer(&kid)] {
        let signed = SignedRequest { audience: &audience, method: &request.method, target: &request.target };
        let token = signer.sign(&signed, 7, vectors.now, &extra).expect("a token");
        let field = Credential::write_token(&kid, &channel, &token).expect("a short token");
        let mut window = Window::new();
        let mut judge = |request: &Request, now| judge(field.as_bytes(), &verifier, request, now, &mut window);
        let other = Request { method: "POST".into(), ..request.clone() };
        assert_eq!(judge(&other, vectors.now), Err("claims"));
        assert_eq!(judge(request, vectors.now + 121), Err("time"));
        assert_eq!(judge(request, vectors.now), Ok((7, vectors.now, vectors.now + 60, extra.as_map().clone())));
        assert_eq!(judge(request, vectors.now), Err("claims"), "n was used");
    }
}

#[test]
fn two_tokens_for_the_same_request_differ_and_a_jwe_shows_no_claim() {
    let vectors = vectors();
    let (prk, kid) = (prk(&vectors), KeyId::new(&vectors.kid).expect("a key id"));
    let extra = ExtraClaims::new(json!({"aaa": "aaaaaaaaaaaaaaaaaaaa"}).as_object().expect("an object").clone()).expect("a free name");
    let signed = SignedRequest { audience: "https://server.example", method: "GET", target: "/" };
    let sign = |signer: &ekm_otp::jose::TokenSigner| signer.sign(&signed, 1, vectors.now, &extra).expect("a token").as_str().to_owned();
    let jwe = prk.jwe_signer(&kid);
    assert_ne!(sign(&jwe), sign(&jwe), "the IV is random");
    // 20 times the same letter shows as 4-letter blocks in any of the three base64 phases.
    let blocks = ["YWFhYWFhYWFh", "FhYWFhYWFhYW", "hYWFhYWFhYWF"];
    let shows = |token: &str| blocks.iter().any(|block| token.contains(block));
    assert!(shows(&sign(&prk.jws_signer(&kid))));
    assert!(!shows(&sign(&jwe)));
}

#[test]
fn claims_of_the_protocol_cannot_be_set_by_the_caller() {
    for name in ["aud", "htm", "htu", "n", "iat", "exp", "nbf"] {
        let map = json!({name: 1}).as_object().expect("an object").clone();
        assert!(ExtraClaims::new(map).expect_err(name).to_string().contains(name), "{name}");
    }
}

#[test]
fn a_token_that_no_server_would_read_is_not_written() {
    let vectors = vectors();
    let (prk, kid) = (prk(&vectors), KeyId::new(&vectors.kid).expect("a key id"));
    let channel = Ekm::from_bytes(unhex(&vectors.ekm).try_into().expect("48 bytes")).channel();
    let signed = SignedRequest { audience: "https://server.example", method: "GET", target: "/" };
    let write = |len: usize, signer: &ekm_otp::jose::TokenSigner| {
        let extra = ExtraClaims::new(json!({"x": "x".repeat(len)}).as_object().expect("an object").clone()).expect("a free name");
        Credential::write_token(&kid, &channel, &signer.sign(&signed, 1, vectors.now, &extra).expect("a token"))
    };
    for (signer, fits) in [(prk.jws_signer(&kid), 2500), (prk.jwe_signer(&kid), 1700)] {
        assert!(write(fits, &signer).expect("it fits").len() <= 4096);
        assert!(write(3000, &signer).expect_err("too long").to_string().contains("4096"));
    }
}

#[test]
fn a_number_or_time_that_no_server_would_take_is_not_signed() {
    const MAX: u64 = (1 << 53) - 1;
    let vectors = vectors();
    let signer = prk(&vectors).jws_signer(&KeyId::new(&vectors.kid).expect("a key id"));
    let signed = SignedRequest { audience: "https://server.example", method: "GET", target: "/" };
    for (n, now, is_signed) in [
        (1, vectors.now, true),
        (MAX, MAX - 60, true),
        (0, vectors.now, false),
        (MAX + 1, vectors.now, false),
        (1, MAX - 59, false),
        (1, u64::MAX, false),
    ] {
        assert_eq!(signer.sign(&signed, n, now, &ExtraClaims::default()).is_ok(), is_signed, "n {n} at {now}");
    }
}

#[test]
fn nothing_of_a_token_shows_in_debug() {
    let vectors = vectors();
    let (prk, kid) = (prk(&vectors), KeyId::new(&vectors.kid).expect("a key id"));
    let extra = ExtraClaims::new(json!({"patient": "Smith"}).as_object().expect("an object").clone()).expect("a free name");
    let signed = SignedRequest { audience: "https://server.example", method: "GET", target: "/" };
    let signer = prk.jwe_signer(&kid);
    let token = signer.sign(&signed, 1, vectors.now, &extra).expect("a token");
    let presented = ekm_otp::field::PresentedToken::from_bytes(token.as_str().as_bytes());
    let verifier = prk.token_verifier(&kid);
    let payload = verifier.verify(CredentialKind::Jwe, &presented).expect("our own token");
    let claims = payload.check(&signed, vectors.now, LEEWAY).expect("our own claims");
    let shown = format!("{signer:?} {token:?} {presented:?} {verifier:?} {payload:?} {claims:?} {extra:?}");
    assert!(!shown.contains("Smith") && !shown.contains("eyJ"), "{shown}");
    assert!(shown.contains("patient"), "a claim's name helps to find out what came: {shown}");
}

#[test]
fn the_window_takes_each_number_once_in_any_order() {
    // Against the definition, with a set of all that was taken.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for jump in [1, 3, 63, 64, 65, 700, 1023, 1024, 1025, 5000] {
        let (mut window, mut taken, mut top) = (Window::new(), std::collections::HashSet::new(), 0_u64);
        for _ in 0..20_000 {
            let n = 1 + (top + random() % (jump + 1)).saturating_sub(random() % 1200);
            let expected = (n > top || top - n < Window::WIDTH) && !taken.contains(&n);
            assert_eq!(window.admit(n), expected, "n {n}, top {top}");
            if expected {
                taken.insert(n);
                top = top.max(n);
            }
        }
    }
}

#[test]
fn a_jump_clears_all_that_the_window_moves_over_and_nothing_else() {
    const WIDTH: u64 = Window::WIDTH;
    for low in [1, 2, 64, 1000] {
        // The number one width above a taken one has the same bit.
        let mut window = Window::new();
        assert!(window.admit(low) && window.admit(low + WIDTH + WIDTH - 1));
        assert!(window.admit(low + WIDTH), "{low}: the lowest in the window, never taken");
        // A jump by a width less one leaves the lowest as it was.
        let mut window = Window::new();
        assert!(window.admit(low) && window.admit(low + WIDTH - 1));
        assert!(!window.admit(low), "{low}: taken, and still in the window");
    }
}
