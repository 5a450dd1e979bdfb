//! Where a request goes: the URL as it is given, and the place that a redirect names.

use ekm_otp::Authority;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, StatusCode, Uri};
use url::Url;

use super::data::escape;
use crate::cli::CliError;

/// A URL of the command line.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    if text.contains("://[") && text.contains('%') && text.find('%') < text.find(']') {
        return Err("an IPv6 address with a zone (%eth0) is not served: use an address without one, or a name".to_owned());
    }
    let url = text.parse::<Uri>().ok().filter(|url| url.authority().is_some() && url.scheme().is_some());
    url.ok_or_else(|| "write it as https://HOST[:PORT]/PATH, with what is no ASCII percent-encoded".to_owned())
}

/// Whose URL it is: only https.
pub(super) fn authority(url: &Uri) -> Result<Authority, CliError> {
    if url.scheme() != Some(&Scheme::HTTPS) {
        return Err(CliError::Usage(format!("{url}: only https:// is served, a credential never travels without TLS")));
    }
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    Authority::parse(authority).map_err(|e| CliError::Usage(format!("{url}: {e}")))
}

/// The target (RFC 9112 §3.2.1) with a query behind the one that is there (`-G`), and a file's name where it ends in a folder (`-T`).
pub(super) fn target(url: &Uri, query: Option<&[u8]>, file_name: Option<&[u8]>) -> Result<PathAndQuery, CliError> {
    let mut target = url.path().as_bytes().to_vec();
    if target.is_empty() {
        target.push(b'/');
    }
    if let Some(name) = file_name.filter(|_| target.ends_with(b"/")) {
        name.iter().for_each(|byte| escape(*byte, &mut target));
    }
    for query in [url.query().map(str::as_bytes), query.filter(|query| !query.is_empty())].into_iter().flatten() {
        target.push(if target.contains(&b'?') { b'&' } else { b'?' });
        target.extend_from_slice(query);
    }
    PathAndQuery::try_from(target)
        .map_err(|e| CliError::Usage(format!("the URL with its query is not usable: {e}. --data-urlencode encodes what needs that")))
}

/// Where a redirect leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To the same origin.
    Here(PathAndQuery),
    /// To another one, that the credential is not for.
    Elsewhere(String),
}

impl Place {
    /// As a whole URL.
    pub(super) fn shown(&self, origin: &Authority) -> String {
        match self {
            Self::Here(target) => format!("https://{origin}{target}"),
            Self::Elsewhere(url) => url.clone(),
        }
    }
}

/// What `Location` means, seen from where it was found (RFC 9110 §10.2.2, RFC 3986 §5). `None` where it means nothing.
pub(super) fn place(origin: &Authority, from: &PathAndQuery, location: &[u8]) -> Option<Place> {
    let base = Url::parse(&format!("https://{origin}{from}")).ok()?;
    let url = base.join(&String::from_utf8_lossy(location)).ok()?;
    let is_here = url.scheme() == "https"
        && url.username().is_empty()
        && url.password().is_none()
        && url.host_str().is_some_and(|host| {
            Authority::parse(&format!("{host}:{}", url.port_or_known_default().unwrap_or(443))).is_ok_and(|asked| asked == *origin)
        });
    // A password that somebody put there is nobody's to see.
    let shown = || {
        let mut url = url.clone();
        let _ = url.set_password(None);
        url.to_string()
    };
    Some(if is_here {
        Place::Here(PathAndQuery::try_from(&url[url::Position::BeforePath..url::Position::AfterQuery]).ok()?)
    } else {
        Place::Elsewhere(shown())
    })
}

/// Which redirects keep the method where it would become GET.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) after_301: bool,
    pub(super) after_302: bool,
    pub(super) after_303: bool,
}

/// The method of the next request where this is a redirect (RFC 9110 §15.4), and whether the body goes with it.
pub(super) fn redirected(status: StatusCode, method: &Method, kept: Kept) -> Option<(Method, bool)> {
    let becomes_get = match status {
        StatusCode::MOVED_PERMANENTLY => method == Method::POST && !kept.after_301,
        StatusCode::FOUND => method == Method::POST && !kept.after_302,
        StatusCode::SEE_OTHER => method != Method::GET && method != Method::HEAD && !kept.after_303,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        _ => return None,
    };
    Some(if becomes_get { (Method::GET, false) } else { (method.clone(), true) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Authority {
        Authority::parse("api.example.test").expect("an origin")
    }

    #[test]
    fn a_redirect_is_followed_to_the_same_origin_in_whatever_spelling_and_to_no_other() {
        let from = PathAndQuery::from_static("/a/b?c=d");
        for (location, target) in [
            ("/x", "/x"),
            ("x?y=z#part", "/a/x?y=z"),
            ("../x", "/x"),
            ("?e", "/a/b?e"),
            ("https://API.example.test:443/x", "/x"),
            ("//api.example.test", "/"),
            ("/ü x", "/%C3%BC%20x"),
        ] {
            let expected = Place::Here(target.parse().expect("a target"));
            assert_eq!(place(&origin(), &from, location.as_bytes()), Some(expected), "{location}");
        }
        for location in [
            "http://api.example.test/x",
            "https://api.example.test:8443/x",
            "https://api.example.test.evil.test/",
            "https://api.example.test@evil.test/",
            "https://me@api.example.test/",
            "//evil.test/x",
            r"\\evil.test\x",
            "/\t/evil.test",
            "ftp://api.example.test/",
            "javascript:alert(1)",
        ] {
            assert!(matches!(place(&origin(), &from, location.as_bytes()), Some(Place::Elsewhere(_))), "{location}");
        }
        let told = place(&origin(), &from, b"https://me:word@evil.test/").expect("a place").shown(&origin());
        assert_eq!(told, "https://me@evil.test/");
    }

    #[test]
    fn only_post_becomes_get_and_303_ends_every_method_but_head() {
        let shown = |status: u16, method: Method| {
            redirected(StatusCode::from_u16(status).expect("a status"), &method, Kept::default())
                .map(|(method, body)| (method.to_string(), body))
        };
        let get = Some(("GET".to_owned(), false));
        assert_eq!((shown(301, Method::POST), shown(302, Method::POST), shown(303, Method::POST)), (get.clone(), get.clone(), get.clone()));
        assert_eq!(shown(303, Method::PUT), get);
        for (status, method) in [(301, Method::PUT), (302, Method::DELETE), (303, Method::HEAD), (307, Method::POST), (308, Method::PATCH)]
        {
            assert_eq!(shown(status, method.clone()), Some((method.to_string(), true)), "{status}");
        }
        assert_eq!((shown(300, Method::GET), shown(304, Method::GET), shown(200, Method::GET)), (None, None, None));
        let kept = Kept { after_301: true, ..Kept::default() };
        assert_eq!(redirected(StatusCode::MOVED_PERMANENTLY, &Method::POST, kept), Some((Method::POST, true)));
    }

    #[test]
    fn a_query_goes_behind_the_one_that_is_there_and_a_file_s_name_into_a_folder() {
        let made = |text: &str, query: Option<&[u8]>, name: Option<&[u8]>| {
            target(&url(text).expect("a URL"), query, name).expect("a target").to_string()
        };
        assert_eq!(made("https://a.test", None, None), "/");
        assert_eq!(made("https://a.test?x=1", Some(b"y=2"), None), "/?x=1&y=2");
        assert_eq!(made("https://a.test/p/?x=1", Some(b""), Some("ä b".as_bytes())), "/p/%C3%A4%20b?x=1");
        assert_eq!(made("https://a.test/p", None, Some(b"f")), "/p");
        assert!(target(&url("https://a.test").expect("a URL"), Some(b"a b"), None).is_err());
    }
}
