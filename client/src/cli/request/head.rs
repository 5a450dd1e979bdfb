//! A header section as text: what `-i`, `-I` and `-D` show, and `-v` tells.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Response, Version};

use super::variable::version;
use crate::cli::output::say;

/// The server's proof: it fits this connection alone, and was checked. A log has no use for it.
const PROOF: &str = "authentication-info";

/// The status line and the fields, as HTTP/1.1 writes them (RFC 9112 §4), whatever the version was. Names are in small letters, as HTTP/2 has them.
pub(super) fn section<B>(response: &Response<B>) -> Vec<u8> {
    let reason = match response.version() {
        Version::HTTP_2 => "",
        _ => response.extensions().get::<hyper::ext::ReasonPhrase>().map_or_else(
            || response.status().canonical_reason().unwrap_or_default(),
            |reason| std::str::from_utf8(reason.as_bytes()).unwrap_or_default(),
        ),
    };
    let mut section = format!("HTTP/{} {} {reason}\r\n", version(response.version()), response.status().as_str()).into_bytes();
    for (name, value) in response.headers() {
        section.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    section.extend(b"\r\n");
    section
}

/// What was sent, for `-v`. The credential is not in it: it is the connection's.
pub(super) fn tell_request(method: &Method, target: &str, authority: &str, fields: &HeaderMap, over: Version) {
    say!("> {method} {target} HTTP/{}", version(over));
    say!("> host: {authority}");
    say!("> {AUTHORIZATION}: (of this connection, not shown)");
    tell_fields('>', fields);
}

/// What came, for `-v`.
pub(super) fn tell_response<B>(response: &Response<B>) {
    say!("< HTTP/{} {}", version(response.version()), response.status());
    tell_fields('<', response.headers());
}

fn tell_fields(mark: char, fields: &HeaderMap) {
    for (name, value) in fields {
        let value = match name.as_str() {
            PROOF => "(the server's proof, checked, not shown)".into(),
            _ if value.is_sensitive() => "(not shown)".into(),
            _ => String::from_utf8_lossy(value.as_bytes()).escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"),
        };
        say!("{mark} {name}: {value}");
    }
}
