//! What a rogue may try on HTTP/2 (RFC 9113). Its frames are written by hand, and its field sections without a table (RFC 7541 §6.2.2).

use std::time::Duration;

use super::{FORGED, Step, Trick, proof_of_another_connection};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// RFC 7838 §4 and RFC 8336 §2.
const ALTSVC: u8 = 10;
const ORIGIN: u8 = 12;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `/.well-known/ekm-otp` in HPACK's Huffman code.
const PROBE: [u8; 15] = [0x61, 0x7f, 0x05, 0xa2, 0x85, 0xba, 0xd4, 0x7f, 0x15, 0x30, 0x5e, 0xb4, 0xac, 0x74, 0xd7];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field section of short texts.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "this writes short texts only");
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// The frames that came: kind, flags, payload. What is cut off at the end is left out.
fn frames(received: &[u8]) -> Vec<(u8, u8, &[u8])> {
    let mut frames = Vec::new();
    let mut rest = received.strip_prefix(PREFACE).unwrap_or_default();
    while let Some((head, payload)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, after)) = payload.split_at_checked(length) else { break };
        frames.push((head[3], head[4], payload));
        rest = after;
    }
    frames
}

pub fn holds_a_probe(received: &[u8]) -> bool {
    frames(received).iter().any(|(kind, ..)| *kind == HEADERS)
}

/// One field section that ends its stream, and nothing but what looks after the connection.
pub fn is_probe_or_nothing(name: &str, bytes: &[u8]) {
    assert!(PREFACE.starts_with(bytes) || bytes.starts_with(PREFACE), "{name}: no HTTP/2: {bytes:?}");
    let frames = frames(bytes);
    let others: Vec<u8> =
        frames.iter().map(|(kind, ..)| *kind).filter(|kind| ![SETTINGS, WINDOW_UPDATE, PING, GOAWAY, RST_STREAM].contains(kind)).collect();
    assert!(others.is_empty() || others == [HEADERS], "{name}: frames of these kinds: {others:?}");
    if let Some((_, flags, payload)) = frames.iter().find(|(kind, ..)| *kind == HEADERS) {
        assert_eq!(*flags, END_STREAM | END_HEADERS, "{name}: a body is to come");
        assert!(payload.windows(PROBE.len()).any(|bytes| bytes == PROBE), "{name}: another target");
        // The credential makes up most of it: there is no room for another field.
        assert!(payload.len() < 170, "{name}: {} bytes of fields", payload.len());
    }
}

fn head(stream: u32, flags: u8, section: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &fields(section))
}

pub fn tricks() -> Vec<Trick> {
    let others = &*proof_of_another_connection();
    let (forged, others) = (("authentication-info", FORGED), ("authentication-info", others));
    const NO_CONTENT: (&str, &str) = (":status", "204");
    const OK: (&str, &str) = (":status", "200");
    let answer = |section: &[(&str, &str)]| head(1, END_STREAM, section);
    let settings = |values: &[(u16, u32)]| {
        let values: Vec<u8> = values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        frame(SETTINGS, 0, 0, &values)
    };
    let goaway = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), 0u32.to_be_bytes()].concat());
    let push = |section: &[(&str, &str)]| frame(PUSH_PROMISE, END_HEADERS, 1, &[&2u32.to_be_bytes()[..], &fields(section)].concat());
    let pushed = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/private")];
    let answers: Vec<(&'static str, Vec<u8>)> = vec![
        ("h2_no_proof", answer(&[NO_CONTENT])),
        ("h2_forged_proof", answer(&[NO_CONTENT, forged])),
        ("h2_proof_of_another_connection", answer(&[NO_CONTENT, others])),
        ("h2_two_proofs", answer(&[NO_CONTENT, others, forged])),
        ("h2_success", answer(&[OK, others])),
        ("h2_success_with_a_body", [head(1, 0, &[OK]), frame(DATA, END_STREAM, 1, b"ok")].concat()),
        ("h2_body_with_the_204", [head(1, 0, &[NO_CONTENT]), frame(DATA, END_STREAM, 1, b"ok")].concat()),
        ("h2_proof_in_the_trailers", [head(1, 0, &[NO_CONTENT]), head(1, END_STREAM, &[others])].concat()),
        ("h2_forged_proof_in_the_trailers", [head(1, 0, &[OK]), head(1, END_STREAM, &[forged])].concat()),
        ("h2_proof_in_an_interim_answer", [head(1, 0, &[(":status", "103"), others]), answer(&[NO_CONTENT])].concat()),
        ("h2_switching", answer(&[(":status", "101"), others])),
        ("h2_redirect", answer(&[(":status", "307"), ("location", "/private")])),
        ("h2_challenge", answer(&[(":status", "401"), ("www-authenticate", "EKM-OTP realm=\"x\"")])),
        ("h2_challenge_channel", answer(&[(":status", "401"), ("www-authenticate", "EKM-OTP realm=\"x\", error=\"channel\"")])),
        ("h2_misdirected", answer(&[(":status", "421")])),
        ("h2_unavailable", answer(&[(":status", "503"), ("retry-after", "0")])),
        ("h2_not_found", answer(&[(":status", "404")])),
        ("h2_http_1_1_required", frame(RST_STREAM, 0, 1, &13u32.to_be_bytes())),
        ("h2_refused_stream", frame(RST_STREAM, 0, 1, &7u32.to_be_bytes())),
        ("h2_no_status", answer(&[("x", "y")])),
        ("h2_two_statuses", answer(&[NO_CONTENT, OK, others])),
        ("h2_goaway_of_none", goaway(0)),
        ("h2_goaway_and_an_answer", [goaway(1), answer(&[NO_CONTENT])].concat()),
        ("h2_push", [push(&pushed), head(2, END_STREAM, &[OK]), answer(&[NO_CONTENT])].concat()),
        ("h2_answer_on_a_stream_of_its_own", [head(2, END_STREAM, &[NO_CONTENT, others]), answer(&[NO_CONTENT])].concat()),
        ("h2_data_before_a_head", frame(DATA, END_STREAM, 1, b"ok")),
        (
            "h2_elsewhere",
            [
                frame(ALTSVC, 0, 0, b"\x00\x09localhost h2=\":443\""),
                frame(ORIGIN, 0, 0, b"\x00\x11https://localhost"),
                frame(PRIORITY, 0, 1, &[0; 5]),
                answer(&[NO_CONTENT]),
            ]
            .concat(),
        ),
        ("h2_large_header_section", {
            let many = fields(&[("x", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy")]).repeat(200);
            let (first, more) = (frame(HEADERS, 0, 1, &fields(&[NO_CONTENT])), frame(CONTINUATION, 0, 1, &many));
            [first, more.repeat(60), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
        }),
        ("h2_more_streams_than_asked_for", [settings(&[(3, 0)]), answer(&[NO_CONTENT])].concat()),
        ("h2_answer_of_http_1", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
    ];
    let begin = [settings(&[]), frame(SETTINGS, ACK, 0, &[])].concat();
    let then = |name, steps: Vec<Step>| Trick { name, steps, alpn: Some("h2") };
    let begun = |name, steps: Vec<Step>| then(name, [vec![Step::Say(begin.clone())], steps].concat());
    let milliseconds = Duration::from_millis;
    let mut tricks: Vec<Trick> = answers.into_iter().map(|(name, answer)| begun(name, vec![Step::Probe, Step::Say(answer)])).collect();
    tricks.extend([
        then("h2_no_settings", vec![]),
        begun("h2_silence", vec![]),
        then("h2_no_streams", vec![Step::Say([settings(&[(3, 0)]), frame(SETTINGS, ACK, 0, &[])].concat())]),
        then(
            "h2_settings_for_tunnels",
            vec![
                Step::Say([settings(&[(8, 1), (4, 1 << 30)]), frame(SETTINGS, ACK, 0, &[])].concat()),
                Step::Probe,
                Step::Say(answer(&[NO_CONTENT])),
            ],
        ),
        begun("h2_goaway_before_the_probe", vec![Step::Say(goaway(0))]),
        begun("h2_answer_before_the_probe", vec![Step::Say(answer(&[NO_CONTENT, others]))]),
        begun("h2_push_before_the_probe", vec![Step::Say(push(&pushed))]),
        begun("h2_dropped_after_the_handshake", vec![Step::Drop]),
        begun("h2_closed_after_the_probe", vec![Step::Probe, Step::Close]),
        begun("h2_dropped_after_the_probe", vec![Step::Probe, Step::Drop]),
        begun("h2_endless_pings", vec![Step::Probe, Step::Again(frame(PING, 0, 0, &[0; 8]), milliseconds(1))]),
        begun("h2_endless_settings", vec![Step::Probe, Step::Again(settings(&[(4, 70_000)]), milliseconds(1))]),
        begun("h2_endless_interim_answers", vec![Step::Probe, Step::Again(head(1, 0, &[(":status", "103"), forged]), milliseconds(1))]),
        begun(
            "h2_endless_header_section",
            vec![
                Step::Probe,
                Step::Say(frame(HEADERS, 0, 1, &fields(&[NO_CONTENT]))),
                Step::Again(frame(CONTINUATION, 0, 1, &fields(&[("x", "y")])), milliseconds(1)),
            ],
        ),
        begun("h2_endless_body", vec![Step::Probe, Step::Say(head(1, 0, &[OK])), Step::Again(frame(DATA, 0, 1, b"x"), milliseconds(1))]),
    ]);
    tricks
}
