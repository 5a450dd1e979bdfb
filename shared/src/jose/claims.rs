//! What a token says of its request (docs/protocol.md, "Claims").

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// The claims that the protocol checks, and `nbf`, which it does not and therefore refuses.
const RESERVED: [&str; 7] = ["aud", "htm", "htu", "n", "iat", "exp", "nbf"];

/// The highest `n`, and the latest time: what every JSON reader takes as an integer (RFC 8259 §6).
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// How far `exp` lies behind `iat` at most, in seconds.
pub(super) const LIFETIME: u64 = 60;

/// What of a request its token covers.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// `https://` and the authority: [`Authority::audience`](crate::Authority::audience).
    pub audience: &'a str,
    /// The method.
    pub method: &'a str,
    /// The origin-form target with its query, as it is sent: [`origin_form`](Self::origin_form).
    pub target: &'a str,
}

impl SignedRequest<'_> {
    /// The origin-form of a request's target (RFC 9112 §3.2.1), unnormalised: path and query.
    #[must_use]
    pub fn origin_form(uri: &http::Uri) -> std::borrow::Cow<'_, str> {
        crate::origin_form(uri)
    }
}

/// Claims of the caller's own, beside those of the protocol. They reach the handler as they are.
#[derive(Clone, Default, PartialEq)]
pub struct ExtraClaims(Map<String, Value>);

impl ExtraClaims {
    /// Takes a map of claims.
    ///
    /// # Errors
    /// When one has a name that the protocol uses itself.
    pub fn new(claims: Map<String, Value>) -> Result<Self, ReservedClaim> {
        match RESERVED.into_iter().find(|name| claims.contains_key(*name)) {
            Some(name) => Err(ReservedClaim(name)),
            None => Ok(Self(claims)),
        }
    }

    /// The claims.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The claims.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The names only: a claim may travel encrypted because it is nobody's business.
impl fmt::Debug for ExtraClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A claim has a name that the protocol uses itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claim {0} is the protocol's own: aud, htm, htu, n, iat, exp and nbf cannot be set")]
pub struct ReservedClaim(&'static str);

/// A payload as it is signed.
#[derive(Serialize)]
pub(super) struct Payload<'a> {
    aud: &'a str,
    htm: &'a str,
    htu: &'a str,
    n: u64,
    iat: u64,
    exp: u64,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

impl<'a> Payload<'a> {
    /// `None` where a number is out of range: no server would take it.
    pub(super) fn new(request: &SignedRequest<'a>, n: u64, now: u64, extra: &'a ExtraClaims) -> Option<Self> {
        let exp = now.checked_add(LIFETIME).filter(|exp| *exp <= MAX_INTEGER && (1..=MAX_INTEGER).contains(&n))?;
        Some(Self { aud: request.audience, htm: request.method, htu: request.target, n, iat: now, exp, extra: &extra.0 })
    }
}

/// The payload of a token whose MAC is right. Its claims are not checked yet.
pub struct VerifiedPayload(pub(super) Zeroizing<Vec<u8>>);

impl fmt::Debug for VerifiedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifiedPayload(..)")
    }
}

/// The claims of a token that fits its request. `n` has still to be [taken](super::Window::admit).
#[derive(Debug)]
#[non_exhaustive]
pub struct Claims {
    /// The number that the connection takes once.
    pub n: u64,
    /// When it was made, in seconds since 1970-01-01T00:00:00Z.
    pub iat: u64,
    /// When it ends, in seconds since 1970-01-01T00:00:00Z; at most 60 after `iat`.
    pub exp: u64,
    /// The caller's own.
    pub extra: ExtraClaims,
}

/// Why a token of this connection is not taken with this request. A peer may be told the variant: it holds the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// It is not of this time.
    #[error("the token is not of this time: {0}")]
    Time(&'static str),
    /// It does not fit this request, or its number was used.
    #[error("the token does not fit the request: {0}")]
    Claims(&'static str),
}

impl VerifiedPayload {
    /// Checks that the token is for `request` and of this time: `now` in seconds since 1970-01-01T00:00:00Z, `leeway` for clocks that differ.
    ///
    /// # Errors
    /// When a claim is missing, or does not fit.
    pub fn check(&self, request: &SignedRequest<'_>, now: u64, leeway: Duration) -> Result<Claims, ClaimsError> {
        let claims: Members<'_> =
            serde_json::from_slice(&self.0).map_err(|_| ClaimsError::Claims("no JSON object, or a name stands twice"))?;
        if claims.nbf.is_some() {
            return Err(ClaimsError::Claims("nbf is no claim of this protocol"));
        }
        let [aud, htm, htu] = [text(&claims.aud)?, text(&claims.htm)?, text(&claims.htu)?];
        let n = integer(&claims.n).and_then(|n| if n == 0 { Err(ClaimsError::Claims("n is 0")) } else { Ok(n) })?;
        let [iat, exp] = [integer(&claims.iat)?, integer(&claims.exp)?];

        let leeway = leeway.as_secs();
        if !(iat..=iat + LIFETIME).contains(&exp) {
            return Err(ClaimsError::Time("exp is not within 60 s after iat"));
        }
        if iat > now.saturating_add(leeway) {
            return Err(ClaimsError::Time("iat lies in the future: do the clocks differ?"));
        }
        if now > exp.saturating_add(leeway) {
            return Err(ClaimsError::Time("it has expired: do the clocks differ?"));
        }
        for (claim, asked, fault) in [
            (aud, request.audience, "aud names another origin"),
            (htm, request.method, "htm names another method"),
            (htu, request.target, "htu names another target"),
        ] {
            if claim != asked {
                return Err(ClaimsError::Claims(fault));
            }
        }
        Ok(Claims { n, iat, exp, extra: ExtraClaims(claims.extra) })
    }
}

/// A payload's members by their names. The protocol's own are neither copied nor put into a map.
#[derive(Default)]
struct Members<'a> {
    aud: Option<Member<'a>>,
    htm: Option<Member<'a>>,
    htu: Option<Member<'a>>,
    n: Option<Member<'a>>,
    iat: Option<Member<'a>>,
    exp: Option<Member<'a>>,
    nbf: Option<Member<'a>>,
    extra: Map<String, Value>,
}

enum Member<'a> {
    Text(Cow<'a, str>),
    Integer(u64),
    /// Of any other type.
    Other,
}

impl<'a> Members<'a> {
    fn own(&mut self, name: &str) -> Option<&mut Option<Member<'a>>> {
        Some(match name {
            "aud" => &mut self.aud,
            "htm" => &mut self.htm,
            "htu" => &mut self.htu,
            "n" => &mut self.n,
            "iat" => &mut self.iat,
            "exp" => &mut self.exp,
            "nbf" => &mut self.nbf,
            _ => return None,
        })
    }
}

/// Names are unique: two readers cannot see two things in it (RFC 8259 §4).
impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(Text(name)) = map.next_key()? {
                    let stands_twice = match members.own(&name) {
                        Some(own) => own.replace(map.next_value()?).is_some(),
                        None => members.extra.insert(name.into_owned(), map.next_value()?).is_some(),
                    };
                    if stands_twice {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A string that is copied only where it is written with escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;
        impl<'de> Visitor<'de> for MemberVisitor {
            type Value = Member<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Member::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Member::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, integer: u64) -> Result<Self::Value, E> {
                Ok(Member::Integer(integer))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Member::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Member::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Member::Other)
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Member::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<Value>()?.is_some() {}
                Ok(Member::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                while members.next_entry::<String, Value>()?.is_some() {}
                Ok(Member::Other)
            }
        }
        deserializer.deserialize_any(MemberVisitor)
    }
}

fn text<'a>(member: &'a Option<Member<'_>>) -> Result<&'a str, ClaimsError> {
    match member {
        Some(Member::Text(text)) => Ok(text),
        _ => Err(ClaimsError::Claims("aud, htm or htu is missing, or no text")),
    }
}

fn integer(member: &Option<Member<'_>>) -> Result<u64, ClaimsError> {
    match member {
        Some(Member::Integer(integer)) if *integer <= MAX_INTEGER => Ok(*integer),
        _ => Err(ClaimsError::Claims("n, iat or exp is missing, or no integer from 0 to 2^53-1")),
    }
}
