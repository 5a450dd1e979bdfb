//! A request's target as it is sent and signed (RFC 9112 §3.2.1).

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;

/// The origin-form of a request's target, unnormalised: path and query.
#[must_use]
pub fn origin_form(uri: &Uri) -> Cow<'_, str> {
    match uri.path_and_query().map(PathAndQuery::as_str) {
        Some(target) if target.starts_with(['/', '*']) => target.into(),
        Some(query) => format!("/{query}").into(),
        None => "/".into(),
    }
}
