//! A real server on loopback and a client that can be told to misbehave. All secrets are test data.
#![allow(dead_code, reason = "each test file uses its part")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(feature = "jose")]
use ekm_otp_tower::protocol::Channel;
#[cfg(feature = "jose")]
use ekm_otp_tower::protocol::field::CredentialKind;
use ekm_otp_tower::protocol::field::{AuthenticationInfo, Credential};
#[cfg(feature = "jose")]
use ekm_otp_tower::protocol::jose::{ExtraClaims, SignedRequest, TokenSigner};
use ekm_otp_tower::protocol::{Authority, Derivation, Ekm, Handshake, KeyId, Prk, Secret, ServerName, ServerNames, TlsFacts, TlsPolicy};
use ekm_otp_tower::{
    Authentication, ConnectionAuthenticator, Connections, EkmAcceptor, EkmListener, EkmStream, Http, Limits, Listen, MemoryStore,
    RegisteredKey, SecretStore, StoreUnavailable, Unverified, VerifiedClient, serve_connection,
};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::{Service as _, service_fn};
use hyper::{Request, Response, StatusCode, Version, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_layer::Layer as _;

pub const KID: &str = "client1";
pub const LIMITS: Limits = Limits { connections: 1_000, handshakes: 64, per_source: 900, failures: 0 };
pub const HOST: &str = "localhost";
/// The key id of what stands in for those that nobody registered.
pub const UNKNOWN: &str = "unknown";
/// [`secret_of`] it is 32 zero bytes: the secret of what stands in.
pub const DUMMY: &str = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

pub fn secret_of(kid: &str) -> Secret {
    let mut bytes = vec![0x5a; 32];
    bytes[..kid.len()].copy_from_slice(kid.as_bytes());
    Secret::new(bytes).expect("32 bytes")
}

/// A self-signed certificate for every name that the tests use.
pub struct Pki {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Both in PEM.
    pem: [String; 2],
}

impl Pki {
    pub fn new() -> Self {
        let names = [HOST, "second.test", "stranger.test", "127.0.0.1"].map(str::to_owned);
        let certified = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self {
            chain: vec![certified.cert.der().clone()],
            key: PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a private key"),
            pem: [certified.cert.pem(), certified.signing_key.serialize_pem()],
        }
    }

    /// Writes certificate and key into a folder. Their paths.
    pub fn write(&self, folder: &std::path::Path) -> [std::path::PathBuf; 2] {
        let paths = ["chain.pem", "key.pem"].map(|name| folder.join(name));
        for (path, pem) in paths.iter().zip(&self.pem) {
            std::fs::write(path, pem).expect("writing");
        }
        paths
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

pub fn store_of_two() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    for kid in [KID, "client2"] {
        store.add(RegisteredKey::new(KeyId::new(kid).expect("a key id"), format!("owner of {kid}"), secret_of(kid))).expect("a key");
    }
    store
}

pub struct TestServer {
    pub addr: SocketAddr,
    pub pki: Pki,
    pub store: Arc<MemoryStore>,
    pub policy: TlsPolicy,
    pub connections: Connections,
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
        let store = store_of_two();
        let auth = authentication(authentication_of(Arc::clone(&store) as Arc<_>));
        Self::serving(policy, store, auth, acceptor, LIMITS).await
    }

    pub async fn within(limits: Limits) -> Self {
        let store = store_of_two();
        let auth = authentication_of(Arc::clone(&store) as Arc<_>);
        Self::serving(TlsPolicy::default(), store, auth, |a| a, limits).await
    }

    pub async fn serving(
        policy: TlsPolicy,
        store: Arc<MemoryStore>,
        authentication: Authentication,
        acceptor: impl FnOnce(EkmAcceptor) -> EkmAcceptor,
        limits: Limits,
    ) -> Self {
        let pki = Pki::new();
        let acceptor = acceptor(EkmAcceptor::new(pki.server_config(&policy), policy, authentication));
        Self::accepting(pki, policy, store, acceptor, Connections::new(limits)).await
    }

    pub async fn accepting(pki: Pki, policy: TlsPolicy, store: Arc<MemoryStore>, acceptor: EkmAcceptor, connections: Connections) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = tcp.local_addr().expect("an address");
        let listener = EkmListener::new(tcp, acceptor).among(connections.clone());
        let task = serve(listener);
        Self { addr, pki, store, policy, connections, task }
    }

    pub async fn connect(&self) -> Client {
        self.connect_as(HOST, b"http/1.1").await
    }

    /// A TLS connection whose bytes the test writes itself.
    pub async fn tls(&self, alpn: &[u8]) -> (TlsStream<TcpStream>, Handshake) {
        self.tls_as(HOST, alpn).await
    }

    pub async fn tls_as(&self, host: &'static str, alpn: &[u8]) -> (TlsStream<TcpStream>, Handshake) {
        let tcp = TcpStream::connect(self.addr).await.expect("a TCP connection");
        tls_over(tcp, self.pki.client_config(&self.policy, alpn), host, &self.policy).await
    }

    pub async fn tls_over(&self, tcp: TcpStream, alpn: &[u8]) -> (TlsStream<TcpStream>, Handshake) {
        tls_over(tcp, self.pki.client_config(&self.policy, alpn), HOST, &self.policy).await
    }

    /// `host` is what the ClientHello names, an IP literal names none.
    pub async fn connect_as(&self, host: &str, alpn: &[u8]) -> Client {
        Client::connect(self.addr, self.pki.client_config(&self.policy, alpn), host, self.policy).await.expect("a TLS connection")
    }
}

/// Serves the application to whoever comes.
pub fn serve<L: Listen>(listener: EkmListener<L>) -> tokio::task::JoinHandle<()> {
    let mut http = Http::new(TokioExecutor::new());
    http.http2().enable_connect_protocol();
    tokio::spawn(async move {
        loop {
            let (handshaking, _) = listener.arrival().await;
            tokio::spawn(serve_connection(&http, handshaking, service_fn(app)));
        }
    })
}

pub async fn tls_over<IO>(io: IO, config: ClientConfig, host: &'static str, policy: &TlsPolicy) -> (TlsStream<IO>, Handshake)
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let name = rustls::pki_types::ServerName::try_from(host).expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, io).await.expect("a TLS connection");
    let sni = ServerName::from_host(host).expect("a name");
    let handshake = Handshake::of_client(stream.get_ref().1, sni, policy).expect("a handshake");
    (stream, handshake)
}

/// A connection that nothing serves: a test puts requests to its authenticator itself.
pub struct Unserved {
    pub server: EkmStream<DuplexStream>,
    pub client: TlsStream<DuplexStream>,
    pub handshake: Handshake,
}

impl Unserved {
    pub async fn accept(authentication: Authentication) -> Self {
        let (policy, pki) = (TlsPolicy::default(), Pki::new());
        let acceptor = EkmAcceptor::new(pki.server_config(&policy), policy, authentication);
        let (near, far) = tokio::io::duplex(1 << 16);
        let client = tls_over(near, pki.client_config(&policy, b"http/1.1"), HOST, &policy);
        let ((client, handshake), server) = tokio::join!(client, acceptor.accept(far));
        Self { server: server.expect("a handshake"), client, handshake }
    }

    pub fn answer(&self, request: Request<Empty<Bytes>>) -> Response<Full<Bytes>> {
        answer(self.server.authenticator(), request)
    }

    /// Each in a thread of its own, all at once.
    pub fn answers(&self, requests: Vec<Request<Empty<Bytes>>>) -> Vec<StatusCode> {
        let all_are_there = std::sync::Barrier::new(requests.len());
        let answer = |request| {
            all_are_there.wait();
            self.answer(request).status()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = requests.into_iter().map(|request| scope.spawn(move || answer(request))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        })
    }
}

/// What the layer answers, before an application that shows in the extensions what claims it was given.
fn answer(authenticator: &ConnectionAuthenticator, request: Request<Empty<Bytes>>) -> Response<Full<Bytes>> {
    let app = service_fn(|request: Request<Empty<Bytes>>| async move {
        request.extensions().get::<VerifiedClient>().expect("the layer lets nobody else pass");
        #[cfg_attr(not(feature = "jose"), allow(unused_mut))]
        let mut response = Response::new(Full::<Bytes>::default());
        #[cfg(feature = "jose")]
        if let Some(claims) = request.extensions().get::<ekm_otp_tower::VerifiedClaims>() {
            response.extensions_mut().insert(claims.clone());
        }
        Ok::<_, Infallible>(response)
    });
    let answer = authenticator.layer().layer(app).call(request).now_or_never();
    answer.expect("nothing is waited for").expect("infallible")
}

/// A registry that is down.
pub struct Down;

impl SecretStore for Down {
    fn get(&self, _: &KeyId) -> Result<Option<Arc<RegisteredKey>>, StoreUnavailable> {
        Err(StoreUnavailable("it is down".to_owned()))
    }
}

/// Sends one request with these fields, written by hand, and reads the answer's head, without its date, and its body.
pub async fn exchange(stream: &mut TlsStream<TcpStream>, fields: &[(&str, &[u8])]) -> (String, String) {
    ask(stream, "GET / HTTP/1.1", fields).await
}

/// The same with another request line.
pub async fn ask(stream: &mut TlsStream<TcpStream>, line: &str, fields: &[(&str, &[u8])]) -> (String, String) {
    let mut bytes = format!("{line}\r\nHost: localhost\r\n").into_bytes();
    for (name, value) in fields {
        bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    stream.write_all(&bytes).await.expect("writing");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    let answer = String::from_utf8(answer).expect("ASCII");
    let length =
        answer.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("the body");
    let head = answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
    (head, String::from_utf8(body).expect("UTF-8"))
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
pub async fn app(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let shown = ["authorization", "apikey", "client"].iter().any(|name| request.headers().contains_key(*name));
    if let Some(unverified) = request.extensions().get::<Unverified>() {
        assert!(request.extensions().get::<VerifiedClient>().is_none());
        let peer = unverified.connection().peer().expect("the peer").ip();
        return Ok(Response::new(Full::from(format!("nobody {peer} {shown}"))));
    }
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
    let text = format!("{} {} {shown}", client.kid(), client.client());
    #[cfg(feature = "jose")]
    let text = match request.extensions().get::<ekm_otp_tower::VerifiedClaims>() {
        None => text,
        Some(claims) => format!("{text} {} n={:?} {}", claims.kind(), claims.n(), serde_json::Value::from(claims.extra().clone())),
    };
    let mut response = Response::new(Full::from(text));
    if request.uri().path() == "/forbidden" {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response.headers_mut().insert("authentication-info", "proof=\"made-up-by-the-application\"".parse().expect("a value"));
    Ok(response)
}

/// Makes the tokens of one connection, as well or as badly as a test wants.
#[cfg(feature = "jose")]
pub struct Signer {
    pub kid: KeyId,
    pub channel: Channel,
    signer: TokenSigner,
}

#[cfg(feature = "jose")]
impl Signer {
    fn new(prk: Prk, kid: &str, channel: Channel, kind: CredentialKind) -> Self {
        let kid = KeyId::new(kid).expect("a key id");
        let signer = if kind == CredentialKind::Jws { prk.jws_signer(&kid) } else { prk.jwe_signer(&kid) };
        Self { kid, channel, signer }
    }

    /// For a connection whose bytes the test writes itself, with the secret of `secret_of`.
    pub fn of(handshake: &Handshake, kid: &str, secret_of: &str, kind: CredentialKind) -> Self {
        let derivation = Derivation::new(&handshake.ekm, &KeyId::new(kid).expect("a key id"), handshake.facts.server_name());
        let tag = self::secret_of(secret_of).mac(derivation.mac_input());
        Self::new(derivation.finish(tag), kid, handshake.ekm.channel(), kind)
    }

    /// For `GET /` on [`HOST`], now, with this number.
    pub fn sign(&self, n: u64) -> String {
        self.sign_with(n, "GET", "/", &format!("https://{HOST}"), 0, &ExtraClaims::default())
    }

    /// `age` is how many seconds ago the token was made.
    pub fn sign_with(&self, n: u64, method: &str, target: &str, audience: &str, age: i64, extra: &ExtraClaims) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        let token =
            self.signer.sign(&SignedRequest { audience, method, target }, n, now.saturating_add_signed(-age), extra).expect("a token");
        Credential::write_token(&self.kid, &self.channel, &token).expect("a short token").to_string()
    }
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

    /// The keys of `kid` on this connection, to sign requests with.
    #[cfg(feature = "jose")]
    pub fn signer(&self, kid: &str, kind: CredentialKind) -> Signer {
        Signer::new(self.keys(kid), kid, self.ekm.channel(), kind)
    }

    /// Many requests at once, over HTTP/2.
    pub fn sender(&self) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>> {
        match &self.sender {
            Sender::H2(sender) => sender.clone(),
            Sender::H1(_) => panic!("HTTP/1.1 takes one request at a time"),
        }
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
                let path = request.uri().path_and_query().expect("a path").to_string();
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
