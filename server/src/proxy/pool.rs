//! One thread's connections to upstreams: idle ones of HTTP/1, shared ones of HTTP/2.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use tokio::time::{Instant, timeout};

use super::connect::{ConnectError, Http2, Sender, Task, connect};
use super::progress::{CancelledOnDrop, Progress};
use super::request_body::RequestBody;
use super::shared::Shared;
use super::target::Protocol;
use super::upstream::Upstream;

/// How many idle connections are kept per upstream and thread, and how long.
const IDLE: usize = 256;
const KEEP: Duration = Duration::from_secs(30);
/// How long a connection whose last answer has ended may take to notice.
const SETTLE: Duration = Duration::from_millis(20);

/// The connections of one thread, to all upstreams.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools(Arc<Mutex<HashMap<u64, Arc<Pool>>>>);

impl Pools {
    /// The connections to one upstream.
    pub(super) fn of(&self, upstream: &Arc<Upstream>) -> Arc<Pool> {
        let mut pools = lock(&self.0);
        if let Some(pool) = pools.get(&upstream.id) {
            return Arc::clone(pool);
        }
        // Settings have changed, or this is the first request: upstreams that are gone need no connections.
        pools.retain(|_, pool| pool.upstream.strong_count() > 0);
        let pool = Arc::new(Pool::new(upstream));
        pools.insert(upstream.id, Arc::clone(&pool));
        pool
    }
}

/// The connections to one upstream.
pub(super) struct Pool {
    upstream: Weak<Upstream>,
    /// The one that was used last is at the end, and is used first.
    idle: Mutex<Vec<Idle>>,
    is_swept: AtomicBool,
    shared: Shared,
    /// Over TLS, it chose HTTP/1.
    chose_http1: AtomicBool,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("idle", &lock(&self.idle).len()).finish_non_exhaustive()
    }
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    task: Task,
    since: Instant,
}

/// A connection for one request.
pub(super) struct Connection {
    sender: Sender,
    /// It has served a request before, so that its other end may have closed it meanwhile.
    pub(super) is_reused: bool,
    pool: Weak<Pool>,
}

impl Pool {
    fn new(upstream: &Arc<Upstream>) -> Self {
        Self {
            upstream: Arc::downgrade(upstream),
            idle: Mutex::default(),
            is_swept: AtomicBool::new(false),
            shared: Shared::default(),
            chose_http1: AtomicBool::new(false),
        }
    }

    /// A connection for a request. `anew`: one that nobody has used.
    pub(super) async fn connection(
        self: &Arc<Self>,
        upstream: &Upstream,
        for_upgrade: bool,
        anew: bool,
    ) -> Result<Connection, ConnectError> {
        let made = |sender, is_reused| Connection { sender, is_reused, pool: Arc::downgrade(self) };
        let may_be_shared = match upstream.protocol {
            Protocol::H2 => true,
            Protocol::H1 => false,
            Protocol::Auto => upstream.target.is_tls() && !for_upgrade && !self.chose_http1.load(Ordering::Relaxed),
        };
        if !may_be_shared {
            if !anew && let Some(Idle { sender, task, .. }) = self.take().await {
                return Ok(made(Sender::Http1(sender, task), true));
            }
            return Ok(made(connect(upstream, for_upgrade).await?, false));
        }
        let (sender, is_reused) = self.shared.connection(upstream, for_upgrade).await?;
        if matches!(sender, Sender::Http1(..)) {
            self.chose_http1.store(true, Ordering::Relaxed);
        }
        Ok(made(sender, is_reused))
    }

    async fn take(&self) -> Option<Idle> {
        loop {
            let mut idle = lock(&self.idle).pop()?;
            // Its other end may have closed it; its own task may not yet have seen the last answer's end.
            if idle.since.elapsed() < KEEP && matches!(timeout(SETTLE, idle.sender.ready()).await, Ok(Ok(()))) {
                return Some(idle);
            }
        }
    }

    fn put(self: Arc<Self>, sender: http1::SendRequest<RequestBody>, task: Task) {
        let mut idle = lock(&self.idle);
        if sender.is_closed() || idle.len() >= IDLE || self.upstream.strong_count() == 0 {
            return;
        }
        idle.push(Idle { sender, task, since: Instant::now() });
        drop(idle);
        if !self.is_swept.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::downgrade(&self)));
        }
    }
}

/// Closes what nobody has used for long, until nothing is left.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(KEEP / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = lock(&pool.idle);
        idle.retain(|idle| idle.since.elapsed() < KEEP && !idle.sender.is_closed());
        if idle.is_empty() {
            pool.is_swept.store(false, Ordering::Release);
            return;
        }
    }
}

impl Connection {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether it can carry a websocket: HTTP/2 must have said so (RFC 8441 §3).
    pub(super) fn takes_upgrades(&self) -> bool {
        match &self.sender {
            Sender::Http1(..) => true,
            Sender::Http2(http2) => http2.takes_connect(),
        }
    }

    /// It takes no more requests.
    pub(super) fn give_up(&self) {
        if let Sender::Http2(http2) = &self.sender {
            http2.give_up();
        }
    }

    /// Sends; resolves with the answer's head. A request that was not even begun comes back with the error.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        let (http1, http2) = match &mut self.sender {
            Sender::Http1(sender, _) => (Some(sender.try_send_request(request)), None),
            Sender::Http2(http2) => (None, Some(http2.sender.try_send_request(request))),
        };
        async move {
            match (http1, http2) {
                (Some(sending), _) => sending.await,
                (_, Some(sending)) => sending.await,
                (None, None) => std::future::pending().await,
            }
        }
    }

    /// The connection is this exchange's until that is over.
    pub(super) fn lease(self, upstream: Arc<Upstream>, body: CancelledOnDrop) -> Lease {
        let (http1, http2) = match self.sender {
            Sender::Http1(sender, task) => (Some((sender, task, self.pool)), None),
            Sender::Http2(http2) => (None, Some(http2)),
        };
        Lease { http1, http2, body, upstream }
    }
}

/// A connection under an exchange. Dropped before that is over, it cuts what is under way: nobody wants it any more.
pub(super) struct Lease {
    http1: Option<(http1::SendRequest<RequestBody>, Task, Weak<Pool>)>,
    /// Takes its place among the connection's streams.
    http2: Option<Http2>,
    body: CancelledOnDrop,
    upstream: Arc<Upstream>,
}

impl Lease {
    /// The response is whole. Where the request is, too, the connection can serve another.
    pub(super) fn finish(self) {
        let is_whole = self.body.progress().is_none_or(Progress::has_ended);
        if is_whole && let Some((sender, task, pool)) = self.http1 {
            match pool.upgrade() {
                Some(pool) => pool.put(sender, task),
                None => drop(task),
            }
        }
    }

    /// The connection is the websocket's, or one of its streams is: as long as what is returned is held.
    pub(super) fn hand_over(self) -> Option<Http2> {
        self.body.let_go();
        if let Some((_, task, _)) = self.http1 {
            task.let_go();
        }
        self.http2
    }

    /// The response ended before it was whole.
    pub(super) fn broke(self, error: &dyn Display) {
        self.upstream.failed(false, error);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
