//! The connections to one origin. The unit is a connection with its credential: a request is signed for the one that it is sent on.
//!
//! Until it is known which protocol the server speaks, one dial is under way at a time, and all wait for it. HTTP/2: all share one connection, a second is
//! made when the server's limit of streams is reached. HTTP/1.1: a stack of connections, the last used first; one returns when its answer's body has
//! ended and its request is sent.

mod back_off;
mod dial;
mod error;
mod keys;
mod lease;
mod settings;
mod slot;
mod state;
mod status;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ekm_otp::Authority;
use http::Version;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use self::dial::{Dial, Outcome};
use self::lease::Home;
use self::slot::{Age, Slot};
use self::state::{State, Trash};
use crate::connection::RetiredCredential;
use crate::connector::{Connector, HttpVersions};

pub(crate) use error::PoolError;
pub(crate) use lease::Lease;
pub(crate) use settings::Settings;
pub use status::Status;

/// How long a new request waits for an HTTP/1.1 connection that is about to be free, before another is dialled.
const RETURNING: Duration = Duration::from_millis(10);
/// How long a request may go on being sent when its answer has ended already, before its connection is closed.
const UPLOAD_AFTER_ANSWER: Duration = Duration::from_secs(30);

/// All connections to one origin.
pub(crate) struct Pool {
    origin: Authority,
    connectors: Arc<[Connector]>,
    for_upgrades: Arc<[Connector]>,
    settings: Settings,
    state: Mutex<State>,
    /// Connections that stand.
    open: Arc<AtomicUsize>,
    resent: AtomicU64,
    /// Something has ended: for who drains.
    ended: Notify,
    me: Weak<Self>,
}

impl Pool {
    pub(crate) fn new(origin: Authority, connectors: Vec<Connector>, versions: HttpVersions, settings: Settings) -> Arc<Self> {
        let offering = |versions| connectors.iter().cloned().map(|connector| connector.http_versions(versions)).collect();
        let (connectors, for_upgrades) = (offering(versions), offering(HttpVersions::Http1));
        Arc::new_cyclic(|me| Self {
            origin,
            connectors,
            for_upgrades,
            settings,
            state: Mutex::new(State::new()),
            open: Arc::default(),
            resent: AtomicU64::new(0),
            ended: Notify::new(),
            me: me.clone(),
        })
    }

    pub(crate) fn origin(&self) -> &Authority {
        &self.origin
    }

    pub(crate) fn response_deadline(&self) -> Option<Duration> {
        self.settings.response_deadline
    }

    /// A request goes again on another connection.
    pub(crate) fn count_resent(&self) {
        self.resent.fetch_add(1, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// A connection for one request: one that stands, or the first that becomes free or is made.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Lease, PoolError> {
        let mut trash = Trash::default();
        let mut free = {
            let mut state = self.state();
            let now = Instant::now();
            if state.is_draining {
                return Err(PoolError::Draining);
            }
            if let Some(slot) = state.take(&self.settings, now, &mut trash) {
                self.dial_as_wanted(&mut state, now, &mut trash);
                drop(state);
                return Ok(Lease::new(slot, self.clone()));
            }
            // Nothing that stands could become free.
            if state.dialling == 0
                && self.open.load(Ordering::Acquire) == trash.slots.len()
                && let Some((wait, cause)) = state.back_off.rest(now)
            {
                return Err(PoolError::BackOff { cause: Arc::clone(cause), wait });
            }
            if state.waiting.len() >= self.settings.max_waiting {
                state.waiting.retain(|waiter| !waiter.is_closed());
                if state.waiting.len() >= self.settings.max_waiting {
                    return Err(PoolError::Crowded(self.settings.max_waiting));
                }
            }
            let (waiter, free) = oneshot::channel();
            state.waiting.push_back(waiter);
            state.used_at = now;
            self.dial_as_wanted(&mut state, now, &mut trash);
            free
        };
        drop(trash);
        let deadline = self.settings.connect_deadline;
        loop {
            match tokio::time::timeout(deadline, &mut free).await {
                Ok(Ok(granted)) => return granted,
                Ok(Err(_)) => return Err(PoolError::Draining),
                // A dial has deadlines of its own.
                Err(_) if self.state().dialling > 0 => {}
                Err(_) => return Err(PoolError::NoneFree(deadline)),
            }
        }
    }

    /// A connection on which another protocol can be asked for. Where HTTP/2 does not let it (RFC 8441 §3), an HTTP/1.1 one of its own.
    pub(crate) async fn acquire_for_upgrade(self: &Arc<Self>) -> Result<Lease, PoolError> {
        let lease = self.acquire().await?;
        let connection = lease.connection();
        if connection.http_version() != Version::HTTP_2 || connection.peer().takes_extended_connect() {
            return Ok(lease);
        }
        if self.open.load(Ordering::Acquire) >= self.settings.max_connections {
            return Err(PoolError::Crowded(0));
        }
        let order = self.state().key.order(self.for_upgrades.len(), Instant::now());
        let dialled = keys::connect(&self.for_upgrades, &order).await;
        lease.give_back();
        let (connection, key) = dialled.map_err(|error| PoolError::Connect(Arc::new(error)))?;
        let slot = Slot::new(connection, key, self.age(), true, &self.open);
        self.state().in_flight += 1;
        Ok(Lease::new(slot, self.clone()))
    }

    fn age(&self) -> Age {
        Age::of(self.settings.max_age, back_off::jitter())
    }

    /// Notes the dials that are wanted; they begin when the lock is free.
    fn dial_as_wanted(&self, state: &mut State, now: Instant, trash: &mut Trash) {
        let open = self.open.load(Ordering::Acquire).saturating_sub(trash.slots.len());
        for _ in 0..state.dials_wanted(open, &self.settings, now) {
            if state.upkeep.as_ref().is_none_or(AbortHandle::is_finished)
                && let Ok(runtime) = tokio::runtime::Handle::try_current()
            {
                state.upkeep = Some(runtime.spawn(keep_up(self.me.clone(), self.settings.tick())).abort_handle());
            }
            state.dialling += 1;
            state.dials += 1;
            let order = state.key.order(self.connectors.len(), now);
            trash.dials.push(Dial::new(self.me.clone(), Arc::clone(&self.connectors), order));
        }
    }

    /// Gives what is free to those who wait, in order, and begins the dials that are wanted then.
    fn serve(&self, state: &mut State, now: Instant, trash: &mut Trash) {
        let Some(me) = self.home() else { return };
        while let Some(waiter) = state.waiting.pop_front() {
            if waiter.is_closed() {
                continue;
            }
            let Some(slot) = state.take(&self.settings, now, trash) else {
                state.waiting.push_front(waiter);
                break;
            };
            // Whoever has given up meanwhile gives it back.
            if let Err(Ok(lease)) = waiter.send(Ok(Lease::new(slot, me.clone()))) {
                trash.leases.push(lease);
            }
        }
        self.dial_as_wanted(state, now, trash);
    }

    /// How it stands.
    pub(crate) fn status(&self) -> Status {
        // What is dead or too old is not counted. Nothing is dialled here: who asks may have no runtime.
        let mut trash = Trash::default();
        self.state().sweep(&self.settings, Instant::now(), &mut trash);
        drop(trash);
        let state = self.state();
        Status {
            connections: self.open.load(Ordering::Acquire),
            idle: state.idle_connections(),
            in_flight: state.in_flight,
            waiting: state.waiting.iter().filter(|waiter| !waiter.is_closed()).count(),
            dialling: state.dialling,
            http_version: state.version,
            mac_time: state.mac_time,
            back_off: state.back_off.rest(Instant::now()).map(|(wait, _)| wait),
            last_error: state.back_off.last_error().cloned(),
            key: state.key.position(),
            dials_total: state.dials,
            failures_total: state.failures,
            resent_total: self.resent.load(Ordering::Relaxed),
            is_draining: state.is_draining,
        }
    }

    /// Takes no new requests; returns when those under way and those that wait have ended, and closes what stands.
    pub(crate) async fn drain(&self) {
        self.state().is_draining = true;
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            {
                let mut state = self.state();
                state.waiting.retain(|waiter| !waiter.is_closed());
                if state.in_flight == 0 && state.waiting.is_empty() {
                    break;
                }
            }
            // Who gives up waiting tells nobody.
            let _ = tokio::time::timeout(Duration::from_millis(200), ended).await;
        }
        self.clear();
    }

    fn clear(&self) {
        let mut trash = Trash::default();
        self.state().clear(&mut trash);
    }

    /// Closes what stands, and yields the credential that was used last.
    pub(crate) async fn retire(&self) -> Option<RetiredCredential> {
        let last = {
            let mut state = self.state();
            state.is_draining = true;
            state.last_used.upgrade()
        };
        let credential = match &last {
            Some(slot) => slot.connection().retire_in_place().await,
            None => None,
        };
        self.clear();
        credential
    }

    /// A connection broke under a request.
    pub(crate) fn broke(&self) {
        let mut trash = Trash::default();
        self.state().forget_idle(&mut trash);
    }

    fn keep(&self) {
        let mut trash = Trash::default();
        let mut state = self.state();
        let now = Instant::now();
        state.sweep(&self.settings, now, &mut trash);
        self.serve(&mut state, now, &mut trash);
        drop(state);
    }

    /// An HTTP/1.1 connection whose answer has ended.
    fn returned(&self, slot: Arc<Slot>) {
        let mut trash = Trash::default();
        let mut state = self.state();
        let now = Instant::now();
        state.put(slot, &self.settings, now, &mut trash);
        self.serve(&mut state, now, &mut trash);
        drop(state);
    }
}

impl Home for Pool {
    fn release(self: Arc<Self>, slot: Arc<Slot>, is_done: bool) {
        let mut trash = Trash::default();
        let now = Instant::now();
        {
            let mut state = self.state();
            state.in_flight = state.in_flight.saturating_sub(1);
            state.used_at = now;
            let may_return = is_done && !slot.is_shared() && !slot.is_alone() && !slot.connection().is_closed();
            if slot.is_shared() {
                state.stream_ended(&slot, now);
                trash.slots.push(slot);
            } else if may_return && slot.connection().is_ready() {
                state.put(slot, &self.settings, now, &mut trash);
            } else if let (true, Ok(runtime)) = (may_return, tokio::runtime::Handle::try_current()) {
                state.returning += 1;
                let pool = Arc::clone(&self);
                drop(state);
                runtime.spawn(come_back(pool, slot));
            } else {
                slot.connection().end();
                trash.slots.push(slot);
            }
        }
        self.ended.notify_waiters();
        // They are counted until they are dropped.
        trash.slots.clear();
        self.serve(&mut self.state(), now, &mut trash);
    }

    fn dialled(&self, outcome: Outcome) {
        let mut trash = Trash::default();
        let mut state = self.state();
        let now = Instant::now();
        state.dialling -= 1;
        match outcome {
            Ok((connection, key)) => {
                state.back_off.succeeded();
                state.key.worked(key, now);
                (state.version, state.mac_time) = (Some(connection.http_version()), Some(connection.mac_time()));
                let slot = Slot::new(connection, key, self.age(), false, &self.open);
                state.put(slot, &self.settings, now, &mut trash);
            }
            Err(error) => {
                tracing::debug!(%error, origin = %self.origin, "no connection");
                let error = Arc::new(error);
                state.failures += 1;
                state.back_off.failed(&error, now, back_off::jitter());
                // Those that stand may become free; of whoever refuses or does not prove itself, nothing more is to be expected.
                if self.open.load(Ordering::Acquire) == 0 || back_off::is_refusal(&error) {
                    for waiter in state.waiting.drain(..) {
                        let _ = waiter.send(Err(PoolError::Connect(Arc::clone(&error))));
                    }
                    self.ended.notify_waiters();
                }
            }
        }
        self.serve(&mut state, now, &mut trash);
        drop(state);
    }

    fn retire(&self, slot: &Arc<Slot>, is_refused: bool) {
        let mut trash = Trash::default();
        let mut state = self.state();
        slot.retire();
        if is_refused {
            state.key.refused(slot.key, self.connectors.len(), Instant::now());
        }
        state.retire(slot, &mut trash);
        drop(state);
    }
}

/// Waits until HTTP/1.1 is done with the request, too. For a moment nobody dials in its stead.
async fn come_back(pool: Arc<Pool>, slot: Arc<Slot>) {
    let held = Arc::clone(&slot);
    let mut ready = Box::pin(async move { held.connection().ready().await });
    let soon = tokio::time::timeout(RETURNING, &mut ready).await;
    {
        let mut trash = Trash::default();
        let mut state = pool.state();
        state.returning -= 1;
        if soon.is_err() {
            pool.serve(&mut state, Instant::now(), &mut trash);
        }
        drop(state);
    }
    let is_ready = match soon {
        Ok(ready) => ready.is_ok(),
        Err(_) => matches!(tokio::time::timeout(UPLOAD_AFTER_ANSWER, &mut ready).await, Ok(Ok(()))),
    };
    drop(ready);
    if !is_ready {
        slot.connection().end();
    }
    pool.returned(slot);
}

/// Ends what idles too long and begins what takes its place, until the pool is gone.
async fn keep_up(pool: Weak<Pool>, tick: Duration) {
    loop {
        tokio::time::sleep(tick).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.keep();
    }
}
