//! What is signed of a request, in the one form that both sides make it: canonical request and string to sign ("Create a signed AWS API request",
//! AWS IAM User Guide). Signature Version 4 and Roles Anywhere differ in the algorithm's name and in who signs.

use std::time::SystemTime;

use percent_encoding::{AsciiSet, percent_decode, percent_encode, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::form::{ENCODED, pairs};
use crate::utc::calendar;

/// In a path the slashes stay.
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// SHA-256 of nothing, where a request has no body.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Stands for the body's hash where the body is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// How a service reads paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// Dot segments and doubled slashes are taken away (RFC 3986 §5.2.4).
    pub is_normalized: bool,
    /// What stands on the wire is percent-encoded once more.
    pub is_encoded_again: bool,
}

impl PathRules {
    /// Those of a service. S3's keys are what they are, everyone else follows the general rule.
    #[must_use]
    pub fn of(service: &str) -> Self {
        let is_s3 = is_s3(service);
        Self { is_normalized: !is_s3, is_encoded_again: !is_s3 }
    }
}

pub(super) fn is_s3(service: &str) -> bool {
    matches!(service, "s3" | "s3-outposts" | "s3-object-lambda" | "s3express")
}

/// What counts of a request. Its fields may hold a session's token.
#[derive(Clone)]
pub struct Signable<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it stands on the wire.
    pub path: &'a str,
    /// The query as it stands on the wire, without its question mark.
    pub query: &'a str,
    /// The fields that are signed, `host` among them, in any order and case.
    pub headers: Vec<(String, String)>,
    /// SHA-256 of the body in hexadecimal digits, or [`UNSIGNED_PAYLOAD`].
    pub payload: String,
    /// How the service reads paths.
    pub rules: PathRules,
}

/// A canonical request. It may hold a session's token.
#[derive(Clone)]
pub struct Canonical {
    /// The text itself.
    pub text: String,
    /// The names of the fields in it, in lower case, sorted, `;` between them.
    pub signed_headers: String,
}

impl Signable<'_> {
    /// The canonical request.
    #[must_use]
    pub fn canonical(&self) -> Canonical {
        // By name; values of one name keep their order.
        let mut headers: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in &self.headers {
            let (name, value) = (name.to_ascii_lowercase(), value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
            match headers.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => headers.push((name, vec![value])),
            }
        }
        headers.sort();
        let lines: String = headers.iter().map(|(name, values)| format!("{name}:{}\n", values.join(","))).collect();
        let signed_headers = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let (path, query) = (canonical_path(self.path, self.rules), canonical_query(&pairs(self.query)));
        let text = format!("{}\n{path}\n{query}\n{lines}\n{signed_headers}\n{}", self.method, self.payload);
        Canonical { text, signed_headers }
    }
}

impl Canonical {
    /// The string to sign. `scope` follows the key's name in the credential: `20150830/us-east-1/sts/aws4_request`.
    #[must_use]
    pub fn string_to_sign(&self, algorithm: &str, date: &AmzDate, scope: &str) -> String {
        format!("{algorithm}\n{}\n{scope}\n{}", date.as_str(), sha256_hex(self.text.as_bytes()))
    }
}

fn canonical_path(path: &str, rules: PathRules) -> String {
    let path = if path.is_empty() { "/" } else { path };
    let path = if rules.is_normalized { normalized(path) } else { path.to_owned() };
    if rules.is_encoded_again { utf8_percent_encode(&path, ENCODED_IN_PATH).to_string() } else { path }
}

/// A segment of a path, with nothing encoded but what must be, and that once.
pub(super) fn encoded_once(segment: &str) -> String {
    percent_encode(&percent_decode(segment.as_bytes()).collect::<Vec<u8>>(), ENCODED).to_string()
}

/// RFC 3986 §5.2.4, with doubled slashes made one.
fn normalized(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let ends_open = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end)) && !kept.is_empty();
    format!("/{}{}", kept.join("/"), if ends_open { "/" } else { "" })
}

/// Encoded and sorted. Sent like this, too, a query is read by all services in the same way.
#[must_use]
pub(super) fn canonical_query(pairs: &[(String, String)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let mut pairs: Vec<_> = pairs.iter().map(|(name, value)| (encoded(name), encoded(value))).collect();
    pairs.sort();
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// SHA-256 in hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time as AWS writes it: `20150830T123600Z`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmzDate(String);

impl AmzDate {
    /// Of this time.
    #[must_use]
    pub fn new(time: SystemTime) -> Self {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let time = calendar(time).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self(time.format(format).unwrap_or_else(|_| unreachable!("a time has all of these")))
    }

    /// The whole.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The day: `20150830`.
    #[must_use]
    pub fn day(&self) -> &str {
        &self.0[..8]
    }
}
