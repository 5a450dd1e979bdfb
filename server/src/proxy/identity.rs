//! Who was verified, as fields that the app reads.

use std::fmt::Write as _;

use ekm_otp_relay::folded::{folded, folds_to};
use ekm_otp_tower::{VerifiedClaims, VerifiedClient};
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::ItemSerializer;

/// What the identity fields are called.
#[derive(Clone, Debug)]
pub(crate) struct IdentityNames {
    client: HeaderName,
    kid: HeaderName,
    claims: HeaderName,
    folded: [String; 3],
}

/// Fields that this server sets, or that HTTP needs.
const TAKEN: [&str; 15] = [
    "Host",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Connection",
    "TE",
    "Trailer",
    "Upgrade",
    "Expect",
    "Cookie",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Request-Id",
];

impl IdentityNames {
    pub(crate) const CLIENT: &str = "Ekm-Otp-Client";
    pub(crate) const KID: &str = "Ekm-Otp-Key-Id";
    pub(crate) const CLAIMS: &str = "Ekm-Otp-Claims";

    pub(crate) fn new(client: HeaderName, kid: HeaderName, claims: HeaderName) -> Self {
        let folded = [&client, &kid, &claims].map(|name| folded(name.as_str()));
        Self { client, kid, claims, folded }
    }

    /// Whether an app could take this field for one of them.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.folded.iter().any(|folded| folds_to(name, folded))
    }

    /// Which setting's cannot be used, and why, if so.
    pub(crate) fn unusable(&self) -> Option<(&'static str, String)> {
        let keys = ["identity_client", "identity_kid", "identity_claims"];
        let defaults = [Self::CLIENT, Self::KID, Self::CLAIMS].map(folded);
        for (key, name) in keys.iter().zip(&self.folded) {
            if let Some(taken) = TAKEN.iter().find(|taken| folded(taken) == *name) {
                return Some((
                    key,
                    format!("{taken} has a meaning of its own, as no identity field's name may: write X-Forwarded-User, say"),
                ));
            }
        }
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            if self.folded[a] == self.folded[b] {
                // One of the two may be the default, which nobody wrote.
                let (wrong, other) = if self.folded[b] == defaults[b] { (a, b) } else { (b, a) };
                return Some((keys[wrong], format!("looks to an app like the name of {}: give each its own", keys[other])));
            }
        }
        None
    }

    /// Adds the fields of a verified request. What the client sent under these names is gone by then.
    pub(super) fn write(&self, headers: &mut HeaderMap, client: &VerifiedClient, claims: Option<&VerifiedClaims>) {
        headers.insert(&self.client, text(client.client()));
        headers.insert(&self.kid, text(client.kid().as_str()));
        if let Some(claims) = claims {
            let json = serde_json::to_vec(claims.extra()).unwrap_or_else(|_| unreachable!("a JSON object can be written"));
            let item = ItemSerializer::new().bare_item(json.as_slice()).finish();
            headers
                .insert(&self.claims, HeaderValue::try_from(item).unwrap_or_else(|_| unreachable!("base64 and colons are visible ASCII")));
        }
    }
}

/// Visible ASCII stands for itself but for `%`, and `"`, `,`, `;`, `\`, which some readers of fields take for more than characters; all else is
/// the percent-encoding of its UTF-8 (RFC 3986 §2.1).
fn text(text: &str) -> HeaderValue {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"%\",;\\".contains(&byte) {
            written.push(char::from(byte));
        } else {
            let _ = write!(written, "%{byte:02X}");
        }
    }
    HeaderValue::try_from(written).unwrap_or_else(|_| unreachable!("visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_text_is_one_harmless_field() {
        for (name, written) in [
            ("alice@example.com", "alice@example.com"),
            ("the client, of bob", "the%20client%2C%20of%20bob"),
            ("J\u{fc}rgen \"J\" 100%", "J%C3%BCrgen%20%22J%22%20100%25"),
            ("a\r\nX-Admin: 1", "a%0D%0AX-Admin:%201"),
        ] {
            assert_eq!(text(name), written);
        }
    }
}
