//! Public keys as JSON Web Key Sets (RFC 7517), for whoever verifies what their private halves signed.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use der::asn1::UintRef;
use der::{Decode as _, Sequence};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::key::{PublicKey, PublicKeyKind};

/// RSAPublicKey (RFC 8017 A.1.1)
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// The members that make a key what it is, in the order of RFC 7638 §3.2: alphabetical.
fn members(key: &PublicKey) -> Option<Map<String, Value>> {
    let info = <SubjectPublicKeyInfoRef<'_> as x509_cert::der::Decode<'_>>::from_der(key.as_der()).ok()?;
    let bits = info.subject_public_key.raw_bytes();
    let text = |bytes: &[u8]| Value::from(BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let members = match key.kind() {
        PublicKeyKind::Rsa => {
            let RsaPublicKey { modulus, exponent } = RsaPublicKey::from_der(bits).ok()?;
            vec![("e", text(exponent.as_bytes())), ("kty", "RSA".into()), ("n", text(modulus.as_bytes()))]
        }
        PublicKeyKind::P256 | PublicKeyKind::P384 => {
            // Uncompressed (SEC 1, 2.3.3): 04, x, y.
            let point = bits.strip_prefix(&[4])?;
            let (x, y) = point.split_at(point.len() / 2);
            let curve = if key.kind() == PublicKeyKind::P256 { "P-256" } else { "P-384" };
            vec![("crv", curve.into()), ("kty", "EC".into()), ("x", text(x)), ("y", text(y))]
        }
    };
    Some(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The key's thumbprint (RFC 7638) in base64url, to be its `kid`. `None` for a key whose points are compressed.
#[must_use]
pub fn jwk_thumbprint(key: &PublicKey) -> Option<String> {
    let members = members(key)?.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect::<Vec<_>>();
    Some(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{{{}}}", members.join(",")))))
}

/// The set with this key, its thumbprint being its `kid`.
#[must_use]
pub fn jwks(key: &PublicKey) -> Option<Value> {
    let mut jwk = members(key)?;
    let algorithm = match key.kind() {
        PublicKeyKind::Rsa => "RS256",
        PublicKeyKind::P256 => "ES256",
        PublicKeyKind::P384 => "ES384",
    };
    jwk.insert("kid".into(), jwk_thumbprint(key)?.into());
    jwk.insert("alg".into(), algorithm.into());
    jwk.insert("use".into(), "sig".into());
    Some(json!({ "keys": [jwk] }))
}
