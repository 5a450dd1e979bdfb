//! Requests that two servers could read differently: the upstream's raw bytes show one clean request for each that was authenticated, or none.

mod proxied;

use proxied::upstream::{OK, Recorder, end_of_request};
use proxied::{ALICE, Server, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Sends these bytes after a handshake, `{AUTH}` and `{HOST}` filled in; returns the statuses of all answers and what reached the upstream.
async fn sent(bytes: &str) -> (Vec<u16>, Vec<String>) {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &[]);
    let mut connection = server.connect(ALICE, false).await;
    let bytes = bytes
        .replace("{AUTH}", &format!("Authorization: {}", connection.otp))
        .replace("{HOST}", &format!("Host: {}", connection.authority));
    connection.tls.write_all(bytes.as_bytes()).await.expect("writing");
    // What waits for more bytes must not wait for ever.
    let last =
        format!("GET /last HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nConnection: close\r\n\r\n", connection.authority, connection.otp);
    let _ = connection.tls.write_all(last.as_bytes()).await;
    let text = String::from_utf8_lossy(&connection.rest().await).into_owned();
    let statuses = text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().expect("a status")).collect();
    let requests = upstream.requests();
    for request in &requests {
        assert_eq!(end_of_request(request.as_bytes()), Some(request.len()), "not one whole request: {request:?}");
        let head = request.split("\r\n\r\n").next().expect("a head").to_ascii_lowercase();
        let framing = head.matches("\r\ncontent-length:").count() + head.matches("\r\ntransfer-encoding:").count();
        assert!(framing <= 1, "{request:?}");
        assert_eq!(head.matches("\r\nekm-otp-client: alice").count(), 1, "{request:?}");
        assert_eq!(head.matches("\r\nhost:").count(), 1, "{request:?}");
        assert!(!head.contains('\0') && !head.replace("\r\n", "").contains(['\r', '\n']), "{request:?}");
    }
    (statuses, requests)
}

/// Neither the request nor what follows it reaches the upstream, or the request alone does, cleanly; `smuggled` never does without its own credential.
async fn one_clean_request_or_none(cases: &[(&str, &str)]) {
    for (fault, bytes) in cases {
        let (statuses, requests) = sent(bytes).await;
        assert!(
            !requests.iter().any(|request| request.lines().next().is_some_and(|line| line.contains("smuggled"))),
            "{fault}: {requests:#?}"
        );
        assert!(requests.len() <= 2, "{fault}: {requests:#?}");
        assert!(!statuses.is_empty(), "{fault}");
        let served = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(served, requests.len(), "{fault}: {statuses:?} {requests:#?}");
    }
}

#[tokio::test]
async fn a_length_beside_chunks_makes_no_second_request() {
    one_clean_request_or_none(&[
        ("cl_te", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nContent-Length: 34\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n\r\n"),
        ("te_cl", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1e\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n0\r\n\r\n"),
        ("te_0", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n\r\n"),
        ("two_lengths", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nContent-Length: 0\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n"),
        ("length_list", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nContent-Length: 0, 30\r\n\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n"),
        ("length_plus", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nContent-Length: +0\r\n\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n"),
        ("length_hex", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nContent-Length: 0x1e\r\n\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n"),
        ("length_nominated", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nConnection: content-length\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n"),
        ("length_with_underscore", "POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nContent_Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn an_odd_transfer_coding_makes_no_second_request() {
    for coding in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
    ] {
        let bytes = format!(
            "POST / HTTP/1.1\r\n{{HOST}}\r\n{{AUTH}}\r\nContent-Length: 5\r\n{coding}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{{HOST}}\r\n\r\n"
        );
        one_clean_request_or_none(&[(coding, &bytes)]).await;
    }
}

#[tokio::test]
async fn odd_chunks_are_refused_or_made_clean() {
    let (_, requests) =
        sent("POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\r;c\r\nhi\r\n0;x=y\r\n\r\n").await;
    assert!(requests.iter().all(|request| !request.contains("a=") && !request.contains("x=y")), "{requests:#?}");
    let (statuses, requests) =
        sent("POST / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0;x=y\r\n\r\n").await;
    assert_eq!(statuses, [200, 200]);
    assert!(requests[0].ends_with("\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "the extensions are gone: {requests:#?}");
    for body in [
        "2\nhi\n0\n\n",
        "-2\r\nhi\r\n0\r\n\r\n",
        "0x2\r\nhi\r\n0\r\n\r\n",
        "10000000000000002\r\nhi\r\n0\r\n\r\n",
        "2\r\nhiXX0\r\n\r\n",
        "2 \r\nhi\r\n0\r\n\r\n",
    ] {
        let bytes = format!(
            "POST / HTTP/1.1\r\n{{HOST}}\r\n{{AUTH}}\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\n{{HOST}}\r\n\r\n"
        );
        // What broke off inside a chunk is not a whole request, and its connection to the upstream ends there.
        let upstream = Recorder::start(OK).await;
        let server = Server::start(&[&upstream.url()], &[]);
        let mut connection = server.connect(ALICE, false).await;
        let bytes = bytes
            .replace("{AUTH}", &format!("Authorization: {}", connection.otp))
            .replace("{HOST}", &format!("Host: {}", connection.authority));
        connection.tls.write_all(bytes.as_bytes()).await.expect("writing");
        let _ = connection.tls.shutdown().await;
        connection.rest().await;
        let requests = upstream.requests();
        assert!(requests.len() <= 1 && requests.iter().all(|request| request.starts_with("POST / ")), "{body:?}: {requests:#?}");
    }
}

#[tokio::test]
async fn folded_lines_and_odd_heads_are_refused_or_made_clean() {
    one_clean_request_or_none(&[
        ("obs_fold", "GET / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nX: a\r\n Ekm-Otp-Client: root\r\n\r\n"),
        ("obs_fold_first", "GET / HTTP/1.1\r\n Ekm-Otp-Client: root\r\n{HOST}\r\n{AUTH}\r\n\r\n"),
        ("bare_cr", "GET / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nX: a\rEkm-Otp-Client: root\r\n\r\n"),
        ("bare_lf", "GET / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nX: a\nY: b\r\n\r\n"),
        ("nul", "GET / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nX: a\0b\r\n\r\n"),
        ("space_before_colon", "GET / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nEkm-Otp-Client : root\r\n\r\n"),
        ("two_hosts", "GET / HTTP/1.1\r\n{HOST}\r\nHost: other.test\r\n{AUTH}\r\n\r\n"),
        ("target_with_space", "GET /a HTTP/1.1 /smuggled HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\n\r\n"),
        ("absolute_other", "GET https://other.test/ HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\n\r\n"),
        ("absolute_http", "GET http://proxy.test/ HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\n\r\n"),
        ("connect", "CONNECT other.test:80 HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\n\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n\r\n"),
        ("upgrade_h2c", "GET / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"),
        ("upgrade_with_body", "GET / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n"),
        ("trace", "TRACE / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\n\r\n"),
    ])
    .await;
    let (_, requests) =
        sent("GET / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n")
            .await;
    assert!(!requests[0].to_ascii_lowercase().contains("upgrade") && !requests[0].to_ascii_lowercase().contains("http2"), "{requests:#?}");
    let (statuses, requests) = sent("TRACE / HTTP/1.1\r\n{HOST}\r\n{AUTH}\r\n\r\n").await;
    assert_eq!((statuses, requests.len()), (vec![405, 200], 1));
}

/// HTTP/2 has lengths of its own, so nothing in a field may become a line.
#[tokio::test]
async fn http_2_puts_no_lines_into_http_1() {
    for (fault, fields) in [
        ("cr_lf_in_a_value", &[(&b"x"[..], &b"a\r\nEkm-Otp-Client: root"[..])][..]),
        ("cr_lf_cr_lf_in_a_value", &[(b"x", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")]),
        ("lf_in_a_value", &[(b"x", b"a\nb: c")]),
        ("nul_in_a_value", &[(b"x", b"a\0b")]),
        ("cr_lf_in_a_name", &[(b"x: a\r\nb", b"c")]),
        ("colon_in_a_name", &[(b"ekm-otp-client: root\r\nx", b"c")]),
        ("upper_case_name", &[(b"Ekm-Otp-Client", b"root")]),
        ("transfer_encoding", &[(b"transfer-encoding", b"chunked")]),
        ("connection", &[(b"connection", b"ekm-otp-client")]),
        ("content_length_wrong", &[(b"content-length", b"30")]),
        ("content_length_twice", &[(b"content-length", b"0"), (b"content-length", b"30")]),
        ("te_other", &[(b"te", b"chunked")]),
        ("host_other", &[(b"host", b"other.test")]),
        ("cr_lf_in_path", &[(b":path", b"/ HTTP/1.1\r\nEkm-Otp-Client: root\r\nX: y")]),
        ("space_in_path", &[(b":path", b"/a HTTP/1.1 b")]),
        ("cr_lf_in_method", &[(b":method", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET")]),
        ("space_in_method", &[(b":method", b"GET /smuggled HTTP/1.1 ")]),
        ("path_without_slash", &[(b":path", b"smuggled")]),
        ("two_paths", &[(b":path", b"/"), (b":path", b"/smuggled")]),
        ("authority_other", &[(b":authority", b"other.test")]),
    ] {
        let upstream = Recorder::start(OK).await;
        let server = Server::start(&[&upstream.url()], &[]);
        let mut connection = server.connect(ALICE, true).await;
        let (otp, authority) = (connection.otp.clone(), connection.authority.clone());
        let mut list: Vec<(&[u8], &[u8])> = Vec::new();
        for pseudo in [(&b":method"[..], &b"POST"[..]), (b":scheme", b"https"), (b":authority", authority.as_bytes()), (b":path", b"/")] {
            if !fields.iter().any(|(name, _)| *name == pseudo.0) {
                list.push(pseudo);
            }
        }
        list.extend(fields.iter().filter(|(name, _)| name.starts_with(b":")));
        list.push((b"authorization", otp.as_bytes()));
        list.extend(fields.iter().filter(|(name, _)| !name.starts_with(b":")));
        let mut block = Vec::new();
        for (name, value) in list {
            // RFC 7541 §6.2.2: a literal with a new name, neither indexed nor coded.
            block.push(0);
            for text in [name, value] {
                integer(&mut block, text.len());
                block.extend_from_slice(text);
            }
        }
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(&u32::try_from(block.len()).expect("a length").to_be_bytes()[1..]);
        // HEADERS with END_STREAM and END_HEADERS.
        bytes.extend_from_slice(&[1, 5, 0, 0, 0, 1]);
        bytes.extend_from_slice(&block);
        connection.tls.write_all(&bytes).await.expect("writing");
        // Until the stream has its answer or its end, or the connection has.
        soon(fault, async {
            let mut frame = [0; 9];
            while connection.tls.read_exact(&mut frame).await.is_ok() {
                let mut payload = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
                if connection.tls.read_exact(&mut payload).await.is_err() {
                    return;
                }
                let is_end = matches!((frame[3], frame[4] & 1), (3 | 7, _) | (0 | 1, 1));
                if is_end {
                    return;
                }
            }
        })
        .await;
        let requests = upstream.requests();
        assert!(requests.len() <= 1, "{fault}: {requests:#?}");
        for request in requests {
            assert_eq!(end_of_request(request.as_bytes()), Some(request.len()), "{fault}: {request:?}");
            assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{fault}: {request:?}");
            assert!(!request.contains("root") && !request.contains("smuggled") && !request.contains("other.test"), "{fault}: {request:?}");
            assert!(!request.to_ascii_lowercase().contains("\r\ntransfer-encoding:"), "{fault}: {request:?}");
        }
    }
}

/// RFC 7541 §5.1, with a prefix of 7 bits.
fn integer(block: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(127) else {
        return block.push(u8::try_from(value).expect("less than 127"));
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).expect("7 bits") | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("7 bits"));
}
