//! The sidecar's own rules: which local requests pass, whose they are, what is changed on the way, what is told when there is no way, and how it lives and ends.
//! What programs do with it is in `sidecar_programs`, what pages do in `in_a_browser`.

mod common;
mod sidecars;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Bench, client, mode_of, text, write_private};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sidecars::app::App;
use sidecars::{SOON, Sidecar, Way, serve, soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const KEY: [&str; 6] = ["--kid", "client1", "--key", "client1.pem", "--ca", "server.pem"];

/// Sends bytes as they are, and returns all that comes until the other side closes.
fn raw(mut stream: impl std::io::Read + std::io::Write, bytes: &str) -> String {
    stream.write_all(bytes.as_bytes()).expect("sending");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    text(&answer)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the sidecar");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    stream
}

/// One request with these lines between its first and its last.
fn asked(port: u16, first: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    raw(connect(port), &format!("{first} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

/// What the sidecar's own answers say which they are.
fn error(answer: &str) -> Option<&str> {
    answer.lines().find_map(|line| line.strip_prefix("ekm-otp-error: "))
}

fn signal(process: u32, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status().expect("kill").success());
}

/// A sidecar that cannot start.
fn fails(bench: &Bench, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = client();
    command.arg("proxy").args(flags).current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti());
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().expect("the client");
    (status.code(), text(&stderr))
}

#[test]
fn names_that_anybody_could_point_here_browsers_sent_by_strangers_and_foreign_credentials_reach_nothing() {
    let way = Way::new(&[], &[]);
    let port = way.sidecar.port;
    let here = format!("Host: localhost:{port}");
    let refused = |first: &str, fields: &[&str], code: u16, word: &str| {
        let answer = asked(port, first, fields);
        assert_eq!((status(&answer), error(&answer)), (code, Some(word)), "{first} {fields:?}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control-"), "{answer}");
    };
    for host in ["evil.example", &format!("evil.example:{port}"), "localhost", "localhost:1", &format!("localhost.evil.example:{port}")] {
        refused("GET /fields", &[&format!("Host: {host}")], 421, "host");
    }
    refused("GET /fields", &[&here, &here], 400, "host");
    assert_eq!(status(&asked(port, "GET /fields", &[])), 400);

    for fields in [
        &["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"][..],
        &["Sec-Fetch-Site: same-site"],
        &["Origin: https://evil.example"],
        &["Origin: null"],
        &["User-Agent: Mozilla/5.0 (an old browser)"],
        &["Origin: https://evil.example", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
    ] {
        refused("GET /fields", &[&[&*here], fields].concat(), 403, "cross-site");
    }
    refused("OPTIONS /fields", &[&here, "Origin: https://evil.example", "Access-Control-Request-Method: PUT"], 403, "cross-site");
    refused("OPTIONS /fields", &[&here, "Access-Control-Request-Private-Network: true"], 403, "cross-site");
    let form = format!(
        "POST /echo HTTP/1.1\r\n{here}\r\nOrigin: https://evil.example\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
    );
    assert_eq!(status(&raw(connect(port), &form)), 403);

    refused("GET /fields", &[&here, "Authorization: Basic eA=="], 403, "authorization");
    refused("TRACE /fields", &[&here], 405, "method");
    for path in ["/.well-known/ekm-otp", "/.well-known/ekm-otp/tcp/db.internal/5432", "/.well-known/ekm-otp/key"] {
        refused(&format!("GET {path}"), &[&here], 403, "reserved");
    }
    let connected = asked(port, "CONNECT api.example.com:443", &["Host: api.example.com:443"]);
    assert!(status(&connected) == 405 && connected.contains("http://"), "{connected}");
    refused("GET http://elsewhere.example/fields", &["Host: elsewhere.example"], 421, "route");
    assert_eq!(way.app.seen(), Vec::<String>::new(), "something reached the application");
    let log = way.sidecar.log();
    assert!(log.contains("cross-site") && log.contains("421 host"), "{log}");

    let answer = asked(port, "GET /fields", &[&here, "Sec-Fetch-Site: none", "User-Agent: Mozilla/5.0"]);
    assert_eq!((status(&answer), error(&answer)), (200, None), "what is typed in passes: {answer}");
}

#[test]
fn what_leaves_is_the_programs_request_without_what_is_not_its_to_say() {
    let way = Way::new(&[], &["--authorization", "X-App-Authorization", "--host", "app.localhost"]);
    let port = way.sidecar.port;
    let answer = asked(
        port,
        "GET /fields",
        &[
            &format!("Host: 127.0.0.1:{port}"),
            "Authorization: Basic YTpi",
            "Ekm-Otp-Client: root",
            "X-Forwarded-For: 10.0.0.1",
            "X-Hop: 1",
            "Proxy-Authorization: Basic eA==",
            "Connection: x-hop",
            "X-Kept: 2",
            &format!("Origin: http://127.0.0.1:{port}"),
            &format!("Referer: http://127.0.0.1:{port}/page"),
        ],
    );
    let origin = format!("https://localhost:{}", way.server.port);
    for is_there in [
        "x-kept: 2\n",
        "x-app-authorization: Basic YTpi\n",
        "ekm-otp-client: Alice\n",
        &format!("origin: {origin}\n"),
        &format!("referer: {origin}/page\n"),
    ] {
        assert!(answer.contains(is_there), "{is_there}: {answer}");
    }
    for is_not in ["root", "10.0.0.1", "x-hop", "proxy-", "\nauthorization"] {
        assert!(!answer.contains(is_not), "{is_not}: {answer}");
    }
    assert!(!answer.to_ascii_lowercase().contains("authentication-info"), "{answer}");
    assert_eq!(status(&asked(port, "GET /n/a", &["Host: app.localhost:9"])), 200, "a name that was configured");
    // The sidecar as an HTTP proxy.
    let named = asked(port, &format!("GET http://localhost:{}/n/proxied", way.server.port), &["Host: whatever"]);
    assert!(status(&named) == 200 && named.ends_with("proxied"), "{named}");

    let dropping = Sidecar::start(&way.bench, way.server.port, &[&KEY[..], &["--authorization", "drop"]].concat());
    let answer = asked(dropping.port, "GET /fields", &[&format!("Host: localhost:{}", dropping.port), "Authorization: Basic YTpi"]);
    assert!(status(&answer) == 200 && !answer.contains("YTpi"), "{answer}");
}

#[tokio::test]
async fn a_websocket_is_asked_for_by_upgrade_or_by_extended_connect() {
    let way = Way::new(&[], &[]);
    let host = way.sidecar.host();
    let mut stream = tokio::net::TcpStream::connect(&host).await.expect("the sidecar");
    let ask = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
         dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.expect("asking");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("an answer", stream.read_u8()).await.expect("a byte"));
    }
    let head = text(&head);
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    echoed(&mut stream).await;

    let stream = tokio::net::TcpStream::connect(&host).await.expect("the sidecar");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let ask = || {
        let mut request =
            Request::builder().method(Method::CONNECT).uri(format!("http://{host}/ws")).body(Empty::<Bytes>::new()).expect("a request");
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request.headers_mut().insert("sec-websocket-version", "13".parse().expect("a value"));
        request
    };
    // The server says in its settings that it takes this: they may not be here yet.
    let response = loop {
        match sender.send_request(ask()).await {
            Ok(response) => break response,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(response.status(), StatusCode::OK);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.expect("a stream"));
    echoed(&mut stream).await;
}

/// A text frame "hi", masked with zeros, comes back unmasked (RFC 6455 §5.2).
async fn echoed(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.expect("sending");
    let mut back = [0; 4];
    soon("the echo", stream.read_exact(&mut back)).await.expect("it");
    assert_eq!(back, [0x81, 2, b'h', b'i']);
}

#[test]
fn a_socket_is_for_its_users_whatever_its_mode_lets_through() {
    let bench = Bench::new();
    bench.create_key();
    let app = App::start();
    let server = serve(&bench, &app, &[]);
    // Where another user gets to.
    fs::set_permissions(bench.swtpm.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let config = |users: &str| {
        format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\nto = \"https://localhost:{0}\"\n[[listen]]\naddress = \"unix:a.sock\"\nmode = \
             \"0666\"\nto = \"https://localhost:{0}\"\n{users}",
            server.port
        )
    };
    fs::write(bench.path("proxy.toml"), config("")).expect("writing");
    let mut command = client();
    command.args(["proxy", "--config", "proxy.toml"]).args(KEY).current_dir(bench.swtpm.dir()).env("TPM2TOOLS_TCTI", bench.swtpm.tcti());
    let sidecar = Started::of(&mut command);
    until("the socket", || sidecar.log().contains("unix:"));
    let socket = bench.path("a.sock");
    assert_eq!(mode_of(&socket) & 0o777, 0o666);
    let own = raw(UnixStream::connect(&socket).expect("it"), "GET /n/own HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n");
    assert!(status(&own) == 200 && own.ends_with("own"), "every name is right on a Unix socket: {own}");
    let other = |path: &str| {
        let mut curl = Command::new("setpriv");
        curl.args(["--reuid=65534", "--clear-groups", "curl", "-s", "-i", "--unix-socket"])
            .arg(&socket)
            .arg(format!("http://localhost{path}"));
        let output = curl.output().unwrap_or_else(|e| panic!("cannot run setpriv ({e}): install the Debian package `util-linux`"));
        text(&output.stdout)
    };
    let refused = other("/n/other");
    assert!(status(&refused) == 403 && refused.contains("Ekm-Otp-Error: caller"), "{refused}");
    assert_eq!(app.seen().len(), 1);
    // Named, and read again without a restart.
    fs::write(bench.path("proxy.toml"), config("users = [65534]\n")).expect("writing");
    until("the settings are read again", || sidecar.log().contains("settings were read again"));
    let let_in = other("/n/other");
    assert!(status(&let_in) == 200 && let_in.ends_with("other"), "{let_in}");
    signal(sidecar.process.id(), "TERM");
    until("its file is gone", || !socket.exists());
}

#[test]
fn an_address_that_others_reach_or_a_folder_that_others_write_needs_a_flag() {
    let bench = Bench::new();
    bench.create_key();
    let to = ["--to", "https://localhost:1"];
    let listen = |address: &str, more: &[&str]| fails(&bench, &[&["--listen", address], &to[..], &KEY, more].concat());
    for address in ["0.0.0.0:0", "[::]:0"] {
        let (code, told) = listen(address, &[]);
        assert!(code == Some(64) && told.contains("--unsafe-listen"), "{code:?}: {told}");
    }
    let open = bench.path("open");
    fs::create_dir(&open).expect("a folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).expect("chmod");
    let (code, told) = listen("unix:open/a.sock", &[]);
    assert!(code == Some(77) && told.contains("could put a socket of their own in its place"), "{code:?}: {told}");
    let (code, told) = listen("127.0.0.1:0", &["--allow-user", "root"]);
    assert!(code == Some(64) && told.contains("every user of this machine"), "{code:?}: {told}");
    let (code, told) = listen("127.0.0.1:0", &["--authorization", "X-Forwarded-User"]);
    assert!(code == Some(64) && told.contains("X-App-Authorization"), "{code:?}: {told}");
    let (code, told) = fails(&bench, &[&to[..], &KEY].concat());
    assert!(code == Some(64) && told.contains("--listen"), "{code:?}: {told}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (code, told) = listen(&taken.local_addr().expect("it").to_string(), &[]);
    assert!(code == Some(69) && told.contains("Choose another port"), "{code:?}: {told}");
}

#[test]
fn an_origin_that_refuses_is_told_apart_and_left_alone_for_a_while() {
    let bench = Bench::new();
    bench.create_key();
    let app = App::start();
    let secret = bench.secret();
    // Another one under the same key id.
    let registry = fs::read_to_string(bench.path("secrets.toml")).expect("reading");
    write_private(&bench.path("secrets.toml"), &registry.replace(&secret, "dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4="));
    let server = serve(&bench, &app, &[]);
    let sidecar = Sidecar::start(&bench, server.port, &[&KEY[..], &["--admin", "127.0.0.1:0"]].concat());
    let host = format!("Host: localhost:{}", sidecar.port);
    let answer = asked(sidecar.port, "GET /n/a?secret=query", &[&host]);
    assert_eq!((status(&answer), error(&answer)), (503, Some("refused")), "{answer}");
    assert!(answer.contains("retry-after: ") && answer.contains("doctor"), "{answer}");
    for secret in [&*secret, "query", "otp="] {
        assert!(!answer.contains(secret) && !sidecar.log().contains(secret), "{secret}");
    }
    let grpc = asked(sidecar.port, "POST /chat.Service/Talk", &[&host, "Content-Type: application/grpc", "Content-Length: 0"]);
    assert!(status(&grpc) == 200 && grpc.contains("grpc-status: 16"), "{grpc}");
    let admin = admin_port(&sidecar.log());
    let ready = asked(admin, "GET /readyz", &[&format!("Host: localhost:{admin}")]);
    assert!(status(&ready) == 503 && ready.contains("not ready"), "{ready}");
    drop(server);
    assert_eq!(app.seen(), Vec::<String>::new());
}

fn admin_port(log: &str) -> u16 {
    let rest = log.split("admin address=127.0.0.1:").nth(1).unwrap_or_else(|| panic!("no admin pages: {log}"));
    rest.split_whitespace().next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn readiness_is_a_proven_connection_and_counts_are_kept_for_this_machine_alone() {
    let way = Way::new(&[], &["--admin", "127.0.0.1:0"]);
    let admin = admin_port(&way.sidecar.log());
    let host = format!("Host: localhost:{admin}");
    let page = |path: &str| asked(admin, &format!("GET {path}"), &[&host]);
    assert_eq!((status(&page("/readyz")), status(&page("/healthz")), status(&page("/else"))), (200, 200, 404));
    assert_eq!(status(&asked(way.sidecar.port, "GET /n/a", &[&format!("Host: localhost:{}", way.sidecar.port)])), 200);
    let metrics = page("/metrics");
    let line = format!("ekm_otp_sidecar_requests_total{{origin=\"https://localhost:{}\",status=\"2xx\"}} 1", way.server.port);
    assert!(metrics.contains(&line), "{metrics}");
    assert_eq!(status(&asked(admin, "GET /metrics", &[&format!("Host: evil.example:{admin}")])), 421);
    assert_eq!(status(&asked(admin, "GET /metrics", &[&host, "Sec-Fetch-Site: cross-site"])), 403);
    assert_eq!(status(&asked(admin, "POST /metrics", &[&host])), 405);
    let port = way.server.port;
    drop(way.server);
    // The connection that stood is gone, and no other can be made.
    until("it is not ready", || status(&page("/readyz")) == 503);
    assert!(page("/readyz").contains(&format!("https://localhost:{port}: not ready")));
}

#[test]
fn a_rogue_server_sees_the_probe_and_no_byte_of_a_request() {
    let bench = Bench::new();
    bench.create_key();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    // It has the right certificate, and says what it hears on its standard output.
    let mut rogue = Command::new("openssl")
        .args(["s_server", "-quiet", "-naccept", "1", "-accept", &format!("127.0.0.1:{port}"), "-cert", "server.pem", "-key", "server.key"])
        .current_dir(bench.swtpm.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run openssl ({e}): install the Debian package `openssl`"));
    let mut says = rogue.stdin.take().expect("its input");
    let mut hears = BufReader::new(rogue.stdout.take().expect("its output"));
    until("the rogue listens", || {
        fs::read_to_string("/proc/net/tcp").is_ok_and(|table| table.contains(&format!("0100007F:{port:04X} 00000000:0000 0A")))
    });
    let sidecar = Sidecar::start(&bench, port, &KEY);
    let body = "POST /private/path HTTP/1.1\r\nHost: localhost:PORT\r\nX-Private: field\r\nContent-Length: 12\r\nConnection: close\r\n\r\nprivate body";
    let mut stream = connect(sidecar.port);
    stream.write_all(body.replace("PORT", &sidecar.port.to_string()).as_bytes()).expect("asking");
    let mut heard = String::new();
    while !heard.ends_with("\r\n\r\n") && !heard.ends_with("\n\n") {
        assert!(hears.read_line(&mut heard).expect("a line") > 0, "it heard: {heard}");
    }
    says.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("answering");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    drop(says);
    let _ = rogue.kill();
    hears.read_to_string(&mut heard).expect("the rest");
    let _ = rogue.wait();
    assert_eq!((status(&answer), error(&answer)), (503, Some("not-proven")), "{answer}");
    assert!(heard.starts_with("GET /.well-known/ekm-otp HTTP/1.1"), "{heard}");
    assert!(!heard.to_ascii_lowercase().contains("private") && heard.matches("HTTP/1.1").count() == 1, "{heard}");
}

#[test]
fn what_is_under_way_ends_before_a_stopped_sidecar_does() {
    let way = Way::new(&[], &[]);
    let port = way.sidecar.port;
    let mut slow = connect(port);
    let request = format!("POST /echo HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 10\r\n\r\n12345");
    slow.write_all(request.as_bytes()).expect("asking");
    until("it is under way", || !way.app.seen().is_empty());
    signal(way.sidecar.id(), "TERM");
    until("it drains", || way.sidecar.log().contains("stopping"));
    until("nobody new gets in", || TcpStream::connect(("127.0.0.1", port)).is_err());
    slow.write_all(b"67890").expect("the rest");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("the answer");
    assert!(status(&answer) == 200 && answer.contains("67890"), "{answer}");
    until("it has stopped", || way.sidecar.log().contains(": stopped"));
}

#[test]
fn a_rotated_key_in_the_profile_is_picked_up_and_a_mistake_changes_nothing() {
    let bench = Bench::new();
    bench.create_key();
    let app = App::start();
    let server = serve(&bench, &app, &[]);
    let profile = |kid: &str| {
        format!(
            "[profile.work]\norigins = [\"https://localhost:{}\"]\nkid = \"{kid}\"\nkey = \"client1.pem\"\nca = \"server.pem\"\n",
            server.port
        )
    };
    let file = bench.path("config.toml");
    write_private(&file, &profile("nobody"));
    let mut command = client();
    command.args(["proxy", "--admin", "127.0.0.1:0"]).current_dir(bench.swtpm.dir());
    command.env("EKM_OTP_CONFIG", &file).env("TPM2TOOLS_TCTI", bench.swtpm.tcti());
    // Neither a key nor an origin is named: those of the only profile are meant.
    let sidecar = Sidecar::of(&mut command);
    let get = || asked(sidecar.port, "GET /n/a", &[&format!("Host: localhost:{}", sidecar.port)]);
    assert_eq!(error(&get()), Some("refused"));
    write_private(&bench.path("next.toml"), &profile("client1"));
    fs::rename(bench.path("next.toml"), &file).expect("renaming");
    until("the key is taken over", || status(&get()) == 200);
    write_private(&file, "[profile.work]\nkid = 7\n");
    signal(sidecar.id(), "HUP");
    until("the mistake is told", || sidecar.log().contains("the old ones stay"));
    assert_eq!(status(&get()), 200);
    let metrics = asked(admin_port(&sidecar.log()), "GET /metrics", &[&format!("Host: localhost:{}", admin_port(&sidecar.log()))]);
    assert!(metrics.contains("failed_reloads_total") && !metrics.contains("failed_reloads_total 0"), "{metrics}");
}

/// A process whose standard error is kept.
struct Started {
    process: Child,
    log: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Started {
    fn of(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the sidecar");
        let lines = BufReader::new(process.stderr.take().expect("its log")).lines();
        let log = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let logged = std::sync::Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *logged.lock().expect("the log") += &format!("{line}\n");
            }
        });
        Self { process, log }
    }

    fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a service manager hears.
fn hears(socket: &UnixDatagram, line: &str) -> String {
    let (mut before, mut buffer) = (String::new(), [0; 4096]);
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        let Ok(length) = socket.recv(&mut buffer) else { break };
        let message = text(&buffer[..length]);
        if message.lines().any(|told| told == line) {
            return message;
        }
        before += &message;
    }
    panic!("{line:?} was not heard, but:\n{before}");
}

#[test]
fn a_service_manager_hands_a_socket_over_and_hears_how_it_goes() {
    let bench = Bench::new();
    bench.create_key();
    let app = App::start();
    let server = serve(&bench, &app, &[]);
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("it").port();
    let notify = bench.path("notify");
    let manager = UnixDatagram::bind(&notify).expect("a socket");
    manager.set_read_timeout(Some(SOON)).expect("a time");
    // The shell puts the socket where systemd does, from 3 on; what Rust opens is closed on exec, a copy is not.
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$0\" \"$@\"";
    command.args(["-c", script, common::CLIENT, "proxy", "--to", &format!("https://localhost:{}", server.port)]).args(KEY);
    command.env("NOTIFY_SOCKET", &notify).env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "http").env("WATCHDOG_USEC", "1500000");
    command.env("EKM_OTP_CONFIG", "/dev/null").env_remove("XDG_RUNTIME_DIR").env("TPM2TOOLS_TCTI", bench.swtpm.tcti());
    command.current_dir(bench.swtpm.dir()).stdin(std::os::fd::OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn().expect("the sidecar");
    let ready = hears(&manager, "READY=1");
    assert!(ready.contains(&format!("STATUS=Serving https://localhost:{}", server.port)), "{ready}");
    let answer = asked(port, "GET /n/a", &[&format!("Host: localhost:{port}")]);
    assert_eq!(status(&answer), 200, "{answer}");
    hears(&manager, "WATCHDOG=1");
    signal(process.id(), "HUP");
    hears(&manager, "RELOADING=1");
    hears(&manager, "READY=1");
    signal(process.id(), "TERM");
    hears(&manager, "STOPPING=1");
    assert_eq!(process.wait().expect("its end").code(), Some(0));
}

fn analyze(args: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run systemd-analyze ({e}): install the Debian package `systemd`"));
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn user_units_are_written_as_the_flags_say_and_are_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let install = |flags: &[&str]| {
        let mut command = client();
        command.args(["proxy", "--install-user-units"]).args(flags).env("XDG_CONFIG_HOME", folder.path()).current_dir(folder.path());
        command.stdin(Stdio::null()).output().expect("the client")
    };
    let output = install(&["--listen", "127.0.0.1:8080", "--to", "https://api.example.com", "-P", "my work 100%"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("systemctl --user enable --now ekm-otp-proxy.socket"), "{}", text(&output.stdout));
    let at = |name: &str| folder.path().join("systemd/user").join(name);
    let (service, socket) = (at("ekm-otp-proxy.service"), at("ekm-otp-proxy.socket"));
    let unit = fs::read_to_string(&service).expect("the unit");
    assert!(unit.contains("proxy --listen 127.0.0.1:8080 --to https://api.example.com -P \"my work 100%%\"\n"), "{unit}");
    assert!(fs::read_to_string(&socket).expect("the unit").contains("ListenStream=127.0.0.1:8080\n"));
    understood(&[&service, &socket]);
    assert!(install(&["--to", "https://api.example.com"]).status.success(), "its own are written anew");
    assert!(fs::read_to_string(&socket).expect("the unit").contains("ListenStream=%t/ekm-otp-proxy.sock\n"));
    fs::write(&service, "[Service]\n").expect("writing");
    assert_eq!(install(&["--to", "https://api.example.com"]).status.code(), Some(64));
}

#[test]
fn the_units_that_are_shipped_are_understood_and_leave_little_to_whoever_takes_it_over() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/systemd");
    let folder = tempfile::tempdir().expect("a folder");
    let unit = fs::read_to_string(units.join("ekm-otp-proxy.service")).expect("the unit");
    let at = folder.path().join("ekm-otp-proxy.service");
    assert!(unit.contains("ExecStart=/usr/bin/ekm-otp-client proxy"), "{unit}");
    fs::write(&at, unit.replace("/usr/bin/ekm-otp-client", common::CLIENT)).expect("writing");
    let socket = folder.path().join("ekm-otp-proxy.socket");
    fs::copy(units.join("ekm-otp-proxy.socket"), &socket).expect("copying");
    understood(&[&at, &socket]);
    let (is_enough, told) = analyze(&["security", "--offline=true", "--threshold=30", &at.display().to_string()]);
    assert!(is_enough, "{told}");
}

fn understood(units: &[&Path]) {
    let units: Vec<String> = units.iter().map(|unit| unit.display().to_string()).collect();
    let (_, told) = analyze(&[&["verify", "--man=no"][..], &units.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    // Known from 253 on.
    let complaints: Vec<&str> = told.lines().filter(|line| line.contains("ekm-otp-proxy") && !line.contains("notify-reload")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
