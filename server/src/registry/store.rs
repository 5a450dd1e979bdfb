//! The registry as the middleware asks it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ekm_otp::KeyId;
use ekm_otp_tower::{RegisteredKey, SecretStore, StoreUnavailable};

use super::config::{Config, Location};
use super::database::Address;
use super::file;
use super::health::{Engine, Health, Overlap, Status};
use super::keeper::Keeper;
use super::snapshot::Snapshot;
use super::source::Opening;
use crate::error::ServerError;

/// It is asked 2.5 times a second, and each question has its deadline: this is more than one that is late.
const LATE: Duration = Duration::from_secs(15);

/// The open registry. It keeps itself fresh, on a thread of its own, until it is dropped.
pub(crate) struct Registry {
    snapshot: Arc<Snapshot>,
    status: Arc<Status>,
    pub(super) config: Arc<Config>,
    engine: Engine,
    keeper: Keeper,
    /// Held by who changes it for a client.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Registry {
    /// Reads all of it. With a million keys that takes seconds.
    pub(crate) async fn open(config: &Config) -> Result<Self, ServerError> {
        Self::open_to(config, Opening::Serve).await
    }

    /// The same, only to look at it: nothing is waited for, and nothing is made.
    pub(crate) async fn look(config: &Config) -> Result<Self, ServerError> {
        Self::open_to(config, Opening::Look).await
    }

    async fn open_to(config: &Config, opening: Opening) -> Result<Self, ServerError> {
        let (snapshot, status) = (Arc::new(Snapshot::default()), Arc::new(Status::new()));
        let keeper = Keeper::start(config, &snapshot, &status, opening).await?;
        let engine = match config.location {
            Location::File(_) => Engine::File,
            Location::Database { address: Address::Sqlite(_), .. } => Engine::Sqlite,
            Location::Database { address: Address::Postgres { .. }, .. } => Engine::Postgres,
        };
        Ok(Self { snapshot, status, engine, config: Arc::new(config.clone()), keeper, changing: tokio::sync::Mutex::default() })
    }

    /// Reads it now, if it may have changed (a file in any case). It is looked at each second anyway: for whoever wants to know that it worked.
    /// Whether anything was read.
    pub(crate) async fn refresh(&self) -> Result<bool, ServerError> {
        self.keeper.refresh().await
    }

    /// Whether it could be read now: for whoever replaces several things at once, or none, before [`refresh`](Self::refresh). Nothing of what is
    /// read is kept: it would be older than what the keeper may have read meanwhile, and could bring a revoked key back.
    pub(crate) async fn validate(&self) -> Result<(), ServerError> {
        if let Location::File(path) = self.config.location.clone() {
            let weak_secrets = self.config.weak_secrets;
            let reading = tokio::task::spawn_blocking(move || file::read(&path, weak_secrets));
            reading.await.unwrap_or_else(|e| Err(ServerError::Other(format!("reading the registry failed: {e}"))))?;
        }
        Ok(())
    }

    /// How it is.
    pub(crate) fn health(&self) -> Health {
        let (fault, is_away) = self.status.fault();
        Health {
            engine: self.engine,
            // Whatever keeps its thread from asking: what is not known is not well.
            is_reachable: fault.is_none() && self.status.age() < LATE,
            age: self.status.age(),
            is_stale: self.is_stale(),
            keys: self.snapshot.len(),
            in_overlap: self.snapshot.in_overlap(),
            unreadable: self.status.unreadable.load(Ordering::Relaxed),
            fault,
            is_away,
        }
    }

    /// The keys whose place a successor took, and that are still valid: who still uses the old one.
    pub(crate) fn overlaps(&self) -> Vec<Overlap> {
        self.snapshot.overlaps()
    }

    /// How many keys there are, revoked ones included.
    pub(crate) fn len(&self) -> usize {
        self.snapshot.len()
    }

    /// How many keys are such. Looks at each.
    pub(crate) fn count(&self, is_such: impl Fn(&RegisteredKey) -> bool) -> usize {
        self.snapshot.count(is_such)
    }

    fn is_stale(&self) -> bool {
        self.config.max_staleness.is_some_and(|most| self.status.age() > most)
    }
}

impl SecretStore for Registry {
    fn get(&self, kid: &KeyId) -> Result<Option<Arc<RegisteredKey>>, StoreUnavailable> {
        if self.is_stale() {
            return Err(StoreUnavailable("what was read of it is older than max_staleness allows".into()));
        }
        Ok(self.snapshot.get(kid))
    }
}
