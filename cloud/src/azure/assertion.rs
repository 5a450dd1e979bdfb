//! What an application shows instead of a secret: a token signed by the key of a certificate that is registered for it ("Microsoft identity platform application
//! authentication certificate credentials"; RFC 7523 §2.2).

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::Uri;
use serde_json::{Map, Value};

use crate::CloudError;
use crate::certificate::Certificates;
use crate::jwt::UnsignedJwt;
use crate::key::SignatureAlgorithm;

/// Where an application signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(String);

impl Authority {
    /// As it stands before the tenant in a URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self("https://login.microsoftonline.com".into())
    }
}

impl FromStr for Authority {
    type Err = CloudError;

    /// `public`, `usgov`, `china`, or a URL, whose `https://` may be left out, as Microsoft's libraries have it.
    fn from_str(text: &str) -> Result<Self, CloudError> {
        let url = match text {
            "public" => return Ok(Self::default()),
            "usgov" => "https://login.microsoftonline.us".to_owned(),
            "china" => "https://login.chinacloudapi.cn".to_owned(),
            url if url.contains("://") => url.trim_end_matches('/').to_owned(),
            host => format!("https://{}", host.trim_end_matches('/')),
        };
        let parsed = url.parse::<Uri>().ok().filter(|_| !url.contains(['?', '#', '@']));
        // A word without a dot is a name that is not known, or known by another spelling.
        let is_url = parsed
            .filter(|url| url.scheme().is_some())
            .is_some_and(|url| url.host().is_some_and(|host| text.contains("://") || host.contains('.')));
        if is_url { Ok(Self(url)) } else { Err(CloudError::Usage(format!("{text:?}: public, usgov, china, or a URL"))) }
    }
}

/// An application, in its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    authority: Authority,
    tenant: String,
    client_id: String,
}

impl Application {
    /// By the ids of both.
    ///
    /// # Errors
    /// When they cannot be such ids.
    pub fn new(authority: Authority, tenant: &str, client_id: &str) -> Result<Self, CloudError> {
        for (what, id) in [("tenant", tenant), ("client", client_id)] {
            let is_one = !id.is_empty() && id.len() <= 255 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
            if !is_one {
                return Err(CloudError::Usage(format!("{id:?} is no {what} id, such as 45243fbe-b73f-4f7d-8213-a104a99e428e")));
            }
        }
        Ok(Self { authority, tenant: tenant.to_owned(), client_id: client_id.to_owned() })
    }

    /// Where tokens are asked for, and the audience of what asks.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!("{}/{}/oauth2/v2.0/token", self.authority.as_str(), self.tenant)
    }

    /// The authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The tenant's id.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The application's id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }
}

/// How an assertion is signed, and its certificate named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionAlgorithm {
    /// RSASSA-PSS, the certificate named by SHA-256 (`x5t#S256`): what Microsoft asks for.
    Ps256,
    /// RSASSA-PKCS1-v1_5, the certificate named by SHA-1 (`x5t`): for keys that cannot do otherwise. The hash names the certificate, nothing rests on it.
    Rs256,
}

/// An assertion to be made.
#[derive(Clone, Copy, Debug)]
pub struct Assertion<'a> {
    /// Whose.
    pub application: &'a Application,
    /// The key's certificate, first.
    pub certificates: &'a Certificates,
    /// How long it lives.
    pub lifetime: Duration,
    /// Whether the certificates go with it (`x5c`): for applications that are registered by subject name and issuer.
    pub with_chain: bool,
}

impl Assertion<'_> {
    /// Entra asks for short lives; this is what it takes at most here.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);

    /// What is to be signed, issued at `now`. `id` is new each time.
    ///
    /// # Errors
    /// [`CloudError::Usage`] where Entra would not take it.
    pub fn unsigned(&self, algorithm: AssertionAlgorithm, id: &str, now: SystemTime) -> Result<UnsignedJwt, CloudError> {
        if self.lifetime > Self::MAX_LIFETIME || self.lifetime < Duration::from_secs(1) {
            return Err(CloudError::Usage("an assertion lives from 1 to 3600 seconds".into()));
        }
        let leaf = &self.certificates.leaf;
        let mut header = Map::new();
        let algorithm = match algorithm {
            AssertionAlgorithm::Ps256 => {
                header.insert("x5t#S256".into(), BASE64_URL_SAFE_NO_PAD.encode(leaf.sha256()).into());
                SignatureAlgorithm::RsaPssSha256
            }
            AssertionAlgorithm::Rs256 => {
                header.insert("x5t".into(), BASE64_URL_SAFE_NO_PAD.encode(openssl::sha::sha1(leaf.as_der())).into());
                SignatureAlgorithm::RsaSsaSha256
            }
        };
        if self.with_chain {
            let all = std::iter::once(leaf).chain(&self.certificates.chain);
            header.insert("x5c".into(), all.map(|certificate| BASE64_STANDARD.encode(certificate.as_der())).collect());
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (client, audience) = (self.application.client_id(), self.application.token_endpoint());
        let texts = [("aud", audience.as_str()), ("iss", client), ("sub", client), ("jti", id)];
        let mut claims: Map<String, Value> = texts.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
        let times = [("iat", now), ("nbf", now), ("exp", now + self.lifetime.as_secs())];
        claims.extend(times.map(|(name, time)| (name.to_owned(), time.into())));
        Ok(UnsignedJwt::new(algorithm, header, &claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn national_clouds_go_by_name_by_host_or_by_url() {
        let read = |text: &str| text.parse::<Authority>().map(|authority| authority.as_str().to_owned()).ok();
        for (text, url) in [
            ("public", "https://login.microsoftonline.com"),
            ("usgov", "https://login.microsoftonline.us"),
            ("login.microsoftonline.us", "https://login.microsoftonline.us"),
            ("china", "https://login.chinacloudapi.cn"),
            ("https://login.partner.microsoftonline.cn/", "https://login.partner.microsoftonline.cn"),
            ("https://stack.example.test:8443/adfs", "https://stack.example.test:8443/adfs"),
        ] {
            assert_eq!(read(text).as_deref(), Some(url), "{text}");
        }
        for faulty in
            ["", "usgvo", "https://", "https://a.example.test/?b", "https://a.example.test/#b", "https://b@a.example.test", "a b.c"]
        {
            assert_eq!(read(faulty), None, "{faulty}");
        }
    }
}
