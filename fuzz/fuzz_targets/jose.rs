//! The JOSE reader: whatever a token is, it and a small verifier of our own, on OpenSSL, must agree.
//!
//! Mutations do not get past a MAC, so the target makes the MAC itself. The first byte of an input says what the rest is:
//!
//! - `t`: a token.
//! - `v`: what a JWS signs, as it stands there: the two first parts.
//! - `s`: a JWS's header, NUL, its payload: to be encoded and signed.
//! - `e`: the lengths of IV, tag and encrypted key, then a JWE's header, NUL, and its plaintext; or, with a further NUL, header and
//!   payload of the JWS to be encrypted.
//! - `w`: numbers for the window, 3 bytes each.
#![no_main]

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ekm_otp::field::{CredentialKind, PresentedToken};
use ekm_otp::go::Bearer;
use ekm_otp::jose::{ClaimsError, SignedRequest, Window};
use ekm_otp::{Derivation, Ekm, KeyId, Prk, Secret, ServerName, Tag};
use libfuzzer_sys::fuzz_target;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};

type Json = Map<String, Value>;

const LEEWAY: u64 = 60;
/// n, iat and exp are integers up to here.
const MAX_INTEGER: u64 = (1 << 53) - 1;
/// The request of `jose.json`.
const REQUEST: SignedRequest<'_> = SignedRequest { audience: "https://server.example", method: "GET", target: "/get?x=1" };

struct Keys {
    signing: [u8; 32],
    encryption: [u8; 32],
}

struct Vectors {
    now: u64,
    kid: KeyId,
    prk: Prk,
    v1: Keys,
    go: Keys,
}

static VECTORS: LazyLock<Vectors> = LazyLock::new(|| {
    let read = |text| serde_json::from_str::<Value>(text).expect("test data");
    let jose = read(include_str!("../../testdata/v1/jose.json"));
    let go = &read(include_str!("../../testdata/v1/go.json"))["derivations"][0];
    let text = |name: &str| jose[name].as_str().expect("a text").to_owned();
    let keys = |of: &Value, signing: &str, encryption: &str| Keys { signing: hex(&of[signing]), encryption: hex(&of[encryption]) };
    assert_eq!(jose["request"], json!({"method": REQUEST.method, "target": REQUEST.target, "authority": "server.example"}));

    let kid = KeyId::new(&text("kid")).expect("a key id");
    let name = ServerName::from_host(&text("server_name")).expect("a name");
    let derivation = Derivation::new(&Ekm::from_bytes(hex(&jose["ekm"])), &kid, &name);
    let tag = Secret::new(hex::<32>(&jose["secret"]).to_vec()).expect("a secret").mac(derivation.mac_input());
    Vectors {
        now: jose["now"].as_u64().expect("a time"),
        kid,
        prk: derivation.finish(tag),
        v1: keys(&jose, "jws_key", "jwe_key"),
        go: keys(go, "sig_key", "enc_key"),
    }
});

fn hex<const N: usize>(text: &Value) -> [u8; N] {
    let text = text.as_str().expect("a text");
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex digits"))
}

fuzz_target!(init: LazyLock::force(&VECTORS), |input: &[u8]| {
    match input.split_first() {
        Some((b'w', numbers)) => window(numbers),
        Some((mode, rest)) => {
            let tokens = [&VECTORS.v1, &VECTORS.go].map(|keys| token(*mode, rest, keys).unwrap_or_default());
            judge(&tokens[0]);
            judge_go(&tokens[0]);
            if tokens[0] != tokens[1] {
                judge(&tokens[1]);
                judge_go(&tokens[1]);
            }
        }
        None => {}
    }
});

/// The token that an input asks for.
fn token(mode: u8, rest: &[u8], keys: &Keys) -> Option<Vec<u8>> {
    match mode {
        b't' => Some(rest.to_vec()),
        b'v' => Some(signed(rest.to_vec(), &keys.signing)),
        b's' => split_at_nul(rest).map(|(header, payload)| jws(header, payload, &keys.signing)),
        b'e' => {
            let (lens, rest) = rest.split_first_chunk::<3>()?;
            let (header, rest) = split_at_nul(rest)?;
            let plaintext = split_at_nul(rest).map_or_else(|| rest.to_vec(), |(header, payload)| jws(header, payload, &keys.signing));
            let header = BASE64URL.encode(header);
            let [iv, tag, encrypted_key] = lens.map(usize::from);
            let (iv, mut tag) = (vec![7; iv.clamp(1, 64)], vec![0; tag.clamp(4, 16)]);
            let ciphertext =
                encrypt_aead(Cipher::aes_256_gcm(), &keys.encryption, Some(&iv), header.as_bytes(), &plaintext, &mut tag).ok()?;
            let [encrypted_key, iv, ciphertext, tag] =
                [vec![7; encrypted_key.min(64)], iv, ciphertext, tag].map(|part| BASE64URL.encode(part));
            Some([header, encrypted_key, iv, ciphertext, tag].join(".").into_bytes())
        }
        _ => None,
    }
}

fn split_at_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn jws(header: &[u8], payload: &[u8], key: &[u8; 32]) -> Vec<u8> {
    signed([BASE64URL.encode(header), BASE64URL.encode(payload)].join(".").into_bytes(), key)
}

fn signed(mut text: Vec<u8>, key: &[u8; 32]) -> Vec<u8> {
    let mac = BASE64URL.encode(hmac(key, &text));
    text.push(b'.');
    text.extend_from_slice(mac.as_bytes());
    text
}

fn hmac(key: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).expect("any length is a key");
    Signer::new(MessageDigest::sha256(), &key).and_then(|mut signer| signer.sign_oneshot_to_vec(message)).expect("memory")
}

/// Protocol v1: each step of a server, compared with ours.
fn judge(token: &[u8]) {
    let Vectors { now, kid, prk, v1: keys, .. } = &*VECTORS;
    // A fresh one, since it remembers: what one input does must not depend on those before it.
    let verifier = prk.token_verifier(kid);
    let presented = PresentedToken::from_bytes(token);
    let verify = |kind| verifier.verify(kind, &presented).ok();
    assert!(verify(CredentialKind::Otp).is_none(), "a password is no token");

    let kid = kid.as_str();
    let open_jws = |token: &[u8]| open_jws(token, &keys.signing, &[json!({"alg": "HS256", "typ": "ekm-otp+jwt", "kid": kid})]);
    let open_jwe = |token: &[u8]| open_jwe(token, &keys.encryption, |header| *header == jwe_header(kid));
    for (kind, expected) in
        [(CredentialKind::Jws, open_jws(token)), (CredentialKind::Jwe, open_jwe(token).and_then(|plaintext| open_jws(&plaintext)))]
    {
        let (verified, again) = (verify(kind), verify(kind));
        assert_eq!(verified.is_some(), expected.is_some(), "{kind}: verified, expected");
        assert_eq!(again.is_some(), expected.is_some(), "{kind}: verified the second time, expected");
        if let (Some(payload), Some(expected)) = (verified, expected) {
            let claims = payload.check(&REQUEST, *now, Duration::from_secs(LEEWAY));
            let claims = claims.map(|claims| (claims.n, claims.iat, claims.exp, claims.extra.into_map())).map_err(|e| match e {
                ClaimsError::Time(_) => Fault::Time,
                _ => Fault::Claims,
            });
            assert_eq!(claims, check(&expected));
        }
    }
}

#[derive(Debug, PartialEq)]
enum Fault {
    Time,
    Claims,
}

/// docs/protocol.md, "Claims", once more.
fn check(payload: &[u8]) -> Result<(u64, u64, u64, Json), Fault> {
    let mut claims = object(payload).ok_or(Fault::Claims)?;
    let mut take = |name: &str| claims.remove(name).unwrap_or_default();
    let request = [take("aud"), take("htm"), take("htu")];
    let numbers = [take("n"), take("iat"), take("exp")];
    let is_typed = request.iter().all(Value::is_string) && numbers.iter().all(|n| n.as_u64().is_some_and(|n| n <= MAX_INTEGER));
    let [n, iat, exp] = numbers.map(|n| n.as_u64().unwrap_or_default());
    if !is_typed || n == 0 || claims.contains_key("nbf") {
        return Err(Fault::Claims);
    }
    if exp < iat || exp - iat > 60 || iat > VECTORS.now + LEEWAY || exp + LEEWAY < VECTORS.now {
        return Err(Fault::Time);
    }
    if request != [REQUEST.audience, REQUEST.method, REQUEST.target] { Err(Fault::Claims) } else { Ok((n, iat, exp, claims)) }
}

/// The profile `go`.
fn judge_go(token: &[u8]) {
    let Vectors { now, go: keys, .. } = &*VECTORS;
    let [signing, encryption] = [keys.signing, keys.encryption].map(Tag::from_bytes);
    let read = Bearer::read(token).ok();
    let verified = read.as_ref().and_then(|bearer| bearer.verify(&signing, &encryption, *now, Duration::from_secs(LEEWAY)).ok());

    let open_jws = |token: &[u8]| open_jws(token, &keys.signing, &[json!({"alg": "HS256"}), json!({"alg": "HS256", "typ": "JWT"})]);
    let open_jwe = |token: &[u8]| {
        open_jwe(token, &keys.encryption, |header| {
            let kid = header["kid"].as_str().unwrap_or_default();
            KeyId::new(kid).is_ok() && *header == jwe_header(kid)
        })
    };
    let payload = open_jws(token).or_else(|| open_jws(&open_jwe(token)?));
    let is_timely = |claims: &Json| {
        let time = |name: &str, is_timely: fn(f64, f64) -> bool| {
            claims.get(name).is_none_or(|time| time.as_f64().is_some_and(|time| is_timely(time, *now as f64)))
        };
        time("exp", |exp, now| exp + LEEWAY as f64 >= now) && time("nbf", |nbf, now| nbf - LEEWAY as f64 <= now)
    };
    let expected = payload.filter(|_| token.len() <= 4096).and_then(|payload| object(&payload)).filter(is_timely);
    assert_eq!(verified, expected);

    // Whether it names a key id decides which key is looked up.
    if verified.is_some() {
        let named = read.and_then(|bearer| bearer.kid().map(KeyId::to_string));
        let header = parts::<5>(token).and_then(|[header, ..]| object(&header));
        assert_eq!(named.as_deref(), header.as_ref().and_then(|header| header["kid"].as_str()));
    }
}

fn jwe_header(kid: &str) -> Value {
    json!({"alg": "dir", "enc": "A256GCM", "cty": "JWT", "typ": "JWT", "kid": kid})
}

/// The payload of a right JWS with one of these headers.
fn open_jws(token: &[u8], key: &[u8; 32], headers: &[Value]) -> Option<Vec<u8>> {
    let [header, payload, mac] = parts(token)?;
    let header = Value::Object(object(&header)?);
    let end = token.iter().rposition(|b| *b == b'.')?;
    (headers.contains(&header) && mac == hmac(key, &token[..end])).then_some(payload)
}

/// The plaintext of a right JWE.
fn open_jwe(token: &[u8], key: &[u8; 32], is_right: impl FnOnce(&Value) -> bool) -> Option<Vec<u8>> {
    let [header, encrypted_key, iv, ciphertext, tag] = parts(token)?;
    let lens_are_right = encrypted_key.is_empty() && iv.len() == 12 && tag.len() == 16;
    if !lens_are_right || !is_right(&Value::Object(object(&header)?)) {
        return None;
    }
    let aad = token.split(|b| *b == b'.').next()?;
    decrypt_aead(Cipher::aes_256_gcm(), key, Some(&iv), aad, &ciphertext, &tag).ok()
}

/// What the parts of a compact serialization spell, if there are `N` and each is in its one spelling.
fn parts<const N: usize>(token: &[u8]) -> Option<[Vec<u8>; N]> {
    let decode = |part: &[u8]| BASE64URL.decode(part).ok().filter(|bytes| BASE64URL.encode(bytes).as_bytes() == part);
    token.split(|b| *b == b'.').map(decode).collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// A JSON object in which no name stands twice.
fn object(json: &[u8]) -> Option<Json> {
    struct CountMembers;
    impl<'de> Visitor<'de> for CountMembers {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
            let mut members = 0;
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                members += 1;
            }
            Ok(members)
        }
    }
    // serde_json's own map keeps one member of each name.
    let object: Json = serde_json::from_slice(json).ok()?;
    let members = serde_json::Deserializer::from_slice(json).deserialize_map(CountMembers).ok()?;
    (object.len() == members).then_some(object)
}

/// The window against its definition, with a set of all that was taken.
fn window(numbers: &[u8]) {
    let (mut window, mut taken, mut top) = (Window::new(), HashSet::new(), 0_u64);
    for step in numbers.chunks_exact(3) {
        let distance = u64::from(u16::from_be_bytes([step[1], step[2]])) << (step[0] / 2 % 48);
        let n = if step[0] % 2 == 0 { top.saturating_add(distance).min(MAX_INTEGER) } else { top.saturating_sub(distance).max(1) };
        if n == 0 {
            continue;
        }
        let expected = (n > top || top - n < Window::WIDTH) && taken.insert(n);
        assert_eq!(window.admit(n), expected, "n {n}, top {top}");
        assert!(!window.admit(n), "{n} was taken twice");
        top = top.max(n);
    }
}
