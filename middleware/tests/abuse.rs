//! Clients that abuse HTTP are bounded, and others are served meanwhile: rapid reset, endless header sections, slow ones, guessing.

mod common;

use std::time::{Duration, Instant};

use common::{HOST, KID, LIMITS, Pki, TestServer, request};
use ekm_otp_tower::protocol::TlsPolicy;
use ekm_otp_tower::{Connections, EkmAcceptor, EkmListener, Http, Limits};
use hyper::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

const SOON: Duration = Duration::from_secs(30);
/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u32 = 11;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET /` with a credential (RFC 7541: indexed fields, literals without an index).
fn get(credential: &str) -> Vec<u8> {
    let literal = |index: u8, value: &str| {
        let mut bytes = if index < 15 { vec![index] } else { vec![15, index - 15] };
        match value.len() {
            short @ 0..127 => bytes.push(u8::try_from(short).expect("short")),
            long => {
                let rest = long - 127;
                bytes.extend([127, u8::try_from(rest & 127).expect("7 bits") | 128, u8::try_from(rest >> 7).expect("7 bits")]);
            }
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes
    };
    [&[0x82, 0x87, 0x84], literal(1, HOST).as_slice(), &literal(23, credential)].concat()
}

/// An HTTP/2 connection whose frames the test writes itself, verified or not.
async fn h2(server: &TestServer) -> (TlsStream<TcpStream>, String) {
    let (mut stream, handshake) = server.tls(b"h2").await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.expect("writing");
    let credential = common::credential(&handshake, KID, KID);
    (stream, credential)
}

/// The frames' kinds that answer a request which is written by hand: it is a right one, so that what is refused below is not its form.
async fn is_answered(server: &TestServer) {
    let (mut stream, credential) = h2(server).await;
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get(&credential))).await.expect("writing");
    loop {
        let mut head = [0; 9];
        tokio::time::timeout(SOON, stream.read_exact(&mut head)).await.expect("no answer").expect("the connection");
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).expect("a length")];
        stream.read_exact(&mut payload).await.expect("a frame");
        assert_ne!(head[3], GOAWAY);
        if head[3] == HEADERS {
            // `:status: 200` (RFC 7541, appendix A).
            assert_eq!(payload[0], 0x88);
            return;
        }
    }
}

/// Writes until the server has had enough; whether it said why (a GOAWAY frame's error code). It panics where the server takes it all.
async fn until_goaway(stream: TlsStream<TcpStream>, mut next: impl FnMut(u32) -> Vec<u8>, most: u32) -> Option<u32> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let answers = tokio::spawn(async move {
        let mut code = None;
        loop {
            let mut head = [0; 9];
            if reading.read_exact(&mut head).await.is_err() {
                return code;
            }
            let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).expect("a length")];
            if reading.read_exact(&mut payload).await.is_err() {
                return code;
            }
            if head[3] == GOAWAY {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().expect("a code")));
            }
        }
    });
    let writes = async {
        for number in 0..most {
            if answers.is_finished() || writing.write_all(&next(number)).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        // All is written. It may still be read.
        while !answers.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, writes).await.expect("the server takes it all");
    answers.await.expect("a task")
}

async fn is_served(server: &TestServer) {
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential("client2");
        assert_eq!(client.get(&credential).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn rapid_reset_ends_its_connection_and_no_other() {
    let server = TestServer::start().await;
    is_answered(&server).await;
    let (stream, credential) = h2(&server).await;
    let get = get(&credential);
    let attack = until_goaway(
        stream,
        |number| {
            // Many in one record, so that no answer is there before its reset.
            let streams = (0..50).map(|at| 1 + 2 * (50 * number + at));
            let each = |stream| {
                [frame(HEADERS, END_STREAM | END_HEADERS, stream, &get), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            };
            streams.flat_map(each).collect()
        },
        2_000,
    );
    let (code, ()) = tokio::join!(attack, is_served(&server));
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    is_served(&server).await;
}

#[tokio::test]
async fn an_endless_continuation_ends_its_connection_and_no_other() {
    let server = TestServer::start().await;
    is_answered(&server).await;
    let (stream, credential) = h2(&server).await;
    let get = get(&credential);
    // A field without an index, whose name is "a" and whose value has 15,994 bytes: what is beyond 127 stands in two bytes, 7 bits each.
    let field = [&[0, 1, b'a', 127, 0xfb, 0x7b][..], &[b'x'; 15_994]].concat();
    let attack = until_goaway(
        stream,
        |number| match number {
            0 => frame(HEADERS, END_STREAM, 1, &get),
            _ => frame(CONTINUATION, 0, 1, &field),
        },
        20_000,
    );
    let (code, ()) = tokio::join!(attack, is_served(&server));
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    // Empty ones count, too.
    let (stream, _) = h2(&server).await;
    until_goaway(
        stream,
        |number| frame(if number == 0 { HEADERS } else { CONTINUATION }, 0, 1, if number == 0 { &get } else { &[] }),
        200_000,
    )
    .await;
    is_served(&server).await;
}

#[tokio::test]
async fn huge_header_sections_are_refused() {
    let server = TestServer::start().await;
    for filler in ["x".repeat(1 << 21), "y: z\r\nx: ".repeat(10_000)] {
        let (mut stream, handshake) = server.tls(b"http/1.1").await;
        let credential = common::credential(&handshake, KID, KID);
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {credential}\r\nx: {filler}\r\n\r\n");
        // The server may have closed before all is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection goes on");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    }
    is_served(&server).await;
}

#[tokio::test]
async fn a_header_section_must_come_soon_after_its_first_byte_and_an_idle_connection_may_wait_longer() {
    let (pki, policy) = (Pki::new(), TlsPolicy::default());
    let acceptor = EkmAcceptor::new(pki.server_config(&policy), policy, common::authentication_of(common::store_of_two()));
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = tcp.local_addr().expect("an address");
    let listener = EkmListener::new(tcp, acceptor).among(Connections::new(LIMITS));
    let mut http = Http::new(TokioExecutor::new());
    http.header_within(Duration::from_millis(200)).http1().header_read_timeout(SOON);
    let task = tokio::spawn(async move {
        loop {
            let (handshaking, _) = listener.arrival().await;
            tokio::spawn(ekm_otp_tower::serve_connection(&http, handshaking, service_fn(common::app)));
        }
    });
    let tcp = TcpStream::connect(addr).await.expect("TCP");
    let (mut stream, handshake) = common::tls_over(tcp, pki.client_config(&policy, b"http/1.1"), HOST, &policy).await;
    let credential = common::credential(&handshake, KID, KID);
    for _ in 0..2 {
        // Idle for longer than a section may take.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let (head, _) = common::exchange(&mut stream, &[("Authorization", credential.as_bytes())]).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    // A byte now and then does not lengthen it.
    let begun = Instant::now();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let drip = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x')) {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let _ = tokio::time::timeout(SOON, reading.read_to_end(&mut Vec::new())).await.expect("the slow one goes on");
    assert!(begun.elapsed() < SOON / 2, "it had as long as an idle connection");
    drip.abort();
    task.abort();
}

#[tokio::test]
async fn a_source_that_fails_too_often_is_answered_429_and_who_shares_its_address_passes() {
    let open_route = |a: ekm_otp_tower::Authentication| a.open_to(|_, target| target.path() == "/healthz");
    let (policy, store) = (TlsPolicy::default(), common::store_of_two());
    let authentication = open_route(common::authentication_of(store.clone()));
    let server = TestServer::serving(policy, store, authentication, |a| a, Limits { failures: 5, ..LIMITS }).await;
    let mut verified = server.connect().await;
    let credential = verified.credential(KID);
    assert_eq!(verified.get(&credential).await.status, StatusCode::OK);
    let mut open = server.connect().await;
    // Whoever shows nothing does not guess.
    for _ in 0..20 {
        assert_eq!(server.connect().await.send(request("/", None)).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
    }
    for _ in 0..5 {
        let mut client = server.connect().await;
        let wrong = client.credential("client2").replace("client2", KID);
        assert_eq!(client.get(&wrong).await.status, StatusCode::UNAUTHORIZED);
    }
    // Wrong ones, whatever key id they name, on any of its connections on which nobody was verified.
    let wrong = open.credential("client2").replace("client2", KID);
    assert_eq!(open.get(&wrong).await.status, StatusCode::TOO_MANY_REQUESTS);
    for (alpn, kid) in [(b"http/1.1".as_slice(), "client2"), (b"h2", "nobody")] {
        let mut client = server.connect_as(HOST, alpn).await;
        let credential = client.credential(KID).replace(KID, kid);
        let answer = client.get(&credential).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        let after: u64 = answer.headers["retry-after"].to_str().expect("ASCII").parse().expect("seconds");
        assert!((1..=60).contains(&after), "{after}");
        let _ = tokio::time::timeout(SOON, &mut client.connection).await.expect("the connection goes on");
    }
    // A right one passes: whoever shares an address with one that guesses is not shut out.
    let mut neighbour = server.connect().await;
    let right = neighbour.credential("client2");
    assert_eq!(neighbour.get(&right).await.status, StatusCode::OK);
    // So do requests that need none.
    for (path, status) in [("/healthz", StatusCode::OK), ("/", StatusCode::UNAUTHORIZED)] {
        assert_eq!(server.connect().await.send(request(path, None)).await.expect("an answer").status, status);
    }
    // Who was verified goes on, and so does another source with the same key id.
    assert_eq!(verified.get(&credential).await.status, StatusCode::OK);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("another source");
    let (mut stream, handshake) = server.tls_over(socket.connect(server.addr).await.expect("TCP"), b"http/1.1").await;
    let (head, _) = common::exchange(&mut stream, &[("Authorization", common::credential(&handshake, KID, KID).as_bytes())]).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn hundreds_of_stalled_handshakes_and_slow_clients_leave_an_honest_one_its_usual_time() {
    let limits = Limits { handshakes: 1024, ..LIMITS };
    let server = TestServer::within(limits).await;
    let usual = honest(&server).await;
    let from = |last: u8| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(format!("127.0.1.{last}:0").parse().expect("an address")).expect("a source");
        socket.connect(server.addr)
    };
    let mut crowd = Vec::new();
    for number in 0..500_u32 {
        let mut tcp = from(1 + u8::try_from(number % 4).expect("a byte")).await.expect("TCP");
        // Silent, or stuck in the middle of a ClientHello.
        if number % 2 == 0 {
            tcp.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").await.expect("writing");
        }
        crowd.push(tcp);
    }
    let mut slow = Vec::new();
    for number in 0..60_u32 {
        let (mut stream, _) = server.tls_over(from(10 + u8::try_from(number % 4).expect("a byte")).await.expect("TCP"), b"http/1.1").await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: local").await.expect("writing");
        slow.push(stream);
    }
    assert!(server.connections.counts().handshaking >= 400, "{:?}", server.connections.counts());
    let crowded = honest(&server).await;
    // Twice the usual time would be the machine's noise; a minute, or never, is what a crowd could do.
    assert!(crowded < 10 * usual + Duration::from_millis(500), "{crowded:?} in place of {usual:?}");
    drop((crowd, slow));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_that_are_renewed_all_the_time_do_not_stop_accepting() {
    let server = TestServer::within(Limits { handshakes: 64, ..LIMITS }).await;
    let usual = honest(&server).await;
    let addr = server.addr;
    // Sixty sources, each with more than its share, and anew as soon as one is closed: together they would hold every place.
    let crowd: Vec<_> = (0..6 * 60_u32)
        .map(|number| {
            tokio::spawn(async move {
                // Not all at once: some hundred come each second.
                tokio::time::sleep(Duration::from_millis(2 * u64::from(number))).await;
                loop {
                    let socket = TcpSocket::new_v4().expect("a socket");
                    socket.bind(format!("127.0.2.{}:0", 1 + number % 60).parse().expect("an address")).expect("a source");
                    if let Ok(mut tcp) = socket.connect(addr).await {
                        if number % 3 == 0 {
                            let _ = tcp.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").await;
                        }
                        let _ = tcp.read(&mut [0; 1]).await;
                    }
                    tokio::time::sleep(Duration::from_millis(700)).await;
                }
            })
        })
        .collect();
    let waiting = async {
        while server.connections.counts().handshaking < 60 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("no crowd");
    let crowded = honest(&server).await;
    crowd.iter().for_each(tokio::task::JoinHandle::abort);
    // It stood still for seconds: until the deadline of a handshake that was never begun.
    assert!(crowded < 10 * usual + Duration::from_millis(500), "{crowded:?} in place of {usual:?}");
}

/// How long a connection with a request usually takes: the median.
async fn honest(server: &TestServer) -> Duration {
    let mut times = Vec::new();
    for _ in 0..9 {
        let begun = Instant::now();
        let mut client = tokio::time::timeout(SOON, server.connect()).await.expect("it is kept out");
        let credential = client.credential(KID);
        assert_eq!(client.get(&credential).await.status, StatusCode::OK);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[4]
}
