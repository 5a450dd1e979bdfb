//! The ways from a service account's key to a token: signed by itself (AIP-4111), exchanged (RFC 7523, AIP-4112), or of another account that it may stand in for.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::account::ServiceAccount;
use crate::form::form;
use crate::http::one_line;
use crate::jwt::UnsignedJwt;
use crate::key::{SignatureAlgorithm, SigningKey};
use crate::{Answer, BearerToken, Clock, CloudError, Http};

/// Whatever the account may.
pub const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Google refuses what lives longer.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// Where tokens are asked for, and the audience of what asks, wherever that is.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const IAM_CREDENTIALS: &str = "https://iamcredentials.googleapis.com";

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These scopes.
    Scopes(Vec<String>),
    /// One service, such as `https://storage.googleapis.com/`.
    Audience(String),
}

/// A token that the account signs itself: no service is asked.
#[derive(Clone, Debug)]
pub struct SelfSigned<'a> {
    /// Whose.
    pub account: &'a ServiceAccount,
    /// What for.
    pub target: Target,
    /// How long it lives: an hour at most.
    pub lifetime: Duration,
}

impl SelfSigned<'_> {
    /// What is to be signed, issued at `now`.
    ///
    /// # Errors
    /// [`CloudError::Usage`] where Google would not take it.
    pub fn unsigned(&self, now: SystemTime) -> Result<UnsignedJwt, CloudError> {
        let mut claims = claims(self.account, self.lifetime, now)?;
        claims.insert("sub".into(), self.account.email.as_str().into());
        match &self.target {
            Target::Scopes(scopes) => claims.insert("scope".into(), scopes.join(" ").into()),
            Target::Audience(audience) => claims.insert("aud".into(), audience.as_str().into()),
        };
        Ok(unsigned(self.account, &claims))
    }

    /// The token. One signature.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn sign(&self, key: &dyn SigningKey, now: SystemTime) -> Result<BearerToken, CloudError> {
        must_be_rsa(key)?;
        Ok(BearerToken { token: self.unsigned(now)?.sign(key).await?, expires: now + self.lifetime })
    }
}

fn must_be_rsa(key: &dyn SigningKey) -> Result<(), CloudError> {
    if key.allows(SignatureAlgorithm::RsaSsaSha256) {
        Ok(())
    } else {
        Err(CloudError::Usage("a service account's key signs with RSASSA-PKCS1-v1_5 and SHA-256: this one does not".into()))
    }
}

fn claims(account: &ServiceAccount, lifetime: Duration, now: SystemTime) -> Result<Map<String, Value>, CloudError> {
    if lifetime > MAX_LIFETIME || lifetime < Duration::from_secs(1) {
        return Err(CloudError::Usage("a token lives from 1 to 3600 seconds".into()));
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = [("iss", Value::from(account.email.as_str())), ("iat", now.into()), ("exp", (now + lifetime.as_secs()).into())];
    Ok(claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn unsigned(account: &ServiceAccount, claims: &Map<String, Value>) -> UnsignedJwt {
    let key_id = account.key_id.iter().map(|id| ("kid".to_owned(), Value::from(id.as_str())));
    UnsignedJwt::new(SignatureAlgorithm::RsaSsaSha256, key_id.collect(), claims)
}

/// What is asked of the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// An access token for these scopes.
    Access(Vec<String>),
    /// An ID token for this audience.
    Id(String),
}

/// A user of the domain whom the account may stand in for (domain-wide delegation).
pub type Delegation<'a> = Option<&'a str>;

/// An account that this one may stand in for.
#[derive(Clone, Debug)]
pub struct Impersonation<'a> {
    /// Its e-mail address.
    pub email: &'a str,
    /// The accounts in between, the first of which this one may stand in for.
    pub delegates: &'a [String],
    /// How long an access token lives.
    pub lifetime: Duration,
}

/// Google's token services, and the account that asks them.
#[derive(Clone, Copy)]
pub struct TokenService<'a> {
    /// How they are reached.
    pub http: &'a Http,
    /// Who asks.
    pub account: &'a ServiceAccount,
    /// Its key.
    pub key: &'a dyn SigningKey,
    /// Where IAM's service account credentials are, where that is not Google's.
    pub iam_endpoint: Option<&'a str>,
}

impl TokenService<'_> {
    /// A token from the token endpoint. One signature, or two where the clock is off.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn grant(&self, grant: &Grant, on_behalf_of: Delegation<'_>) -> Result<BearerToken, CloudError> {
        must_be_rsa(self.key)?;
        let url = uri(self.account.token_uri.as_deref().unwrap_or(TOKEN_URI))?;
        let mut tries = self.http.tries("Google's token endpoint");
        let mut is_corrected = false;
        loop {
            let now = self.http.clock().now();
            let mut claims = claims(self.account, MAX_LIFETIME, now)?;
            claims.insert("aud".into(), TOKEN_URI.into());
            match grant {
                Grant::Access(scopes) => claims.insert("scope".into(), scopes.join(" ").into()),
                Grant::Id(audience) => claims.insert("target_audience".into(), audience.as_str().into()),
            };
            claims.extend(on_behalf_of.map(|user| ("sub".to_owned(), Value::from(user))));
            let assertion = unsigned(self.account, &claims).sign(self.key).await?;
            let body = form(&[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)]);
            let request = Request::post(url.clone()).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            let asked = SystemTime::now();
            let Some(answer) = tries.send(request.body(Bytes::from(body)).map_err(usage)?).await? else { continue };
            if answer.status == StatusCode::OK {
                return token(&answer, grant, asked, self.http.clock()).map_err(|why| wrong(tries.service(), why));
            }
            let (code, message) = refusal(&answer);
            if !is_corrected && code == "invalid_grant" && self.http.clock().correct(&answer) {
                is_corrected = true;
                continue;
            }
            let hint = hint(&code, &message).map(str::to_owned);
            return Err(CloudError::Refused { service: tries.service().to_owned(), code, message, hint });
        }
    }

    /// A token of an account that this one may stand in for. One signature, or two where the clock is off: what asks for it, this account signs itself.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn impersonate(&self, who: &Impersonation<'_>, grant: &Grant) -> Result<BearerToken, CloudError> {
        let is_address = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"@.-_".contains(&b));
        if !is_address(who.email) || !who.delegates.iter().all(|one| is_address(one)) {
            return Err(CloudError::Usage("a service account is named by its e-mail address".into()));
        }
        let (operation, mut body) = match grant {
            Grant::Access(scopes) => ("generateAccessToken", json!({"scope": scopes, "lifetime": format!("{}s", who.lifetime.as_secs())})),
            Grant::Id(audience) => ("generateIdToken", json!({"audience": audience, "includeEmail": true})),
        };
        if !who.delegates.is_empty() {
            body["delegates"] = who.delegates.iter().map(|one| format!("projects/-/serviceAccounts/{one}")).collect();
        }
        let base = self.iam_endpoint.unwrap_or(IAM_CREDENTIALS).trim_end_matches('/');
        let url = uri(&format!("{base}/v1/projects/-/serviceAccounts/{}:{operation}", who.email))?;
        let own = SelfSigned { account: self.account, target: Target::Scopes(vec![CLOUD_PLATFORM.into()]), lifetime: MAX_LIFETIME };
        let mut tries = self.http.tries("IAM service account credentials");
        let mut is_corrected = false;
        loop {
            let now = self.http.clock().now();
            let own = own.sign(self.key, now).await?;
            let mut authorization = HeaderValue::from_str(&format!("Bearer {}", *own.token)).map_err(usage)?;
            authorization.set_sensitive(true);
            let request =
                Request::post(url.clone()).header(header::CONTENT_TYPE, "application/json").header(header::AUTHORIZATION, authorization);
            let Some(answer) = tries.send(request.body(Bytes::from(body.to_string())).map_err(usage)?).await? else { continue };
            if answer.status == StatusCode::OK {
                return impersonated(&answer, grant, self.http.clock()).map_err(|why| wrong(tries.service(), why));
            }
            if !is_corrected && answer.status == StatusCode::UNAUTHORIZED && self.http.clock().correct(&answer) {
                is_corrected = true;
                continue;
            }
            let (code, message) = refusal(&answer);
            let hint = hint(&code, &message).map(str::to_owned);
            return Err(CloudError::Refused { service: tries.service().to_owned(), code, message, hint });
        }
    }
}

fn uri(text: &str) -> Result<Uri, CloudError> {
    text.parse().map_err(|e| CloudError::Usage(format!("{text}: {e}")))
}

fn usage(error: impl fmt::Display) -> CloudError {
    CloudError::Usage(error.to_string())
}

fn wrong(service: &str, why: &'static str) -> CloudError {
    CloudError::Answer { service: service.to_owned(), wanted: "a token in JSON", why: why.to_owned() }
}

/// Why it is none is not told in the parser's words: it holds a token.
fn token(answer: &Answer, grant: &Grant, asked: SystemTime, clock: &Clock) -> Result<BearerToken, &'static str> {
    #[derive(Deserialize)]
    struct Tokens {
        access_token: Option<Zeroizing<String>>,
        id_token: Option<Zeroizing<String>>,
        expires_in: Option<u64>,
    }
    let tokens: Tokens = serde_json::from_slice(&answer.body).map_err(|_| "it is no such JSON")?;
    match grant {
        Grant::Access(_) => {
            let lifetime = tokens.expires_in.filter(|seconds| *seconds <= 12 * 3600).ok_or("expires_in is missing, or too long")?;
            // From when it was asked for: it may have been on its way for some time.
            Ok(BearerToken { token: tokens.access_token.ok_or("access_token is missing")?, expires: asked + Duration::from_secs(lifetime) })
        }
        Grant::Id(_) => id_token(tokens.id_token.ok_or("id_token is missing")?, clock),
    }
}

fn impersonated(answer: &Answer, grant: &Grant, clock: &Clock) -> Result<BearerToken, &'static str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Tokens {
        access_token: Option<Zeroizing<String>>,
        token: Option<Zeroizing<String>>,
        #[serde(default, with = "time::serde::rfc3339::option")]
        expire_time: Option<time::OffsetDateTime>,
    }
    let tokens: Tokens = serde_json::from_slice(&answer.body).map_err(|_| "it is no such JSON")?;
    match grant {
        Grant::Access(_) => Ok(BearerToken {
            token: tokens.access_token.ok_or("accessToken is missing")?,
            expires: clock.here(tokens.expire_time.ok_or("expireTime is missing")?.into()),
        }),
        Grant::Id(_) => id_token(tokens.token.ok_or("token is missing")?, clock),
    }
}

/// An ID token says itself when it ends.
fn id_token(token: Zeroizing<String>, clock: &Clock) -> Result<BearerToken, &'static str> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let payload = token.split('.').nth(1).and_then(|payload| BASE64_URL_SAFE_NO_PAD.decode(payload).ok()).unwrap_or_default();
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| "the ID token does not say when it ends")?;
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp)).ok_or("the ID token ends at no time of a calendar")?;
    Ok(BearerToken { token, expires: clock.here(end) })
}

/// Code and message: RFC 6749 §5.2, or Google's APIs.
fn refusal(answer: &Answer) -> (String, String) {
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(one_line);
    let (code, message) = match &told["error"] {
        Value::String(code) => (Some(one_line(code)), text(&told["error_description"])),
        error => (text(&error["status"]), text(&error["message"])),
    };
    let body = || one_line(&String::from_utf8_lossy(&answer.body));
    (code.unwrap_or_else(|| answer.status.to_string()), message.unwrap_or_else(body))
}

fn hint(code: &str, message: &str) -> Option<&'static str> {
    let says = |words: &str| message.to_ascii_lowercase().contains(words);
    Some(match code {
        "invalid_grant" if says("signature") => {
            "Google does not know this key (any more): is it the right --keyid, and was the key deleted, disabled, or never that of this account?"
        }
        "invalid_grant" if says("short-lived") || says("timeframe") => "set the clock of this machine (timedatectl set-ntp true)",
        "invalid_grant" if says("account") => "there is no such service account (any more): look at --email",
        "unauthorized_client" => {
            "domain-wide delegation is not set up for this account and these scopes (Google Admin console, API controls)"
        }
        "invalid_scope" => "look at --scopes",
        "PERMISSION_DENIED" => {
            "the account needs roles/iam.serviceAccountTokenCreator on the one that it is to stand in for, and the IAM Service Account Credentials API must be on"
        }
        "UNAUTHENTICATED" => "the key is not this account's, was deleted, or the clock of this machine is off",
        _ => return None,
    })
}
