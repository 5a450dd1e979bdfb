//! Which of a browser's requests pass. Whoever surfs on this machine has pages of strangers open, and these can make the browser send requests here: with forms,
//! images, links, scripts, websockets. Browsers say where a request comes from (`Origin`: RFC 6454, Fetch §3.2; `Sec-Fetch-Site`: Fetch Metadata; pages cannot change
//! either), and only what was typed in or comes from a page that was served here passes. Other programs send none of these fields.
//!
//! No CORS answer is ever made here; those that the app makes are not asked for on a stranger's behalf.

use http::header::{ORIGIN, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::asked::{Asked, HostName};
use super::failure::Failure;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// A page asks for what is in a network closer to the user than its own (Private Network Access, Local Network Access): so it is a stranger's.
const NEARER: [HeaderName; 2] =
    [HeaderName::from_static("access-control-request-private-network"), HeaderName::from_static("access-control-request-local-network")];

/// The origin of a web page that may send requests here, beside those served here: `http://localhost:3000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebOrigin {
    scheme: String,
    name: HostName,
}

impl WebOrigin {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, name) = text.split_once("://")?;
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let scheme = scheme.to_ascii_lowercase();
        let name = HostName::parse(name).filter(|_| is_scheme)?;
        let default = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = name.port.filter(|port| Some(*port) != default);
        Some(Self { scheme, name: HostName { port, ..name } })
    }

    /// Of a page that was got from here under this name.
    fn here(asked: &Asked) -> Self {
        let port = asked.name.port.filter(|port| *port != 80);
        Self { scheme: "http".into(), name: HostName { host: asked.name.host.clone(), port } }
    }
}

/// Where a request that passes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// No browser, or what its user typed in.
    Nowhere,
    /// A page that was served here: to the app, its own.
    Here,
    /// A page of another origin, which the operator has named.
    Allowed,
}

/// # Errors
/// When it comes from a stranger's page, or may.
pub(super) fn check(parts: &Parts, asked: &Asked, allowed: &[WebOrigin]) -> Result<From, Failure> {
    let headers = &parts.headers;
    if NEARER.iter().any(|name| headers.contains_key(name)) {
        return Err(Failure::CrossSite);
    }
    let from = origin(headers, asked, allowed)?;
    let Some(site) = single(headers, &SEC_FETCH_SITE)? else {
        // A browser that does not say where a request comes from: it is too old, or it has been asked for a name that it does not take for this machine.
        // Then an image's or a link's request of any page looks like one that was typed in.
        let is_browser = headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"));
        let is_known = from != From::Nowhere || !is_browser;
        return if is_known { Ok(from) } else { Err(Failure::Unsaid) };
    };
    match (site, from) {
        (b"same-origin" | b"none", _) => Ok(from),
        // The names are different sites to the browser, and the operator knows both.
        (b"cross-site" | b"same-site", From::Allowed) => Ok(from),
        _ => Err(Failure::CrossSite),
    }
}

/// By the field that says it.
fn origin(headers: &HeaderMap, asked: &Asked, allowed: &[WebOrigin]) -> Result<From, Failure> {
    let here = WebOrigin::here(asked);
    let of = |text: &str| match WebOrigin::parse(text) {
        Some(origin) if origin == here => Ok(From::Here),
        Some(origin) if allowed.contains(&origin) => Ok(From::Allowed),
        // `null` among them: a page in a sandbox, a file, a redirect from elsewhere.
        _ => Err(Failure::CrossSite),
    };
    if let Some(origin) = single(headers, &ORIGIN)? {
        return of(std::str::from_utf8(origin).map_err(|_| Failure::CrossSite)?);
    }
    Ok(From::Nowhere)
}

/// # Errors
/// When it stands more than once: no browser does that.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, Failure> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(HeaderValue::as_bytes)),
        _ => Err(Failure::CrossSite),
    }
}

/// A page that was served here is the app's own: so the app is told, which may check that, too. `app`: its origin, as browsers write it.
pub(super) fn tell_app(headers: &mut HeaderMap, asked: &Asked, app: &str) {
    if let Ok(origin) = HeaderValue::try_from(app)
        && headers.get(ORIGIN).and_then(|value| value.to_str().ok()).and_then(WebOrigin::parse) == Some(WebOrigin::here(asked))
    {
        headers.insert(ORIGIN, origin);
    }
    let prefix = format!("http://{}", asked.name);
    let referer = headers.get(REFERER).and_then(|value| value.to_str().ok());
    let rest = referer.and_then(|referer| referer.strip_prefix(&prefix)).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    if let Some(value) = rest.and_then(|rest| HeaderValue::try_from(format!("{app}{rest}")).ok()) {
        headers.insert(REFERER, value);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn checked(host: &str, fields: &[(&str, &str)], allowed: &[&str]) -> Result<From, Failure> {
        let mut request = Request::get("/").header("host", host);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).expect("a request").into_parts().0;
        let allowed: Vec<WebOrigin> = allowed.iter().map(|origin| WebOrigin::parse(origin).expect("an origin")).collect();
        check(&parts, &Asked::of(&parts).expect("a host"), &allowed)
    }

    const HOST: &str = "localhost:8080";
    const AGENT: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0");

    #[test]
    fn other_programs_and_what_is_typed_in_pass() {
        assert_eq!(checked(HOST, &[], &[]), Ok(From::Nowhere));
        assert_eq!(checked(HOST, &[("user-agent", "curl/8.1")], &[]), Ok(From::Nowhere));
        assert_eq!(checked(HOST, &[AGENT, ("sec-fetch-site", "none")], &[]), Ok(From::Nowhere));
    }

    #[test]
    fn a_page_that_was_served_here_may_do_all_that_the_app_allows_it() {
        assert_eq!(checked(HOST, &[AGENT, ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")], &[]), Ok(From::Here));
        assert_eq!(checked(HOST, &[AGENT, ("sec-fetch-site", "same-origin")], &[]), Ok(From::Nowhere));
        assert_eq!(checked("work.localhost", &[("origin", "http://work.localhost:80")], &[]), Ok(From::Here));
    }

    #[test]
    fn a_strangers_form_image_link_script_or_websocket_is_refused() {
        for fields in [
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")][..],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "image")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "what-comes-next")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "none")],
            &[("origin", "https://evil.example"), ("content-type", "text/plain")],
            &[("origin", "null")],
            &[("origin", "http://localhost:3000")],
            &[("origin", "https://localhost:8080")],
            &[("origin", "http://localhost:8080.evil.example")],
            &[("origin", "http://localhost:8080"), ("origin", "http://localhost:8080")],
            &[("origin", "http://127.0.0.1:8080")],
            &[("origin", "http://evil.example"), ("connection", "Upgrade"), ("upgrade", "websocket")],
            &[("origin", "http://localhost:8080"), ("access-control-request-private-network", "true")],
            &[("access-control-request-local-network", "true")],
        ] {
            assert_eq!(checked(HOST, fields, &[]), Err(Failure::CrossSite), "{fields:?}");
        }
    }

    #[test]
    fn a_browser_that_does_not_say_where_a_request_comes_from_is_refused() {
        assert_eq!(checked(HOST, &[AGENT], &[]), Err(Failure::Unsaid));
        assert_eq!(checked(HOST, &[AGENT, ("origin", "http://localhost:8080")], &[]), Ok(From::Here), "this one does");
    }

    #[test]
    fn a_page_that_the_operator_names_passes_where_it_says_who_it_is() {
        let allowed = ["http://localhost:3000"];
        let origin = ("origin", "http://localhost:3000");
        assert_eq!(checked(HOST, &[AGENT, origin, ("sec-fetch-site", "same-site")], &allowed), Ok(From::Allowed));
        assert_eq!(checked(HOST, &[AGENT, ("sec-fetch-site", "same-site")], &allowed), Err(Failure::CrossSite));
        assert_eq!(checked(HOST, &[origin, ("access-control-request-private-network", "true")], &allowed), Err(Failure::CrossSite));
        assert_eq!(checked(HOST, &[("origin", "https://localhost:3000")], &allowed), Err(Failure::CrossSite));
    }

    #[test]
    fn the_app_sees_its_own_pages_as_its_own() {
        let request = Request::get("/").header("host", HOST).header("origin", "http://localhost:8080");
        let mut parts = request.header("referer", "http://localhost:8080/a?b").body(()).expect("a request").into_parts().0;
        let asked = Asked::of(&parts).expect("a host");
        tell_app(&mut parts.headers, &asked, "https://api.example.com");
        assert_eq!(parts.headers[ORIGIN], "https://api.example.com");
        assert_eq!(parts.headers[REFERER], "https://api.example.com/a?b");
        parts.headers.insert(ORIGIN, HeaderValue::from_static("http://localhost:3000"));
        parts.headers.insert(REFERER, HeaderValue::from_static("http://localhost:80801/a"));
        tell_app(&mut parts.headers, &asked, "https://api.example.com");
        assert_eq!(
            (&parts.headers[ORIGIN], &parts.headers[REFERER]),
            (&"http://localhost:3000".parse().expect("it"), &"http://localhost:80801/a".parse().expect("it"))
        );
    }
}
