//! The admin pages, on a thread and a runtime of their own: they answer when those that serve have no time. Small limits, since whoever asks is on
//! this machine and asks little.

mod answer;
mod guard;
#[cfg(test)]
mod in_a_browser;
pub(crate) mod socket;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use ekm_otp_relay::unix_socket::SocketFile;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use self::socket::Bound;
use super::snapshot::{Snapshot, Told};
use super::sources::Sources;
use super::watch::Watch;

/// How many connections are served at a time; further ones wait.
const CONNECTIONS: usize = 32;
/// How long a request's header section may take, an idle connection included.
const HEADER: Duration = Duration::from_secs(30);
/// How long a connection lives at most, whatever its peer does.
const CONNECTION: Duration = Duration::from_secs(120);
/// How large a header section may be.
const BUFFER: usize = 16 * 1024;
/// How long a thread that serves may take to answer.
const ALIVE: Duration = Duration::from_secs(2);
/// How long accepting pauses when that fails.
const PAUSE: Duration = Duration::from_millis(100);

/// What the pages are made of.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) watch: Arc<Watch>,
    pub(crate) sources: Sources,
    pub(crate) told: Arc<Told>,
    pub(crate) started: SystemTime,
}

/// The thread. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    pub(crate) fn start(bound: Bound, shown: Shown) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _runtime = runtime.enter();
            Listener::new(bound)?
        };
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, Arc::new(shown)) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Listener {
    Loopback(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "the file is removed with the listener")] SocketFile),
}

impl Listener {
    fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Loopback(listener) => Self::Loopback(TcpListener::from_std(listener)?),
            Bound::Unix(listener, remove) => Self::Unix(UnixListener::from_std(listener)?, remove),
        })
    }
}

async fn accept(listener: Listener, shown: Arc<Shown>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let shown = Arc::clone(&shown);
        let accepted = match &listener {
            Listener::Loopback(tcp) => tcp.accept().await.map(|(stream, _)| {
                connections.spawn(async move {
                    serve(stream, shown).await;
                    drop(place);
                });
            }),
            Listener::Unix(unix, _) => unix.accept().await.map(|(stream, _)| {
                connections.spawn(async move {
                    serve(stream, shown).await;
                    drop(place);
                });
            }),
        };
        if let Err(error) = accepted {
            tracing::debug!(%error, "cannot accept a connection to the admin pages");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn serve<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: IO, shown: Arc<Shown>) {
    let service = service_fn(move |request| {
        let shown = Arc::clone(&shown);
        async move { Ok::<_, Infallible>(answer::answer(&request, async || shown.snapshot().await, async || shown.is_alive().await).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(BUFFER);
    // Who breaks off or is too slow is not told of: there is nobody to tell.
    let _ = tokio::time::timeout(CONNECTION, http.serve_connection(TokioIo::new(stream), service)).await;
}

impl Shown {
    async fn snapshot(&self) -> Snapshot {
        let is_alive = self.is_alive().await;
        Snapshot::take(&self.watch, &self.sources, &self.told, self.started, is_alive)
    }

    /// Whether each thread that serves does something else when asked to. None at all is no life.
    async fn is_alive(&self) -> bool {
        let asked: Vec<_> = self.sources.workers.iter().map(|worker| worker.spawn(async {})).collect();
        let all = async {
            for answer in asked {
                if answer.await.is_err() {
                    return false;
                }
            }
            !self.sources.workers.is_empty()
        };
        tokio::time::timeout(ALIVE, all).await.unwrap_or(false)
    }
}
