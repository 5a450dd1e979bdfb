//! The thread that keeps the snapshot fresh: nothing of it is done on the threads that serve.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

use super::config::{Config, Location};
use super::file::FileSource;
use super::health::Status;
use super::snapshot::Snapshot;
use crate::error::ServerError;

/// How often the source is looked at, and expired keys for: what changed is seen within a second.
const TICK: Duration = Duration::from_millis(400);

/// Reads the source now. Answers whether anything was read.
pub(crate) type Demand = oneshot::Sender<Result<bool, ServerError>>;

pub(crate) struct Keeper {
    thread: Option<JoinHandle<()>>,
    demands: Option<mpsc::Sender<Demand>>,
}

impl Keeper {
    /// Reads the source, then keeps the snapshot fresh until it is dropped.
    pub(crate) async fn start(config: &Config, snapshot: &Arc<Snapshot>, status: &Arc<Status>) -> Result<Self, ServerError> {
        let (demands, demanded) = mpsc::channel(1);
        let (first, read) = oneshot::channel();
        let (snapshot, status) = (Arc::clone(snapshot), Arc::clone(status));
        let source = match &config.location {
            Location::File(path) => FileSource::new(path.clone(), config.weak_secrets),
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| ServerError::Other(format!("cannot start the registry's runtime: {e}")))?;
        let thread = std::thread::Builder::new().name("registry".into());
        let thread = thread
            .spawn(move || runtime.block_on(keep(source, &snapshot, &status, first, demanded)))
            .map_err(|e| ServerError::Other(format!("cannot start the registry's thread: {e}")))?;
        let keeper = Self { thread: Some(thread), demands: Some(demands) };
        read.await.unwrap_or_else(|_| Err(gone()))?;
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
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn keep(
    mut source: FileSource,
    snapshot: &Snapshot,
    status: &Status,
    first: oneshot::Sender<Result<bool, ServerError>>,
    mut demanded: mpsc::Receiver<Demand>,
) {
    let read = source.refresh(snapshot, true);
    let has_failed = read.is_err();
    if read.is_ok() {
        status.is_fresh();
    }
    // Whoever waited may be gone: then nobody demands anything, either.
    let _ = first.send(read);
    if has_failed {
        return;
    }
    loop {
        let demand = tokio::select! {
            demand = demanded.recv() => match demand {
                Some(demand) => Some(demand),
                None => return,
            },
            () = tokio::time::sleep(TICK) => None,
        };
        snapshot.cut_expired(SystemTime::now());
        let read = source.refresh(snapshot, demand.is_some());
        match &read {
            Ok(is_new) => {
                let was_away = status.is_fresh();
                if *is_new || was_away {
                    tracing::info!(keys = snapshot.len(), "the registry was read again");
                }
            }
            Err(why) if status.fails(why.to_string()) => {
                tracing::error!(%why, "the registry cannot be read: what was read before goes on");
            }
            Err(_) => {}
        }
        if let Some(demand) = demand {
            let _ = demand.send(read);
        }
    }
}
