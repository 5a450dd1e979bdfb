//! Which fields pass between a local program and the origin, in both directions and in trailers (RFC 9110 §7.6.1; docs/sidecar.md, "What is changed").

use ekm_otp::field::{AuthenticationInfo, Challenge};
use ekm_otp_relay::folded::is_ours;
use ekm_otp_relay::{cookies, hop};
use http::header::{ALT_SVC, AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, LOCATION, TE, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::failure::{ERROR, Failure};

/// What becomes of a local request's own `Authorization`: exactly one leaves here, and that is the sidecar's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Authorization {
    /// The request is refused, so that nobody wonders where the credential went.
    #[default]
    Refuse,
    /// It goes no further.
    Drop,
    /// It goes on under this name, for an application that looks there.
    Rename(HeaderName),
}

impl Authorization {
    /// `refuse`, `drop`, or a field's name.
    ///
    /// # Errors
    /// Where the server would drop that field, or it means something else.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => return Ok(Self::Refuse),
            "drop" => return Ok(Self::Drop),
            _ => {}
        }
        let name = HeaderName::try_from(text).map_err(|_| "write refuse, drop, or the name of a field".to_owned())?;
        let taken = [HOST, TE, EXPECT, CONTENT_LENGTH, TRANSFER_ENCODING, http::header::CONNECTION, http::header::COOKIE];
        if is_ours(name.as_str()) || taken.contains(&name) || is_of_a_hop(&name) {
            return Err(format!("{name} does not reach an application: write the name of a field of its own, X-App-Authorization say"));
        }
        Ok(Self::Rename(name))
    }
}

fn is_of_a_hop(name: &HeaderName) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(name.clone(), HeaderValue::from_static("x"));
    hop::remove(&mut headers, |_| false);
    headers.is_empty()
}

/// Takes away what was for this hop, and what would say who somebody is: the server says that, of the key that it verified. `authorization`: the rule.
///
/// # Errors
/// When the request has a credential of its own that the rule refuses, or a coding that cannot be passed on.
pub(super) fn request(headers: &mut HeaderMap, authorization: &Authorization) -> Result<hop::Hop, Failure> {
    if headers.get_all(TRANSFER_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Failure::Coding);
    }
    let mut credentials = headers.get_all(AUTHORIZATION).iter();
    let (own, is_single) = (credentials.next().cloned(), credentials.next().is_none());
    match authorization {
        Authorization::Refuse if own.is_some() => return Err(Failure::Authorization),
        // One would be lost.
        Authorization::Rename(_) if !is_single => return Err(Failure::Authorization),
        Authorization::Rename(name) => {
            headers.remove(name);
        }
        _ => {}
    }
    let hop = hop::Hop::of(headers);
    hop::remove(headers, |name| is_ours(name.as_str()));
    if let (Authorization::Rename(name), Some(own)) = (authorization, own) {
        headers.insert(name, own);
    }
    for name in [CONTENT_LENGTH, EXPECT, HOST] {
        // They are told again by whoever sends the request on; a 100 is answered here.
        headers.remove(name);
    }
    cookies::join(headers);
    if hop.takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(hop)
}

pub(super) fn request_trailers(trailers: &mut HeaderMap) {
    hop::remove_from_trailers(trailers, |name| is_ours(name.as_str()));
}

/// Takes away what was for the connection to the origin. `app`: the origin, `here`: what the program calls it; a redirect within it stays within it.
pub(super) fn response(headers: &mut HeaderMap, app: &str, here: &str) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    hop::remove(headers, is_between_us);
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let rest = location.and_then(|location| location.strip_prefix(app));
    let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    if let Some(value) = rest.and_then(|rest| HeaderValue::try_from(format!("{here}{rest}")).ok()) {
        headers.insert(LOCATION, value);
    }
}

pub(super) fn response_trailers(trailers: &mut HeaderMap) {
    hop::remove_from_trailers(trailers, is_between_us);
}

/// Proofs are for the client, other services of the origin are not authenticated, and this sidecar's own answers are told apart by a field.
fn is_between_us(name: &HeaderName) -> bool {
    *name == AuthenticationInfo::FIELD || *name == ALT_SVC || *name == ERROR
}

/// Whether the server, not the application behind it, refuses the credential of a connection that it took before: the key was revoked, say.
pub(super) fn is_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED && Challenge::read(headers.get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes)).is_some()
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
    fn a_credential_of_the_programs_own_is_refused_dropped_or_renamed_and_never_leaves_as_it_is() {
        let own = [("authorization", "Basic eA=="), ("accept", "*/*")];
        assert_eq!(request(&mut map(&own), &Authorization::Refuse).err(), Some(Failure::Authorization));
        assert_eq!(request(&mut map(&[("Authorization_", "x")]), &Authorization::Refuse).err(), None);
        let mut dropped = map(&own);
        request(&mut dropped, &Authorization::Drop).expect("it passes");
        assert_eq!(dropped, map(&[("accept", "*/*")]));
        let rule = Authorization::parse("X-App-Authorization").expect("a name");
        let mut renamed = map(&[("authorization", "Basic eA=="), ("x-app-authorization", "forged")]);
        request(&mut renamed, &rule).expect("it passes");
        assert_eq!(renamed, map(&[("x-app-authorization", "Basic eA==")]));
        for name in ["Authorization", "X-Forwarded-User", "Ekm-Otp-Client", "Proxy-Authorization", "TE", "a b", "Cookie", "Connection"] {
            assert!(Authorization::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_local_program_does_not_say_who_it_is_in_the_servers_name() {
        let mut headers = map(&[
            ("ekm-otp-client", "root"),
            ("Ekm_Otp_Client", "root"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("client-cert", "x"),
            ("proxy-authorization", "Basic eA=="),
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("host", "localhost:8080"),
            ("expect", "100-continue"),
            ("te", "trailers, deflate"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ]);
        request(&mut headers, &Authorization::Refuse).expect("it passes");
        assert_eq!(headers, map(&[("cookie", "a=1; b=2"), ("te", "trailers")]));
        let mut late = map(&[("ekm-otp-client", "root"), ("authorization", "x"), ("grpc-status", "0")]);
        request_trailers(&mut late);
        assert_eq!(late, map(&[("grpc-status", "0")]));
    }

    #[test]
    fn an_origin_says_nothing_in_the_sidecars_name_and_its_redirects_stay_here() {
        let mut headers = map(&[
            ("ekm-otp-error", "refused"),
            ("authentication-info", "proof=\"x\""),
            ("alt-svc", "h3=\":443\""),
            ("connection", "keep-alive"),
            ("location", "https://api.example.com/login?x"),
            ("content-length", "5"),
        ]);
        response(&mut headers, "https://api.example.com", "http://localhost:8080");
        assert_eq!(headers, map(&[("location", "http://localhost:8080/login?x"), ("content-length", "5")]));
        for elsewhere in ["https://api.example.com.evil.example/", "https://api.example.com:444/", "/relative", "http://api.example.com/"] {
            let mut headers = map(&[("location", elsewhere)]);
            response(&mut headers, "https://api.example.com", "http://localhost:8080");
            assert_eq!(headers[LOCATION], elsewhere);
        }
    }
}
