//! What a sidecar carries, end to end: programs that know nothing of it, streams, large bodies, crowds; and a TPM that goes away meanwhile.

mod common;
mod sidecars;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use common::cloud::python;
use common::text;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sidecars::{Way, peak, serve, soon, until};
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Runs a program that knows nothing of the sidecar, without the environment's proxies, and returns what it prints.
fn program(name: &str, arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(name);
    for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env("HOME", folder);
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {name} ({e}): install the Debian package `{name}`"));
    assert!(output.status.success(), "{name} {arguments:?}: {:?}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn curl_wget_and_requests_use_it_as_they_are() {
    let way = Way::new(&[], &[]);
    let folder = way.bench.swtpm.dir();
    let curl = |arguments: &[&str]| program("curl", &[&["-sS", "--fail"], arguments].concat(), folder);
    assert_eq!(curl(&[&way.url("/n/curl")]), "curl");
    assert_eq!(curl(&["--http2-prior-knowledge", &way.url("/n/h2c")]), "h2c");
    assert_eq!(curl(&["-L", &way.url("/redirect")]), "redirected");
    assert_eq!(curl(&["-d", "a=b", &way.url("/echo")]), "a=b");
    // An upload whose length nobody knows, larger than what curl sends before it has asked.
    let large = folder.join("large");
    std::fs::write(&large, vec![b'x'; 3 << 20]).expect("writing");
    for more in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["--http2-prior-knowledge"]] {
        assert_eq!(curl(&[more, &["-T", "large", &way.url("/count")]].concat()), (3 << 20).to_string(), "{more:?}");
    }
    let head = curl(&["-I", &way.url("/big/1000")]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 1000"), "{head}");
    let ranged = curl(&["-o", "a", "-o", "b", &way.url("/n/a"), &way.url("/n/b"), "-w", "%{num_connects} "]);
    assert_eq!(ranged, "1 0 ", "a local connection is kept");
    let fields = curl(&[&way.url("/fields")]);
    assert!(fields.contains("ekm-otp-client: Alice\n") && !fields.contains("authorization"), "{fields}");
    let refused = Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &way.url("/nothing")]).output().expect("curl");
    assert_eq!(text(&refused.stdout), "404");

    assert_eq!(program("wget", &["-q", "-O", "-", &way.url("/redirect")], folder), "redirected");
    program("wget", &["-q", "-O", "got", &way.url("/big/5000000")], folder);
    assert_eq!(std::fs::metadata(folder.join("got")).expect("a file").len(), 5_000_000);

    let code = "
import sys, requests
url = sys.argv[1]
with requests.Session() as session:
    session.trust_env = False
    assert session.get(url + '/n/python').text == 'python'
    assert session.post(url + '/echo', json={'a': [1, 2]}).json() == {'a': [1, 2]}
    assert session.get(url + '/redirect').text == 'redirected'
    assert session.put(url + '/count', data=iter([b'x' * 100_000] * 20)).text == '2000000'
    assert sum(len(piece) for piece in session.get(url + '/big/3000000', stream=True).iter_content(65536)) == 3_000_000
    lines = session.get(url + '/events', stream=True).iter_lines()
    assert [next(lines) for _ in range(3)] == [b'data: tick 0', b'', b'data: tick 1']
    assert session.get(url + '/nothing').status_code == 404
";
    let ran = python(code, &[&way.url("")], &[], folder);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert_eq!(way.sidecar.log().matches("panicked").count(), 0);
}

#[test]
fn git_clones_and_pushes() {
    let way = Way::new(&[], &[]);
    let folder = way.bench.swtpm.dir();
    let repositories = folder.join("repositories");
    let git = |arguments: &[&str]| {
        program(
            "git",
            &[&["-c", "user.name=A", "-c", "user.email=a@example.test", "-c", "init.defaultBranch=main"], arguments].concat(),
            folder,
        )
    };
    git(&["init", "--quiet", "--bare", "repositories/project.git"]);
    git(&["-C", "repositories/project.git", "config", "http.receivepack", "true"]);
    way.app.repositories(repositories);
    let url = way.url("/git/project.git");
    git(&["clone", "--quiet", &url, "first"]);
    // More than git sends in one piece (http.postBuffer).
    let random: Vec<u8> = (0..3_000_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    std::fs::write(folder.join("first/large"), &random).expect("writing");
    std::fs::write(folder.join("first/README"), "hello\n").expect("writing");
    git(&["-C", "first", "add", "."]);
    git(&["-C", "first", "commit", "--quiet", "-m", "one"]);
    git(&["-C", "first", "push", "--quiet", "origin", "main"]);
    git(&["clone", "--quiet", &url, "second"]);
    assert_eq!(std::fs::read(folder.join("second/large")).expect("a file"), random);
    git(&["-C", "second", "commit", "--quiet", "--allow-empty", "-m", "two"]);
    git(&["-C", "second", "push", "--quiet", "origin", "main"]);
    git(&["-C", "first", "pull", "--quiet", "--ff-only", "origin", "main"]);
    assert_eq!(git(&["-C", "first", "log", "-1", "--format=%s"]), "two\n");
}

#[tokio::test]
async fn a_websocket_carries_messages_both_ways() {
    let way = tokio::task::spawn_blocking(|| Way::new(&[], &[])).await.expect("all parts");
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", way.sidecar.port)).await.expect("a connection");
    let url = way.url("/ws").replace("http://", "ws://");
    let (mut socket, _) = soon("a websocket", tokio_tungstenite::client_async(url, tcp)).await.expect("a websocket");
    for text in ["hello".to_owned(), "x".repeat(300_000), String::new()] {
        socket.send(text.clone().into()).await.expect("sending");
        let got = soon("a message", socket.next()).await.expect("a message").expect("a message");
        assert_eq!(got.into_text().expect("text").as_str(), text);
    }
    socket.close(None).await.expect("closing");
    // It is closed by the other side, too, and not cut.
    assert!(soon("the end", socket.next()).await.is_some_and(|last| last.is_ok_and(|last| last.is_close())));
}

#[test]
fn events_arrive_while_the_answer_goes_on() {
    let way = Way::new(&[], &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", way.sidecar.port)).expect("a connection");
    stream.set_read_timeout(Some(sidecars::SOON)).expect("a limit");
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n", way.sidecar.host()).expect("writing");
    let (mut got, mut buffer) = (String::new(), [0; 4096]);
    while !got.contains("data: tick 2\n\n") {
        let read = stream.read(&mut buffer).expect("an event");
        assert!(read > 0, "{got}");
        got += &String::from_utf8_lossy(&buffer[..read]);
    }
    assert!(got.contains("text/event-stream") && !got.contains("tick 50"), "{got}");
}

/// Messages that are bytes.
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// An HTTP/2 connection without TLS, as a tonic stub takes it.
#[derive(Clone)]
struct Channel(http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        self.0.send_request(request).boxed()
    }
}

#[tokio::test]
async fn a_grpc_stream_carries_messages_both_ways_and_trailers() {
    let way = tokio::task::spawn_blocking(|| Way::new(&["--upstream-protocol", "h2"], &[])).await.expect("all parts");
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", way.sidecar.port)).await.expect("a connection");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let origin = way.url("").parse().expect("a URL");
    let mut stub = Grpc::with_origin(Channel(sender), origin);
    soon("readiness", stub.ready()).await.expect("readiness");
    let (teller, told) = tokio::sync::mpsc::channel::<Bytes>(1);
    let messages = futures_util::stream::unfold(told, |mut told| async move { told.recv().await.map(|message| (message, told)) });
    let path = "/chat.Service/Talk".parse().expect("a path");
    let answer = soon("an answer", stub.streaming(tonic::Request::new(messages), path, Plain)).await.expect("an answer");
    let mut answers = answer.into_inner();
    for n in 0..5 {
        // The next is sent when the last has come back.
        let message = Bytes::from(vec![n; 1 + 20_000 * usize::from(n)]);
        teller.send(message.clone()).await.expect("sending");
        assert_eq!(soon("a message", answers.message()).await.expect("a message"), Some(message));
    }
    drop(teller);
    assert_eq!(soon("the end", answers.message()).await.expect("the end"), None);
    let trailers = answers.trailers().await.expect("trailers").expect("trailers");
    assert_eq!(trailers.get("x-last").and_then(|value| value.to_str().ok()), Some("word"));
}

/// What both ends may ever have taken, in an unoptimised build.
const MOST_MIB: u64 = 96;

/// Reads one answer that has a length. Returns how long its body is.
fn answer(stream: &mut TcpStream) -> u64 {
    let (mut head, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = text(&head).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).expect("a length");
    let mut left: u64 = length;
    while left > 0 {
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        match stream.read(&mut buffer[..most]).expect("the body") {
            0 => panic!("{left} of {length} bytes are missing"),
            read => left -= read as u64,
        }
    }
    length
}

#[test]
fn a_gib_down_and_one_up_take_bounded_memory() {
    const GIB: u64 = 1 << 30;
    let way = Way::new(&[], &[]);
    let host = way.sidecar.host();
    let mut stream = TcpStream::connect(("127.0.0.1", way.sidecar.port)).expect("a connection");
    stream.set_read_timeout(Some(sidecars::SOON)).expect("a limit");
    write!(stream, "GET /big/{GIB} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("writing");
    assert_eq!(answer(&mut stream), GIB);
    write!(stream, "PUT /count HTTP/1.1\r\nHost: {host}\r\nContent-Length: {GIB}\r\n\r\n").expect("writing");
    let piece = vec![b'x'; 1 << 18];
    for _ in 0..GIB >> 18 {
        stream.write_all(&piece).expect("writing");
    }
    assert_eq!(answer(&mut stream), 10, "the count of bytes that arrived, in digits");
    let peaks = [way.sidecar.id(), way.server.process.id()].map(peak);
    assert!(peaks.iter().all(|peak| *peak <= MOST_MIB), "{peaks:?} MiB");
    println!("most memory of the sidecar and of the server: {peaks:?} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once_are_all_answered() {
    const COUNT: usize = 1000;
    let way = tokio::task::spawn_blocking(|| Way::new(&[], &[])).await.expect("all parts");
    let mut requests = tokio::task::JoinSet::new();
    // None is answered before all have arrived behind the server: they are under way at the same time.
    for n in 0..COUNT {
        let (port, host) = (way.sidecar.port, way.sidecar.host());
        requests.spawn(async move {
            let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
            let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            let request = Request::get(format!("/meet/{COUNT}?{n}")).header("host", host).body(Empty::<Bytes>::new()).expect("a request");
            let answer = soon("an answer", sender.send_request(request)).await.expect("an answer");
            assert_eq!(answer.status(), 200, "{n}");
            assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), n.to_string());
        });
    }
    let mut done = 0;
    while let Some(request) = requests.join_next().await {
        request.expect("an answer");
        done += 1;
    }
    assert_eq!(done, COUNT);
}

/// One request on a local connection of its own: its status.
fn get(way: &Way, path: &str) -> u16 {
    let got = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "30", &way.url(path)])
        .output()
        .expect("curl");
    text(&got.stdout).parse().expect("a status")
}

#[test]
fn requests_on_a_warm_pool_do_not_notice_that_the_tpm_is_gone_and_new_connections_recover() {
    let mut way = Way::new(&[], &[]);
    assert_eq!(get(&way, "/n/warm"), 200);
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    way.bench.swtpm.kill();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    assert_eq!(get(&way, "/n/warm"), 200, "the TPM is gone, the connection is there");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        until("some requests", || served.load(Ordering::SeqCst) >= 30);
        is_over.store(true, Ordering::SeqCst);
    });
    // The server goes, and with it the connection: the next needs the TPM.
    let flags = format!("127.0.0.1:{}", way.server.port);
    way.server.process.kill().expect("killing");
    way.server.process.wait().expect("its end");
    way.server = serve(&way.bench, &way.app, &["--listen", &flags]);
    let refused = get(&way, "/n/cold");
    assert!(matches!(refused, 502..=504), "{refused}: {}", way.sidecar.log());
    way.bench.swtpm.restart();
    until("a new connection is made", || {
        std::thread::sleep(Duration::from_millis(50));
        get(&way, "/n/cold") == 200
    });
    assert_eq!((0..20).map(|_| get(&way, "/n/warm")).collect::<Vec<_>>(), [200; 20]);
}
