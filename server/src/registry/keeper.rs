//! The thread that keeps the snapshot fresh: nothing of it is done on the threads that serve.

use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::time::{Duration, SystemTime};

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::config::{Config, Location};
use super::file::FileSource;
use super::health::Status;
use super::snapshot::Snapshot;
use super::source::{DatabaseSource, Opening};
use crate::error::ServerError;

/// How often the source is looked at, and expired keys for: what changed is seen within a second.
const TICK: Duration = Duration::from_millis(400);
/// How long the time between tries grows while the source cannot be read.
const BACK_OFF: Duration = Duration::from_secs(5);
/// How often it is written down when keys were last used.
const USES: Duration = Duration::from_secs(60);
/// How long the end waits for what is to be written down.
const FAREWELL: Duration = Duration::from_secs(4);
/// How long a database on another machine may be away at the start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is told that it is waited for.
const TELL: Duration = Duration::from_secs(10);

/// Reads the source now. Answers whether anything was read.
type Demand = oneshot::Sender<Result<bool, ServerError>>;

pub(crate) struct Keeper {
    /// Tells of the thread's end; once it has read the source.
    ended: Option<Mutex<blocking::Receiver<()>>>,
    demands: Option<mpsc::Sender<Demand>>,
}

enum Source {
    File(FileSource),
    Database(Box<DatabaseSource>),
}

impl Source {
    async fn refresh(&mut self, snapshot: &Snapshot, status: &Status, always: bool) -> Result<bool, ServerError> {
        match self {
            Self::File(file) => file.refresh(snapshot, always),
            Self::Database(database) => database.refresh(snapshot, status).await,
        }
    }

    /// At the start: what may come yet is waited for.
    async fn first(&mut self, snapshot: &Snapshot, status: &Status) -> Result<bool, ServerError> {
        if let Self::Database(source) = self {
            // Files of this machine do not come by waiting.
            source.files()?;
        }
        let (until, mut tell_at) = (Instant::now() + PATIENCE, Instant::now());
        loop {
            match (self.refresh(snapshot, status, true).await, &*self) {
                (Err(why @ ServerError::Unavailable(_)), Self::Database(source)) if source.may_come() && Instant::now() < until => {
                    if Instant::now() >= tell_at {
                        tracing::warn!(%why, "waiting for the registry's database, for up to {} seconds", PATIENCE.as_secs());
                        tell_at += TELL;
                    }
                    sleep(Duration::from_secs(1)).await;
                }
                (read, _) => return read,
            }
        }
    }

    async fn notified(&mut self) {
        match self {
            Self::File(_) => std::future::pending().await,
            Self::Database(database) => database.notified().await,
        }
    }

    /// Whether there is more to write: in between, changes are looked for.
    async fn write_uses(&mut self, snapshot: &Snapshot) -> bool {
        let Self::Database(database) = self else { return false };
        database.write_uses(snapshot).await.unwrap_or_else(|why| {
            tracing::warn!(%why, "it was not written down when keys were last used: later");
            false
        })
    }
}

impl Keeper {
    /// Reads the source, then keeps the snapshot fresh until it is dropped.
    pub(crate) async fn start(
        config: &Config,
        snapshot: &Arc<Snapshot>,
        status: &Arc<Status>,
        opening: Opening,
    ) -> Result<Self, ServerError> {
        let (demands, demanded) = mpsc::channel(1);
        let (first, read) = oneshot::channel();
        let (snapshot, status) = (Arc::clone(snapshot), Arc::clone(status));
        let source = match &config.location {
            Location::File(path) => Source::File(FileSource::new(path.clone(), config.weak_secrets)),
            Location::Database { address, registry_key } => {
                Source::Database(Box::new(DatabaseSource::new(address.clone(), registry_key.clone(), opening)))
            }
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| ServerError::Other(format!("cannot start the registry's runtime: {e}")))?;
        let thread = std::thread::Builder::new().name("registry".into());
        let (end, ended) = blocking::sync_channel(1);
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = keep(source, &snapshot, &status, first, demanded) => {}
                    () = cut_expired(&snapshot) => {}
                }
            });
            let _ = end.send(());
        });
        thread.map_err(|e| ServerError::Other(format!("cannot start the registry's thread: {e}")))?;
        // Until the first reading has come to its end nobody waits for the thread: what it reads may never come.
        let mut keeper = Self { ended: None, demands: Some(demands) };
        read.await.unwrap_or_else(|_| Err(gone()))?;
        keeper.ended = Some(Mutex::new(ended));
        Ok(keeper)
    }

    pub(crate) async fn refresh(&self) -> Result<bool, ServerError> {
        let (demand, answer) = oneshot::channel();
        let demands = self.demands.as_ref().ok_or_else(gone)?;
        demands.send(demand).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> ServerError {
    ServerError::Other("the registry's thread has ended".into())
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It ends once nobody can demand anything.
        self.demands = None;
        if let Some(ended) = &self.ended {
            let _ = ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(FAREWELL);
        }
    }
}

/// Beside all else: a database that does not answer keeps no expired key alive.
async fn cut_expired(snapshot: &Snapshot) {
    loop {
        sleep(TICK).await;
        snapshot.cut_expired(SystemTime::now());
    }
}

async fn keep(
    mut source: Source,
    snapshot: &Snapshot,
    status: &Status,
    first: oneshot::Sender<Result<bool, ServerError>>,
    mut demanded: mpsc::Receiver<Demand>,
) {
    // Whoever opens the registry may give up before.
    let mut first = first;
    let read = tokio::select! {
        read = source.first(snapshot, status) => read,
        () = first.closed() => return,
    };
    let has_failed = read.is_err();
    if read.is_ok() {
        status.is_fresh();
    }
    let _ = first.send(read);
    if has_failed {
        return;
    }
    let (mut pause, mut uses_at) = (TICK, Instant::now() + USES);
    loop {
        let demand = tokio::select! {
            demand = demanded.recv() => match demand {
                Some(demand) => Some(demand),
                None => break,
            },
            () = source.notified() => None,
            () = sleep(pause) => None,
            () = sleep_until(uses_at) => {
                let is_more = source.write_uses(snapshot).await;
                uses_at = Instant::now() + if is_more { TICK } else { USES };
                None
            }
        };
        let read = source.refresh(snapshot, status, demand.is_some()).await;
        pause = if read.is_ok() { TICK } else { (pause * 2).min(BACK_OFF).mul_f64(jitter()) };
        match &read {
            Ok(is_new) => {
                if status.is_fresh() {
                    tracing::info!(keys = snapshot.len(), "the registry can be read again");
                } else if *is_new {
                    tracing::debug!(keys = snapshot.len(), "the registry has changed");
                }
            }
            Err(why) if status.fails(why) => {
                tracing::error!(%why, "the registry cannot be read: what was read before goes on");
            }
            Err(_) => {}
        }
        if let Some(demand) = demand {
            let _ = demand.send(read);
        }
    }
    let last = async {
        while source.write_uses(snapshot).await {}
        if let Source::Database(database) = &mut source {
            database.close().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(3), last).await;
}

/// Between 0.75 and 1.25, so that a fleet does not come back in step.
fn jitter() -> f64 {
    let mut byte = [128];
    // Without randomness in step: no harm for one node.
    let _ = getrandom::fill(&mut byte);
    0.75 + f64::from(byte[0]) / 512.0
}
