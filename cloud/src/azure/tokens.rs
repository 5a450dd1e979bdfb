//! The client credentials grant (RFC 6749 §4.4) with an assertion instead of a secret.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::assertion::{Application, Assertion, AssertionAlgorithm};
use crate::certificate::Certificates;
use crate::form::form;
use crate::http::one_line;
use crate::key::SigningKey;
use crate::{Answer, BearerToken, CloudError, Http};

/// How long an assertion lives that is sent at once.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(600);

/// Entra's token endpoint, and the application that asks it.
#[derive(Clone, Copy)]
pub struct TokenEndpoint<'a> {
    /// How it is reached.
    pub http: &'a Http,
    /// Who asks.
    pub application: &'a Application,
    /// The key's certificate, first.
    pub certificates: &'a Certificates,
    /// The key: RSA.
    pub key: &'a dyn SigningKey,
    /// How to sign; as the key can where that is not said.
    pub algorithm: Option<AssertionAlgorithm>,
    /// Whether the certificates go with the assertion.
    pub with_chain: bool,
}

impl TokenEndpoint<'_> {
    /// A token for these scopes, such as `https://storage.azure.com/.default`. One signature, or two where the clock is off.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn token(&self, scopes: &[String]) -> Result<BearerToken, CloudError> {
        let url: Uri = self.application.token_endpoint().parse().map_err(|e| CloudError::Usage(format!("the authority: {e}")))?;
        let assertion = Assertion {
            application: self.application,
            certificates: self.certificates,
            lifetime: ASSERTION_LIFETIME,
            with_chain: self.with_chain,
        };
        let mut tries = self.http.tries("Entra ID");
        let mut is_corrected = false;
        loop {
            let now = self.http.clock().now();
            let assertion = assertion.sign(self.key, self.algorithm, now).await?;
            // One field for all scopes: of several, servers take the first or the last.
            let body = form(&[
                ("grant_type", "client_credentials"),
                ("client_id", self.application.client_id()),
                ("scope", &scopes.join(" ")),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", &assertion),
            ]);
            let request = Request::post(url.clone()).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            let request = request.body(Bytes::from(body)).map_err(|e| CloudError::Usage(e.to_string()))?;
            let Some(answer) = tries.send(request).await? else { continue };
            if answer.status == StatusCode::OK {
                let wrong =
                    |why: &str| CloudError::Answer { service: tries.service().to_owned(), wanted: "a token in JSON", why: why.to_owned() };
                return token(&answer, now).map_err(wrong);
            }
            let (code, message) = refusal(&answer);
            if !is_corrected && is_of_time(&code) && self.http.clock().correct(&answer) {
                is_corrected = true;
                continue;
            }
            let expired = self.certificates.leaf.must_be_valid(now).err().map(|e| e.to_string());
            let hint = expired.or_else(|| hint(&code).map(str::to_owned));
            return Err(CloudError::Refused { service: tries.service().to_owned(), code, message, hint });
        }
    }
}

/// Why it is none is not told in the parser's words: it holds a token.
fn token(answer: &Answer, asked: SystemTime) -> Result<BearerToken, &'static str> {
    #[derive(Deserialize)]
    struct Token {
        access_token: Zeroizing<String>,
        expires_in: u64,
    }
    let Token { access_token, expires_in } = serde_json::from_slice(&answer.body).map_err(|_| "it is no such JSON")?;
    if expires_in > 48 * 3600 {
        return Err("expires_in is too long");
    }
    // From when it was asked for: it may have been on its way for some time.
    Ok(BearerToken { token: access_token, expires: asked + Duration::from_secs(expires_in) })
}

/// Entra's own code, and what it says.
fn refusal(answer: &Answer) -> (String, String) {
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let description = told["error_description"].as_str().map(one_line);
    let own = description.as_deref().and_then(|text| text.split_once(": ")).filter(|(code, _)| code.starts_with("AADSTS"));
    if let Some((code, message)) = own {
        return (code.to_owned(), message.to_owned());
    }
    let code = told["error"].as_str().map_or_else(|| answer.status.to_string(), one_line);
    (code, description.unwrap_or_else(|| one_line(&String::from_utf8_lossy(&answer.body))))
}

/// Assertions are dated.
fn is_of_time(code: &str) -> bool {
    matches!(code, "AADSTS700024" | "AADSTS500133" | "AADSTS5002723" | "AADSTS700027")
}

fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "AADSTS700016" => {
            "there is no such application in this tenant: look at --client-id and --tenant-id, and whether it was consented to"
        }
        "AADSTS700027" | "AADSTS700023" => {
            "the certificate is not registered for the application (any more), or the clock of this machine is off: compare its thumbprint with those under \
             Certificates & secrets"
        }
        "AADSTS700024" | "AADSTS500133" | "AADSTS5002723" => "set the clock of this machine (timedatectl set-ntp true)",
        "AADSTS7000222" => "the certificate that is registered has expired: register a new one for the same key",
        "AADSTS7000215" => "a secret was expected where a certificate was shown: look at --authority",
        "AADSTS90002" | "AADSTS900023" => "there is no such tenant: look at --tenant-id, and at --authority for a national cloud",
        "AADSTS70011" | "AADSTS1002012" => "a scope is a resource and /.default, such as https://storage.azure.com/.default",
        "AADSTS500011" => "there is no such resource in this tenant: look at --scope",
        "AADSTS53003" => "a conditional access policy forbids it (workload identities: location, risk)",
        "AADSTS7000112" => "the application is switched off",
        _ => return None,
    })
}
