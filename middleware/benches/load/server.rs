//! The servers that this program is itself: one mode, one thread, one small answer.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use constant_time_eq::constant_time_eq;
use ekm_otp_tower::protocol::ServerNames;
use ekm_otp_tower::protocol::field::CredentialKind;
use ekm_otp_tower::{Authentication, EkmAcceptor, EkmListener, Http, MemoryStore, RegisteredKey, serve_connection};
use futures_util::future::Either;
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::AnyError;
use crate::mode::{self, HOST, Server};
use crate::pki::{self, POLICY};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// Serves until it is killed.
pub async fn run(server: Server, addr: SocketAddr, folder: &Path, upstream: Option<SocketAddr>) -> Result<(), AnyError> {
    let tls = pki::server_config(folder, server.wants_certificates())?;
    let tcp = TcpListener::bind(addr).await?;
    // As a task: the future of `block_on` itself is woken by a system call, and modes wake it unequally often.
    let serving = match server {
        Server::Bare | Server::BareMtls => tokio::spawn(serve_bare(tcp, tls, service_fn(answer))),
        Server::BareProxy { .. } => tokio::spawn(serve_bare(tcp, tls, HandOn::new(upstream.ok_or("a proxy needs an upstream")?))),
        Server::Upstream => tokio::spawn(serve_plain(tcp)),
        Server::Usual => tokio::spawn(serve_usual(tcp, tls, service_fn(answer))),
        Server::Bearer => tokio::spawn(serve_usual(tcp, tls, Bearer::new(service_fn(answer)))),
        Server::Layer => tokio::spawn(serve_layer(tcp, tls)),
        Server::Binary(_) | Server::Nginx { .. } | Server::BinaryProxy(_) | Server::NginxProxy { .. } => {
            return Err("this server is a program of its own".into());
        }
    };
    serving.await?
}

/// The application. Its answer is that of the server's binary, byte for byte.
fn answer<B>(_: Request<B>) -> Ready<Answer> {
    let mut answer = Response::new(Full::from("ok\n"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    ready(Ok(answer))
}

async fn serve_plain(tcp: TcpListener) -> Result<(), AnyError> {
    loop {
        let (stream, _): (TcpStream, _) = tcp.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn serve_bare<S, B>(tcp: TcpListener, tls: ServerConfig, service: S) -> Result<(), AnyError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<AnyError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<AnyError>,
{
    let tls = TlsAcceptor::from(Arc::new(tls));
    loop {
        let (stream, _) = tcp.accept().await?;
        let (tls, service) = (tls.clone(), service.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let stream = tls.accept(stream).await?;
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
            Ok::<_, AnyError>(())
        });
    }
}

async fn serve_usual<S>(tcp: TcpListener, tls: ServerConfig, service: S) -> Result<(), AnyError>
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let tls = TlsAcceptor::from(Arc::new(tls));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    loop {
        let (stream, _) = tcp.accept().await?;
        let (tls, http, service) = (tls.clone(), http.clone(), service.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let stream = tls.accept(stream).await?;
            http.serve_connection_with_upgrades(TokioIo::new(stream), service).await
        });
    }
}

/// This crate as `examples/hyper.rs` uses it.
async fn serve_layer(tcp: TcpListener, tls: ServerConfig) -> Result<(), AnyError> {
    let store = MemoryStore::new();
    store.add(RegisteredKey::new(mode::kid()?, "the client", mode::secret()?))?;
    let mut names = ServerNames::new();
    names.allow_host(HOST)?;
    let authentication = Authentication::new(Arc::new(store), names, "load")?.kinds(CredentialKind::ALL);
    let listener = EkmListener::new(tcp, EkmAcceptor::new(tls, POLICY, authentication));
    let http = Http::new(TokioExecutor::new());
    loop {
        let (handshaking, _) = listener.arrival().await;
        tokio::spawn(serve_connection(&http, handshaking, service_fn(answer)));
    }
}

/// Hands requests on as they are.
#[derive(Clone)]
struct HandOn {
    client: Client<HttpConnector, Incoming>,
    upstream: Authority,
}

impl HandOn {
    fn new(upstream: SocketAddr) -> Self {
        let authority = Authority::try_from(upstream.to_string()).unwrap_or_else(|_| unreachable!("address and port are an authority"));
        Self { client: Client::builder(TokioExecutor::new()).build_http(), upstream: authority }
    }
}

impl Service<Request<Incoming>> for HandOn {
    type Response = Response<Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = hyper_util::client::legacy::ResponseFuture;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.upstream.clone());
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        self.client.request(request)
    }
}

/// Lets pass what carries the one credential. tower-http is no dependency of this workspace; any middleware one would use costs more.
#[derive(Clone)]
struct Bearer<S> {
    inner: S,
    credential: Arc<str>,
}

impl<S> Bearer<S> {
    fn new(inner: S) -> Self {
        Self { inner, credential: mode::bearer_credential().into() }
    }
}

impl<S, B> Service<Request<B>> for Bearer<S>
where
    S: Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Answer>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let presented = request.headers().get(AUTHORIZATION);
        if presented.is_some_and(|presented| constant_time_eq(presented.as_bytes(), self.credential.as_bytes())) {
            return Either::Left(self.inner.call(request));
        }
        let mut refused = Response::new(Full::default());
        *refused.status_mut() = StatusCode::UNAUTHORIZED;
        Either::Right(ready(Ok(refused)))
    }
}
