//! HTTP/2 splits `Cookie` into crumbs; apps behind HTTP/1 expect one field (RFC 9113 §8.2.3).

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Joins them.
pub fn join(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (crumbs.next(), crumbs.next()) else { return };
    let rest = headers.get_all(COOKIE).iter().skip(1);
    let joined = rest.fold(first.as_bytes().to_vec(), |mut joined, crumb| {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
        joined
    });
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}
