//! What SDKs of AWS ask a machine or a container for its credentials, and how that is answered: the instance metadata service, version 2 ("Use the Instance
//! Metadata Service", Amazon EC2 User Guide), and the container credential provider (AWS SDKs and Tools Reference Guide).
//!
//! A failure is never an answer that could be taken for credentials: SDKs try again.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use constant_time_eq::constant_time_eq;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::credentials::SessionCredentials;
use crate::http::one_line;
use crate::loopback::{Handler, respond, respond_json};
use crate::{CloudError, utc};

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const MAX_TTL: u64 = 6 * 3600;
/// Tokens at once: SDKs hold one each. The one that ends first makes room.
const MAX_TOKENS: usize = 1024;

const TOKEN_PATH: &str = "/latest/api/token";
const CREDENTIALS_PATH: &str = "/latest/meta-data/iam/security-credentials";
/// Where a container's credentials are asked for.
pub const CONTAINER_PATH: &str = "/container-credentials";

/// Where credentials come from.
pub trait CredentialSource: Send + Sync + 'static {
    /// Credentials that are good for some time.
    fn get(&self) -> impl Future<Output = Result<Arc<SessionCredentials>, CloudError>> + Send;
}

impl<S: CredentialSource> CredentialSource for Arc<S> {
    fn get(&self) -> impl Future<Output = Result<Arc<SessionCredentials>, CloudError>> + Send {
        S::get(self)
    }
}

/// Answers as the instance metadata service does, and as a container's credential provider.
pub struct Metadata<S> {
    source: S,
    /// The role's name, where the instance metadata service is answered for.
    role: Option<String>,
    /// What a container shows, where it is answered.
    authorization: Option<Zeroizing<String>>,
    /// SHA-256 of the token → its end: a look-up's time tells nothing of another's token.
    tokens: Mutex<HashMap<[u8; 32], Instant>>,
}

impl<S: CredentialSource> Metadata<S> {
    /// Answers whoever asks as the instance metadata service does for the role of this name, and whoever shows `authorization` as a container.
    #[must_use]
    pub fn new(source: S, role: Option<String>, authorization: Option<Zeroizing<String>>) -> Self {
        Self { source, role, authorization, tokens: Mutex::default() }
    }

    /// A new token, and how long it is good.
    fn token(&self, headers: &HeaderMap) -> Option<(String, u64)> {
        let ttl = headers.get(TOKEN_TTL)?.to_str().ok()?.parse().ok().filter(|ttl| (1..=MAX_TTL).contains(ttl))?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).ok()?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(random);
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, end| *end > now);
        if tokens.len() >= MAX_TOKENS {
            let first = tokens.iter().min_by_key(|(_, end)| **end).map(|(token, _)| *token);
            first.and_then(|first| tokens.remove(&first));
        }
        tokens.insert(Sha256::digest(&token).into(), now + Duration::from_secs(ttl));
        Some((token, ttl))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(TOKEN).map(|token| <[u8; 32]>::from(Sha256::digest(token)));
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        shown.and_then(|shown| tokens.get(&shown)).is_some_and(|end| *end > Instant::now())
    }

    async fn instance(&self, role: &str, request: &Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path().trim_end_matches('/');
        match (request.method(), path) {
            (&Method::PUT, TOKEN_PATH) => match self.token(request.headers()) {
                None => plain(StatusCode::BAD_REQUEST, "a token is asked for with X-aws-ec2-metadata-token-ttl-seconds: 1 to 21600"),
                Some((token, ttl)) => {
                    let mut response = plain(StatusCode::OK, &token);
                    response.headers_mut().insert(TOKEN_TTL, HeaderValue::from(ttl));
                    response
                }
            },
            (&Method::GET, _) if !self.has_token(request.headers()) => plain(StatusCode::UNAUTHORIZED, "no token, or one that has ended"),
            (&Method::GET, CREDENTIALS_PATH) => plain(StatusCode::OK, role),
            (&Method::GET, _) if path.strip_prefix(CREDENTIALS_PATH).and_then(|rest| rest.strip_prefix('/')) == Some(role) => {
                self.credentials(|credentials| {
                    json!({
                        "Code": "Success",
                        "Type": "AWS-HMAC",
                        "LastUpdated": utc(SystemTime::now()),
                        "AccessKeyId": credentials.access_key_id,
                        "SecretAccessKey": *credentials.secret_access_key,
                        "Token": *credentials.session_token,
                        "Expiration": credentials.expiration_text(),
                    })
                })
                .await
            }
            (&Method::GET, _) => plain(StatusCode::NOT_FOUND, "there is no such metadata here"),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, "GET, or PUT for a token"),
        }
    }

    async fn container(&self, authorization: &str, request: &Request<Bytes>) -> Response<Bytes> {
        let shown = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        match request.method() {
            _ if !constant_time_eq(shown, authorization.as_bytes()) => refused(StatusCode::UNAUTHORIZED, "Unauthorized", "not the token"),
            &Method::GET => {
                self.credentials(|credentials| {
                    json!({
                        "AccessKeyId": credentials.access_key_id,
                        "SecretAccessKey": *credentials.secret_access_key,
                        "Token": *credentials.session_token,
                        "Expiration": credentials.expiration_text(),
                    })
                })
                .await
            }
            _ => refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "GET"),
        }
    }

    async fn credentials(&self, told: impl FnOnce(&SessionCredentials) -> serde_json::Value) -> Response<Bytes> {
        match self.source.get().await {
            Ok(credentials) => respond_json(StatusCode::OK, &told(&credentials)),
            Err(error) => {
                tracing::warn!(%error, "no credentials");
                refused(StatusCode::SERVICE_UNAVAILABLE, "CredentialsUnavailable", &one_line(&error.to_string()))
            }
        }
    }
}

impl<S: CredentialSource> Handler for Metadata<S> {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        match (request.uri().path(), &self.role, &self.authorization) {
            (CONTAINER_PATH, _, Some(authorization)) => self.container(authorization, &request).await,
            (path, Some(role), _) if path.starts_with("/latest/") => self.instance(role, &request).await,
            _ => plain(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }
}

impl<S> fmt::Debug for Metadata<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").field("role", &self.role).finish_non_exhaustive()
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Bytes> {
    respond(status, "text/plain", text.to_owned())
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    respond_json(status, &json!({ "code": code, "message": message }))
}
