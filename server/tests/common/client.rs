//! A client of the protocol, in pieces that a test can use otherwise than an honest one would.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ekm_otp::field::Credential;
use ekm_otp::{Derivation, Handshake, KeyId, Secret, ServerName, TlsPolicy};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode, Version, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pki::Pki;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A key as the registry and a client hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub kid: String,
    /// base64
    pub secret: String,
}

impl Key {
    /// Test data: each number gives another one.
    pub fn numbered(number: usize) -> Self {
        let secret = Secret::new(format!("test data, used nowhere else {number:06}").into_bytes()).expect("a secret");
        Self { kid: format!("client{number}"), secret: secret.encode_base64().to_string() }
    }

    /// What `key add --json` and `key rotate --json` tell.
    pub fn told(json: &str) -> Self {
        let told: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let text = |name: &str| told[name].as_str().unwrap_or_else(|| panic!("no {name}: {told}")).to_owned();
        Self { kid: text("kid"), secret: text("secret") }
    }

    /// Its entry in a registry file (TOML).
    pub fn entry(&self) -> String {
        format!("[\"{}\"]\nsecret = \"{}\"\nclient = \"the owner of {}\"\n", self.kid, self.secret, self.kid)
    }

    /// The value of `Authorization` on the connection of this handshake.
    pub fn credential(&self, handshake: &Handshake) -> String {
        let kid = KeyId::new(&self.kid).expect("a key id");
        let secret = Secret::new(Secret::decode_base64(&self.secret).expect("base64")).expect("a secret");
        let derivation = Derivation::new(&handshake.ekm, &kid, handshake.facts.server_name());
        let tag = secret.mac(derivation.mac_input());
        Credential::write(&kid, &handshake.ekm.channel(), &derivation.finish(tag).otp()).to_string()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

/// Where to connect to, whom to trust, and from which address.
#[derive(Clone)]
pub struct Dialler {
    pub address: SocketAddr,
    pub host: String,
    pub source: Ipv4Addr,
    one: Arc<ClientConfig>,
    two: Arc<ClientConfig>,
}

impl Dialler {
    pub fn new(pki: &Pki, address: SocketAddr, host: &str) -> Self {
        let (one, two) = (pki.client(b"http/1.1"), pki.client(b"h2"));
        Self { address, host: host.to_owned(), source: Ipv4Addr::LOCALHOST, one, two }
    }

    /// The same over a key exchange that no quantum computer opens.
    pub fn post_quantum(self, pki: &Pki) -> Self {
        let exchange = rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;
        let (one, two) = (pki.client_by(b"http/1.1", exchange), pki.client_by(b"h2", exchange));
        Self { one, two, ..self }
    }

    /// The same from another address of 127.0.0.0/8.
    pub fn from(&self, source: Ipv4Addr) -> Self {
        Self { source, ..self.clone() }
    }

    /// The same to another server.
    pub fn to(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// The same to another name.
    pub fn at(&self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self.clone() }
    }

    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(self.source), 0))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A TLS connection whose bytes the test writes itself, and what credentials are made of on it.
    pub async fn tls(&self, http: Http) -> io::Result<(TlsStream<TcpStream>, Handshake)> {
        let config = if http == Http::One { &self.one } else { &self.two };
        let name = rustls::pki_types::ServerName::try_from(self.host.clone()).expect("a name");
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, self.tcp().await?).await?;
        let name = ServerName::from_host(&self.host).expect("a name");
        let handshake = Handshake::of_client(stream.get_ref().1, name, &TlsPolicy::default()).map_err(io::Error::other)?;
        Ok((stream, handshake))
    }

    /// A connection for requests of this key.
    pub async fn open(&self, http: Http, key: &Key) -> io::Result<Connection> {
        let (stream, handshake) = self.tls(http).await?;
        let credential = key.credential(&handshake);
        let io = TokioIo::new(stream);
        let host = format!("{}:{}", self.host, self.address.port());
        let (sender, ended) = match http {
            Http::One => {
                let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
                (Sender::One(sender), tokio::spawn(connection.with_upgrades()))
            }
            Http::Two => {
                let mut http = http2::Builder::new(TokioExecutor::new());
                let (sender, connection) = http.timer(TokioTimer::new()).handshake(io).await.map_err(io::Error::other)?;
                (Sender::Two(sender), tokio::spawn(connection))
            }
        };
        Ok(Connection { ended, credential, host, sender })
    }
}

/// A connection on which a key's requests are sent.
pub struct Connection {
    /// Ends when the connection does.
    pub ended: JoinHandle<hyper::Result<()>>,
    pub credential: String,
    host: String,
    sender: Sender,
}

enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

impl Connection {
    /// A request of this key, with further fields to be added. An HTTP/2 one is given its scheme and authority when it is sent.
    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header(header::HOST, &self.host).header(header::AUTHORIZATION, &self.credential)
    }

    pub async fn get(&mut self, path: &str) -> hyper::Result<(StatusCode, Bytes)> {
        let response = self.send(self.request("GET", path).body(empty()).expect("a request")).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let answer = self.sending(request).await?;
        answer.await
    }

    /// Sends it as soon as the connection takes it; what is returned waits for the answer, while an HTTP/2 connection takes further ones.
    pub async fn sending(
        &mut self,
        mut request: Request<Body>,
    ) -> hyper::Result<impl Future<Output = hyper::Result<Response<Incoming>>> + Send + 'static + use<>> {
        Ok(match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await?;
                futures_util::future::Either::Left(sender.send_request(request))
            }
            Sender::Two(sender) => {
                request.headers_mut().remove(header::HOST);
                let path = request.uri().path_and_query().expect("a path").clone();
                *request.uri_mut() = format!("https://{}{path}", self.host).parse().expect("a URI");
                *request.version_mut() = Version::HTTP_2;
                sender.ready().await?;
                futures_util::future::Either::Right(sender.send_request(request))
            }
        })
    }

    /// Whether the server still keeps it open, as far as is known here.
    pub fn is_open(&self) -> bool {
        !self.ended.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ended.abort();
    }
}
