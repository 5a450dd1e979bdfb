//! Where a request came from: X-Forwarded-* and `Forwarded` (RFC 7239), said by this server alone.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Adds them. What the client sent under these names is gone by then: nothing before this server is believed but the PROXY protocol, from where it is
/// configured.
pub(super) fn write(headers: &mut HeaderMap, peer: Option<SocketAddr>, host: &HeaderValue) {
    let peer = peer.map(|peer| peer.ip().to_canonical());
    if let Some(value) = peer.and_then(|peer| HeaderValue::try_from(peer.to_string()).ok()) {
        headers.insert(FOR, value);
    }
    headers.insert(PROTO, HeaderValue::from_static("https"));
    headers.insert(HOST, host.clone());
    if let Some(value) = host.to_str().ok().and_then(|host| HeaderValue::try_from(element(peer, host)).ok()) {
        headers.insert(http::header::FORWARDED, value);
    }
}

/// RFC 7239 §4: an IPv6 address is in brackets, and so is quoted; a host with a port is quoted, too.
fn element(peer: Option<IpAddr>, host: &str) -> String {
    let peer = match peer {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
        None => "unknown".to_owned(),
    };
    let host = host.replace('\\', "\\\\").replace('"', "\\\"");
    format!("for={peer};host=\"{host}\";proto=https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_written_as_the_rfc_has_it() {
        let v4 = Some("192.0.2.60".parse().expect("an address"));
        assert_eq!(element(v4, "api.test:8443"), "for=192.0.2.60;host=\"api.test:8443\";proto=https");
        let v6 = Some("2001:db8:cafe::17".parse().expect("an address"));
        assert_eq!(element(v6, "api.test"), "for=\"[2001:db8:cafe::17]\";host=\"api.test\";proto=https");
        assert_eq!(element(None, "a\"b"), "for=unknown;host=\"a\\\"b\";proto=https");
    }
}
