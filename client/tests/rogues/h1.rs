//! What a rogue may try on HTTP/1.1.

use std::time::Duration;

use super::{FORGED, Step, Trick, proof_of_another_connection};

pub fn holds_a_probe(received: &[u8]) -> bool {
    received.windows(4).any(|bytes| bytes == b"\r\n\r\n")
}

/// The bodyless probe, whose fields are these and no more.
pub fn is_probe_or_nothing(name: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if bytes.is_empty() {
        return;
    }
    let head = text.strip_suffix("\r\n\r\n").unwrap_or_else(|| panic!("{name}: no header section, or more than one: {text}"));
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("GET /.well-known/ekm-otp HTTP/1.1"), "{name}: {text}");
    let mut fields: Vec<String> = lines.map(|line| line.split(':').next().unwrap_or_default().to_ascii_lowercase()).collect();
    fields.sort();
    assert_eq!(fields, ["authorization", "host"], "{name}: {text}");
}

/// An answer's header section.
fn head(status: &str, fields: &[&str]) -> Vec<u8> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{fields}\r\n").into_bytes()
}

pub fn tricks() -> Vec<Trick> {
    let forged = &*format!("Authentication-Info: {FORGED}");
    let others = &*format!("Authentication-Info: {}", proof_of_another_connection());
    const EMPTY: &str = "Content-Length: 0";
    let answers: Vec<(&'static str, Vec<u8>)> = vec![
        ("no_proof", head("204 No Content", &[])),
        ("forged_proof", head("204 No Content", &[forged])),
        ("two_forged_proofs", head("204 No Content", &[forged, forged])),
        ("proof_of_another_connection", head("204 No Content", &[others])),
        ("two_proofs_of_other_connections", head("204 No Content", &[others, others])),
        ("proofs_in_one_field", head("204 No Content", &[&format!("{others}, {FORGED}")])),
        ("malformed_proof", head("204 No Content", &["Authentication-Info: proof="])),
        ("empty_proof", head("204 No Content", &["Authentication-Info: proof=\"\""])),
        (
            "proof_in_another_field",
            head("204 No Content", &[&format!("Proxy-{others}"), &others.replace("Authentication-Info", "EKM-OTP-Proof")]),
        ),
        ("proof_of_another_connection_with_200", head("200 OK", &[others, EMPTY])),
        ("success_with_a_body", [head("200 OK", &["Content-Length: 2"]), b"ok".to_vec()].concat()),
        ("success_without_a_body", head("200 OK", &[EMPTY])),
        ("reset_content", head("205 Reset Content", &[EMPTY])),
        ("body_with_the_204", [head("204 No Content", &["Content-Length: 2"]), b"ok".to_vec()].concat()),
        ("chunked_204", [head("204 No Content", &["Transfer-Encoding: chunked"]), b"2\r\nok\r\n0\r\n\r\n".to_vec()].concat()),
        (
            "proof_in_the_trailers",
            [
                head("200 OK", &["Transfer-Encoding: chunked", "Trailer: Authentication-Info"]),
                format!("0\r\n{others}\r\n\r\n").into_bytes(),
            ]
            .concat(),
        ),
        ("early_hints_then_204", [head("103 Early Hints", &["Link: </private>; rel=preload"]), head("204 No Content", &[])].concat()),
        ("forged_proof_in_an_interim_answer", [head("103 Early Hints", &[forged]), head("204 No Content", &[])].concat()),
        ("proof_of_another_connection_in_an_interim_answer", [head("103 Early Hints", &[others]), head("204 No Content", &[])].concat()),
        ("continue", [head("100 Continue", &[]), head("204 No Content", &[])].concat()),
        ("many_interim_answers", [head("103 Early Hints", &[others]).repeat(50), head("204 No Content", &[])].concat()),
        ("switching_to_websocket", head("101 Switching Protocols", &["Connection: Upgrade", "Upgrade: websocket"])),
        ("switching_to_h2c", head("101 Switching Protocols", &["Connection: Upgrade", "Upgrade: h2c"])),
        ("switching_with_a_proof", head("101 Switching Protocols", &["Connection: Upgrade", "Upgrade: ekm-otp-tcp", others])),
        ("redirect_to_itself", head("307 Temporary Redirect", &["Location: /elsewhere", EMPTY])),
        ("redirect_to_the_probe", head("308 Permanent Redirect", &["Location: /.well-known/ekm-otp", EMPTY])),
        ("redirect_elsewhere", head("302 Found", &["Location: https://localhost/", EMPTY])),
        ("redirect_to_plain_http", head("301 Moved Permanently", &["Location: http://localhost/", EMPTY])),
        ("not_modified", head("304 Not Modified", &["ETag: \"x\""])),
        ("challenge", head("401 Unauthorized", &["WWW-Authenticate: EKM-OTP realm=\"x\"", EMPTY])),
        ("challenge_channel", head("401 Unauthorized", &["WWW-Authenticate: EKM-OTP realm=\"x\", error=\"channel\"", EMPTY])),
        ("challenge_credential", head("401 Unauthorized", &["WWW-Authenticate: EKM-OTP realm=\"x\", error=\"credential\"", EMPTY])),
        ("challenge_time", head("401 Unauthorized", &["WWW-Authenticate: EKM-OTP realm=\"x\", error=\"time\"", EMPTY])),
        ("challenge_claims", head("401 Unauthorized", &["WWW-Authenticate: EKM-OTP realm=\"x\", error=\"claims\"", EMPTY])),
        ("challenge_unknown", head("401 Unauthorized", &["WWW-Authenticate: EKM-OTP realm=\"x\", error=\"downgrade\"", EMPTY])),
        (
            "challenges_of_others",
            head(
                "401 Unauthorized",
                &["WWW-Authenticate: Basic realm=\"x\"", "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\", Bearer, Negotiate", EMPTY],
            ),
        ),
        ("no_challenge", head("401 Unauthorized", &[EMPTY])),
        ("challenge_with_a_proof", head("401 Unauthorized", &["WWW-Authenticate: EKM-OTP realm=\"x\"", others, EMPTY])),
        ("proxy_challenge", head("407 Proxy Authentication Required", &["Proxy-Authenticate: Basic realm=\"x\"", EMPTY])),
        ("forbidden", head("403 Forbidden", &[EMPTY])),
        ("forbidden_with_a_proof", head("403 Forbidden", &[others, EMPTY])),
        ("not_found", head("404 Not Found", &[EMPTY])),
        ("request_timeout", head("408 Request Timeout", &["Connection: close", EMPTY])),
        ("misdirected", head("421 Misdirected Request", &[EMPTY])),
        ("too_early", head("425 Too Early", &[EMPTY])),
        ("upgrade_required", head("426 Upgrade Required", &["Connection: Upgrade", "Upgrade: h2c", EMPTY])),
        ("too_many", head("429 Too Many Requests", &["Retry-After: 0", EMPTY])),
        ("server_error", head("500 Internal Server Error", &[EMPTY])),
        ("bad_gateway", head("502 Bad Gateway", &[EMPTY])),
        ("unavailable", head("503 Service Unavailable", &["Retry-After: 0", EMPTY])),
        ("unknown_status", head("999 Yes", &[others, EMPTY])),
        ("no_reason", head("204", &[])),
        ("http_1_0", b"HTTP/1.0 204 No Content\r\n\r\n".to_vec()),
        ("folded_proof", format!("HTTP/1.1 204 No Content\r\nAuthentication-Info:\r\n {FORGED}\r\n\r\n").into_bytes()),
        (
            "cookies_and_hints",
            head("204 No Content", &["Set-Cookie: a=b", "Alt-Svc: h2=\":443\"", "Refresh: 0; url=/private", "Clear-Site-Data: \"*\""]),
        ),
        ("two_lengths", [head("200 OK", &["Content-Length: 0", "Content-Length: 5"]), b"hello".to_vec()].concat()),
        ("two_answers_at_once", [head("204 No Content", &[]), head("204 No Content", &[others])].concat()),
        ("no_http", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        ("zeros", vec![0; 4096]),
        (
            "large_header_section",
            [b"HTTP/1.1 204 No Content\r\n".to_vec(), b"X: yyyyyyyyyyyyyyyy\r\n".repeat(50_000), b"\r\n".to_vec()].concat(),
        ),
        ("cut_in_the_header_section", b"HTTP/1.1 204 No Content\r\nAuthentication-Info: pro".to_vec()),
    ];
    let then = |name, steps| Trick { name, steps, alpn: Some("http/1.1") };
    let mut tricks: Vec<Trick> = answers.into_iter().map(|(name, answer)| then(name, vec![Step::Probe, Step::Say(answer)])).collect();
    // No end of its own, so the client's deadline must come.
    let milliseconds = Duration::from_millis;
    tricks.extend([
        then("silence", vec![]),
        then("closed_after_the_handshake", vec![Step::Close]),
        then("dropped_after_the_handshake", vec![Step::Drop]),
        then("closed_after_the_probe", vec![Step::Probe, Step::Close]),
        then("dropped_after_the_probe", vec![Step::Probe, Step::Drop]),
        then("dropped_in_the_answer", vec![Step::Probe, Step::Say(b"HTTP/1.1 204 No".to_vec()), Step::Drop]),
        then("answered_and_closed", vec![Step::Probe, Step::Say(head("204 No Content", &[])), Step::Close]),
        then(
            "answered_before_the_probe",
            vec![Step::Say(head("204 No Content", &[others])), Step::Probe, Step::Say(head("204 No Content", &[]))],
        ),
        then(
            "endless_header_section",
            vec![Step::Probe, Step::Say(b"HTTP/1.1 204 No Content\r\n".to_vec()), Step::Again(b"X: y\r\n".repeat(100), milliseconds(1))],
        ),
        then("endless_interim_answers", vec![Step::Probe, Step::Again(head("103 Early Hints", &[forged]), milliseconds(1))]),
        then(
            "slow_answer",
            vec![Step::Probe, Step::Say(b"HTTP/1.1 204 No Content\r\nX: ".to_vec()), Step::Again(b"y".to_vec(), milliseconds(20))],
        ),
        then(
            "endless_body",
            vec![
                Step::Probe,
                Step::Say(head("200 OK", &["Transfer-Encoding: chunked"])),
                Step::Again(b"1\r\nx\r\n".to_vec(), milliseconds(1)),
            ],
        ),
        then("reflected_password", vec![Step::Probe, Step::Reflect]),
        Trick { name: "no_alpn", steps: vec![Step::Probe, Step::Say(head("204 No Content", &[others]))], alpn: None },
    ]);
    tricks
}
