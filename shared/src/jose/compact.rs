//! Compact serializations, read strictly. josekit would take more than the protocol does (other `enc`, short GCM tags, `zip`,
//! unverified `crit`), and compares MACs in variable time: so header and lengths are checked before it sees a token, and the HMAC here.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use josekit::jwe::alg::direct::DirectJweDecrypter;
use josekit::jwe::{self, Dir};
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::base64url;

/// What is wrong with a token. For logs only.
pub(crate) type Fault = &'static str;

/// The members of a JSON object (RFC 8259) whose names are unique: two readers cannot see two things in it.
pub(crate) fn unique_members(json: &[u8]) -> Result<Map<String, Value>, Fault> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let members = reader.deserialize_map(UniqueMembers).and_then(|members| reader.end().map(|()| members));
    members.map_err(|_| "no JSON object, or a name stands twice")
}

struct UniqueMembers;

impl<'de> Visitor<'de> for UniqueMembers {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = map.next_entry()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(members)
    }
}

/// A JOSE header. Nothing in it is verified.
pub(crate) struct Header(Map<String, Value>);

impl Header {
    pub(crate) fn decode(part: &[u8]) -> Result<Self, Fault> {
        let json = base64url::decode_vec(part).ok_or("the header is not canonical base64url")?;
        unique_members(&json).map(Self)
    }

    /// Whether it consists of exactly these members. Nothing else is understood, so nothing else is there: no `crit`, no `zip`, no key.
    pub(crate) fn is(&self, members: &[(&str, &str)]) -> bool {
        self.0.len() == members.len() && members.iter().all(|(name, value)| self.get(name) == Some(value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

fn split<const N: usize>(token: &[u8]) -> Option<[&[u8]; N]> {
    let mut parts = token.split(|b| *b == b'.');
    let mut split = [&[][..]; N];
    for part in &mut split {
        *part = parts.next()?;
    }
    parts.next().is_none().then_some(split)
}

/// A key for HS256 (RFC 7518 §3.2), ready for use.
pub(crate) struct Hs256(Hmac<Sha256>);

impl Hs256 {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes any key length")))
    }

    /// The payload of a JWS with a header that `accepts`, if its MAC is right. Compared in constant time.
    pub(crate) fn verify(&self, token: &[u8], accepts: impl FnOnce(&Header) -> bool) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let [header, payload, signature] = split(token).ok_or("a compact JWS has three parts")?;
        if !accepts(&Header::decode(header)?) {
            return Err("the JWS header is not the one that is required");
        }
        let signature = base64url::decode::<32>(signature).ok_or("the signature is not 32 bytes of canonical base64url")?;
        let mut mac = self.0.clone();
        mac.update(&token[..header.len() + 1 + payload.len()]);
        mac.verify_slice(&signature).map_err(|_| "the signature is wrong")?;
        base64url::decode_vec(payload).map(Zeroizing::new).ok_or("the payload is not canonical base64url")
    }
}

/// A key for `dir` with A256GCM (RFC 7518 §4.5, §5.3).
pub(crate) struct A256Gcm(DirectJweDecrypter);

impl A256Gcm {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Dir.decrypter_from_bytes(key).unwrap_or_else(|_| unreachable!("dir takes any key")))
    }

    /// The plaintext of a JWE with a header that `accepts`, if it was encrypted with this key.
    ///
    /// `accepts` must pin `alg` to `dir` and `enc` to `A256GCM` and let no `zip` pass.
    pub(crate) fn decrypt(&self, token: &[u8], accepts: impl FnOnce(&Header) -> bool) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let [header, encrypted_key, iv, _, tag] = split(token).ok_or("a compact JWE has five parts")?;
        if !accepts(&Header::decode(header)?) {
            return Err("the JWE header is not the one that is required");
        }
        if !encrypted_key.is_empty() {
            return Err("a JWE with alg dir has no encrypted key");
        }
        base64url::decode::<12>(iv).ok_or("the IV is not 12 bytes of canonical base64url")?;
        base64url::decode::<16>(tag).ok_or("the tag is not 16 bytes of canonical base64url")?;
        let token = std::str::from_utf8(token).map_err(|_| "the token is no text")?;
        jwe::deserialize_compact(token, &self.0).map(|(plaintext, _)| Zeroizing::new(plaintext)).map_err(|_| "the JWE cannot be decrypted")
    }
}
