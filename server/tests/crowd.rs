//! A bad night: thousands who hold connections, half-open handshakes, slow and hostile clients, all at once. An honest client is served as usual, and
//! what the others cost has a bound.

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::client::{Dialler, Http, Key};
use common::frames::{self, Frames, frame};
use common::honest::{Honest, median};
use common::pki::Pki;
use common::server::Server;
use common::upstream::Upstream;
use common::{HOST, one_site, until_so};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const IDLE: usize = 10_000;
const HALF_OPEN: usize = 500;
const SLOW: usize = 100;
/// An address has so many of them, as if they came from a building.
const EACH: usize = 100;

/// They are measured and counted: one at a time.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn source(group: u8, number: usize) -> Ipv4Addr {
    let number = u16::try_from(number / EACH).expect("a small number").to_be_bytes();
    Ipv4Addr::new(127, group, number[0], number[1] + 1)
}

/// A connection on which one request was answered, and nothing follows.
async fn idle(dialler: Dialler, key: Arc<Key>, number: usize) -> TlsStream<TcpStream> {
    let (mut stream, handshake) = dialler.tls(Http::One).await.expect("a connection");
    // Most only prove who they are, as clients do first.
    let path = if number.is_multiple_of(10) { "/n/x" } else { "/.well-known/ekm-otp" };
    ask(&mut stream, path, &key.credential(&handshake)).await.expect("an answer");
    stream
}

/// One request, written in one piece. Its answer is small, and nothing follows it.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str, credential: &str) -> std::io::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {credential}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut answer, end) = (Vec::new(), if path == "/n/x" { b"\r\n\r\nx".as_slice() } else { b"\r\n\r\n" });
    while !answer.ends_with(end) {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

#[tokio::test]
async fn ten_thousand_idle_connections_half_open_handshakes_and_slow_headers_keep_nobody_waiting() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let allowed = rlimit::increase_nofile_limit(20_000).expect("a limit of open files");
    assert!(allowed >= 12_000, "this test opens 10,600 connections, and the limit of open files is {allowed}: raise it (ulimit -n)");
    let (folder, pki, upstream) = (tempfile::tempdir().expect("a folder"), Pki::new(), Upstream::start());
    let keys = [Key::numbered(1), Key::numbered(2)];
    let config = one_site(folder.path(), &pki, &keys, &upstream) + "max_connections = 12000\nmax_connections_per_key = 12000\n";
    let server = Server::start(folder.path(), "server", &config);
    let dialler = Dialler::new(&pki, server.address, HOST);

    let mut honest = dialler.open(Http::One, &keys[0]).await.expect("a connection");
    // What is done for the first time takes longer.
    median(&mut honest, 50, Duration::ZERO).await;
    let before = median(&mut honest, 300, Duration::from_millis(1)).await;

    let started = Instant::now();
    let memory = server.memory("VmRSS");
    let key = Arc::new(keys[1].clone());
    let opening = futures_util::stream::iter((0..IDLE).map(|number| idle(dialler.from(source(1, number)), Arc::clone(&key), number)));
    let mut crowd: Vec<TlsStream<TcpStream>> = opening.buffer_unordered(32).collect().await;
    let each = (server.memory("VmRSS").saturating_sub(memory)) / u64::try_from(IDLE).expect("a number");
    println!("{IDLE} idle connections in {:.1} s, {:.1} KiB each in this build", started.elapsed().as_secs_f64(), each as f64 / 1024.0);

    let mut half_open = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = dialler.from(source(2, number)).tcp().await.expect("a connection");
        // The beginning of a ClientHello, or nothing.
        if number.is_multiple_of(2) {
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.expect("some bytes");
        }
        half_open.push(stream);
    }
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let (mut stream, handshake) = dialler.from(source(3, number)).tls(Http::One).await.expect("a connection");
        // Every second one has shown who it is.
        if number.is_multiple_of(2) {
            ask(&mut stream, "/n/x", &key.credential(&handshake)).await.expect("an answer");
        }
        slow.push(tokio::spawn(async move {
            for byte in b"GET / HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
                if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }));
    }
    let meanwhile = median(&mut honest, 300, Duration::from_millis(1)).await;
    let ratio = meanwhile.as_secs_f64() / before.as_secs_f64();
    println!("median of an honest client's request: {before:?} alone, {meanwhile:?} among all of them: {ratio:.2} times");
    assert!(meanwhile <= before * 5 + Duration::from_millis(5), "an honest client waits {meanwhile:?}, and {before:?} before");
    // Who comes now finds room, too.
    let mut late = dialler.open(Http::Two, &keys[0]).await.expect("a connection");
    assert_eq!(late.get("/n/late").await.expect("an answer").0, 200);

    // None of the ten thousand was ended for it.
    let ended = crowd
        .iter_mut()
        .filter(|stream| !matches!(stream.get_ref().0.try_read(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock));
    assert_eq!(ended.count(), 0, "idle connections were ended");
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

/// What a hostile client does on one connection, until it is stopped or has done it all.
async fn attack(kind: &str, dialler: Dialler, key: Key) -> frames::Heard {
    let is_known = !kind.ends_with("by nobody");
    let (stream, handshake) = dialler.tls(Http::Two).await.expect("a connection");
    let credential = if is_known { key.credential(&handshake) } else { String::new() };
    // Who reads nothing lets the server's answers pile up. 4 is the window of each stream.
    let (settings, reads) = match kind {
        "answers that nobody reads" => (&[(4, 0x7fff_ffff)][..], false),
        "pings that nobody reads the answers of" => (&[][..], false),
        _ => (&[][..], true),
    };
    let mut attacker = Frames::open(stream, settings, reads).await;
    let request =
        |number: u32, flags: u8, method: &str, path: &str| frames::request(2 * number + 1, flags, method, HOST, path, &credential);
    let get = |number: u32, path: &str| request(number, frames::END_STREAM, "GET", path);
    // So many pieces at most.
    let pieces = if kind.starts_with("pings") || kind == "settings" { 100 } else { 400 };
    for number in 0..pieces {
        let piece: Vec<u8> = match kind {
            "rapid reset" | "rapid reset by nobody" => (100 * number..100 * (number + 1))
                .flat_map(|number| {
                    [get(number, "/slow/1000/x"), frame(frames::RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes())].concat()
                })
                .collect(),
            "endless continuation" | "endless continuation by nobody" => {
                let fields = frames::fields([("x-more", "x".repeat(16_000).as_str())]);
                let mut first = get(0, "/n/x");
                // END_HEADERS is missing.
                first[4] = frames::END_STREAM;
                if number > 0 {
                    first.clear();
                }
                [first, frame(frames::CONTINUATION, 0, 1, &fields)].concat()
            }
            "endless empty continuation" => {
                let mut first = get(0, "/n/x");
                first[4] = frames::END_STREAM;
                if number > 0 {
                    first.clear();
                }
                [first, frame(frames::CONTINUATION, 0, 1, &[]).repeat(1000)].concat()
            }
            "thousands of streams" => (25 * number..25 * (number + 1)).flat_map(|number| request(number, 0, "POST", "/echo")).collect(),
            "huge headers" => frames::request(2 * number + 1, frames::END_STREAM, "GET", HOST, "/n/x", &"x".repeat(16_000)),
            "answers that nobody reads" => get(number, "/big/50000000"),
            "pings that nobody reads the answers of" | "pings" => frame(frames::PING, 0, 0, &[0; 8]).repeat(1000),
            "settings" => frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(1000),
            other => panic!("no such attack: {other}"),
        };
        if !attacker.write(&piece).await {
            break;
        }
    }
    // What it did has its effect.
    tokio::time::sleep(Duration::from_millis(if reads { 300 } else { 1500 })).await;
    attacker.heard()
}

const ATTACKS: [&str; 11] = [
    "rapid reset",
    "rapid reset by nobody",
    "endless continuation",
    "endless continuation by nobody",
    "endless empty continuation",
    "thousands of streams",
    "huge headers",
    "answers that nobody reads",
    "pings that nobody reads the answers of",
    "pings",
    "settings",
];

#[tokio::test]
async fn floods_of_http2_have_a_bound_and_others_are_served() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (folder, pki, upstream) = (tempfile::tempdir().expect("a folder"), Pki::new(), Upstream::start());
    let keys = [Key::numbered(1), Key::numbered(2)];
    let server = Server::start(folder.path(), "server", &one_site(folder.path(), &pki, &keys, &upstream));
    let dialler = Dialler::new(&pki, server.address, HOST);
    let honest = Honest::start(4, Duration::from_millis(2), &dialler, &keys[0]);
    honest.go_on(500).await;
    for (number, kind) in ATTACKS.into_iter().enumerate() {
        let (memory, descriptors, started) = (server.memory("VmRSS"), server.descriptors(), Instant::now());
        // Several at once, from an address that nobody else has.
        let dialler = dialler.from(Ipv4Addr::new(127, 4, 0, u8::try_from(number).expect("a number") + 1));
        let attacks: Vec<_> = (0..4).map(|_| tokio::spawn(attack(kind, dialler.clone(), keys[1].clone()))).collect();
        let mut most = 0;
        let mut open = 0;
        until_so(kind, || {
            most = most.max(server.memory("VmRSS").saturating_sub(memory));
            open = open.max(server.descriptors().saturating_sub(descriptors));
            attacks.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        let mut heard = Vec::new();
        for attack in attacks {
            heard.push(attack.await.expect("an attack"));
        }
        println!(
            "{kind}: {:.1} MiB and {open} descriptors more, {:.1} s, {:?}",
            most as f64 / 1_048_576.0,
            started.elapsed().as_secs_f64(),
            heard[0]
        );
        assert!(most < 64 << 20, "{kind}: {most} bytes more");
        assert!(open < 700, "{kind}: {open} descriptors more");
        honest.go_on(50).await;
    }
    honest.end("honest clients among floods").await;
}

/// Hostile HTTP/1: what is written, so many times over, on a connection whose credential is the second argument.
fn hostile_http1(kind: &str, credential: &str) -> (String, Vec<u8>, usize, Duration) {
    let head = |fields: &str| format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {credential}\r\n{fields}");
    let (at_once, slowly) = (Duration::ZERO, Duration::from_millis(20));
    match kind {
        "slow bodies" => (head("Content-Length: 1000000\r\n\r\n"), b"x".to_vec(), 50, slowly),
        "slow chunks" => (head("Transfer-Encoding: chunked\r\n\r\n"), b"1\r\nx\r\n".to_vec(), 50, slowly),
        "an endless field" => (head("X-Endless: "), vec![b'x'; 16_384], 1_000, at_once),
        "endless fields" => (head(""), b"X-More: x\r\n".repeat(1_000), 1_000, at_once),
        "an endless request line" => ("GET /".to_owned(), vec![b'x'; 16_384], 1_000, at_once),
        "endless chunk extensions" => (head("Transfer-Encoding: chunked\r\n\r\n1;"), vec![b'x'; 16_384], 1_000, at_once),
        "endless trailers" => (head("Transfer-Encoding: chunked\r\n\r\n0\r\n"), b"X-More: x\r\n".repeat(1_000), 1_000, at_once),
        "bodies whose echo nobody reads" => (head("Content-Length: 1000000000\r\n\r\n"), vec![b'x'; 16_384], 1_000, at_once),
        "requests in one go whose answers nobody reads" => {
            let request = format!("GET /big/10000 HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {credential}\r\n\r\n");
            (String::new(), request.repeat(50).into_bytes(), 100, at_once)
        }
        other => panic!("no such attack: {other}"),
    }
}

#[tokio::test]
async fn slow_and_endless_requests_of_http1_have_a_bound_and_others_are_served() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (folder, pki, upstream) = (tempfile::tempdir().expect("a folder"), Pki::new(), Upstream::start());
    let keys = [Key::numbered(1), Key::numbered(2)];
    let server = Server::start(folder.path(), "server", &one_site(folder.path(), &pki, &keys, &upstream));
    let dialler = Dialler::new(&pki, server.address, HOST);
    let honest = Honest::start(4, Duration::from_millis(2), &dialler, &keys[0]);
    honest.go_on(500).await;
    let kinds = [
        "slow bodies",
        "slow chunks",
        "an endless field",
        "endless fields",
        "an endless request line",
        "endless chunk extensions",
        "endless trailers",
        "bodies whose echo nobody reads",
        "requests in one go whose answers nobody reads",
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let (memory, started) = (server.memory("VmRSS"), Instant::now());
        let dialler = dialler.from(Ipv4Addr::new(127, 5, 0, u8::try_from(number).expect("a number") + 1));
        let attacks: Vec<_> = (0..20)
            .map(|_| {
                let (dialler, key) = (dialler.clone(), keys[1].clone());
                tokio::spawn(async move {
                    let (mut stream, handshake) = dialler.tls(Http::One).await.expect("a connection");
                    let (head, piece, times, pause) = hostile_http1(kind, &key.credential(&handshake));
                    let mut taken = 0;
                    let writing = async {
                        stream.write_all(head.as_bytes()).await?;
                        for _ in 0..times {
                            stream.write_all(&piece).await?;
                            stream.flush().await?;
                            taken += piece.len();
                            tokio::time::sleep(pause).await;
                        }
                        std::io::Result::Ok(())
                    };
                    // Written in whole, taken no more, or ended by the server.
                    let written = tokio::time::timeout(Duration::from_secs(2), writing).await;
                    let end = match written {
                        Ok(Ok(())) => "taken",
                        Ok(Err(_)) => "ended",
                        Err(_) => "held",
                    };
                    (end, taken)
                })
            })
            .collect();
        let mut most = 0;
        until_so(kind, || {
            most = most.max(server.memory("VmRSS").saturating_sub(memory));
            attacks.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        let (mut ends, mut taken) = (std::collections::BTreeMap::<_, usize>::new(), 0);
        for attack in attacks {
            let (end, bytes) = attack.await.expect("an attack");
            *ends.entry(end).or_default() += 1;
            taken += bytes;
        }
        let (more, taken) = (most as f64 / 1_048_576.0, taken as f64 / 1_048_576.0);
        println!("{kind}: {more:.1} MiB more of {taken:.1} that were sent, {:.1} s, {ends:?}", started.elapsed().as_secs_f64());
        assert!(most < 64 << 20, "{kind}: {most} bytes more");
        honest.go_on(50).await;
    }
    honest.end("honest clients among slow and endless requests").await;
}
