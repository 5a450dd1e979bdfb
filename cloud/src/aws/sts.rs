//! AWS Security Token Service (API version 2011-06-15): who one is, and credentials for some time.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::credentials::SessionCredentials;
use super::endpoint::StsEndpoint;
use super::hints;
use super::request::sign_request;
use super::sigv4::{Scope, Signatory};
use crate::form::form;
use crate::http::one_line;
use crate::key::MacKey;
use crate::{Answer, CloudError, Http};

/// An STS, and who asks it.
#[derive(Clone, Copy)]
pub struct Sts<'a> {
    /// How it is reached.
    pub http: &'a Http,
    /// Where it is.
    pub endpoint: &'a StsEndpoint,
    /// Who asks.
    pub signatory: Signatory<'a>,
    /// `AWS4` and the secret access key.
    pub key: &'a dyn MacKey,
}

/// A code of a device for multi-factor authentication.
#[derive(Clone)]
pub struct Mfa {
    /// The device's serial number or ARN.
    pub serial_number: String,
    /// Six digits.
    pub token_code: String,
}

impl fmt::Debug for Mfa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mfa").field("serial_number", &self.serial_number).finish_non_exhaustive()
    }
}

/// The parameters of GetSessionToken.
#[derive(Clone, Debug, Default)]
pub struct GetSessionToken {
    /// How long the credentials last: 15 minutes to 36 hours; of the root user at most 1 hour.
    pub duration: Option<Duration>,
    /// Where it is wanted.
    pub mfa: Option<Mfa>,
}

/// The parameters of AssumeRole.
#[derive(Clone, Debug, Default)]
pub struct AssumeRole {
    /// The role's ARN.
    pub role_arn: String,
    /// The session's name, which AWS logs: 2 to 64 letters, digits and `_=,.@-`.
    pub session_name: String,
    /// How long the credentials last: 15 minutes to the role's maximum, 12 hours at most.
    pub duration: Option<Duration>,
    /// An inline session policy (JSON).
    pub policy: Option<String>,
    /// ARNs of managed session policies.
    pub policy_arns: Vec<String>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
    /// Names of the tags that are passed on to the next role.
    pub transitive_tag_keys: Vec<String>,
    /// What the role's owner wants to be told.
    pub external_id: Option<String>,
    /// Who is behind the session.
    pub source_identity: Option<String>,
    /// Where it is wanted.
    pub mfa: Option<Mfa>,
}

/// What GetCallerIdentity tells.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct CallerIdentity {
    /// The ARN of user or session.
    pub arn: String,
    /// Its unique id.
    pub user_id: String,
    /// The account's number.
    pub account: String,
}

type Parameters = Vec<(String, String)>;

impl GetSessionToken {
    fn parameters(&self) -> Parameters {
        [duration(self.duration), mfa(self.mfa.as_ref())].concat()
    }
}

impl AssumeRole {
    fn parameters(&self) -> Parameters {
        let one = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut all = vec![one("RoleArn", &self.role_arn), one("RoleSessionName", &self.session_name)];
        let optional = [("Policy", &self.policy), ("ExternalId", &self.external_id), ("SourceIdentity", &self.source_identity)];
        all.extend(optional.into_iter().filter_map(|(name, value)| Some(one(name, value.as_ref()?))));
        for (n, arn) in self.policy_arns.iter().enumerate() {
            all.push((format!("PolicyArns.member.{}.arn", n + 1), arn.clone()));
        }
        for (n, (key, value)) in self.tags.iter().enumerate() {
            all.push((format!("Tags.member.{}.Key", n + 1), key.clone()));
            all.push((format!("Tags.member.{}.Value", n + 1), value.clone()));
        }
        for (n, key) in self.transitive_tag_keys.iter().enumerate() {
            all.push((format!("TransitiveTagKeys.member.{}", n + 1), key.clone()));
        }
        [all, duration(self.duration), mfa(self.mfa.as_ref())].concat()
    }
}

fn duration(duration: Option<Duration>) -> Parameters {
    duration.into_iter().map(|duration| ("DurationSeconds".to_owned(), duration.as_secs().to_string())).collect()
}

fn mfa(mfa: Option<&Mfa>) -> Parameters {
    let Some(mfa) = mfa else { return Vec::new() };
    vec![("SerialNumber".into(), mfa.serial_number.clone()), ("TokenCode".into(), mfa.token_code.clone())]
}

impl Sts<'_> {
    /// Who one is.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn get_caller_identity(&self) -> Result<CallerIdentity, CloudError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "GetCallerIdentityResult")]
            result: CallerIdentity,
        }
        Ok(self.call::<Answer>("GetCallerIdentity", Vec::new()).await?.result)
    }

    /// Credentials of the same user, for some time.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn get_session_token(&self, call: &GetSessionToken) -> Result<SessionCredentials, CloudError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "GetSessionTokenResult")]
            result: Credentials,
        }
        self.call::<Answer>("GetSessionToken", call.parameters()).await?.result.credentials.checked(self.http.clock(), "STS")
    }

    /// Credentials of a role, for some time.
    ///
    /// # Errors
    /// As [`CloudError`] tells.
    pub async fn assume_role(&self, call: &AssumeRole) -> Result<SessionCredentials, CloudError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "AssumeRoleResult")]
            result: Credentials,
        }
        self.call::<Answer>("AssumeRole", call.parameters()).await?.result.credentials.checked(self.http.clock(), "STS")
    }

    async fn call<T: DeserializeOwned>(&self, action: &str, parameters: Parameters) -> Result<T, CloudError> {
        let action = [("Action".to_owned(), action.to_owned()), ("Version".to_owned(), "2011-06-15".to_owned())];
        let body = Bytes::from(form(&[&action[..], &parameters].concat()));
        let scope = Scope { region: self.endpoint.region.clone(), service: "sts".into() };
        let mut tries = self.http.tries("STS");
        let mut is_corrected = false;
        loop {
            let request = Request::builder()
                .method(Method::POST)
                .uri(self.endpoint.url.clone())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
                .body(body.clone())
                .map_err(|e| CloudError::Usage(e.to_string()))?;
            let request = sign_request(request, self.signatory, self.key, &scope, self.http.clock().now()).await?;
            let Some(answer) = tries.send(request).await? else { continue };
            if answer.status == StatusCode::OK {
                return read(&answer.body).map_err(|why| CloudError::Answer {
                    service: tries.service().to_owned(),
                    wanted: "credentials or an identity in XML",
                    why,
                });
            }
            let (code, message) = refusal(&answer);
            if hints::is_throttling(&code) {
                tries.wait(&answer).await?;
                continue;
            }
            // Dated by a clock that is off: once more, with the service's.
            if !is_corrected && hints::is_of_time(&code, &message) && self.http.clock().correct(&answer) {
                is_corrected = true;
                continue;
            }
            let hint = hints::of(&code, &message);
            return Err(CloudError::Refused { service: tries.service().to_owned(), code, message, hint });
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    credentials: SessionCredentials,
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is no text".to_owned())?;
    // What is wrong is told by its kind only: the answer holds secrets.
    quick_xml::de::from_str(text).map_err(|e| match e {
        quick_xml::DeError::Custom(why) if why.starts_with("missing field") => why,
        _ => "it is no such XML".to_owned(),
    })
}

/// Code and message of an error.
fn refusal(answer: &Answer) -> (String, String) {
    // In a list, where it comes from what stands before the service.
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct ErrorResponse {
        error: Option<Error>,
        errors: Option<Errors>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Errors {
        error: Error,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Error {
        code: String,
        #[serde(default)]
        message: String,
    }
    let response = read::<ErrorResponse>(&answer.body).ok();
    match response.and_then(|response| response.error.or(response.errors.map(|errors| errors.error))) {
        Some(error) => (one_line(&error.code), one_line(&error.message)),
        // What is no refusal may hold secrets.
        None if !answer.status.is_client_error() => (answer.status.to_string(), "that is neither an answer nor a refusal".into()),
        None => (answer.status.to_string(), one_line(&String::from_utf8_lossy(&answer.body))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_of_assume_role_has_the_name_that_the_api_gives_it() {
        let call = AssumeRole {
            role_arn: "arn:aws:iam::123456789012:role/a b".into(),
            session_name: "me".into(),
            duration: Some(Duration::from_secs(900)),
            policy: Some("{\"Version\": \"*~\"}".into()),
            policy_arns: vec!["arn:1".into(), "arn:2".into()],
            tags: vec![("team".into(), "blue".into())],
            transitive_tag_keys: vec!["team".into()],
            external_id: Some("e".into()),
            source_identity: Some("s".into()),
            mfa: Some(Mfa { serial_number: "n".into(), token_code: "123456".into() }),
        };
        // As Python's urllib.parse.urlencode writes the same.
        assert_eq!(
            form(&call.parameters()),
            "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fa+b&RoleSessionName=me&Policy=%7B%22Version%22%3A+%22%2A~%22%7D&ExternalId=e\
             &SourceIdentity=s&PolicyArns.member.1.arn=arn%3A1&PolicyArns.member.2.arn=arn%3A2&Tags.member.1.Key=team\
             &Tags.member.1.Value=blue&TransitiveTagKeys.member.1=team&DurationSeconds=900&SerialNumber=n&TokenCode=123456"
        );
    }
}
