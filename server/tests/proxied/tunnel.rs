//! Tunnels through the server, and targets at their other end.

use std::io;
use std::pin::Pin;

use ekm_otp_relay::framed::Framed;
use http_body_util::{BodyExt as _, Empty};
use hyper::ext::Protocol;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Body, Connection, Server, soon};

pub const PATH: &str = "/.well-known/ekm-otp/tcp";

pub trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A client's end of a tunnel.
pub type Tunnel = Pin<Box<dyn Stream>>;

/// What a server answered instead: status, header section without the date, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub head: Vec<String>,
    pub body: String,
}

impl Refused {
    pub fn has(&self, field: &str) -> bool {
        self.head.iter().any(|line| line.starts_with(&format!("{field}: ")))
    }
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn without_date<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    lines.filter(|line| !line.starts_with("date: ")).map(str::to_owned).collect()
}

/// By upgrade, on a connection of its own. `host/port`.
pub async fn by_upgrade(server: &Server, kid: &str, target: &str) -> Result<Tunnel, Refused> {
    let mut connection = server.connect(kid, false).await;
    let authorization = connection.otp.clone();
    let head = format!("GET {PATH}/{target} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: ekm-otp-tcp\r\nAuthorization: {authorization}\r\n");
    connection.send(&head, b"").await;
    let answer = connection.answer().await;
    if answer.status != 101 {
        return Err(Refused { status: answer.status, head: without_date(answer.head.lines().skip(1)), body: answer.text() });
    }
    assert_eq!(answer.field("upgrade"), Some("ekm-otp-tcp"), "{answer:?}");
    assert!(answer.field("authentication-info").is_some(), "the 101 carries the proof: {answer:?}");
    Ok(Box::pin(Framed::new(connection.tls)))
}

/// A connection on HTTP/2 that carries many.
pub struct Many {
    sender: hyper::client::conn::http2::SendRequest<Body>,
    otp: String,
    authority: String,
}

impl Many {
    pub async fn on(connection: Connection) -> Self {
        let (mut sender, otp, authority) = connection.http2().await;
        // The server's settings, which allow extended CONNECT, come before its first answer.
        let request = Request::get(format!("https://{authority}/.well-known/ekm-otp"))
            .header("authorization", &otp)
            .body(empty())
            .expect("a request");
        assert_eq!(soon("an answer", sender.send_request(request)).await.expect("an answer").status(), 204);
        Self { sender, otp, authority }
    }

    pub async fn ask(&mut self, method: Method, path: &str, protocol: Option<&'static str>) -> Response<hyper::body::Incoming> {
        let uri = format!("https://{}{path}", self.authority);
        let mut request = Request::builder().method(method).uri(uri).header("authorization", &self.otp);
        if let Some(protocol) = protocol {
            request = request.extension(Protocol::from_static(protocol));
        }
        soon("an answer", self.sender.send_request(request.body(empty()).expect("a request"))).await.expect("an answer")
    }

    /// By extended CONNECT. `host/port`.
    pub async fn open(&mut self, target: &str) -> Result<Tunnel, Refused> {
        let mut answer = self.ask(Method::CONNECT, &format!("{PATH}/{target}"), Some("ekm-otp-tcp")).await;
        if answer.status() != 200 {
            let fields: Vec<_> =
                answer.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
            let status = answer.status().as_u16();
            let body = soon("the body", answer.into_body().collect()).await.expect("the body").to_bytes();
            let head = without_date(fields.iter().map(String::as_str));
            return Err(Refused { status, head, body: String::from_utf8(body.to_vec()).expect("text") });
        }
        let stream = soon("a stream", hyper::upgrade::on(&mut answer)).await.expect("a stream");
        Ok(Box::pin(Framed::new(TokioIo::new(stream))))
    }
}

/// Either way, on a connection of its own.
pub async fn open(server: &Server, kid: &str, target: &str, is_http2: bool) -> Result<Tunnel, Refused> {
    if is_http2 { Many::on(server.connect(kid, true).await).await.open(target).await } else { by_upgrade(server, kid, target).await }
}

/// The error of what must not open.
pub fn refused(opened: Result<Tunnel, Refused>) -> Refused {
    opened.err().expect("no tunnel")
}

/// What is sent there comes back.
pub async fn speaks(tunnel: &mut Tunnel) {
    for text in ["hello".to_owned(), "x".repeat(300_000), "!".to_owned()] {
        let (mut reader, mut writer) = tokio::io::split(&mut *tunnel);
        let mut back = vec![0; text.len()];
        let write = async {
            writer.write_all(text.as_bytes()).await.expect("writing");
            writer.flush().await.expect("writing");
        };
        soon("what was sent", async { tokio::join!(write, reader.read_exact(&mut back)).1 }).await.expect("what was sent");
        assert!(back == text.as_bytes());
    }
}

/// Reads until the end. An error: it broke.
pub async fn rest(tunnel: &mut Tunnel) -> io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    soon("the end", tunnel.read_to_end(&mut rest)).await.map(|_| rest)
}

/// A target on a free port that does this with each connection. Its `127.0.0.1/PORT`, `127.0.0.1:PORT`.
pub async fn target<F: Future<Output = ()> + Send + 'static>(serve: fn(TcpStream) -> F) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    (format!("127.0.0.1/{port}"), format!("127.0.0.1:{port}"))
}

pub async fn echo(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}

/// Listens to the end, then says what it heard.
pub async fn answers_at_the_end(mut stream: TcpStream) {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.expect("all of it");
    stream.write_all(&[b"heard ", &*heard].concat()).await.expect("writing");
}

/// Resets the connection in the middle of what it says.
pub async fn resets(mut stream: TcpStream) {
    let _ = stream.read_u8().await;
    stream.write_all(b"half of").await.expect("writing");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).expect("linger");
}

/// Says nothing.
pub async fn is_silent(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new()).await;
}
