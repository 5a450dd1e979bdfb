//! The handshake that websockets have on HTTP/1.1 beside the upgrade (RFC 6455 §4.1). On HTTP/2 there is none.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderValue};

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the server is to hash.
pub(super) struct Key(HeaderValue);

impl Key {
    /// `None` where there is no randomness, or the protocol is another.
    pub(super) fn of(protocol: &str) -> Option<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok().filter(|()| protocol.eq_ignore_ascii_case("websocket"))?;
        HeaderValue::try_from(STANDARD.encode(random)).ok().map(Self)
    }

    pub(super) fn ask(&self, fields: &mut HeaderMap) {
        fields.insert(SEC_WEBSOCKET_KEY, self.0.clone());
        fields.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    }

    /// Whether the server has hashed this key.
    pub(super) fn is_accepted(&self, fields: &HeaderMap) -> bool {
        let hash = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[self.0.as_bytes(), GUID].concat()));
        let mut answers = fields.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        answers.next().is_some_and(|answer| answer.as_bytes() == hash.as_bytes()) && answers.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 §1.3.
    #[test]
    fn a_key_is_accepted_as_in_the_rfc_and_no_other_is() {
        let key = Key(HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let answer = |hash: &'static str| HeaderMap::from_iter([(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(hash))]);
        assert!(key.is_accepted(&answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
        assert!(!key.is_accepted(&answer("dGhlIHNhbXBsZSBub25jZQ==")) && !key.is_accepted(&HeaderMap::new()));
    }
}
