//! Compact serializations, read strictly. josekit's own readers would take more than the protocol does (other `enc`, short GCM tags, `zip`,
//! unverified `crit`), and compare MACs in variable time: so josekit only writes.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{KeyId, base64url};

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

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

/// The members that a header must consist of. Nothing else is understood, so nothing else may be there: no `crit`, no `zip`, no key.
pub(crate) struct RequiredHeader {
    members: &'static [(&'static str, &'static str)],
    kid: Option<KeyId>,
}

impl RequiredHeader {
    /// These members, and `kid` where there is one.
    pub(crate) fn new(members: &'static [(&'static str, &'static str)], kid: Option<&KeyId>) -> Self {
        Self { members, kid: kid.cloned() }
    }

    /// The header of a nested JWT (RFC 7516 §4.1, RFC 7519 §5), the same in all profiles.
    pub(crate) fn of_jwe(kid: &KeyId) -> Self {
        Self::new(&[("alg", "dir"), ("enc", "A256GCM"), ("cty", "JWT"), ("typ", "JWT")], Some(kid))
    }

    pub(crate) fn check(&self, part: &[u8]) -> Result<(), Fault> {
        let header = Header::decode(part)?;
        let kid = self.kid.iter().map(|kid| ("kid", kid.as_str()));
        let mut required = self.members.iter().copied().chain(kid);
        if header.0.len() != required.clone().count() || !required.all(|(name, value)| header.get(name) == Some(value)) {
            return Err("the header is not the one that is required");
        }
        Ok(())
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

    /// The payload of a JWS whose header passes `check`, if its MAC is right. Compared in constant time.
    pub(crate) fn verify(&self, token: &[u8], check: impl FnOnce(&[u8]) -> Result<(), Fault>) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let [header, payload, signature] = split(token).ok_or("a compact JWS has three parts")?;
        check(header)?;
        let signature = base64url::decode::<32>(signature).ok_or("the signature is not 32 bytes of canonical base64url")?;
        let mut mac = self.0.clone();
        mac.update(&token[..header.len() + 1 + payload.len()]);
        mac.verify_slice(&signature).map_err(|_| "the signature is wrong")?;
        base64url::decode_vec(payload).map(Zeroizing::new).ok_or("the payload is not canonical base64url")
    }
}

/// A key for A256GCM (RFC 7518 §5.3), ready for use.
pub(crate) struct A256Gcm(Box<Aes256Gcm>);

impl A256Gcm {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Box::new(Aes256Gcm::new(key.into())))
    }

    /// The plaintext of a JWE with `dir` (RFC 7518 §4.5) whose header passes `check`, if it was encrypted with this key.
    pub(crate) fn decrypt(&self, token: &[u8], check: impl FnOnce(&[u8]) -> Result<(), Fault>) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let [header, encrypted_key, iv, ciphertext, tag] = split(token).ok_or("a compact JWE has five parts")?;
        check(header)?;
        if !encrypted_key.is_empty() {
            return Err("a JWE with alg dir has no encrypted key");
        }
        let iv = base64url::decode::<12>(iv).ok_or("the IV is not 12 bytes of canonical base64url")?;
        let tag = base64url::decode::<16>(tag).ok_or("the tag is not 16 bytes of canonical base64url")?;
        let ciphertext = base64url::decode_vec(ciphertext).ok_or("the ciphertext is not canonical base64url")?;
        let mut text = Zeroizing::new(ciphertext);
        let decrypted = self.0.decrypt_inout_detached(&iv.into(), header, text.as_mut_slice().into(), &tag.into());
        decrypted.map(|()| text).map_err(|_| "the JWE cannot be decrypted")
    }
}
