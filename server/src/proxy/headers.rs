//! Which fields pass, in both directions and in trailers (RFC 9110 §7.6.1; docs/operations.md, "What is dropped").

use ekm_otp_relay::folded::{is_ours, overrides_method};
use ekm_otp_relay::hop::{self, Hop};
use http::header::{ALT_SVC, CONTENT_LENGTH, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::challenges::without_ours;
use super::identity::IdentityNames;

const AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("authentication-info");

/// Takes away what the app must not see, or must not believe. `is_open`: nobody was verified.
pub(super) fn request(headers: &mut HeaderMap, names: &IdentityNames, is_open: bool) -> Hop {
    let hop = Hop::of(headers);
    hop::remove(headers, |name| is_ours(name.as_str()) || names.contains(name.as_str()) || is_open && overrides_method(name.as_str()));
    // It is told again by whoever sends the body on.
    headers.remove(CONTENT_LENGTH);
    hop
}

/// Takes away what is for the connection to the upstream, and what only this server may say.
pub(super) fn response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    hop::remove(headers, |name| *name == AUTHENTICATION_INFO || *name == ALT_SVC);
    remove_challenges(headers);
}

/// The same in trailers, of requests and of responses.
pub(super) fn trailers(trailers: &mut HeaderMap, names: Option<&IdentityNames>) {
    hop::remove_from_trailers(trailers, |name| {
        [AUTHENTICATION_INFO, ALT_SVC, WWW_AUTHENTICATE].contains(name)
            || is_ours(name.as_str())
            || overrides_method(name.as_str())
            || names.is_some_and(|names| names.contains(name.as_str()))
    });
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
