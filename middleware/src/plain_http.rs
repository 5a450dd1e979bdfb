//! Who speaks plain HTTP to a TLS port is told so, in the words that they understand.

/// With what a request begins (RFC 9110 §9, RFC 5789; `PRI` begins HTTP/2, RFC 9113 §3.4).
const METHODS: [&[u8]; 10] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ", b"PRI "];

const HEAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 62\r\nConnection: close\r\n\r\n";
const TEXT: &[u8] = b"plain HTTP was sent to an HTTPS port: ask again with https://\n";

/// Whether that is plain HTTP; `None` while it could become either.
pub(crate) fn is_plain_http(received: &[u8]) -> Option<bool> {
    if METHODS.iter().any(|method| received.starts_with(method)) {
        return Some(true);
    }
    if METHODS.iter().any(|method| method.starts_with(received)) { None } else { Some(false) }
}

/// What it is answered. HEAD has no body (RFC 9110 §9.3.2).
pub(crate) fn answer(received: &[u8]) -> Vec<u8> {
    if received.starts_with(b"HEAD ") { HEAD.to_vec() } else { [HEAD, TEXT].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_from_anything_else() {
        assert_eq!(is_plain_http(b""), None);
        assert_eq!(is_plain_http(b"P"), None);
        assert_eq!(is_plain_http(b"GET"), None);
        assert_eq!(is_plain_http(b"GET / HTTP/1.1\r\n"), Some(true));
        assert_eq!(is_plain_http(b"PRI * HTTP/2.0\r\n"), Some(true));
        for other in [b"\x16\x03\x01".as_slice(), b"get / HTTP/1.1", b"PROXY TCP4", b"SSH-2.0-x", b"\x80\x2e", b"GETS "] {
            assert_eq!(is_plain_http(other), Some(false), "{other:?}");
        }
        let answer = String::from_utf8(answer(b"GET ")).expect("ASCII");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    }
}
