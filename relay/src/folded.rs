//! Which field names an app could mistake for those that say who somebody is, which no client may set.
//!
//! Many apps see fields as CGI variables (RFC 3875 §4.1.18): upper case, and `_` for `-`; some put `_` for everything that is neither letter nor
//! digit. So a name is compared as such an app would see it.

/// Fields that say what only the server may say, or that change what an app takes a request for. Folded; `*` ends a prefix.
const OURS: [&str; 12] = [
    "authorization",
    "ekm_otp_*",
    "client_cert*",
    "forwarded",
    "x_forwarded_*",
    "x_real_ip",
    "x_client_ip",
    "x_request_id",
    // As a CGI variable it sets the proxy of the app's own HTTP client.
    "proxy",
    // With these, apps take another target than the one that was checked.
    "x_original_url",
    "x_original_uri",
    "x_rewrite_url",
];

/// With these, apps take another method than the one that was checked. Dropped where the method decided that nobody needs be verified.
const METHODS: [&str; 3] = ["x_http_method", "x_http_method_override", "x_method_override"];

/// Whether the client must not set this field: only the server may that verified it.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    OURS.iter().any(|ours| folds_to(name, ours))
}

/// Whether the field overrides the request's method.
#[must_use]
pub fn overrides_method(name: &str) -> bool {
    METHODS.iter().any(|method| folds_to(name, method))
}

/// Whether an app that sees folded names sees `folded`.
#[must_use]
pub fn folds_to(name: &str, folded: &str) -> bool {
    let (folded, is_prefix) = folded.strip_suffix('*').map_or((folded, false), |prefix| (prefix, true));
    let (name, folded) = (name.as_bytes(), folded.as_bytes());
    (name.len() == folded.len() || is_prefix && name.len() > folded.len())
        && name.iter().zip(folded).all(|(byte, folded)| fold(*byte) == *folded)
}

/// `name` as [`folds_to`] wants it.
#[must_use]
pub fn folded(name: &str) -> String {
    name.bytes().map(|byte| char::from(fold(byte))).collect()
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_name_of_ours_is_found() {
        for name in [
            "Authorization",
            "EKM-OTP-CLIENT",
            "ekm_otp_client",
            "ekm.otp~key|id",
            "Ekm-Otp-Anything",
            "client-cert",
            "Client-Cert-Chain",
            "client_cert",
            "Forwarded",
            "x-forwarded-for",
            "X_Forwarded_For",
            "x-forwarded_proto",
            "X-Forwarded-User",
            "x-real-ip",
            "X_Real-IP",
            "Proxy",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in
            ["accept", "x-forward", "x-forwarded", "forwarded-by", "proxy-thing", "ekm-otp", "xauthorization", "authorizations", "cookie"]
        {
            assert!(!is_ours(name), "{name}");
        }
    }
}
