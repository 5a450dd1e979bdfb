//! A new connection to an upstream.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::request_body::RequestBody;
use super::target::{Protocol, Security, Target, is_loopback};
use super::upstream::Upstream;
use crate::dial::{DialError, dial};

/// How often a silent HTTP/2 upstream is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A connection that requests can be sent on.
pub(super) enum Sender {
    Http1(http1::SendRequest<RequestBody>, Task),
    Http2(Http2),
}

/// A connection that all share.
#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    /// Driven by a task of its own.
    driver: Arc<Mutex<Driver>>,
    /// Each exchange has a clone.
    streams: Arc<()>,
    /// It has given a request back.
    is_spent: Arc<AtomicBool>,
}

type Driver = http2::Connection<TokioIo<Box<dyn Stream>>, RequestBody, TokioExecutor>;

impl Http2 {
    /// Whether it takes requests.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.is_spent.load(Ordering::Relaxed)
    }

    /// It takes none any more. Those that are under way go on.
    pub(super) fn give_up(&self) {
        self.is_spent.store(true, Ordering::Relaxed);
    }

    /// How many exchanges are on it, websockets included.
    pub(super) fn streams(&self) -> usize {
        Arc::strong_count(&self.streams) - 1
    }

    /// Whether its other end lets in one more (RFC 9113 §5.1.2).
    pub(super) fn has_room(&self) -> bool {
        self.streams() < lock(&self.driver).current_max_send_streams()
    }

    /// Whether its other end has said that it takes extended CONNECT (RFC 8441 §3).
    pub(super) fn takes_connect(&self) -> bool {
        lock(&self.driver).is_extended_connect_protocol_enabled()
    }
}

fn lock(driver: &Mutex<Driver>) -> MutexGuard<'_, Driver> {
    driver.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What drives a connection of HTTP/1. Dropped, it closes the connection, whatever is under way.
pub(super) struct Task(Option<AbortHandle>);

impl Task {
    /// It goes on until the connection ends by itself.
    pub(super) fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ConnectError {
    #[error("its address cannot be found: {0}")]
    Name(io::Error),
    #[error("its name leads to {0}, which is not this machine's loopback, and plain HTTP must not leave it without --unsafe-upstream")]
    Leaves(SocketAddr),
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("it did not accept a connection in time")]
    TimedOut,
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    #[error("HTTP did not begin: {0}")]
    Http(hyper::Error),
    /// Of another request, that this one has waited for.
    #[error("{1}")]
    Shared(Fault, String),
    #[error("it takes no websockets")]
    NoWebsockets,
    #[error("it speaks no HTTP/2, which upstream_protocol = \"h2\" asks for")]
    NotHttp2,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TimedOut,
    Unreachable,
    /// It is there, and not what it should be.
    Wrong,
}

impl From<DialError> for ConnectError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Name(e) => Self::Name(e),
            DialError::Refused(address) => Self::Leaves(address),
            DialError::Unreachable(e) => Self::Unreachable(e),
            DialError::TimedOut => Self::TimedOut,
        }
    }
}

impl ConnectError {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::TimedOut => Fault::TimedOut,
            Self::Name(_) | Self::Unreachable(_) => Fault::Unreachable,
            Self::Shared(fault, _) => *fault,
            _ => Fault::Wrong,
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects, and begins HTTP. `for_upgrade`: HTTP/1.1, where there is a choice.
pub(super) async fn connect(upstream: &Upstream, for_upgrade: bool) -> Result<Sender, ConnectError> {
    let limit = upstream.connect_timeout;
    let (stream, agreed): (Box<dyn Stream>, Option<bool>) = match &upstream.target {
        Target::Demo => return Err(ConnectError::Unreachable(io::ErrorKind::Unsupported.into())),
        Target::Unix(path) => {
            let stream = timeout(limit, UnixStream::connect(path)).await.map_err(|_| ConnectError::TimedOut)?;
            (Box::new(stream.map_err(ConnectError::Unreachable)?), None)
        }
        Target::Tcp { host, port, security } => {
            let must_be_loopback = *security == Security::Loopback;
            let tcp = dial(host, *port, limit, |address| must_be_loopback && !is_loopback(address.ip())).await?;
            match &upstream.tls {
                None => (Box::new(tcp), None),
                Some(tls) => {
                    let name = ServerName::try_from(host.clone()).map_err(|e| ConnectError::Tls(io::Error::other(e)))?;
                    let connector = if for_upgrade && upstream.protocol == Protocol::Auto { &tls.http1 } else { &tls.usual };
                    let stream = timeout(limit, connector.connect(name, tcp))
                        .await
                        .map_err(|_| ConnectError::TimedOut)?
                        .map_err(ConnectError::Tls)?;
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    (Box::new(stream), Some(is_http2))
                }
            }
        }
    };
    match (upstream.protocol, agreed) {
        (Protocol::H2, Some(false)) => Err(ConnectError::NotHttp2),
        (Protocol::H2, _) | (_, Some(true)) => timeout(limit, begin_http2(stream)).await.map_err(|_| ConnectError::TimedOut)?,
        _ => begin_http1(stream).await,
    }
}

async fn begin_http1(stream: Box<dyn Stream>) -> Result<Sender, ConnectError> {
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(ConnectError::Http)?;
    let task = tokio::spawn(async move {
        // Whoever waits for an answer hears of it, too.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to an upstream ended");
        }
    });
    Ok(Sender::Http1(sender, Task(Some(task.abort_handle()))))
}

async fn begin_http2(stream: Box<dyn Stream>) -> Result<Sender, ConnectError> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_header_list_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Http)?;
    let driver = Arc::new(Mutex::new(connection));
    let driven = Arc::clone(&driver);
    tokio::spawn(poll_fn(move |cx| {
        let ended = Pin::new(&mut *lock(&driven)).poll(cx);
        ended.map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to an upstream ended");
            }
        })
    }));
    Ok(Sender::Http2(Http2 { sender, driver, streams: Arc::new(()), is_spent: Arc::default() }))
}
