//! The profile `go`: the wire of the Go original (docs/protocol.md, "The profile go"). Nothing else imports this module.

use std::sync::Arc;

use ekm_otp::field::{CredentialError, CredentialKind};
use ekm_otp::go::{ApiKey, Bearer, Usage};
use ekm_otp::{KeyId, Profile, Tag};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use crate::Authentication;
use crate::jose::{VerifiedClaims, unix_time};
use crate::profile::{Exporter, ForeignCredential, OtherProfile, Registry};
use crate::refusal::Refusal;
use crate::registered_key::RegisteredKey;

const CLIENT: HeaderName = HeaderName::from_static("client");
const API_KEY: HeaderName = HeaderName::from_static("apikey");

impl Authentication {
    /// Takes the credentials of the Go original too, from keys that are registered [for it](RegisteredKey::with_profile), in the
    /// [kinds](Self::kinds) that are accepted: its API key counts as `Otp`. A JWS of it names no key: it is checked with `default_kid`'s.
    ///
    /// It is weaker than v1: the server proves nothing, so a rogue server with a valid certificate is not found out; the server's name is not covered;
    /// and its tokens cover neither request nor time, so that the connection is all that they are bound to.
    ///
    /// Only connections of an [`EkmAcceptor`](crate::EkmAcceptor) have what it needs: on others its credentials are refused.
    #[must_use]
    pub fn profile_go(mut self, default_kid: Option<KeyId>) -> Self {
        self.other_profile = Some(Arc::new(Go { default_kid }));
        self
    }
}

struct Go {
    default_kid: Option<KeyId>,
}

impl OtherProfile for Go {
    fn kind_of(&self, headers: &HeaderMap) -> Option<CredentialKind> {
        match headers.get(AUTHORIZATION) {
            None => headers.contains_key(API_KEY).then_some(CredentialKind::Otp),
            Some(field) => {
                let dots = bearer(field.as_bytes())?.iter().filter(|b| **b == b'.').count();
                Some(if dots == 4 { CredentialKind::Jwe } else { CredentialKind::Jws })
            }
        }
    }

    fn verify(
        &self,
        kind: CredentialKind,
        headers: &HeaderMap,
        registry: Registry<'_>,
        exporter: &Exporter,
    ) -> Result<ForeignCredential, Refusal> {
        let look_up = |kid: &KeyId| registry.keys.look_up(kid, Profile::Go);
        let mac = |key: &RegisteredKey, usage: Usage<'_>| -> Result<Tag, Refusal> {
            Ok(key.secret().mac(&usage.mac_input(&*exporter.export(usage.label(), usage.context())?)))
        };
        match one(headers, &AUTHORIZATION)? {
            None => {
                let client =
                    one(headers, &CLIENT)?.and_then(|client| std::str::from_utf8(client).ok()).and_then(|client| KeyId::new(client).ok());
                let kid = client.ok_or(malformed("the field client names no key id"))?;
                let presented = one(headers, &API_KEY)?.unwrap_or_default();
                let key = look_up(&kid)?;
                let is_right = ApiKey::new(mac(&key, Usage::ApiKey(&kid))?).verify(presented);
                Ok(ForeignCredential { key, kid, claims: is_right.then_some(None).ok_or("another API key") })
            }
            Some(field) => {
                let token = Bearer::read(bearer(field).unwrap_or_default()).map_err(|fault| malformed(fault.0))?;
                let kid =
                    token.kid().or(self.default_kid.as_ref()).ok_or(malformed("a JWS names no key id, and no default is configured"))?;
                let key = look_up(kid)?;
                let claims = token.verify(&mac(&key, Usage::Signing)?, &mac(&key, Usage::Encryption)?, unix_time(), registry.leeway);
                let claims = claims.map(|claims| Some(VerifiedClaims::of_other_profile(kind, claims))).map_err(|fault| fault.0);
                Ok(ForeignCredential { key, kid: kid.clone(), claims })
            }
        }
    }

    fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(CLIENT);
        headers.remove(API_KEY);
    }
}

fn malformed(why: &'static str) -> Refusal {
    CredentialError::Malformed(why).into()
}

/// The token of `Authorization: Bearer <token>` (RFC 6750 §2.1).
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// The field's value, if it is there at most once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|value| value.as_bytes())),
        _ => Err(malformed("a field stands twice")),
    }
}
