//! The server child: one mode, one thread, one small answer.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;

use constant_time_eq::constant_time_eq;
use ekm_otp_tower::protocol::ServerNames;
use ekm_otp_tower::protocol::field::CredentialKind;
use ekm_otp_tower::{Authentication, EkmAcceptor, EkmListener, MemoryStore, RegisteredKey, serve_connection};
use futures_util::future::Either;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::AnyError;
use crate::mode::{self, HOST, Mode};
use crate::options::KeyExchange;
use crate::pki::{self, POLICY};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// Reads its certificates from standard input, writes its port to standard output, and serves until standard input ends.
pub async fn run(mode: Mode, key_exchange: KeyExchange) -> Result<(), AnyError> {
    let tls = pki::server_config(std::io::stdin().lock(), mode, key_exchange)?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", tcp.local_addr()?.port());
    std::io::stdout().flush()?;

    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    // As a task: the future of `block_on` itself is woken by a system call, and modes wake it unequally often.
    let serving = match mode {
        Mode::None | Mode::Mtls => tokio::spawn(serve_tls(tcp, tls, http, service_fn(hello))),
        Mode::Bearer => tokio::spawn(serve_tls(tcp, tls, http, Bearer::new(service_fn(hello)))),
        Mode::EkmOtp | Mode::Jws | Mode::Jwe => tokio::spawn(serve_ekm_otp(tcp, tls, http)),
    };
    serving.await?
}

/// The application.
fn hello<B>(_: Request<B>) -> Ready<Answer> {
    ready(Ok(Response::new(Full::from("hello\n"))))
}

/// hyper and tokio-rustls as their own examples use them.
async fn serve_tls<S>(tcp: TcpListener, tls: ServerConfig, http: Builder<TokioExecutor>, service: S) -> Result<(), AnyError>
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let tls = TlsAcceptor::from(Arc::new(tls));
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
async fn serve_ekm_otp(tcp: TcpListener, tls: ServerConfig, http: Builder<TokioExecutor>) -> Result<(), AnyError> {
    let store = MemoryStore::new();
    store.add(RegisteredKey::new(mode::kid()?, "the client", mode::secret()?))?;
    let mut names = ServerNames::new();
    names.allow_host(HOST)?;
    let authentication = Authentication::new(Arc::new(store), names, "load")?.kinds(CredentialKind::ALL);
    let mut listener = EkmListener::new(tcp, EkmAcceptor::new(tls, POLICY, authentication));
    loop {
        let (stream, _) = listener.accept().await;
        tokio::spawn(serve_connection(&http, stream, service_fn(hello), pending()));
    }
}

/// Lets pass what carries the one credential. Not a middleware to use: a lower bound for what any bearer check costs.
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
