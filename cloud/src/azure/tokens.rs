//! The client credentials grant (RFC 6749 §4.4) with an assertion instead of a secret.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::credential::CertificateCredential;
use crate::form::form;
use crate::http::one_line;
use crate::{Answer, BearerToken, CloudError, Http};

/// How long an assertion lives that is sent at once.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(600);

/// Entra's token endpoint, and the application that asks it.
#[derive(Clone, Copy, Debug)]
pub struct TokenEndpoint<'a> {
    /// How it is reached.
    pub http: &'a Http,
    /// Who asks.
    pub credential: &'a CertificateCredential,
}

impl TokenEndpoint<'_> {
    /// A token for these scopes, such as `https://storage.azure.com/.default`. One signature, or two where the clock is off.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn token(&self, scopes: &[String]) -> Result<BearerToken, CloudError> {
        let application = self.credential.application();
        let url: Uri = application.token_endpoint().parse().map_err(|e| CloudError::Usage(format!("the authority: {e}")))?;
        let mut tries = self.http.tries("Entra ID");
        let mut is_corrected = false;
        loop {
            let now = self.http.clock().now();
            let assertion = self.credential.assertion(ASSERTION_LIFETIME, now).await?;
            // One field for all scopes: of several, servers take the first or the last.
            let body = form(&[
                ("grant_type", "client_credentials"),
                ("client_id", application.client_id()),
                ("scope", &scopes.join(" ")),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", &assertion),
            ]);
            let request = Request::post(url.clone()).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            let request = request.body(Bytes::from(body)).map_err(|e| CloudError::Usage(e.to_string()))?;
            let asked = SystemTime::now();
            let Some(answer) = tries.send(request).await? else { continue };
            if answer.status == StatusCode::OK {
                let wrong =
                    |why: &str| CloudError::Answer { service: tries.service().to_owned(), wanted: "a token in JSON", why: why.to_owned() };
                return token(&answer, asked).map_err(wrong);
            }
            let (code, message) = refusal(&answer);
            if !is_corrected && is_of_time(&code) && self.http.clock().correct(&answer) {
                is_corrected = true;
                continue;
            }
            let expired = self.credential.certificates().leaf.must_be_valid(now).err().map(|e| e.to_string());
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
    // From when it was asked for: it may have been on its way for some time. By the clock of this machine, right or not, as all will do that look at the end.
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
    matches!(code, "AADSTS700024" | "AADSTS500133" | "AADSTS700027")
}

/// What to do about it ("Microsoft Entra authentication and authorization error codes").
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "AADSTS700016" | "AADSTS7000229" => {
            "there is no such application in this tenant: look at --client-id and --tenant-id, and whether it was consented to"
        }
        "AADSTS700027" | "AADSTS700023" | "AADSTS50012" => {
            "the certificate is not registered for the application (any more), or the clock of this machine is off: compare its thumbprint with those under \
             Certificates & secrets"
        }
        "AADSTS700024" | "AADSTS500133" => "set the clock of this machine (timedatectl set-ntp true)",
        "AADSTS7000222" | "AADSTS1000502" => {
            "the certificate that is registered has expired, or is not valid yet: register a new one for the same key"
        }
        "AADSTS7000214" | "AADSTS7000277" => {
            "the certificate was revoked: register a new one, for a new key if the old one may be known to others"
        }
        "AADSTS700030" => "the application's registration allows no certificate of this subject and issuer: is it of the right cloud?",
        "AADSTS7000215" => "a secret was expected where a certificate was shown: look at --authority",
        "AADSTS90002" | "AADSTS900023" => "there is no such tenant: look at --tenant-id, and at --authority for a national cloud",
        "AADSTS50049" | "AADSTS900382" | "AADSTS900432" => "the tenant is in another cloud: look at --authority (public, usgov, china)",
        "AADSTS70011" | "AADSTS1002012" => "a scope is a resource and /.default, such as https://storage.azure.com/.default",
        "AADSTS28000" => "a token is for one resource: ask for one of each",
        "AADSTS500011" => "there is no such resource in this tenant: look at --scope",
        "AADSTS501051" => "the resource gives tokens only to those who have a role in it: assign one to the application",
        "AADSTS53003" => "a conditional access policy forbids it (workload identities: location, risk)",
        "AADSTS7000112" => "the application is switched off",
        _ => return None,
    })
}
