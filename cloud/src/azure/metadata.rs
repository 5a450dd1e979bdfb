//! What Microsoft's libraries ask for a managed identity: the endpoint of App Service ("REST endpoint reference", api-version 2019-08-01) and the instance metadata service of a virtual
//! machine ("How to use managed identities … to acquire an access token").
//!
//! A failure is never an answer that could be taken for a token. Libraries try again where that may help.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use constant_time_eq::constant_time_eq;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;
use zeroize::Zeroizing;

use super::credential::CertificateCredential;
use super::tokens::TokenEndpoint;
use crate::form::{pairs, value};
use crate::http::one_line;
use crate::loopback::{Handler, respond_json};
use crate::{BearerToken, CloudError, Http, RefreshingEach};

/// Where App Service's endpoint is asked.
pub const IDENTITY_PATH: &str = "/msi/token";
const IMDS_PATH: &str = "/metadata/identity/oauth2/token";
const IDENTITY_HEADER: HeaderName = HeaderName::from_static("x-identity-header");
const METADATA: HeaderName = HeaderName::from_static("metadata");
/// Libraries want new tokens from 5 minutes before the end on.
const MARGIN: Duration = Duration::from_secs(600);

/// How a caller names an identity other than by client id (msal, `ManagedIdentity`; "REST endpoint reference"): none of them is known here.
const OTHER_NAMES: [&str; 4] = ["object_id", "principal_id", "msi_res_id", "mi_res_id"];

/// Answers as a managed identity's endpoints do.
pub struct Metadata {
    http: Http,
    credential: Arc<CertificateCredential>,
    /// What App Service's endpoint is shown.
    secret: Zeroizing<String>,
    /// Whether the instance metadata service is answered, which nothing is shown.
    with_imds: bool,
    kept: RefreshingEach<BearerToken>,
}

impl Metadata {
    /// Tokens of this application. `secret` is what App Service's endpoint is shown; with `with_imds` everybody is answered.
    #[must_use]
    pub fn new(http: Http, credential: Arc<CertificateCredential>, secret: Zeroizing<String>, with_imds: bool) -> Self {
        Self { http, credential, secret, with_imds, kept: RefreshingEach::new(MARGIN) }
    }

    async fn token(&self, resource: &str) -> Result<Arc<BearerToken>, CloudError> {
        let endpoint = TokenEndpoint { http: &self.http, credential: &self.credential };
        // A slash at the resource's end is doubled: Entra takes away `/.default`, and the rest is the token's audience ("Trailing slash and /.default").
        let scopes = [format!("{resource}/.default")];
        self.kept.get(resource, || endpoint.token(&scopes)).await
    }

    async fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let query = pairs(request.uri().query().unwrap_or_default());
        let one = |name: &str| value(&query, name);
        let Some(resource) = one("resource") else {
            return refused(StatusCode::BAD_REQUEST, "invalid_request", "resource is missing");
        };
        let client_id = self.credential.application().client_id();
        let others = OTHER_NAMES.into_iter().filter_map(one);
        if let Some(other) = one("client_id").filter(|id| !id.eq_ignore_ascii_case(client_id)).into_iter().chain(others).next() {
            let told = format!("Identity not found: {} is not served here, {client_id} is", one_line(other));
            return refused(StatusCode::BAD_REQUEST, "invalid_request", &told);
        }
        match self.token(resource).await {
            Ok(token) => {
                let end = token.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let left = token.expires.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
                respond_json(
                    StatusCode::OK,
                    &json!({
                        "access_token": *token.token,
                        "client_id": client_id,
                        "expires_in": left.to_string(),
                        "expires_on": end.to_string(),
                        "resource": resource,
                        "token_type": "Bearer",
                    }),
                )
            }
            Err(error) => {
                tracing::warn!(%error, "no token");
                let (status, code) = match error {
                    // To ask again is of no use: libraries do so for half a minute where they are told 503, each time with a signature.
                    CloudError::Refused { .. } | CloudError::Usage(_) => (StatusCode::BAD_REQUEST, "invalid_client"),
                    _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
                };
                refused(status, code, &one_line(&error.to_string()))
            }
        }
    }
}

impl Handler for Metadata {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let shown = |name: HeaderName| request.headers().get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        match (request.uri().path(), request.method()) {
            (IDENTITY_PATH, _) if !constant_time_eq(shown(IDENTITY_HEADER), self.secret.as_bytes()) => {
                refused(StatusCode::UNAUTHORIZED, "unauthorized", "X-IDENTITY-HEADER is not what it should be")
            }
            // A page in a browser cannot set this field without asking first.
            (IMDS_PATH, _) if self.with_imds && !shown(METADATA).eq_ignore_ascii_case(b"true") => {
                refused(StatusCode::BAD_REQUEST, "bad_request_102", "Required metadata header not specified")
            }
            (IMDS_PATH, _) if !self.with_imds => not_found(),
            (IDENTITY_PATH | IMDS_PATH, &Method::GET) => self.answer(&request).await,
            (IDENTITY_PATH | IMDS_PATH, _) => refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "GET"),
            _ => not_found(),
        }
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("credential", &self.credential).finish_non_exhaustive()
    }
}

fn not_found() -> Response<Bytes> {
    refused(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
}

fn refused(status: StatusCode, code: &str, description: &str) -> Response<Bytes> {
    respond_json(status, &json!({ "statusCode": status.as_u16(), "error": code, "error_description": description, "message": description }))
}
