//! By which doors connections come, and what is told to those who stand at the wrong one: Unix sockets, load balancers, plain HTTP.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{HOST, KID, LIMITS, Pki, TestServer, tls_over};
use ekm_otp_tower::protocol::TlsPolicy;
use ekm_otp_tower::{AcceptError, ConnectionFacts, Connections, EkmAcceptor, EkmListener, Events, Limits};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const SOON: Duration = Duration::from_secs(30);

/// Who came, and who did not.
#[derive(Default)]
struct Visitors(Mutex<Vec<String>>);

impl Events for Visitors {
    fn handshake_finished(&self, connection: &ConnectionFacts<'_>, _: Duration) {
        self.0.lock().expect("a lock").push(format!("{}", connection.peer.expect("a peer")));
    }

    fn handshake_failed(&self, _: &ConnectionFacts<'_>, error: &AcceptError, _: Duration) {
        self.0.lock().expect("a lock").push(format!("no: {}", error.label()));
    }
}

impl Visitors {
    fn take_first(&self) -> Option<String> {
        let mut visitors = self.0.lock().expect("a lock");
        (!visitors.is_empty()).then(|| visitors.remove(0))
    }

    /// The next one that came.
    async fn next(&self) -> String {
        let waiting = async {
            loop {
                if let Some(first) = self.take_first() {
                    return first;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.expect("nobody came")
    }
}

/// A server to which 127.0.0.1 is a load balancer; and who came.
struct Balanced {
    addr: SocketAddr,
    visitors: Arc<Visitors>,
    pki: Pki,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Balanced {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Balanced {
    async fn start(limits: Limits, handshake_within: Duration) -> Self {
        let (pki, policy, visitors) = (Pki::new(), TlsPolicy::default(), Arc::new(Visitors::default()));
        let events = Arc::clone(&visitors);
        let authentication = common::authentication_of(common::store_of_two());
        let acceptor = EkmAcceptor::new(pki.server_config(&policy), policy, authentication);
        let acceptor = acceptor.events(events).handshake_within(handshake_within);
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = tcp.local_addr().expect("an address");
        let trusted: std::net::IpAddr = "127.0.0.1".parse().expect("an address");
        let listener = EkmListener::new(tcp, acceptor).among(Connections::new(limits));
        let listener = listener.proxy_protocol_from(move |peer| peer.address().is_some_and(|peer| peer.ip() == trusted));
        Self { addr, visitors, pki, task: common::serve(listener) }
    }

    /// The status of a request behind that header. Who came, is told.
    async fn status_behind(&self, header: &[u8]) -> String {
        let mut tcp = TcpStream::connect(self.addr).await.expect("TCP");
        tcp.write_all(header).await.expect("writing");
        self.status(tcp).await
    }

    async fn status<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) -> String {
        let policy = TlsPolicy::default();
        let (mut stream, handshake) = tls_over(io, self.pki.client_config(&policy, b"http/1.1"), HOST, &policy).await;
        status(&mut stream, &common::credential(&handshake, KID, KID)).await
    }
}

/// Sends that, and reads until the end.
async fn end_of(mut tcp: TcpStream, bytes: &[u8]) -> Vec<u8> {
    tcp.write_all(bytes).await.expect("writing");
    let mut all = Vec::new();
    let _ = tokio::time::timeout(SOON, tcp.read_to_end(&mut all)).await.expect("the connection goes on");
    all
}

async fn status<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut IO, credential: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {credential}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("writing");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    String::from_utf8(head[9..12].to_vec()).expect("ASCII")
}

fn v2(command: u8, family: u8, addresses: &[u8], fields: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len() + fields.len()).expect("a short header").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, family], &length, addresses, fields].concat()
}

fn v6(source: &str, port: u16) -> Vec<u8> {
    let source = source.parse::<std::net::Ipv6Addr>().expect("an address").octets();
    [source.as_slice(), &[0; 16], &port.to_be_bytes(), &[1, 187]].concat()
}

#[tokio::test]
async fn the_peer_behind_a_load_balancer_is_whom_its_header_names() {
    let server = Balanced::start(LIMITS, SOON).await;
    let fields = [&[0xe0, 1, 0][..], &[7; 256]].concat();
    let headers = [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n".to_vec(), "192.0.2.1:4660"),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n".to_vec(), "[2001:db8::1]:4711"),
        (v2(1, 0x11, &[192, 0, 2, 2, 10, 0, 0, 1, 0x12, 0x34, 1, 187], &[]), "192.0.2.2:4660"),
        (v2(1, 0x21, &v6("2001:db8::2", 99), &fields), "[2001:db8::2]:99"),
        // The balancer's own connections come from itself.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1:"),
        (v2(0, 0, &[], &[]), "127.0.0.1:"),
        (v2(0, 0x11, &[192, 0, 2, 2, 10, 0, 0, 1, 0x12, 0x34, 1, 187], &[]), "127.0.0.1:"),
    ];
    for (header, expected) in headers {
        assert_eq!(server.status_behind(&header).await, "200");
        let peer = server.visitors.next().await;
        assert!(peer.starts_with(expected), "{peer}, {header:?}");
    }
}

/// Writes a header and the first bytes of TLS at once.
struct Glued {
    tcp: TcpStream,
    before: Vec<u8>,
}

impl AsyncRead for Glued {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Glued {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if self.before.is_empty() {
            return std::pin::Pin::new(&mut self.tcp).poll_write(cx, bytes);
        }
        let all = [std::mem::take(&mut self.before).as_slice(), bytes].concat();
        assert_eq!(self.tcp.try_write(&all).expect("room for the first flight"), all.len());
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_or_glued_to_the_client_hello_loses_nothing() {
    let server = Balanced::start(LIMITS, SOON).await;
    let headers = [
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n".to_vec(),
        v2(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 1, 187], &[4, 0, 1, 0]),
    ];
    for header in headers {
        let mut tcp = TcpStream::connect(server.addr).await.expect("TCP");
        tcp.set_nodelay(true).expect("an option");
        for byte in &header {
            tcp.write_all(&[*byte]).await.expect("writing");
            // The server runs on this thread: it reads each alone.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.status(tcp).await, "200");
        assert_eq!(server.visitors.next().await, "192.0.2.1:4660");

        let tcp = TcpStream::connect(server.addr).await.expect("TCP");
        assert_eq!(server.status(Glued { tcp, before: header }).await, "200");
        assert_eq!(server.visitors.next().await, "192.0.2.1:4660");
    }
}

#[tokio::test]
async fn only_load_balancers_may_name_others_and_only_once() {
    let server = Balanced::start(LIMITS, SOON).await;
    let header = b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n";
    // Somebody else's is no TLS.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("another source");
    let stranger = socket.connect(server.addr).await.expect("TCP");
    assert_eq!(end_of(stranger, header).await.first(), Some(&0x15), "an alert");
    assert_eq!(server.visitors.next().await, "no: handshake");
    // A second one, which the balancer has passed on, neither.
    let twice = [header.as_slice(), b"PROXY TCP4 203.0.113.9 10.0.0.1 1 443\r\n"].concat();
    let tcp = TcpStream::connect(server.addr).await.expect("TCP");
    assert_eq!(end_of(tcp, &twice).await.first(), Some(&0x15), "an alert");
    assert_eq!(server.visitors.next().await, "no: handshake");
    // A balancer must send one, and a right one.
    for wrong in [b"\x16\x03\x01\x00\x10\x01\x00\x00\x0c\x03\x03\0\0\0".as_slice(), b"PROXY TCP4 nobody\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
        let tcp = TcpStream::connect(server.addr).await.expect("TCP");
        assert_eq!(end_of(tcp, wrong).await, b"");
        assert_eq!(server.visitors.next().await, "no: proxy_header");
    }
    // Neither endless nor announced as longer than it may be.
    for long in [[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(), v2(1, 0x11, &[0; 12], &[0; 5000])] {
        let tcp = TcpStream::connect(server.addr).await.expect("TCP");
        assert_eq!(end_of(tcp, &long).await, b"");
        assert_eq!(server.visitors.next().await, "no: proxy_header");
    }
}

#[tokio::test]
async fn a_header_that_does_not_end_ends_with_the_handshakes_deadline() {
    let server = Balanced::start(LIMITS, Duration::from_millis(300)).await;
    let tcp = TcpStream::connect(server.addr).await.expect("TCP");
    assert_eq!(end_of(tcp, b"PROXY TCP4 192.0.2.1").await, b"");
    assert_eq!(server.visitors.next().await, "no: deadline");
}

#[tokio::test]
async fn limits_per_source_count_whom_the_header_names() {
    // Four handshakes of a source at a time, and one verified connection.
    let server = Balanced::start(Limits { per_source: 1, handshakes: 16, ..LIMITS }, SOON).await;
    let header = |last: u8| format!("PROXY TCP4 192.0.2.{last} 10.0.0.1 4660 443\r\n").into_bytes();
    // The balancer itself may have many that are not finished: they are of many sources.
    let mut unfinished = Vec::new();
    for last in 1..=8 {
        let mut tcp = TcpStream::connect(server.addr).await.expect("TCP");
        tcp.write_all(&header(last)).await.expect("writing");
        unfinished.push(tcp);
    }
    for _ in 0..3 {
        let mut tcp = TcpStream::connect(server.addr).await.expect("TCP");
        tcp.write_all(&header(1)).await.expect("writing");
        unfinished.push(tcp);
    }
    let fifth = TcpStream::connect(server.addr).await.expect("TCP");
    assert_eq!(end_of(fifth, &header(1)).await, b"");
    assert_eq!(server.visitors.next().await, "no: source_is_full");
    assert_eq!(server.status_behind(&header(9)).await, "200");
    drop(unfinished);

    let (policy, mut held) = (TlsPolicy::default(), Vec::new());
    for (last, expected) in [(20, "200"), (20, "429"), (21, "200")] {
        let mut tcp = TcpStream::connect(server.addr).await.expect("TCP");
        tcp.write_all(&header(last)).await.expect("writing");
        let (mut stream, handshake) = tls_over(tcp, server.pki.client_config(&policy, b"http/1.1"), HOST, &policy).await;
        assert_eq!(status(&mut stream, &common::credential(&handshake, KID, KID)).await, expected, "{last}");
        held.push(stream);
    }
}

#[tokio::test]
async fn plain_http_to_the_tls_port_is_told_so_in_plain_text_and_other_bytes_get_an_alert() {
    let server = TestServer::start().await;
    for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST /a HTTP/1.0\r\n\r\n"] {
        let tcp = TcpStream::connect(server.addr).await.expect("TCP");
        let answer = String::from_utf8(end_of_writing(tcp, request.as_bytes()).await).expect("plain text");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n") && answer.contains("plain HTTP was sent to an HTTPS port"), "{answer}");
    }
    // Split where it hurts, and still being uploaded when the answer is there.
    let mut tcp = TcpStream::connect(server.addr).await.expect("TCP");
    tcp.set_nodelay(true).expect("an option");
    for part in [b"P".as_slice(), b"O", b"ST / HTTP/1.1\r\nContent-Length: 40000\r\n\r\n"] {
        tcp.write_all(part).await.expect("writing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = String::from_utf8(end_of_writing(tcp, &[b'x'; 40_000]).await).expect("plain text");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");

    for other in [b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(), b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n", &[0; 64]] {
        let tcp = TcpStream::connect(server.addr).await.expect("TCP");
        assert_eq!(end_of(tcp, other).await.first(), Some(&0x15), "an alert");
    }
    assert_eq!(server.connect().await.get("").await.status, hyper::StatusCode::UNAUTHORIZED, "others are served");
}

/// The same, and tells the server that nothing more follows.
async fn end_of_writing(mut tcp: TcpStream, bytes: &[u8]) -> Vec<u8> {
    tcp.write_all(bytes).await.expect("writing");
    tcp.shutdown().await.expect("shutting down");
    let mut all = Vec::new();
    tokio::time::timeout(SOON, tcp.read_to_end(&mut all)).await.expect("the connection goes on").expect("an answer, not a reset");
    all
}

#[tokio::test]
async fn a_unix_socket_is_a_door_as_good_as_tcp() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tls.sock");
    let (pki, policy, visitors) = (Pki::new(), TlsPolicy::default(), Arc::new(Visitors::default()));
    let events = Arc::clone(&visitors);
    let authentication = common::authentication_of(common::store_of_two());
    let acceptor = EkmAcceptor::new(pki.server_config(&policy), policy, authentication).events(events);
    let limits = Connections::new(Limits { per_source: 1, ..LIMITS });
    let task = common::serve(EkmListener::new(UnixListener::bind(&path).expect("a socket"), acceptor).among(limits));
    let mut held = Vec::new();
    // Limits are per user.
    for expected in ["200", "429"] {
        let io = UnixStream::connect(&path).await.expect("a connection");
        let (mut stream, handshake) = tls_over(io, pki.client_config(&policy, b"http/1.1"), HOST, &policy).await;
        assert_eq!(status(&mut stream, &common::credential(&handshake, KID, KID)).await, expected);
        assert!(visitors.next().await.starts_with("unix:"));
        held.push(stream);
    }
    task.abort();
}
