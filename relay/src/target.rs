//! A request's target, as the next hop is to see it (RFC 9112 §3.2).

use http::Uri;
use http::uri::PathAndQuery;

/// In origin-form, byte for byte what the client sent; `*` stays what it is.
#[must_use]
pub fn origin_form(uri: &Uri) -> PathAndQuery {
    let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if target.as_str().starts_with('/') || target.as_str() == "*" {
        return target;
    }
    // Of an absolute target without a path: only the query is there.
    PathAndQuery::try_from(format!("/{}", target.as_str())).unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_keeps_its_bytes_and_gets_the_path_that_it_lacks() {
        for (uri, target) in [
            ("http://a.test/x%2F..//y?z=%20", "/x%2F..//y?z=%20"),
            ("http://a.test", "/"),
            ("http://a.test?q", "/?q"),
            ("/a?b", "/a?b"),
            ("*", "*"),
        ] {
            assert_eq!(origin_form(&uri.parse().expect("a URI")).as_str(), target, "{uri}");
        }
    }
}
