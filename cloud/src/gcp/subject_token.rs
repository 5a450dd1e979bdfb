//! Tokens of one's own for workload identity federation: the key is an OIDC issuer's, whose public half was uploaded (JWKS) to the provider. And how the "executable source"
//! of Google's libraries wants to be told of them (AIP-4117, "Determining the subject token in executable-sourced credentials").

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::jwks::jwk_thumbprint;
use crate::CloudError;
use crate::jwt::UnsignedJwt;
use crate::key::{PublicKeyKind, SignatureAlgorithm, SigningKey};

/// Google refuses what lives longer.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What a subject token says.
#[derive(Clone, Debug)]
pub struct SubjectToken<'a> {
    /// The issuer, as the provider knows it: a URL.
    pub issuer: &'a str,
    /// Who: what the provider's mapping makes `google.subject` from.
    pub subject: &'a str,
    /// For whom: the provider.
    pub audience: &'a str,
    /// How long it lives: a day at most.
    pub lifetime: Duration,
}

impl SubjectToken<'_> {
    /// What is to be signed, issued at `now`, by a key of this kind and id.
    ///
    /// # Errors
    /// [`CloudError::Usage`] where Google would not take it.
    pub fn unsigned(&self, kind: PublicKeyKind, key_id: Option<String>, now: SystemTime) -> Result<UnsignedJwt, CloudError> {
        if self.lifetime > MAX_LIFETIME || self.lifetime < Duration::from_secs(1) {
            return Err(CloudError::Usage("a subject token lives from 1 second to 24 hours".into()));
        }
        let algorithm = match kind {
            PublicKeyKind::Rsa => SignatureAlgorithm::RsaSsaSha256,
            PublicKeyKind::P256 => SignatureAlgorithm::EcdsaSha256,
            PublicKeyKind::P384 => return Err(CloudError::Usage("Google takes RS256 and ES256: an RSA key, or one on P-256".into())),
        };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let texts = [("iss", self.issuer), ("sub", self.subject), ("aud", self.audience)];
        let mut claims: Map<String, Value> = texts.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), (now + self.lifetime.as_secs()).into());
        Ok(UnsignedJwt::new(algorithm, key_id.into_iter().map(|id| ("kid".to_owned(), id.into())).collect(), &claims))
    }

    /// The answer of an executable source: one JSON object. One signature.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn executable(&self, key: &dyn SigningKey, now: SystemTime) -> Result<Zeroizing<String>, CloudError> {
        let public = key.public_key();
        let token = self.unsigned(public.kind(), jwk_thumbprint(public), now)?.sign(key).await?;
        let end = now.duration_since(UNIX_EPOCH).unwrap_or_default() + self.lifetime;
        let answer = json!({
            "version": 1,
            "success": true,
            "token_type": "urn:ietf:params:oauth:token-type:jwt",
            "id_token": *token,
            "expiration_time": end.as_secs(),
        });
        Ok(Zeroizing::new(answer.to_string()))
    }
}

/// The answer of an executable source that has no token.
#[must_use]
pub fn executable_failure(code: &str, message: &str) -> String {
    json!({ "version": 1, "success": false, "code": code, "message": message }).to_string()
}
