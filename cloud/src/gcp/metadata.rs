//! What Google's libraries ask the metadata server of a virtual machine ("VM metadata server", Compute Engine documentation): with `GCE_METADATA_HOST` they ask this one.
//!
//! A failure is never an answer that could be taken for a token: libraries try again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::account::ServiceAccount;
use super::tokens::{Grant, TokenService};
use crate::form::{pairs, value};
use crate::http::one_line;
use crate::key::SigningKey;
use crate::loopback::{Handler, respond};
use crate::{BearerToken, CloudError, Http, RefreshingEach};

const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: HeaderValue = HeaderValue::from_static("Google");
/// Libraries want new tokens from some 4 minutes before the end on.
const MARGIN: Duration = Duration::from_secs(300);

/// A metadata server of one service account.
pub struct Metadata {
    http: Http,
    account: ServiceAccount,
    key: Box<dyn SigningKey>,
    scopes: Vec<String>,
    kept: RefreshingEach<BearerToken>,
}

impl Metadata {
    /// Tokens of this account, for `scopes` where nobody asks for others.
    #[must_use]
    pub fn new(http: Http, account: ServiceAccount, key: Box<dyn SigningKey>, scopes: Vec<String>) -> Self {
        Self { http, account, key, scopes, kept: RefreshingEach::new(MARGIN) }
    }

    /// Names that a metadata server is asked by.
    pub const HOSTS: [&'static str; 3] = ["metadata.google.internal", "metadata", "169.254.169.254"];

    /// A token that is kept, or a new one.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn token(&self, grant: &Grant) -> Result<Arc<BearerToken>, CloudError> {
        let service = TokenService { http: &self.http, account: &self.account, key: &*self.key, iam_endpoint: None };
        self.kept.get(&format!("{grant:?}"), || service.grant(grant, None)).await
    }

    async fn of_account(&self, what: &str, query: &[(String, String)]) -> Response<Bytes> {
        let one = |name: &str| value(query, name);
        let is_recursive = one("recursive").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        match what {
            "" if is_recursive => json_answer(&json!({ "aliases": ["default"], "email": self.account.email, "scopes": self.scopes })),
            "" => text("aliases\nemail\nidentity\nscopes\ntoken\n"),
            "aliases" => text("default\n"),
            "email" => text(&self.account.email),
            "scopes" => text(&self.scopes.iter().map(|scope| format!("{scope}\n")).collect::<String>()),
            "token" => {
                let asked = one("scopes").map(|scopes| scopes.split(',').map(str::to_owned).collect::<Vec<_>>());
                let scopes = asked.filter(|scopes| scopes.iter().any(|scope| !scope.is_empty())).unwrap_or_else(|| self.scopes.clone());
                match self.token(&Grant::Access(scopes)).await {
                    Ok(token) => {
                        let left = token.expires.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
                        json_answer(&json!({ "access_token": *token.token, "expires_in": left, "token_type": "Bearer" }))
                    }
                    Err(error) => unavailable(&error),
                }
            }
            "identity" => match one("audience") {
                None => answer(StatusCode::BAD_REQUEST, "text/plain", "audience is missing".into()),
                Some(audience) => match self.token(&Grant::Id(audience.to_owned())).await {
                    Ok(token) => text(&token.token),
                    Err(error) => unavailable(&error),
                },
            },
            _ => not_found(),
        }
    }
}

impl Handler for Metadata {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        // A page in a browser cannot set this field without asking first.
        if path != "/" && request.headers().get(FLAVOR) != Some(&GOOGLE) {
            return answer(StatusCode::FORBIDDEN, "text/plain", "Metadata-Flavor: Google is missing".into());
        }
        if request.method() != Method::GET {
            return answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET".into());
        }
        let query = pairs(request.uri().query().unwrap_or_default());
        let Some(path) = path.strip_prefix("/computeMetadata/v1") else {
            return if path == "/" { text("computeMetadata/\n") } else { not_found() };
        };
        match path.trim_matches('/') {
            "" => text("instance/\nproject/\nuniverse/\n"),
            "project/project-id" => self.account.project_id.as_deref().map_or_else(not_found, text),
            "universe/universe-domain" | "universe/universe_domain" => {
                text(self.account.universe_domain.as_deref().unwrap_or("googleapis.com"))
            }
            "instance/service-accounts" => text(&format!("default/\n{}/\n", self.account.email)),
            path => {
                let rest = path.strip_prefix("instance/service-accounts/").and_then(|rest| {
                    let (who, what) = rest.split_once('/').unwrap_or((rest, ""));
                    (who == "default" || percent_decode_str(who).decode_utf8_lossy() == self.account.email.as_str()).then_some(what)
                });
                match rest {
                    Some(what) => self.of_account(what, &query).await,
                    None => not_found(),
                }
            }
        }
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("account", &self.account).finish_non_exhaustive()
    }
}

fn unavailable(error: &CloudError) -> Response<Bytes> {
    tracing::warn!(%error, "no token");
    let told = json!({ "error": "unavailable", "error_description": one_line(&error.to_string()) });
    answer(StatusCode::SERVICE_UNAVAILABLE, "application/json", told.to_string())
}

fn text(text: &str) -> Response<Bytes> {
    answer(StatusCode::OK, "application/text", text.to_owned())
}

fn json_answer(value: &Value) -> Response<Bytes> {
    answer(StatusCode::OK, "application/json", value.to_string())
}

fn not_found() -> Response<Bytes> {
    answer(StatusCode::NOT_FOUND, "text/plain", "there is no such metadata here".into())
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Bytes> {
    let mut response = respond(status, kind, text);
    response.headers_mut().insert(FLAVOR, GOOGLE);
    response
}
