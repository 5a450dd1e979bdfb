//! `application/x-www-form-urlencoded`, as Python's `urllib.parse.urlencode` writes it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters (RFC 3986 §2.3).
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Names and values, encoded.
pub(crate) fn form(parameters: &[(impl AsRef<str>, impl AsRef<str>)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string().replace("%20", "+");
    let pairs = parameters.iter().map(|(name, value)| format!("{}={}", encoded(name.as_ref()), encoded(value.as_ref())));
    pairs.collect::<Vec<_>>().join("&")
}
