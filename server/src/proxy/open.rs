//! Routes that ask for no credential, written `METHOD=PATTERN`.

use http::{Method, Uri};
use regex::Regex;

use crate::pattern::whole;

/// The open routes of one site.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenRoutes(Vec<(Method, Regex)>);

/// Why a text is no open route.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OpenRouteError {
    /// No method, or no path.
    #[error("is no open route: write METHOD=PATTERN, such as GET=^/healthz$")]
    Form,
    /// The pattern.
    #[error("its pattern is none: {0}")]
    Pattern(#[from] regex::Error),
}

impl OpenRoutes {
    /// Adds one. The pattern must match the whole path, with `^` and `$` or without.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), OpenRouteError> {
        let (method, pattern) = text.split_once('=').ok_or(OpenRouteError::Form)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| OpenRouteError::Form)?;
        // Methods are case-sensitive (RFC 9110 §9.1): one in lower case would never match.
        if method.as_str() != method.as_str().to_ascii_uppercase() || method == Method::CONNECT || pattern.is_empty() {
            return Err(OpenRouteError::Form);
        }
        self.0.push((method, whole(pattern)?));
        Ok(())
    }

    /// Whether a request passes without a credential. GET includes HEAD.
    ///
    /// What is matched is the target's path as it was sent, without the query. Upstreams disagree on what a path is that is not in its plainest form, so such a path
    /// is never open: one with an escape (`%2f`, `%2e`, any), an empty segment (`//`), a dot segment (`.`, `..`), a backslash, a `;`, or
    /// anything but visible ASCII.
    pub(crate) fn contain(&self, method: &Method, uri: &Uri) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let path = uri.path();
        is_plain(path) && self.0.iter().any(|(open, pattern)| open == method && pattern.is_match(path))
    }
}

fn is_plain(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else { return false };
    path.bytes().all(|byte| byte.is_ascii_graphic() && !b"%\\;".contains(&byte))
        && (segments.is_empty()
            || segments.strip_suffix('/').unwrap_or(segments).split('/').all(|segment| !matches!(segment, "" | "." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(texts: &[&str]) -> OpenRoutes {
        let mut routes = OpenRoutes::default();
        texts.iter().for_each(|text| routes.add(text).expect(text));
        routes
    }

    #[test]
    fn a_path_that_upstreams_may_read_in_two_ways_is_never_open() {
        let routes = routes(&["GET=.*"]);
        let is_open = |target: &str| routes.contain(&Method::GET, &target.parse().expect(target));
        for target in ["/", "/healthz", "/a/b/", "/a?b=//..%2f", "https://host.test/healthz", "/a.b/..c"] {
            assert!(is_open(target), "{target}");
        }
        for target in [
            "/a%2fb",
            "/%2e%2e/a",
            "//a",
            "/a//b",
            "/a//",
            "/./a",
            "/a/..",
            "/a/../b",
            "/a/.",
            "/a\\b",
            "/a;b",
            "/%61",
            "*",
            "https://host.test//a",
        ] {
            assert!(!is_open(target), "{target}");
        }
    }

    #[test]
    fn the_whole_path_and_the_method_must_match() {
        let routes = routes(&["GET=^/healthz$", "POST=/hook/[a-z]+|/x"]);
        let is_open = |method: Method, target: &str| routes.contain(&method, &target.parse().expect(target));
        assert!(
            is_open(Method::GET, "/healthz")
                && is_open(Method::HEAD, "/healthz?x")
                && is_open(Method::POST, "/hook/a")
                && is_open(Method::POST, "/x")
        );
        assert!(!is_open(Method::POST, "/healthz") && !is_open(Method::GET, "/healthz/") && !is_open(Method::GET, "/a/healthz"));
        assert!(!is_open(Method::POST, "/hook/a/b") && !is_open(Method::POST, "/xy") && !is_open(Method::GET, "/x"));
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for text in ["/healthz", "GET", "GET=", "get=/healthz", "=/a", "GET=(", "CONNECT=/"] {
            assert!(OpenRoutes::default().add(text).is_err(), "{text}");
        }
    }
}
