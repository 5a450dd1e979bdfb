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
use crate::signer::{refuse_claims, sensitive};
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
            tags.push(connector.key.mac(input).await?);
        }
        let mut tags = tags.into_iter();
        let signer: Box<dyn Sign> = match (connector.kind, tags.next(), tags.next()) {
            (CredentialKind::Otp, Some(tag), _) => {
                Box::new(Key { client: connector.kid.clone(), key: sensitive(&ApiKey::new(tag).encode()) })
            }
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
        let mut claims = request.extensions_mut().remove::<ExtraClaims>().unwrap_or_default().into_map();
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
