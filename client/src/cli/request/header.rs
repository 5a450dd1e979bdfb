//! Header fields that the caller wants: `-H`, `-A`, `-e`, `-b`, `-r`, and what a request has without them.

use std::path::{Path, PathBuf};

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, COOKIE, RANGE, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::input::Input;
use crate::cli::CliError;
use crate::cli::shown::shown;

/// Framing and hop-by-hop fields (RFC 9110 §7.6.1, RFC 9112 §6), and whom the request is for: they are the connection's, or follow from the body.
const OF_THE_CONNECTION: [&str; 13] = [
    "authorization",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "http2-settings",
];

/// One `-H`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `Name: value`, and `Name;` with an empty value.
    Field(HeaderName, HeaderValue),
    /// `Name:`: not even the one that would be there by itself.
    None(HeaderName),
    /// `@FILE`: a field in each line.
    File(PathBuf),
}

pub(super) fn wanted(text: &str) -> Result<Wanted, String> {
    match text.strip_prefix('@') {
        Some(path) => Ok(Wanted::File(path.into())),
        None => field(text),
    }
}

fn field(text: &str) -> Result<Wanted, String> {
    let (name, value) = match text.split_once(':') {
        Some((name, value)) if value.trim().is_empty() => (name, None),
        Some((name, value)) => (name, Some(value.trim())),
        None => (text.trim_end().strip_suffix(';').ok_or("write it as 'Name: value' ('Name;' is an empty one)")?, Some("")),
    };
    let name: HeaderName = name.trim().parse().map_err(|_| "not a field name")?;
    if OF_THE_CONNECTION.contains(&name.as_str()) {
        return Err(format!("{name} is set by the connection"));
    }
    let Some(value) = value else { return Ok(Wanted::None(name)) };
    Ok(Wanted::Field(name, HeaderValue::from_str(value).map_err(|_| "not a field value")?))
}

/// A value of one of the flags that stand for a field.
pub(super) fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "not a field value".to_owned())
}

/// `-b`: a text. curl's files of cookies are not read.
pub(super) fn cookies(text: &str) -> Result<HeaderValue, String> {
    if text.contains('=') { value(text) } else { Err("write it as NAME=VALUE; NAME=VALUE: files of cookies are not read".to_owned()) }
}

/// `-r`.
pub(super) fn range(text: &str) -> Result<HeaderValue, String> {
    let is_range = |range: &str| {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        range.trim().split_once('-').is_some_and(|(from, to)| number(from) && number(to) && !(from.is_empty() && to.is_empty()))
    };
    if text.split(',').all(is_range) {
        value(&format!("bytes={text}"))
    } else {
        Err("write it as FROM-TO, FROM- or -LAST, in bytes".to_owned())
    }
}

/// The flags, and what follows from others.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) wanted: &'a [Wanted],
    pub(super) user_agent: Option<&'a HeaderValue>,
    pub(super) referer: Option<&'a HeaderValue>,
    pub(super) cookies: &'a [HeaderValue],
    pub(super) range: Option<&'a HeaderValue>,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) accepts_json: bool,
    pub(super) accepts_codings: bool,
}

impl Fields<'_> {
    /// The request's fields. What `-H` names stands before what goes without saying.
    pub(super) async fn map(self, input: &mut Input) -> Result<HeaderMap, CliError> {
        let mut fields = HeaderMap::new();
        let mut unwanted = Vec::new();
        for wanted in self.wanted {
            let from_file = match wanted {
                Wanted::File(path) => of_file(path, input).await?,
                _ => Vec::new(),
            };
            for one in std::iter::once(wanted.clone()).chain(from_file) {
                match one {
                    Wanted::Field(CONTENT_TYPE, value) => drop(fields.append(CONTENT_TYPE, self.with_boundary(value))),
                    Wanted::Field(name, value) => drop(fields.append(name, value)),
                    Wanted::None(name) => unwanted.push(name),
                    Wanted::File(_) => {}
                }
            }
        }
        let cookies = self.cookies.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
        let cookies = HeaderValue::from_bytes(&cookies).map_err(|e| CliError::Usage(format!("-b: {e}")))?;
        let agent = HeaderValue::from_static(concat!("ekm-otp-client/", env!("CARGO_PKG_VERSION")));
        let json = HeaderValue::from_static("application/json");
        let all = HeaderValue::from_static("*/*");
        let by_themselves = [
            (USER_AGENT, Some(self.user_agent.cloned().unwrap_or(agent)).filter(|agent| !agent.is_empty())),
            (ACCEPT, Some(if self.accepts_json { json } else { all })),
            (ACCEPT_ENCODING, self.accepts_codings.then(|| HeaderValue::from_static(super::coding::ACCEPTED))),
            (REFERER, self.referer.cloned().filter(|referer| !referer.is_empty())),
            (COOKIE, Some(cookies).filter(|cookies| !cookies.is_empty())),
            (RANGE, self.range.cloned()),
            (CONTENT_TYPE, self.content_type),
        ];
        for (name, value) in by_themselves {
            if let Some(value) = value
                && !fields.contains_key(&name)
                && !unwanted.contains(&name)
            {
                fields.insert(name, value);
            }
        }
        // A session is in it: neither a log nor HPACK's table is to keep it.
        if let http::header::Entry::Occupied(mut cookies) = fields.entry(COOKIE) {
            cookies.iter_mut().for_each(|value| value.set_sensitive(true));
        }
        Ok(fields)
    }

    /// A form's own media type needs the boundary, or nobody can read the form.
    fn with_boundary(&self, value: HeaderValue) -> HeaderValue {
        let boundary = self.content_type.as_ref().and_then(|own| own.to_str().ok()?.split_once("; boundary="));
        match (boundary, value.to_str()) {
            (Some((_, boundary)), Ok(text)) if !text.to_ascii_lowercase().contains("boundary=") => {
                HeaderValue::from_str(&format!("{text}; boundary={boundary}")).unwrap_or(value)
            }
            _ => value,
        }
    }
}

async fn of_file(path: &Path, input: &mut Input) -> Result<Vec<Wanted>, CliError> {
    let about = |what: String| CliError::Usage(format!("-H @{}: {what}", shown(path)));
    let text = String::from_utf8(input.whole(path).await?).map_err(|_| about("it is no text".to_owned()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(n, line)| field(line).map_err(|why| about(format!("line {}: {why}", n + 1)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_written_as_curl_takes_it() {
        let name = |name: &str| name.parse::<HeaderName>().expect("a name");
        let value = |value: &'static str| HeaderValue::from_static(value);
        for (text, expected) in [
            ("X-A: b: c ", Wanted::Field(name("x-a"), value("b: c"))),
            ("X-A:b", Wanted::Field(name("x-a"), value("b"))),
            ("X-A;", Wanted::Field(name("x-a"), value(""))),
            ("Accept:", Wanted::None(name("accept"))),
            ("Accept: ", Wanted::None(name("accept"))),
            ("@fields", Wanted::File("fields".into())),
        ] {
            assert_eq!(wanted(text), Ok(expected), "{text}");
        }
        for text in ["X-A", "X A: b", ": b", "Host: x", "host;", "Content-Length:", "X-A: b\r\nX-B: c"] {
            assert!(wanted(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_is_one_of_bytes() {
        assert_eq!(range("0-499,-500, 9500-").expect("a range"), "bytes=0-499,-500, 9500-");
        for wrong in ["", "-", "a-b", "1", "1-2-3", "bytes=1-2"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
