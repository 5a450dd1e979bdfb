//! The sending end of a connection: what signs, and what writes, under one lock. So requests are signed in the order in which they leave.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ekm_otp::Authority;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::RequestError;
use crate::tasks::Tasks;

/// How long nothing may come while streams are open before the peer is asked by PING (RFC 9113 §6.7), and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A request's body, whatever it is made of.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// Puts the connection's credential into its requests.
pub(crate) trait Sign: Send + Sync {
    /// Signs a request whose URI is its origin-form target. Yields the credential that it put there.
    fn sign(&mut self, request: &mut Request<Body>) -> Result<HeaderValue, RequestError>;
}

/// How many streams, and whether extended CONNECT; `None` where it cannot be told just now.
type Look = Box<dyn Fn() -> Option<(usize, bool)> + Send + Sync>;

/// What the peer's last SETTINGS (RFC 9113 §6.5.2) allow. Of HTTP/1.1, one request at a time.
pub(crate) struct Peer {
    max_streams: AtomicUsize,
    takes_extended_connect: AtomicBool,
    /// Asks the connection, where nobody else does just then.
    now: OnceLock<Look>,
}

impl Default for Peer {
    fn default() -> Self {
        Self { max_streams: AtomicUsize::new(1), takes_extended_connect: AtomicBool::new(false), now: OnceLock::new() }
    }
}

impl Peer {
    /// hyper notices SETTINGS in a task of its own, and tells nobody: so it is asked.
    fn look(&self) {
        if let Some((max_streams, takes_extended_connect)) = self.now.get().and_then(|now| now()) {
            self.max_streams.store(max_streams, Ordering::Relaxed);
            self.takes_extended_connect.store(takes_extended_connect, Ordering::Relaxed);
        }
    }

    /// How many requests may be under way at once.
    pub(crate) fn max_streams(&self) -> usize {
        self.look();
        self.max_streams.load(Ordering::Relaxed)
    }

    /// Whether it knows extended CONNECT (RFC 8441 §3).
    pub(crate) fn takes_extended_connect(&self) -> bool {
        self.look();
        self.takes_extended_connect.load(Ordering::Relaxed)
    }
}

pub(super) struct Line {
    sender: Sender,
    signer: Box<dyn Sign>,
    last_credential: Option<HeaderValue>,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
    HungUp,
}

/// The answer to come. What was not written comes back.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> + Send>>;

impl Line {
    pub(super) async fn start(
        tls: TlsStream<TcpStream>,
        signer: Box<dyn Sign>,
        tasks: &Tasks,
        peer: &Arc<Peer>,
    ) -> Result<Self, hyper::Error> {
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        let sender = if is_h2 {
            let (sender, connection) = http2::Builder::new(tasks.clone())
                .timer(TokioTimer::new())
                // A peer that is gone without a word is noticed while streams are open.
                .keep_alive_interval(Some(KEEP_ALIVE))
                .keep_alive_timeout(KEEP_ALIVE)
                .handshake(io)
                .await?;
            let connection = Arc::new(Mutex::new(Some(connection)));
            let asked = Arc::downgrade(&connection);
            tasks.spawn(async move {
                std::future::poll_fn(|context| {
                    let mut polled = connection.lock().unwrap_or_else(PoisonError::into_inner);
                    let ended = polled.as_mut().map_or(Poll::Ready(()), |connection| Pin::new(connection).poll(context).map(drop));
                    // Else HTTP/2 would wait for it before it ends.
                    if ended.is_ready() {
                        *polled = None;
                    }
                    ended
                })
                .await;
            });
            // Never waits for it: whoever polls it may drop what comes here again. It ends with its task.
            let _ = peer.now.set(Box::new(move || {
                let connection = asked.upgrade()?;
                let connection = connection.try_lock().ok()?;
                let connection = connection.as_ref()?;
                Some((connection.current_max_send_streams(), connection.is_extended_connect_protocol_enabled()))
            }));
            Sender::H2(sender)
        } else {
            let (mut sender, connection) = http1::handshake(io).await?;
            let connection = connection.with_upgrades();
            tasks.spawn(async move { drop(connection.await) });
            // Its task has begun: one that never was ready would be taken for one that is of no use any more.
            sender.ready().await?;
            Sender::H1(sender)
        };
        Ok(Self { sender, signer, last_credential: None })
    }

    /// Signs and sends in one step.
    pub(super) fn send(&mut self, mut request: Request<Body>, origin: &Authority) -> Result<Answer, RequestError> {
        let credential = self.signer.sign(&mut request)?;
        let answer: Answer = match &mut self.sender {
            Sender::H1(sender) => {
                let host = HeaderValue::from_str(&origin.to_string()).map_err(http::Error::from)?;
                request.headers_mut().insert(HOST, host);
                Box::pin(sender.try_send_request(request))
            }
            Sender::H2(sender) => {
                let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
                *request.uri_mut() = Uri::builder().scheme(Scheme::HTTPS).authority(origin.to_string()).path_and_query(target).build()?;
                Box::pin(sender.try_send_request(request))
            }
            Sender::HungUp => return Err(RequestError::Closed),
        };
        self.last_credential = Some(credential);
        Ok(answer)
    }

    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        match &mut self.sender {
            Sender::H1(sender) => sender.poll_ready(context),
            Sender::H2(sender) => sender.poll_ready(context),
            Sender::HungUp => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_ready(),
            Sender::H2(sender) => sender.is_ready(),
            Sender::HungUp => false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
            Sender::HungUp => true,
        }
    }

    pub(super) fn hang_up(&mut self) {
        self.sender = Sender::HungUp;
    }

    pub(super) fn take_credential(&mut self) -> Option<HeaderValue> {
        self.last_credential.take()
    }
}
