//! The challenges in a `WWW-Authenticate` field (RFC 9110 §11.6.1), of which EKM-OTP's are this server's alone to make.

const SCHEME: &[u8] = b"EKM-OTP";

/// The field's value without EKM-OTP challenges; `None` where nothing else is in it.
pub(super) fn without_ours(value: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut is_ours = false;
    for element in elements(value) {
        if let Some(scheme) = scheme(element) {
            is_ours = scheme.eq_ignore_ascii_case(SCHEME);
        }
        if !is_ours && !element.is_empty() {
            kept.push(element);
        }
    }
    (!kept.is_empty()).then(|| kept.join(&b", "[..]))
}

/// What stands between commas that are in no quoted string.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(move |byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b',' => return !is_quoted,
            _ => {}
        }
        false
    });
    parts.map(<[u8]>::trim_ascii)
}

/// The scheme, where the element begins a challenge and is no further parameter of the one before.
fn scheme(element: &[u8]) -> Option<&[u8]> {
    let end = element.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'=')).unwrap_or(element.len());
    let (name, rest) = element.split_at(end);
    // `name = value`, with blanks or without, is a parameter; so is nothing.
    (!name.is_empty() && !rest.trim_ascii_start().starts_with(b"=")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_of_ours_is_taken_out_wherever_it_stands() {
        for (value, left) in [
            ("EKM-OTP realm=\"x\"", None),
            ("ekm-otp", None),
            ("Basic realm=\"x\"", Some("Basic realm=\"x\"")),
            ("Basic realm=\"x, EKM-OTP y\"", Some("Basic realm=\"x, EKM-OTP y\"")),
            ("Basic realm=\"x\\\", EKM-OTP y\"", Some("Basic realm=\"x\\\", EKM-OTP y\"")),
            ("EKM-OTP realm=\"x\", error=\"channel\", Bearer realm=\"y\", scope = \"z\"", Some("Bearer realm=\"y\", scope = \"z\"")),
            ("Negotiate abc==, Ekm-Otp realm=x, error = y,Digest a=b", Some("Negotiate abc==, Digest a=b")),
        ] {
            assert_eq!(without_ours(value.as_bytes()).as_deref(), left.map(str::as_bytes), "{value}");
        }
    }
}
