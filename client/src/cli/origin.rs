//! A server's origin, as a URL names it.

use ekm_otp::Authority;
use http::Uri;

const HOW: &str = "write it as https://HOST[:PORT]";

/// The origin of an `https://` URL, whatever stands behind it.
pub(crate) fn origin_of(text: &str) -> Result<Authority, String> {
    let url = text.parse::<Uri>().ok().filter(|url| url.scheme() == Some(&http::uri::Scheme::HTTPS));
    let authority = url.as_ref().and_then(Uri::authority).ok_or(HOW)?;
    Authority::parse(authority.as_str()).map_err(|e| e.to_string())
}

/// The same of one that names nothing more.
pub(crate) fn origin_alone(text: &str) -> Result<Authority, String> {
    let is_alone = text.parse::<Uri>().is_ok_and(|url| url.path().len() <= 1 && url.query().is_none()) && !text.contains('#');
    origin_of(text).and_then(|origin| if is_alone { Ok(origin) } else { Err(format!("{HOW}: what stands behind it belongs to a request")) })
}
