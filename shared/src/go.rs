//! The wire of the Go original (docs/protocol.md, "The profile go"), so that a fleet that runs it can move over one side at a time.
//!
//! It is weaker than v1, and nothing else imports this module. Its password and tokens fit one TLS connection only, as in v1; but the
//! server proves nothing, the server's name is not covered, a token covers neither request nor time, and in a JWS no key id.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use constant_time_eq::constant_time_eq_32;
use josekit::jws::JwsHeader;
use josekit::{jwe, jws};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::field::PresentedToken;
use crate::jose::compact::{A256Gcm, Fault, Header, Hs256, RequiredHeader, unique_members};
use crate::jose::token::{encrypter, hs256};
use crate::jose::{NotVerified, SignError};
use crate::{KeyId, Tag};

/// The longest token that is read, in bytes.
pub const MAX_TOKEN_LEN: usize = 4096;

/// What a key is for: says which keying material is exported, 32 bytes of it, and what of it is MACed.
#[derive(Clone, Copy, Debug)]
pub enum Usage<'a> {
    /// The header field `apikey`, for this client id.
    ApiKey(&'a KeyId),
    /// The key of the JWS.
    Signing,
    /// The key of the JWE.
    Encryption,
}

impl Usage<'_> {
    /// The exporter's label.
    #[must_use]
    pub fn label(&self) -> &'static [u8] {
        match self {
            Self::ApiKey(_) => b"EXPORTER-my_label",
            Self::Signing | Self::Encryption => b"EXPORTER-Channel-Binding",
        }
    }

    /// The exporter's context.
    #[must_use]
    pub fn context(&self) -> &[u8] {
        match self {
            Self::ApiKey(client) => client.as_str().as_bytes(),
            Self::Signing => b"sig_key",
            Self::Encryption => b"enc_key",
        }
    }

    /// What the holder of the secret MACs: HMAC-SHA256 of it is the key.
    ///
    /// The API key is the first block of NIST SP 800-108 §4.1 (KDF in counter mode) over the keying material, but with a counter that
    /// starts at 0 and no label.
    #[must_use]
    pub fn mac_input(&self, ekm: &[u8; 32]) -> Zeroizing<Vec<u8>> {
        let mut input = Zeroizing::new(Vec::with_capacity(40));
        match self {
            Self::ApiKey(_) => {
                input.extend_from_slice(&0_u32.to_be_bytes());
                input.extend_from_slice(ekm);
                input.extend_from_slice(&256_u32.to_be_bytes());
            }
            Self::Signing | Self::Encryption => input.extend_from_slice(ekm),
        }
        input
    }
}

/// The API key of one connection and client id.
pub struct ApiKey(Tag);

impl ApiKey {
    /// Takes the MAC of [`Usage::ApiKey`].
    #[must_use]
    pub fn new(tag: Tag) -> Self {
        Self(tag)
    }

    /// As the field `apikey` holds it: standard base64, padded.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.0.0))
    }

    /// Whether `presented` is this key, in its one spelling, in constant time.
    #[must_use]
    pub fn verify(&self, presented: &[u8]) -> bool {
        let mut bytes = Zeroizing::new([0; 32]);
        presented.len() == 44 && STANDARD.decode_slice(presented, &mut *bytes) == Ok(32) && constant_time_eq_32(&bytes, &self.0.0)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Signs `claims` with the MAC of [`Usage::Signing`].
///
/// # Errors
/// When josekit fails.
pub fn sign(signing: &Tag, claims: &Map<String, Value>) -> Result<Zeroizing<String>, SignError> {
    let payload = Zeroizing::new(serde_json::to_vec(claims)?);
    Ok(Zeroizing::new(jws::serialize_compact(&payload, &JwsHeader::new(), &hs256(&signing.0))?))
}

/// Encrypts a JWS with the MAC of [`Usage::Encryption`].
///
/// # Errors
/// When josekit fails.
pub fn encrypt(encryption: &Tag, kid: &KeyId, jws: &str) -> Result<Zeroizing<String>, SignError> {
    let (key, header) = encrypter(&encryption.0, kid);
    Ok(Zeroizing::new(jwe::serialize_compact(jws.as_bytes(), &header, &key)?))
}

/// A token as it was presented. Nothing of it is verified.
#[derive(Debug)]
pub struct Bearer<'a> {
    token: PresentedToken<'a>,
    /// A JWE's; a JWS names none.
    kid: Option<KeyId>,
}

impl<'a> Bearer<'a> {
    /// Tells JWS from JWE by the number of parts, and reads a JWE's key id.
    ///
    /// # Errors
    /// When it is neither, is too long, or a JWE names no key id.
    pub fn read(token: &'a [u8]) -> Result<Self, NotVerified> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(NotVerified("the token is longer than 4096 bytes"));
        }
        let mut parts = token.split(|b| *b == b'.');
        let (header, further) = (parts.next().unwrap_or_default(), parts.count());
        let kid = match further {
            2 => None,
            4 => {
                let header = Header::decode(header).map_err(NotVerified)?;
                Some(header.get("kid").and_then(|kid| KeyId::new(kid).ok()).ok_or(NotVerified("the JWE names no key id"))?)
            }
            _ => return Err(NotVerified("a JWS has three parts, a JWE five")),
        };
        Ok(Self { token: PresentedToken::from_bytes(token), kid })
    }

    /// The key id that a JWE names. A JWS names none.
    #[must_use]
    pub fn kid(&self) -> Option<&KeyId> {
        self.kid.as_ref()
    }

    /// The claims, if the token was made with these keys: the MACs of [`Usage::Signing`] and, for a JWE, of [`Usage::Encryption`].
    /// `exp` and `nbf` are checked where they are there: `now` in seconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// When it was not, or its time is over or has not come.
    pub fn verify(&self, signing: &Tag, encryption: &Tag, now: u64, leeway: Duration) -> Result<Map<String, Value>, NotVerified> {
        let token = self.token.as_bytes();
        let payload = match &self.kid {
            None => verify_jws(signing, token),
            Some(kid) => {
                let required = RequiredHeader::of_jwe(kid);
                A256Gcm::new(&encryption.0).decrypt(token, |header| required.check(header)).and_then(|jws| verify_jws(signing, &jws))
            }
        };
        let claims = payload.and_then(|payload| unique_members(&payload)).map_err(NotVerified)?;
        let time = |name: &str| claims.get(name).map(|time| time.as_f64().ok_or(NotVerified("exp or nbf is no number"))).transpose();
        let (now, leeway) = (now as f64, leeway.as_secs_f64());
        if time("exp")?.is_some_and(|exp| now > exp + leeway) || time("nbf")?.is_some_and(|nbf| nbf > now + leeway) {
            return Err(NotVerified("its time is over, or has not come"));
        }
        Ok(claims)
    }
}

fn verify_jws(signing: &Tag, token: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    const HS256: (&str, &str) = ("alg", "HS256");
    let (bare, typed) = (RequiredHeader::new(&[HS256], None), RequiredHeader::new(&[HS256, ("typ", "JWT")], None));
    Hs256::new(&signing.0).verify(token, |header| bare.check(header).or_else(|_| typed.check(header)))
}
