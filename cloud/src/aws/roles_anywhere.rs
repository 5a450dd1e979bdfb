//! IAM Roles Anywhere: session credentials for whoever holds the private key of a certificate ("CreateSession", IAM Roles Anywhere User Guide). Signed as
//! Signature Version 4 is, but by that key.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::canonical::{AmzDate, PathRules, Signable, hex, sha256_hex};
use super::credentials::SessionCredentials;
use super::endpoint::{dns_suffix, must_be_region};
use super::request::host;
use crate::certificate::{Certificate, Certificates};
use crate::http::one_line;
use crate::key::{PublicKeyKind, SignatureAlgorithm, SigningKey, sign};
use crate::{Answer, CloudError, Http};

/// The certificates that go with a request are at most this many, the key's own not counted.
const MAX_CHAIN: usize = 5;
/// How long a session lasts, in seconds.
const DURATIONS: RangeInclusive<u64> = 900..=43200;
/// Properties of the instance ("InstanceProperty", IAM Roles Anywhere API Reference): so many, names and values of so many characters.
const MAX_PROPERTIES: usize = 50;
const PROPERTY: RangeInclusive<usize> = 1..=200;

/// A Roles Anywhere, and who asks it.
#[derive(Clone, Copy)]
pub struct RolesAnywhere<'a> {
    /// How it is reached.
    pub http: &'a Http,
    /// Where it is.
    pub endpoint: &'a RolesAnywhereEndpoint,
    /// The key's certificate, and those that lead from it to the trust anchor.
    pub certificates: &'a Certificates,
    /// The key: RSA, P-256 or P-384.
    pub key: &'a dyn SigningKey,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolesAnywhereEndpoint {
    /// Its URL, without the path.
    pub url: Uri,
    /// Its region.
    pub region: String,
}

impl RolesAnywhereEndpoint {
    /// That of a region; with `fips`, the one with FIPS 140 validated cryptography.
    ///
    /// # Errors
    /// When the region's name cannot be one.
    pub fn regional(region: &str, fips: bool) -> Result<Self, CloudError> {
        must_be_region(region)?;
        let service = if fips { "rolesanywhere-fips" } else { "rolesanywhere" };
        Self::at(&format!("https://{service}.{region}.{}", dns_suffix(region)), region)
    }

    /// At this URL.
    ///
    /// # Errors
    /// When it is none.
    pub fn at(url: &str, region: &str) -> Result<Self, CloudError> {
        must_be_region(region)?;
        let sessions = format!("{}/sessions", url.trim_end_matches('/'));
        let url = sessions.parse::<Uri>().ok().filter(|url| url.scheme().is_some() && url.authority().is_some());
        let url =
            url.ok_or_else(|| CloudError::Usage("an endpoint is a URL, such as https://rolesanywhere.eu-west-1.amazonaws.com".into()))?;
        Ok(Self { url, region: region.to_owned() })
    }
}

/// The parameters of CreateSession.
#[derive(Clone, Debug)]
pub struct CreateSession {
    /// The trust anchor that the certificate leads to.
    pub trust_anchor_arn: String,
    /// The profile, which names the roles that may be had.
    pub profile_arn: String,
    /// The role.
    pub role_arn: String,
    /// How long the credentials last: 15 minutes to 12 hours, and not longer than the profile says.
    pub duration: Duration,
    /// The session's name, where the profile accepts one; else it is the certificate's serial number.
    pub role_session_name: Option<String>,
    /// What this machine tells of itself, name and value: shown with the certificate's subject, and wanted by some profiles. They are no session tags.
    pub instance_properties: BTreeMap<String, String>,
}

impl CreateSession {
    /// The region of the trust anchor, which is the one to ask.
    ///
    /// # Errors
    /// When the three ARNs do not go together.
    pub fn region(&self) -> Result<String, CloudError> {
        let (anchor, profile) =
            (arn(&self.trust_anchor_arn, "rolesanywhere", "trust-anchor/")?, arn(&self.profile_arn, "rolesanywhere", "profile/")?);
        let role = arn(&self.role_arn, "iam", "role/")?;
        let usage = |text: String| Err(CloudError::Usage(text));
        if (anchor.partition, anchor.region) != (profile.partition, profile.region) {
            return usage(format!("trust anchor and profile are in different regions: {} and {}", anchor.region, profile.region));
        }
        if role.partition != anchor.partition {
            return usage(format!("trust anchor and role are in different partitions: {} and {}", anchor.partition, role.partition));
        }
        Ok(anchor.region.to_owned())
    }

    /// Whether it can be had at all.
    ///
    /// # Errors
    /// [`CloudError::Usage`] where duration or properties are out of bounds.
    pub fn must_be_possible(&self) -> Result<(), CloudError> {
        if !DURATIONS.contains(&self.duration.as_secs()) {
            return Err(CloudError::Usage("a session of Roles Anywhere lasts 900 to 43200 seconds (15 minutes to 12 hours)".into()));
        }
        let texts = self.instance_properties.iter().flat_map(|(name, value)| [name, value]);
        if self.instance_properties.len() > MAX_PROPERTIES || texts.into_iter().any(|text| !PROPERTY.contains(&text.chars().count())) {
            return Err(CloudError::Usage("an instance has at most 50 properties, names and values of 1 to 200 characters".into()));
        }
        Ok(())
    }

    fn body(&self) -> Bytes {
        let mut body = Map::new();
        body.insert("durationSeconds".into(), self.duration.as_secs().into());
        let texts = [("profileArn", &self.profile_arn), ("roleArn", &self.role_arn), ("trustAnchorArn", &self.trust_anchor_arn)];
        body.extend(texts.map(|(name, text)| (name.to_owned(), Value::from(text.as_str()))));
        if let Some(name) = &self.role_session_name {
            body.insert("roleSessionName".into(), name.as_str().into());
        }
        if !self.instance_properties.is_empty() {
            let properties = self.instance_properties.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
            body.insert("instanceProperties".into(), Value::Object(properties.collect()));
        }
        Bytes::from(Value::Object(body).to_string())
    }
}

struct Arn<'a> {
    partition: &'a str,
    region: &'a str,
}

fn arn<'a>(text: &'a str, service: &str, resource: &str) -> Result<Arn<'a>, CloudError> {
    match text.splitn(6, ':').collect::<Vec<_>>()[..] {
        ["arn", partition, found, region, account, rest]
            if found == service && rest.starts_with(resource) && account.len() == 12 && !partition.is_empty() =>
        {
            Ok(Arn { partition, region })
        }
        _ => Err(CloudError::Usage(format!("{text:?} is no ARN of the kind arn:aws:{service}:…:123456789012:{resource}…"))),
    }
}

/// A CreateSession that lacks its signature.
#[derive(Clone, Debug)]
pub struct UnsignedCreateSession {
    request: Request<Bytes>,
    algorithm: SignatureAlgorithm,
    string_to_sign: String,
    credential: String,
    signed_headers: String,
}

impl UnsignedCreateSession {
    /// Dated `now`, to be signed by the key of `certificates`.
    ///
    /// # Errors
    /// [`CloudError::Usage`] where the certificates cannot be sent, or the call cannot be answered.
    pub fn new(
        call: &CreateSession,
        endpoint: &RolesAnywhereEndpoint,
        certificates: &Certificates,
        kind: PublicKeyKind,
        now: SystemTime,
    ) -> Result<Self, CloudError> {
        let usage = |e: &dyn std::fmt::Display| CloudError::Usage(e.to_string());
        call.must_be_possible()?;
        let (algorithm, name) = match kind {
            PublicKeyKind::Rsa => (SignatureAlgorithm::RsaSsaSha256, "AWS4-X509-RSA-SHA256"),
            // With SHA-256 for P-384, too.
            PublicKeyKind::P256 | PublicKeyKind::P384 => (SignatureAlgorithm::EcdsaSha256, "AWS4-X509-ECDSA-SHA256"),
        };
        if certificates.chain.len() > MAX_CHAIN {
            return Err(usage(&format_args!(
                "{} certificates between the key's and the root: {MAX_CHAIN} at most",
                certificates.chain.len()
            )));
        }
        let (date, body) = (AmzDate::new(now), call.body());
        let in_base64 = |certificate: &Certificate| BASE64_STANDARD.encode(certificate.as_der());
        let mut fields = vec![
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::HOST, host(&endpoint.url)?.to_str().unwrap_or_default().to_owned()),
            (HeaderName::from_static("x-amz-date"), date.as_str().to_owned()),
            (HeaderName::from_static("x-amz-x509"), in_base64(&certificates.leaf)),
        ];
        if !certificates.chain.is_empty() {
            let chain = certificates.chain.iter().map(in_base64).collect::<Vec<_>>().join(",");
            fields.push((HeaderName::from_static("x-amz-x509-chain"), chain));
        }
        let canonical = Signable {
            method: "POST",
            path: endpoint.url.path(),
            query: "",
            headers: fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.clone())).collect(),
            payload: sha256_hex(&body),
            rules: PathRules::of("rolesanywhere"),
        }
        .canonical();
        let scope = format!("{}/{}/rolesanywhere/aws4_request", date.day(), endpoint.region);
        let mut request = Request::post(endpoint.url.clone()).body(body).map_err(|e| usage(&e))?;
        for (name, value) in fields {
            request.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(|e| usage(&e))?);
        }
        Ok(Self {
            request,
            algorithm,
            string_to_sign: canonical.string_to_sign(name, &date, &scope),
            credential: format!("{name} Credential={}/{scope}", certificates.leaf.serial_text()),
            signed_headers: canonical.signed_headers,
        })
    }

    /// What the key is to sign, and how.
    #[must_use]
    pub fn to_be_signed(&self) -> (SignatureAlgorithm, &[u8]) {
        (self.algorithm, self.string_to_sign.as_bytes())
    }

    /// The request.
    ///
    /// # Errors
    /// [`CloudError::Usage`] where it cannot be written into a field.
    pub fn finish(mut self, signature: &[u8]) -> Result<Request<Bytes>, CloudError> {
        let value = format!("{}, SignedHeaders={}, Signature={}", self.credential, self.signed_headers, hex(signature));
        let mut value = HeaderValue::from_str(&value).map_err(|e| CloudError::Usage(e.to_string()))?;
        value.set_sensitive(true);
        self.request.headers_mut().insert(header::AUTHORIZATION, value);
        Ok(self.request)
    }
}

impl RolesAnywhere<'_> {
    /// Credentials of the role. One signature, or two where the clock is off.
    ///
    /// # Errors
    /// As [`CloudError`] tells; before anything is sent where the certificate is not the key's, or not valid now.
    pub async fn create_session(&self, call: &CreateSession) -> Result<SessionCredentials, CloudError> {
        let kind = self.key.public_key().kind();
        self.certificates.leaf.must_certify(self.key.public_key()).map_err(|e| CloudError::Usage(e.to_string()))?;
        let mut tries = self.http.tries("Roles Anywhere");
        let mut is_corrected = false;
        loop {
            let now = self.http.clock().now();
            let unsigned = UnsignedCreateSession::new(call, self.endpoint, self.certificates, kind, now)?;
            let (algorithm, message) = unsigned.to_be_signed();
            if !self.key.allows(algorithm) {
                return Err(CloudError::Usage(
                    "the key does not sign as Roles Anywhere wants it: RSASSA-PKCS1-v1_5 or ECDSA, with SHA-256".into(),
                ));
            }
            let signature = sign(self.key, algorithm, message).await?;
            let Some(answer) = tries.send(unsigned.finish(&signature)?).await? else { continue };
            // It is 201. Of no success is its content told: it may hold credentials.
            if answer.status.is_success() {
                let wrong = |why: &str| CloudError::Answer {
                    service: tries.service().to_owned(),
                    wanted: "credentials in JSON",
                    why: why.to_owned(),
                };
                return credentials(&answer).map_err(wrong)?.checked(self.http.clock(), "Roles Anywhere");
            }
            // A clock that is off looks like a certificate that is not valid yet or any more.
            let valid = self.certificates.leaf.must_be_valid(now);
            if !is_corrected && answer.status == StatusCode::FORBIDDEN && self.http.clock().correct(&answer) {
                is_corrected = true;
                continue;
            }
            let (code, message) = refusal(&answer);
            let hint = valid.err().map(|e| e.to_string()).or_else(|| hint(&code, &message).map(str::to_owned));
            return Err(CloudError::Refused { service: tries.service().to_owned(), code, message, hint });
        }
    }
}

fn credentials(answer: &Answer) -> Result<SessionCredentials, &'static str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sessions {
        credential_set: Vec<Session>,
    }
    #[derive(Deserialize)]
    struct Session {
        credentials: Credentials,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Credentials {
        access_key_id: String,
        secret_access_key: Zeroizing<String>,
        session_token: Zeroizing<String>,
        #[serde(with = "time::serde::rfc3339")]
        expiration: time::OffsetDateTime,
    }
    // Why it is none is not told: it holds secrets.
    let sessions: Sessions = serde_json::from_slice(&answer.body).map_err(|_| "it is no such JSON")?;
    let Credentials { access_key_id, secret_access_key, session_token, expiration } =
        sessions.credential_set.into_iter().next().ok_or("there are none in it")?.credentials;
    Ok(SessionCredentials { access_key_id, secret_access_key, session_token, expiration })
}

fn refusal(answer: &Answer) -> (String, String) {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(alias = "Message")]
        message: String,
    }
    let message = serde_json::from_slice::<Refusal>(&answer.body).map(|refusal| refusal.message);
    let message = message.unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned());
    let code = answer.headers.get("x-amzn-errortype").and_then(|code| code.to_str().ok()).and_then(|code| code.split(':').next());
    (one_line(code.unwrap_or(answer.status.as_str())), one_line(&message))
}

fn hint(code: &str, message: &str) -> Option<&'static str> {
    let says = |word: &str| message.to_ascii_lowercase().contains(word);
    match code {
        _ if says("disabled") => Some("switch the trust anchor or the profile on (IAM console, Roles Anywhere)"),
        _ if says("untrusted certificate") || says("not trusted") => Some(
            "the certificate does not lead to this trust anchor: name those in between with --intermediates, or look at the trust anchor",
        ),
        _ if says("revoked") => Some("the trust anchor's revocation list (CRL) names this certificate: have a new one issued"),
        "AccessDeniedException" => Some(
            "look at the role's trust policy (principal rolesanywhere.amazonaws.com, actions sts:AssumeRole, sts:TagSession and sts:SetSourceIdentity, \
             conditions on the certificate's subject) and whether the profile names the role; a certificate for this needs digitalSignature",
        ),
        "ResourceNotFoundException" => Some("trust anchor or profile are not there: look at their ARNs and the region"),
        "ValidationException" => Some("look at the duration, which the profile bounds, and the session's name, which it must accept"),
        _ => None,
    }
}
