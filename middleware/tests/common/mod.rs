//! A real server on loopback and a client that can be told to misbehave. All secrets are test data.
#![allow(dead_code, reason = "each test file uses its part")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use ekm_otp_tower::protocol::field::{AuthenticationInfo, Credential};
use ekm_otp_tower::protocol::{Authority, Derivation, Ekm, Handshake, KeyId, Prk, Secret, ServerName, ServerNames, TlsFacts, TlsPolicy};
use ekm_otp_tower::{Authentication, EkmAcceptor, EkmListener, MemoryStore, RegisteredKey, SecretStore, VerifiedClient, serve_connection};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const KID: &str = "client1";
pub const MAX_HANDSHAKES: usize = 64;
pub const HOST: &str = "localhost";

pub fn secret_of(kid: &str) -> Secret {
    let mut bytes = vec![0x5a; 32];
    bytes[..kid.len()].copy_from_slice(kid.as_bytes());
    Secret::new(bytes).expect("32 bytes")
}

/// A self-signed certificate for every name that the tests use.
pub struct Pki {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Pki {
    pub fn new() -> Self {
        let names = [HOST, "second.test", "stranger.test", "127.0.0.1"].map(str::to_owned);
        let certified = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self {
            chain: vec![certified.cert.der().clone()],
            key: PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a private key"),
        }
    }

    pub fn server_config(&self, policy: &TlsPolicy) -> ServerConfig {
        ServerConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(policy.versions())
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("certificate and key")
    }

    pub fn client_config(&self, policy: &TlsPolicy, alpn: &[u8]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.chain[0].clone()).expect("a root");
        let mut config = ClientConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(policy.versions())
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }
}

pub struct TestServer {
    pub addr: SocketAddr,
    pub pki: Pki,
    pub store: Arc<MemoryStore>,
    pub policy: TlsPolicy,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(TlsPolicy::default(), |a| a, |a| a).await
    }

    pub async fn with(
        policy: TlsPolicy,
        authentication: impl FnOnce(Authentication) -> Authentication,
        acceptor: impl FnOnce(EkmAcceptor) -> EkmAcceptor,
    ) -> Self {
        let store = Arc::new(MemoryStore::new());
        for kid in [KID, "client2"] {
            store.add(RegisteredKey::new(KeyId::new(kid).expect("a key id"), format!("owner of {kid}"), secret_of(kid))).expect("a key");
        }
        let auth = authentication(authentication_of(Arc::clone(&store) as Arc<_>));
        Self::serving(policy, store, auth, acceptor).await
    }

    pub async fn serving(
        policy: TlsPolicy,
        store: Arc<MemoryStore>,
        authentication: Authentication,
        acceptor: impl FnOnce(EkmAcceptor) -> EkmAcceptor,
    ) -> Self {
        let pki = Pki::new();
        let acceptor = acceptor(EkmAcceptor::new(pki.server_config(&policy), policy, authentication));
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = tcp.local_addr().expect("an address");
        let mut listener = EkmListener::new(tcp, acceptor).max_handshakes(MAX_HANDSHAKES);
        let mut http = Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new());
        http.http2().enable_connect_protocol();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await;
                tokio::spawn(serve_connection(&http, stream, service_fn(app), std::future::pending()));
            }
        });
        Self { addr, pki, store, policy, task }
    }

    pub async fn connect(&self) -> Client {
        self.connect_as(HOST, b"http/1.1").await
    }

    /// A TLS connection whose bytes the test writes itself.
    pub async fn tls(&self, alpn: &[u8]) -> (TlsStream<TcpStream>, Handshake) {
        self.tls_over(TcpStream::connect(self.addr).await.expect("a TCP connection"), alpn).await
    }

    pub async fn tls_over(&self, tcp: TcpStream, alpn: &[u8]) -> (TlsStream<TcpStream>, Handshake) {
        let config = Arc::new(self.pki.client_config(&self.policy, alpn));
        let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
        let stream = TlsConnector::from(config).connect(name, tcp).await.expect("a TLS connection");
        let sni = ServerName::from_host(HOST).expect("a name");
        let handshake = Handshake::of_client(stream.get_ref().1, sni, &self.policy).expect("a handshake");
        (stream, handshake)
    }

    /// `host` is what the ClientHello names, an IP literal names none.
    pub async fn connect_as(&self, host: &str, alpn: &[u8]) -> Client {
        Client::connect(self.addr, self.pki.client_config(&self.policy, alpn), host, self.policy).await.expect("a TLS connection")
    }
}

/// The `Authorization` field for `kid`, made with the secret of `secret_of`.
pub fn credential(handshake: &Handshake, kid: &str, secret_of: &str) -> String {
    let kid = KeyId::new(kid).expect("a key id");
    let derivation = Derivation::new(&handshake.ekm, &kid, handshake.facts.server_name());
    let tag = self::secret_of(secret_of).mac(derivation.mac_input());
    Credential::write(&kid, &handshake.ekm.channel(), &derivation.finish(tag).otp()).to_string()
}

pub fn authentication_of(store: Arc<dyn SecretStore>) -> Authentication {
    let mut names = ServerNames::new();
    for host in [HOST, "second.test"] {
        names.allow_host(host).expect("a name");
    }
    names.allow_authority(ServerName::from_host(HOST).expect("a name"), Authority::parse("alias.test:8443").expect("an authority"));
    Authentication::new(store, names, "test").expect("a realm")
}

/// The application: says who came, and whether the credential reached it.
async fn app(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let client = request.extensions().get::<VerifiedClient>().expect("the layer lets nobody else pass");
    if request.headers().contains_key(header::UPGRADE) {
        // Reads in one task until its peer or its authenticator ends the stream; writes the first piece back from another.
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(hyper::upgrade::on(request).await.expect("an upgrade")));
            let mut piece = [0; 5];
            if reader.read_exact(&mut piece).await.is_ok() {
                tokio::spawn(async move {
                    writer.write_all(&piece).await.expect("writing");
                    std::future::pending::<()>().await;
                });
            }
            let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        });
        let upgrade = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "test");
        return Ok(upgrade.body(Full::default()).expect("a response"));
    }
    let text = format!("{} {} {}", client.kid(), client.client(), request.headers().contains_key(header::AUTHORIZATION));
    let mut response = Response::new(Full::from(text));
    if request.uri().path() == "/forbidden" {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response.headers_mut().insert("authentication-info", "proof=\"made-up-by-the-application\"".parse().expect("a value"));
    Ok(response)
}

enum Sender {
    H1(hyper::client::conn::http1::SendRequest<Empty<Bytes>>),
    H2(hyper::client::conn::http2::SendRequest<Empty<Bytes>>),
}

pub struct Client {
    pub ekm: Ekm,
    pub facts: TlsFacts,
    pub connection: tokio::task::JoinHandle<Result<(), hyper::Error>>,
    sender: Sender,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: hyper::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn proof(&self) -> AuthenticationInfo {
        AuthenticationInfo::read(self.headers.get_all("authentication-info").iter().map(|v| v.as_bytes()))
    }

    pub fn has_proof(&self) -> bool {
        !matches!(self.proof(), AuthenticationInfo::Absent)
    }

    pub fn challenge(&self) -> Option<&str> {
        self.headers.get(header::WWW_AUTHENTICATE).map(|v| v.to_str().expect("ASCII"))
    }
}

impl Client {
    pub async fn connect(addr: SocketAddr, config: ClientConfig, host: &str, policy: TlsPolicy) -> std::io::Result<Self> {
        Self::connect_with(addr, Arc::new(config), host, policy).await
    }

    pub async fn connect_with(addr: SocketAddr, config: Arc<ClientConfig>, host: &str, policy: TlsPolicy) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(addr).await?;
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).expect("a name");
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        let connection = stream.get_ref().1;
        let handshake = Handshake::of_client(connection, ServerName::from_host(host).expect("a name"), &policy).expect("a handshake");
        let io = if connection.alpn_protocol() == Some(b"h2") {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
            (Sender::H2(sender), tokio::spawn(connection))
        } else {
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
            (Sender::H1(sender), tokio::spawn(connection))
        };
        Ok(Self { ekm: handshake.ekm, facts: handshake.facts, sender: io.0, connection: io.1 })
    }

    pub fn keys(&self, kid: &str) -> Prk {
        self.keys_for(kid, self.facts.server_name())
    }

    pub fn keys_for(&self, kid: &str, server_name: &ServerName) -> Prk {
        let derivation = Derivation::new(&self.ekm, &KeyId::new(kid).expect("a key id"), server_name);
        let tag = secret_of(kid).mac(derivation.mac_input());
        derivation.finish(tag)
    }

    pub fn credential(&self, kid: &str) -> String {
        Credential::write(&KeyId::new(kid).expect("a key id"), &self.ekm.channel(), &self.keys(kid).otp()).to_string()
    }

    pub async fn get(&mut self, credential: &str) -> Answer {
        self.send(request("/", Some(credential))).await.expect("an answer")
    }

    pub async fn send(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, hyper::Error> {
        let (parts, body) = self.response(request).await?.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).expect("UTF-8");
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// Of a response whose body may not end.
    pub async fn status_of(&mut self, request: Request<Empty<Bytes>>) -> StatusCode {
        self.response(request).await.expect("an answer").status()
    }

    async fn response(&mut self, mut request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::H2(sender) => {
                *request.version_mut() = Version::HTTP_2;
                let host = request.headers_mut().remove(header::HOST).expect("a host");
                let path = request.uri().path().to_owned();
                *request.uri_mut() = format!("https://{}{path}", host.to_str().expect("ASCII")).parse().expect("a URI");
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

pub fn request(path: &str, credential: Option<&str>) -> Request<Empty<Bytes>> {
    let mut request = Request::get(path).header(header::HOST, HOST);
    if let Some(credential) = credential {
        request = request.header(header::AUTHORIZATION, credential);
    }
    request.body(Empty::new()).expect("a request")
}
