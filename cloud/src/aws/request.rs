//! Any request to an AWS service, signed.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use zeroize::Zeroizing;

use super::canonical::{EMPTY_SHA256, Signable, canonical_query, encoded_once, is_s3, sha256_hex};
use super::sigv4::{Scope, Signatory, UnsignedRequest, UnsignedUrl};
use crate::CloudError;
use crate::form::pairs;
use crate::key::MacKey;

/// The request with its signature. All its fields are signed; its query is put in the one form that all services read in the same way.
///
/// # Errors
/// [`CloudError::Key`] where the key does not answer, [`CloudError::Usage`] where the request names no host.
pub async fn sign_request(
    request: Request<Bytes>,
    signatory: Signatory<'_>,
    key: &dyn MacKey,
    scope: &Scope,
    now: SystemTime,
) -> Result<Request<Bytes>, CloudError> {
    let (mut head, body) = request.into_parts();
    head.uri = as_sent(&head.uri, &scope.service)?;
    let query = head.uri.query().unwrap_or_default().to_owned();
    head.headers.insert(header::HOST, host(&head.uri)?);
    let signable = Signable {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: &query,
        headers: fields(&head.headers)?,
        payload: sha256_hex(&body),
        rules: scope.path_rules(),
    };
    let unsigned = UnsignedRequest::new(signable, signatory, scope.clone(), now);
    let day_key = key.mac(unsigned.mac_input()).await?;
    // S3 wants it said that there is nothing.
    if body.is_empty() && [Method::POST, Method::PUT, Method::PATCH].contains(&head.method) {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    for (name, value) in unsigned.finish(day_key) {
        head.headers.insert(HeaderName::from_static(name), sensitive(&value)?);
    }
    Ok(Request::from_parts(head, body))
}

/// A URL that makes one request for whoever has it, from `now` on, for as long as `lasts`.
///
/// # Errors
/// As [`sign_request`].
pub async fn presign_url(
    method: &Method,
    url: Uri,
    signatory: Signatory<'_>,
    key: &dyn MacKey,
    scope: Scope,
    now: SystemTime,
    lasts: Duration,
) -> Result<Zeroizing<String>, CloudError> {
    let url = as_sent(&url, &scope.service)?;
    let host = host(&url)?.to_str().unwrap_or_default().to_owned();
    let signable = Signable {
        method: method.as_str(),
        path: url.path(),
        query: url.query().unwrap_or_default(),
        headers: vec![("host".into(), host)],
        payload: UnsignedUrl::payload(&scope.service, EMPTY_SHA256.into()),
        rules: scope.path_rules(),
    };
    let unsigned = UnsignedUrl::new(&signable, signatory, scope, now, lasts);
    let day_key = key.mac(unsigned.mac_input()).await?;
    let query = unsigned.finish(day_key);
    Ok(Zeroizing::new(with_query(url, &query)?.to_string()))
}

/// What `Host` says: without the scheme's own port.
pub(super) fn host(uri: &Uri) -> Result<HeaderValue, CloudError> {
    let authority = uri.authority().ok_or_else(|| CloudError::Usage(format!("{uri} names no host")))?;
    let is_default = matches!((uri.scheme_str(), uri.port_u16()), (_, None) | (Some("https"), Some(443)) | (Some("http"), Some(80)));
    let host = if is_default { authority.host() } else { without_userinfo(authority) };
    HeaderValue::from_str(host).map_err(|e| CloudError::Usage(e.to_string()))
}

fn without_userinfo(authority: &Authority) -> &str {
    authority.as_str().rsplit('@').next().unwrap_or_default()
}

/// The URL as it goes onto the wire, in the form that is signed: what an HTTP client would still change in it (dot segments, characters that it encodes) is
/// changed here; and of the ways to write the same thing, it is the one that the service writes it in, too.
fn as_sent(uri: &Uri, service: &str) -> Result<Uri, CloudError> {
    let unusable = |e: &dyn std::fmt::Display| CloudError::Usage(format!("{uri}: {e}"));
    if is_s3(service) && uri.path().split('/').any(is_dots) {
        return Err(unusable(&"`.` and `..` between slashes would be taken away on the way, and name another object"));
    }
    let mut url = reqwest::Url::parse(&uri.to_string()).map_err(|e| unusable(&e))?;
    if is_s3(service) {
        // S3 decodes a key and encodes it once, whatever it looked like.
        let segments: Vec<String> = url.path().split('/').map(encoded_once).collect();
        url.set_path(&segments.join("/"));
    }
    let sent: Uri = url.as_str().parse().map_err(|e| unusable(&e))?;
    let query = canonical_query(&pairs(sent.query().unwrap_or_default()));
    with_query(sent, &query)
}

fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

fn with_query(uri: Uri, query: &str) -> Result<Uri, CloudError> {
    let mut parts = uri.into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::path);
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    parts.path_and_query = Some(target.parse().map_err(|e| CloudError::Usage(format!("{target}: {e}")))?);
    Uri::from_parts(parts).map_err(|e| CloudError::Usage(e.to_string()))
}

fn fields(headers: &http::HeaderMap) -> Result<Vec<(String, String)>, CloudError> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().map_err(|_| CloudError::Usage(format!("{name}: only visible ASCII is signed")))?;
        Ok((name.as_str().to_owned(), value.to_owned()))
    };
    headers.iter().map(field).collect()
}

fn sensitive(value: &Zeroizing<String>) -> Result<HeaderValue, CloudError> {
    let mut value = HeaderValue::from_str(value).map_err(|e| CloudError::Usage(format!("a field of the signature: {e}")))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_signed_in_the_form_that_it_is_sent_in() {
        let sent = |url: &'static str, service| as_sent(&Uri::from_static(url), service).expect("a URL").to_string();
        assert_eq!(sent("https://a.test/x/../y/%2e/z?b=1&a=c+d&e", "ec2"), "https://a.test/y/z?a=c%20d&b=1&e=");
        assert_eq!(sent("https://a.test/{id}/a+b:c", "execute-api"), "https://a.test/%7Bid%7D/a+b:c");
        // What S3 makes of the key `a+b:c/(d)/e f`, and of one with a slash that is its own.
        assert_eq!(sent("https://b.s3.test/a+b:c/(d)/e%20f", "s3"), "https://b.s3.test/a%2Bb%3Ac/%28d%29/e%20f");
        assert_eq!(sent("https://b.s3.test/%FF", "s3"), "https://b.s3.test/%FF");
        assert!(as_sent(&Uri::from_static("https://b.s3.test/a/%2E./c"), "s3").is_err(), "another object");
        assert_eq!(sent("https://b.s3.test/a%2Fb//c", "s3"), "https://b.s3.test/a%2Fb//c");
    }
}
