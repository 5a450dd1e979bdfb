//! Which fields pass, in both directions and in trailers (RFC 9110 §7.6.1; docs/operations.md, "What is dropped").

use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::challenges::without_ours;
use super::folded::{is_ours, overrides_method};
use super::identity::IdentityNames;

const AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("authentication-info");

/// What belongs to one connection, or tells how it delimits a message.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("proxy-authentication-info"),
];

/// What of a request was for this hop, and decides how it goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hop {
    /// The client takes trailers (`TE: trailers`, which gRPC insists on).
    pub(super) takes_trailers: bool,
    /// The client waits for a 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// There was a `Content-Length`.
    pub(super) had_length: bool,
}

/// Takes away what the app must not see, or must not believe. `is_open`: nobody was verified.
pub(super) fn request(headers: &mut HeaderMap, names: &IdentityNames, is_open: bool) -> Hop {
    let hop = Hop {
        takes_trailers: lists(headers, &TE, "trailers"),
        expects_continue: headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")),
        had_length: headers.contains_key(CONTENT_LENGTH),
    };
    remove_nominated(headers);
    let is_unwanted = |name: &HeaderName| {
        is_hop_by_hop(name) || is_ours(name.as_str()) || names.contains(name.as_str()) || is_open && overrides_method(name.as_str())
    };
    remove_if(headers, is_unwanted);
    // It is told again by whoever sends the body on.
    headers.remove(CONTENT_LENGTH);
    filter_announced(headers, |name| is_hop_by_hop(name) || is_ours(name.as_str()) || names.contains(name.as_str()));
    hop
}

/// Takes away what is for the connection to the upstream, and what only this server may say.
pub(super) fn response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_nominated(headers);
    remove_if(headers, |name| is_hop_by_hop(name) || *name == AUTHENTICATION_INFO || *name == ALT_SVC);
    filter_announced(headers, |name| is_hop_by_hop(name) || *name == AUTHENTICATION_INFO);
    remove_challenges(headers);
}

/// The same in trailers, of requests and of responses.
pub(super) fn trailers(trailers: &mut HeaderMap, names: Option<&IdentityNames>) {
    remove_if(trailers, |name| {
        is_hop_by_hop(name)
            || [AUTHENTICATION_INFO, ALT_SVC, WWW_AUTHENTICATE, CONTENT_LENGTH, HOST, TRAILER, EXPECT].contains(name)
            || is_ours(name.as_str())
            || overrides_method(name.as_str())
            || names.is_some_and(|names| names.contains(name.as_str()))
    });
}

/// Whether a list field names `token`.
pub(super) fn lists(headers: &HeaderMap, field: &HeaderName, token: &str) -> bool {
    headers.get_all(field).iter().any(|value| members(value).any(|member| member.eq_ignore_ascii_case(token.as_bytes())))
}

fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

fn remove_if(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// What `Connection` names is for one hop. `Host` is not up to it: that decides what the request is for.
fn remove_nominated(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> =
        headers.get_all(CONNECTION).iter().flat_map(members).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    for name in nominated.into_iter().filter(|name| *name != HOST) {
        headers.remove(name);
    }
}

/// Which trailers are announced.
fn filter_announced(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    if !headers.contains_key(TRAILER) {
        return;
    }
    let announced: Vec<Vec<u8>> = headers
        .get_all(TRAILER)
        .iter()
        .flat_map(members)
        .filter(|name| HeaderName::from_bytes(name).is_ok_and(|name| !is_unwanted(&name)))
        .map(<[u8]>::to_vec)
        .collect();
    headers.remove(TRAILER);
    if let Some(value) = HeaderValue::from_bytes(&announced.join(&b", "[..])).ok().filter(|value| !value.is_empty()) {
        headers.insert(TRAILER, value);
    }
}

fn remove_challenges(headers: &mut HeaderMap) {
    if !headers.contains_key(WWW_AUTHENTICATE) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| HeaderValue::from_bytes(&without_ours(value.as_bytes())?).ok())
        .collect();
    headers.remove(WWW_AUTHENTICATE);
    for value in kept {
        headers.append(WWW_AUTHENTICATE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value.parse().expect("a value"));
        }
        headers
    }

    fn names() -> IdentityNames {
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).expect("a name");
        IdentityNames::new(name("X-User"), name(IdentityNames::KID), name(IdentityNames::CLAIMS))
    }

    #[test]
    fn what_connection_nominates_goes_but_the_host() {
        let mut headers =
            map(&[("connection", "x-secret, host,TE"), ("x-secret", "1"), ("host", "a"), ("te", "trailers"), ("accept", "*/*")]);
        let hop = request(&mut headers, &names(), false);
        assert!(hop.takes_trailers && !hop.expects_continue);
        assert_eq!(headers, map(&[("host", "a"), ("accept", "*/*")]));
    }

    #[test]
    fn what_the_client_must_not_say_goes_in_every_spelling() {
        let mut headers =
            map(&[("x-user", "a"), ("X_User", "a"), ("x.user", "a"), ("ekm_otp_claims", "a"), ("x-http-method-override", "DELETE")]);
        request(&mut headers, &names(), false);
        assert_eq!(headers, map(&[("x-http-method-override", "DELETE")]));
        request(&mut headers, &names(), true);
        assert!(headers.is_empty());
        let mut late =
            map(&[("x-user", "a"), ("X_User", "a"), ("Ekm-Otp-Client", "a"), ("authorization", "a"), ("host", "a"), ("grpc-status", "0")]);
        trailers(&mut late, Some(&names()));
        assert_eq!(late, map(&[("grpc-status", "0")]));
    }

    #[test]
    fn announced_trailers_are_those_that_pass() {
        let mut headers = map(&[("trailer", "grpc-status, X_User"), ("trailer", "Ekm-Otp-Client")]);
        request(&mut headers, &names(), false);
        assert_eq!(headers, map(&[("trailer", "grpc-status")]));
    }

    #[test]
    fn an_upstream_proves_and_challenges_nothing_in_our_name() {
        let mut headers = map(&[
            ("authentication-info", "proof=\"x\""),
            ("www-authenticate", "EKM-OTP realm=\"x\""),
            ("www-authenticate", "Basic realm=\"y\""),
            ("alt-svc", "h3=\":443\""),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
        ]);
        response(&mut headers);
        assert_eq!(headers, map(&[("www-authenticate", "Basic realm=\"y\"")]));
    }
}
