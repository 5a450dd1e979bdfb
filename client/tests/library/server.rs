//! A server in this process, with the middleware that servers embed: it can be killed and started again on its port, and it counts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ekm_otp::{KeyId, Secret, ServerNames, TlsPolicy};
use ekm_otp_client::{Client, ClientBuilder, CredentialKind, Signer, SignerError, Tag};
use ekm_otp_tower::{Authentication, EkmAcceptor, EkmListener, Http, MemoryStore, RegisteredKey, serve_connection};
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Nothing in these tests takes as long.
pub const GENEROUS: Duration = Duration::from_secs(60);

pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(GENEROUS, work).await.expect("it hangs")
}

/// Waits until something is so.
pub async fn until(is_so: impl Fn() -> bool) {
    in_time(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub fn secret(number: u8) -> Secret {
    Secret::new([b"test data, used nowhere else ..".as_slice(), &[number]].concat()).expect("a secret")
}

/// What the server has seen.
pub struct Seen {
    pub connections: AtomicUsize,
    pub requests: AtomicUsize,
    /// How often each path was executed.
    pub executed: Mutex<HashMap<String, usize>>,
    /// Lets `/wait` answer, and `/stream` end: one permit each.
    pub gate: Arc<Semaphore>,
    /// Requests that stand before the gate.
    pub at_gate: AtomicUsize,
    /// Streams of another protocol: they end when the server is killed.
    upgraded: Mutex<JoinSet<()>>,
}

impl Seen {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            connections: AtomicUsize::default(),
            requests: AtomicUsize::default(),
            executed: Mutex::default(),
            gate: Arc::new(Semaphore::new(0)),
            at_gate: AtomicUsize::default(),
            upgraded: Mutex::default(),
        })
    }

    pub fn times(&self, path: &str) -> usize {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied().unwrap_or_default()
    }
}

pub struct Server {
    pub port: u16,
    pub seen: Arc<Seen>,
    pub store: Arc<MemoryStore>,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    http: Http<TokioExecutor>,
    is_h2: bool,
    task: Option<JoinHandle<()>>,
}

impl Server {
    /// With the key `client1`, whose secret has the number 1.
    pub async fn start(is_h2: bool) -> Self {
        Self::start_with(is_h2, |_| {}).await
    }

    pub async fn start_with(is_h2: bool, set: impl FnOnce(&mut Http<TokioExecutor>)) -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut http = Http::new(TokioExecutor::new());
        http.http2().enable_connect_protocol();
        set(&mut http);
        let store = Arc::new(MemoryStore::new());
        let mut server = Self {
            port: 0,
            seen: Seen::new(),
            store,
            certificate: certified.cert.der().clone(),
            key: certified.signing_key.serialize_der(),
            http,
            is_h2,
            task: None,
        };
        server.knows("client1", 1);
        server.restart().await;
        server
    }

    pub fn knows(&self, kid: &str, number: u8) {
        let kid = KeyId::new(kid).expect("a key id");
        self.store.add(RegisteredKey::new(kid, "Alice", secret(number))).expect("a new key");
    }

    /// Listens, on its port of before if it had one.
    pub async fn restart(&mut self) {
        let policy = TlsPolicy::default();
        let mut tls = rustls::ServerConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(policy.versions())
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], PrivateKeyDer::try_from(self.key.clone()).expect("a private key"))
            .expect("certificate and key");
        if !self.is_h2 {
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let mut names = ServerNames::new();
        names.allow_host("localhost").expect("a name");
        let authentication = Authentication::new(self.store.clone(), names, "test").expect("a realm").kinds(CredentialKind::ALL);
        let tcp = in_time(async {
            loop {
                match TcpListener::bind(("127.0.0.1", self.port)).await {
                    Ok(tcp) => return tcp,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await;
        self.port = tcp.local_addr().expect("an address").port();
        let listener = EkmListener::new(tcp, EkmAcceptor::new(tls, policy, authentication));
        let (http, seen) = (self.http.clone(), Arc::clone(&self.seen));
        self.task = Some(tokio::spawn(async move {
            // Dropped with this task: its connections end at once then.
            let mut connections = JoinSet::new();
            loop {
                let (handshaking, _) = listener.arrival().await;
                seen.connections.fetch_add(1, Ordering::Relaxed);
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request| answer(Arc::clone(&seen), request));
                connections.spawn(serve_connection(&http, handshaking, service));
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    /// As a process that is killed.
    pub async fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        drop(std::mem::take(&mut *self.seen.upgraded.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        roots
    }

    pub fn certificate_pem(&self) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    /// Without a key.
    pub fn builder(&self) -> ClientBuilder {
        Client::new(format!("https://localhost:{}", self.port)).kid("client1").roots(self.roots())
    }

    /// With the right key, and the counter of its MACs.
    pub fn client(&self, set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (Client, Arc<Counting>) {
        let signer = Arc::new(Counting::of(1));
        (set(self.builder().signer(Arc::clone(&signer))).build().expect("a client"), signer)
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A key that counts what is asked of it, and can be slow: each MAC takes a permit while there is a gate.
#[derive(Debug)]
pub struct Counting {
    secret: Secret,
    pub macs: AtomicUsize,
    pub gate: Option<Semaphore>,
}

impl Counting {
    pub fn of(number: u8) -> Self {
        Self { secret: secret(number), macs: AtomicUsize::new(0), gate: None }
    }

    pub fn gated(number: u8) -> Arc<Self> {
        Arc::new(Self { gate: Some(Semaphore::new(0)), ..Self::of(number) })
    }

    pub fn macs(&self) -> usize {
        self.macs.load(Ordering::Relaxed)
    }

    pub fn let_through(&self, macs: usize) {
        self.gate.as_ref().expect("a gate").add_permits(macs);
    }
}

impl Signer for Counting {
    fn mac<'a>(&'a self, input: &'a [u8]) -> BoxFuture<'a, Result<Tag, SignerError>> {
        Box::pin(async move {
            self.macs.fetch_add(1, Ordering::Relaxed);
            if let Some(gate) = &self.gate {
                gate.acquire().await.map_err(SignerError::new)?.forget();
            }
            Ok(self.secret.mac(input))
        })
    }
}

async fn answer(seen: Arc<Seen>, mut request: Request<Incoming>) -> Result<Response<Body>, AnyError> {
    seen.requests.fetch_add(1, Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    let times = {
        let mut executed = seen.executed.lock().unwrap_or_else(PoisonError::into_inner);
        let times = executed.entry(path.clone()).or_default();
        *times += 1;
        *times
    };
    let is_upgrade = request.headers().contains_key("upgrade") || request.extensions().get::<Protocol>().is_some();
    if is_upgrade && path == "/echo" {
        let is_h1 = request.method() == Method::GET;
        let mut response = Response::new(text(""));
        if is_h1 {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse()?);
            response.headers_mut().insert("upgrade", request.headers()["upgrade"].clone());
        }
        seen.upgraded.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.expect("an upgrade"));
            let (mut from, mut to) = tokio::io::split(&mut stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
        });
        return Ok(response);
    }
    match path.split('/').nth(1).unwrap_or_default() {
        // The first one never gets an answer: HTTP/1.1 ends with it.
        "dies" if times == 1 => Err("it dies".into()),
        "wait" => {
            seen.at_gate.fetch_add(1, Ordering::Relaxed);
            let passed = seen.gate.acquire().await?;
            passed.forget();
            Ok(Response::new(text("waited")))
        }
        "stream" => {
            let (sender, mut chunks) = mpsc::channel::<Bytes>(1);
            sender.send(Bytes::from_static(b"first ")).await?;
            let gate = Arc::clone(&seen.gate);
            tokio::spawn(async move {
                gate.acquire().await.expect("a gate").forget();
                let _ = sender.send(Bytes::from_static(b"last")).await;
            });
            let stream = futures_util::stream::poll_fn(move |context| {
                chunks.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk))))
            });
            Ok(Response::new(StreamBody::new(stream).boxed_unsync()))
        }
        // What tonic's server answers: the message as it came, then the status (gRPC over HTTP/2).
        "greeter.Greeter" => {
            let message = request.into_body().collect().await?.to_bytes();
            let status = http::HeaderMap::from_iter([("grpc-status".parse::<http::HeaderName>()?, http::HeaderValue::from_static("0"))]);
            let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(status))));
            Ok(Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync())?)
        }
        "early" => Ok(Response::new(text("before the request's end"))),
        "echo" => {
            let body = request.into_body().collect().await?.to_bytes();
            Ok(Response::new(Full::new(body).boxed_unsync()))
        }
        _ => {
            let body = request.into_body().collect().await?.to_bytes();
            Ok(Response::new(text(&format!("{} bytes", body.len()))))
        }
    }
}

fn text(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync()
}
