//! Fields that are for one connection only (RFC 9110 §7.6.1).

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

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
pub struct Hop {
    /// The client takes trailers (`TE: trailers`, which gRPC insists on).
    pub takes_trailers: bool,
    /// The client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// There was a `Content-Length`.
    pub had_length: bool,
}

impl Hop {
    /// Of a request whose fields are still as they came.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self {
            takes_trailers: lists(headers, &TE, "trailers"),
            expects_continue: headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")),
            had_length: headers.contains_key(CONTENT_LENGTH),
        }
    }
}

/// Takes away the fields of one connection, those that `Connection` nominates, and those that are `unwanted` for another reason; also from the list of
/// trailers that are announced. A request's `Host` is not up to `Connection`: it decides what the request is for.
pub fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let nominated: Vec<HeaderName> =
        headers.get_all(CONNECTION).iter().flat_map(members).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    for name in nominated.into_iter().filter(|name| *name != HOST) {
        headers.remove(name);
    }
    remove_if(headers, |name| is_hop_by_hop(name) || is_unwanted(name));
    filter_announced(headers, |name| is_hop_by_hop(name) || is_unwanted(name));
}

/// The same in trailers, where fields that decide how a message is read are out of place, too (RFC 9110 §6.5.1).
pub fn remove_from_trailers(trailers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    remove_if(trailers, |name| is_hop_by_hop(name) || [CONTENT_LENGTH, HOST, TRAILER, EXPECT].contains(name) || is_unwanted(name));
}

/// Whether a list field names `token`.
#[must_use]
pub fn lists(headers: &HeaderMap, field: &HeaderName, token: &str) -> bool {
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

    #[test]
    fn what_connection_nominates_goes_but_the_host() {
        let mut headers =
            map(&[("connection", "x-secret, host,TE"), ("x-secret", "1"), ("host", "a"), ("te", "trailers"), ("accept", "*/*")]);
        let hop = Hop::of(&headers);
        assert!(hop.takes_trailers && !hop.expects_continue && !hop.had_length);
        remove(&mut headers, |_| false);
        assert_eq!(headers, map(&[("host", "a"), ("accept", "*/*")]));
    }

    #[test]
    fn announced_trailers_are_those_that_pass() {
        let mut headers = map(&[("trailer", "grpc-status, TE"), ("trailer", "Authorization")]);
        remove(&mut headers, |name| name == "authorization");
        assert_eq!(headers, map(&[("trailer", "grpc-status")]));
        let mut late = map(&[("grpc-status", "0"), ("content-length", "1"), ("host", "a"), ("connection", "x"), ("authorization", "a")]);
        remove_from_trailers(&mut late, |name| name == "authorization");
        assert_eq!(late, map(&[("grpc-status", "0")]));
    }
}
