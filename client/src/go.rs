//! The profile `go`: the wire of the Go original (docs/protocol.md, "The profile go"). Nothing else imports this module.

use ekm_otp::field::CredentialKind;
use ekm_otp::go::{self, ApiKey, Usage};
use ekm_otp::jose::ExtraClaims;
use ekm_otp::{KeyId, Tag};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Request};
use rustls::ClientConnection;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::connection::{Body, Keys, Sign};
use crate::credential::{refuse_claims, sensitive};
use crate::{ConnectError, Connector, Mutual, RequestError};

impl Connector {
    /// Speaks the wire of the Go original: its API key where the [credential](Self::credential) is `Otp`, its JWS or JWE else, with the
    /// claims `iss` and `sub` (both the key id) and those that a request's extensions hold.
    ///
    /// It is weaker than v1. The server proves nothing: a rogue server with a valid certificate is not found out, so this sets
    /// [`Mutual::Prefer`] (with [`Mutual::Require`] no connection comes about). The server's name is not covered. Tokens cover neither request nor time.
    #[must_use]
    pub fn profile_go(mut self) -> Self {
        self.other_profile = Some(keys);
        self.mutual(Mutual::Prefer)
    }
}

/// Exports at once; the stream is hyper's afterwards.
fn keys<'a>(connector: &'a Connector, tls: &ClientConnection) -> BoxFuture<'a, Result<Keys, ConnectError>> {
    let usages: &[Usage<'_>] = match connector.kind {
        CredentialKind::Otp => &[Usage::ApiKey(&connector.kid)],
        CredentialKind::Jws => &[Usage::Signing],
        CredentialKind::Jwe => &[Usage::Signing, Usage::Encryption],
    };
    let export = |usage: &Usage<'_>| {
        let mut ekm = Zeroizing::new([0; 32]);
        tls.export_keying_material(&mut ekm[..], usage.label(), Some(usage.context()))?;
        Ok::<_, rustls::Error>(usage.mac_input(&ekm))
    };
    let inputs = usages.iter().map(export).collect::<Result<Vec<_>, _>>();
    async move {
        let inputs = inputs.map_err(|e| ConnectError::Policy(e.into()))?;
        let mut tags = Vec::with_capacity(2);
        for input in &inputs {
            tags.push(connector.signer.mac(input).await?);
        }
        let mut tags = tags.into_iter();
        let signer: Box<dyn Sign> = match (connector.kind, tags.next(), tags.next()) {
            (CredentialKind::Otp, Some(tag), _) => Box::new(Key::new(connector.kid.clone(), tag)),
            (_, Some(signing), encryption) => Box::new(Tokens { kid: connector.kid.clone(), signing, encryption }),
            (_, None, _) => unreachable!("each kind has a usage"),
        };
        Ok(Keys { signer, proof: None })
    }
    .boxed()
}

/// The API key of the connection.
struct Key {
    client: KeyId,
    key: HeaderValue,
}

impl Key {
    fn new(client: KeyId, tag: Tag) -> Self {
        Self { client, key: sensitive(&ApiKey::new(tag).encode()) }
    }
}

impl Sign for Key {
    fn sign(&mut self, request: &mut Request<Body>) -> Result<HeaderValue, RequestError> {
        refuse_claims(request)?;
        let client = HeaderValue::from_str(self.client.as_str()).unwrap_or_else(|_| unreachable!("a key id is visible ASCII"));
        request.headers_mut().insert(HeaderName::from_static("client"), client);
        request.headers_mut().insert(HeaderName::from_static("apikey"), self.key.clone());
        Ok(self.key.clone())
    }
}

/// A token for each request.
struct Tokens {
    kid: KeyId,
    signing: Tag,
    encryption: Option<Tag>,
}

impl Sign for Tokens {
    fn sign(&mut self, request: &mut Request<Body>) -> Result<HeaderValue, RequestError> {
        let mut claims = request.extensions().get::<ExtraClaims>().cloned().unwrap_or_default().into_map();
        for name in ["iss", "sub"] {
            claims.entry(name).or_insert_with(|| Value::from(self.kid.as_str()));
        }
        let mut token = go::sign(&self.signing, &claims)?;
        if let Some(encryption) = &self.encryption {
            token = go::encrypt(encryption, &self.kid, &token)?;
        }
        if token.len() > go::MAX_TOKEN_LEN {
            return Err(RequestError::ClaimsTooLong(format!(
                "the token would have {} bytes, and a server reads at most {}",
                token.len(),
                go::MAX_TOKEN_LEN
            )));
        }
        let credential = sensitive(&format!("Bearer {}", *token));
        request.headers_mut().insert(AUTHORIZATION, credential.clone());
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use ekm_otp::go::Bearer;
    use http_body_util::{BodyExt as _, Empty};
    use serde_json::{Map, json};

    use super::*;

    fn tag() -> Tag {
        Tag::from_bytes([0x5a; 32])
    }

    fn kid() -> KeyId {
        KeyId::new("gopher").expect("a key id")
    }

    fn request(claims: &Value) -> Request<Body> {
        let claims = ExtraClaims::new(claims.as_object().expect("an object").clone()).expect("free names");
        let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
        Request::get("/").extension(claims).body(body).expect("a request")
    }

    /// In both forms.
    fn tokens() -> [Tokens; 2] {
        [None, Some(tag())].map(|encryption| Tokens { kid: kid(), signing: tag(), encryption })
    }

    fn claims_of(request: &Request<Body>) -> Map<String, Value> {
        let field = request.headers()[AUTHORIZATION].to_str().expect("ASCII");
        let token = Bearer::read(field.strip_prefix("Bearer ").expect("the scheme").as_bytes()).expect("a token");
        token.verify(&tag(), &tag(), 0, Duration::ZERO).expect("our own token")
    }

    #[test]
    fn iss_and_sub_are_the_key_id_unless_the_caller_has_others() {
        for mut tokens in tokens() {
            for (own, expected) in [
                (json!({}), json!({"iss": "gopher", "sub": "gopher"})),
                (json!({"sub": "alice"}), json!({"iss": "gopher", "sub": "alice"})),
                (json!({"iss": 7, "sub": "alice"}), json!({"iss": 7, "sub": "alice"})),
            ] {
                let mut request = request(&own);
                tokens.sign(&mut request).expect("a token");
                assert_eq!(Value::from(claims_of(&request)), expected);
            }
        }
    }

    #[test]
    fn a_token_that_no_server_would_read_is_not_sent() {
        for (mut tokens, fits) in tokens().into_iter().zip([2900, 2000]) {
            assert!(tokens.sign(&mut request(&json!({"x": "x".repeat(fits)}))).is_ok());
            let mut long = request(&json!({"x": "x".repeat(3100)}));
            assert!(matches!(tokens.sign(&mut long), Err(RequestError::ClaimsTooLong(_))));
            assert!(!long.headers().contains_key(AUTHORIZATION));
        }
    }

    #[test]
    fn claims_are_refused_beside_an_api_key() {
        let mut key = Key::new(kid(), tag());
        assert!(matches!(key.sign(&mut request(&json!({"role": "admin"}))), Err(RequestError::NoToken)));
        assert!(key.sign(&mut request(&json!({}))).is_ok());
    }

    #[test]
    fn every_credential_is_marked_as_sensitive() {
        let mut signed = request(&json!({}));
        assert!(Key::new(kid(), tag()).sign(&mut signed).expect("a key").is_sensitive());
        assert!(signed.headers()["apikey"].is_sensitive());
        for mut tokens in tokens() {
            let mut signed = request(&json!({}));
            assert!(tokens.sign(&mut signed).expect("a token").is_sensitive());
            assert!(signed.headers()[AUTHORIZATION].is_sensitive());
        }
    }
}
