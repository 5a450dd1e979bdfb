//! Attestation documents. Mutations do not get past a signature, so the second half of the inputs is what is signed: the target signs it with a made-up leaf's key.
//! What is taken is compared with what ciborium reads.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use ciborium::Value;
use ekm_otp_attestation::Root;
use ekm_otp_attestation::nitro::{Document, Expected};
use libfuzzer_sys::fuzz_target;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::nid::Nid;
use openssl::pkey::Private;
use openssl::sha::sha384;

struct MadeUp {
    at: SystemTime,
    root: Root,
    key: EcKey<Private>,
}

/// testdata/attestation/made-up.json
static MADE_UP: LazyLock<MadeUp> = LazyLock::new(|| {
    let file: serde_json::Value = serde_json::from_slice(include_bytes!("../../testdata/attestation/made-up.json")).expect("JSON");
    let unhex = |name: &str| {
        let text = file[name].as_str().expect("a text");
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("digits")).collect::<Vec<u8>>()
    };
    let group = EcGroup::from_curve_name(Nid::SECP384R1).expect("P-384");
    let scalar = BigNum::from_slice(&unhex("key")).expect("a number");
    let mut point = EcPoint::new(&group).expect("a point");
    point.mul_generator2(&group, &scalar, &mut openssl::bn::BigNumContext::new().expect("memory")).expect("a point");
    MadeUp {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(file["at"].as_u64().expect("a time")),
        root: Root::from_der(&unhex("root")).expect("a root"),
        key: EcKey::from_private_components(&group, &scalar, &point).expect("a key"),
    }
});

fuzz_target!(|input: &[u8]| match input.split_first() {
    Some((0, document)) => decode(document),
    Some((1, payload)) => verify(payload),
    _ => {}
});

fn decode(bytes: &[u8]) {
    let Ok(document) = Document::decode(bytes) else { return };
    assert_eq!(document.raw(), bytes);
    let envelope: Value = read(bytes.strip_prefix(&[0xd2]).unwrap_or(bytes));
    let payload = envelope.as_array().expect("four parts")[2].as_bytes().expect("bytes").clone();
    agree(&document, &payload);
}

fn verify(payload: &[u8]) {
    let head = |len: usize| [&[0x59][..], &u16::try_from(len).expect("short").to_be_bytes()].concat();
    let signed = [&b"\x84\x6aSignature1\x44\xa1\x01\x38\x22\x40"[..], &head(payload.len()), payload].concat();
    let signature = EcdsaSig::sign(&sha384(&signed), &MADE_UP.key).expect("a signature");
    let half = |n: &openssl::bn::BigNumRef| n.to_vec_padded(48).expect("48 bytes");
    let document =
        [b"\x84\x44\xa1\x01\x38\x22\xa0", &head(payload.len())[..], payload, b"\x58\x60", &half(signature.r()), &half(signature.s())]
            .concat();
    let Ok(decoded) = Document::decode(&document) else { return };
    agree(&decoded, payload);
    // All that is told in words, and in JSON.
    let _ = decoded.to_json().to_string();
    match decoded.verify(&Expected::at(MADE_UP.at).root(MADE_UP.root.clone()).nonce(b"a nonce")) {
        Ok(verified) => {
            let document = verified.document();
            assert_eq!((document.digest(), document.nonce()), ("SHA384", Some(&b"a nonce"[..])));
            assert_eq!(document.cabundle()[0], MADE_UP.root.as_der());
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

fn read(bytes: &[u8]) -> Value {
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).expect("CBOR for ciborium, too");
    assert!(rest.is_empty(), "something follows");
    value
}

fn agree(document: &Document, payload: &[u8]) {
    let Value::Map(fields) = read(payload) else { panic!("no map") };
    let of = |name: &str| {
        let mut named = fields.iter().filter(|(key, _)| key.as_text() == Some(name));
        let value = named.next().map(|(_, value)| value);
        assert!(named.next().is_none(), "{name} twice");
        value
    };
    assert_eq!(of("module_id").and_then(Value::as_text), Some(document.module_id()));
    assert_eq!(of("digest").and_then(Value::as_text), Some(document.digest()));
    assert_eq!(of("timestamp").and_then(Value::as_integer), Some(document.timestamp().into()));
    assert_eq!(of("certificate").and_then(Value::as_bytes).map(Vec::as_slice), Some(document.certificate()));
    for (name, value) in [("nonce", document.nonce()), ("user_data", document.user_data()), ("public_key", document.public_key())] {
        assert_eq!(of(name).and_then(Value::as_bytes).map(Vec::as_slice), value);
    }
    let bundle: Vec<_> =
        of("cabundle").and_then(Value::as_array).expect("a bundle").iter().map(|one| one.as_bytes().expect("bytes")).collect();
    assert!(bundle.into_iter().eq(document.cabundle()));
    let pcrs = of("nitrotpm_pcrs").or(of("pcrs")).and_then(Value::as_map).expect("registers");
    assert_eq!(pcrs.len(), document.pcrs().len());
    for (number, value) in pcrs {
        let number = u8::try_from(number.as_integer().expect("a number")).expect("a register");
        assert_eq!(value.as_bytes(), document.pcrs().get(&number));
    }
}
