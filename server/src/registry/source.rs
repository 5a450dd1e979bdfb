//! The registry in a database, as the keeper reads it: all of it once, then what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use ekm_otp::KeyId;
use ekm_otp_tower::registry_file::Entry;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::timeout;

use super::database::{Address, CHANNEL, Database, Faulty, Head, PAGE, Place, USES_AT_ONCE, of_sqlx, unknown_registry_key};
use super::health::Status;
use super::registry_key::RegistryKeys;
use super::snapshot::Snapshot;
use crate::error::ServerError;

/// How long connecting may take, and one question each.
const CONNECT: Duration = Duration::from_secs(5);
const ASK: Duration = Duration::from_secs(10);

/// What for a database is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// To serve: one that is away is waited for, and one that is empty is made a registry.
    Serve,
    /// To look whether it could be: it is asked once, and stays as it is.
    Look,
}

pub(crate) struct DatabaseSource {
    opening: Opening,
    address: Address,
    registry_key: PathBuf,
    open: Option<Open>,
    /// What the registry said of itself when it was read last, and the word of that change.
    seen: Option<(Head, Option<String>)>,
    unreadable: BTreeSet<String>,
    /// Last uses that are not written down yet.
    uses: BTreeMap<KeyId, SystemTime>,
}

struct Open {
    database: Database,
    keys: RegistryKeys,
    place: Place,
    listener: Option<PgListener>,
}

impl DatabaseSource {
    pub(crate) fn new(address: Address, registry_key: PathBuf, opening: Opening) -> Self {
        Self { opening, address, registry_key, open: None, seen: None, unreadable: BTreeSet::new(), uses: BTreeMap::new() }
    }

    /// Whether waiting for it may help at the start.
    pub(crate) fn may_come(&self) -> bool {
        self.opening == Opening::Serve && matches!(self.address, Address::Postgres { .. })
    }

    /// Reads those that it needs besides the database.
    pub(crate) fn files(&self) -> Result<(), ServerError> {
        RegistryKeys::read(&self.registry_key)?;
        self.address.postgres_options().map(drop)
    }

    /// Reads what is new. Whether anything was. After an error the connection is made anew: a half-read answer is nobody's.
    pub(crate) async fn refresh(&mut self, snapshot: &Snapshot, status: &Status) -> Result<bool, ServerError> {
        let place = self.address.what_is_there();
        if self.open.as_ref().is_some_and(|open| open.place != place) {
            self.close().await;
        }
        let read = self.read(snapshot, status).await;
        if read.is_err() {
            self.close().await;
        }
        read
    }

    async fn read(&mut self, snapshot: &Snapshot, status: &Status) -> Result<bool, ServerError> {
        if self.open.is_none() {
            self.open = Some(within(CONNECT, self.connect()).await?);
        }
        let Some(open) = &mut self.open else { return Ok(false) };
        let head = within(ASK, open.database.head()).await?;
        if open.keys.get(&head.registry_key).is_none() {
            open.keys = RegistryKeys::read(&self.registry_key)?;
            if open.keys.get(&head.registry_key).is_none() {
                return Err(unknown_registry_key(&head.registry_key, &open.keys));
            }
        }
        if self.seen.as_ref().is_some_and(|(seen, _)| *seen == head) {
            return Ok(false);
        }
        // Before the rows: one that changes meanwhile is read again.
        let mark = within(ASK, open.database.mark(head.change)).await?;
        let is_same_history = match &self.seen {
            Some((seen, known)) => seen.identity == head.identity && within(ASK, open.database.mark(seen.change)).await? == *known,
            None => false,
        };
        match &self.seen {
            Some((seen, _)) if is_same_history => {
                // Key ids have at most 128 ASCII characters: this one comes after all of them.
                let mut after = (seen.change, "\u{7f}".to_owned());
                loop {
                    let page = within(ASK, open.database.changed_after(after.0, &after.1)).await?;
                    let is_last = page.len() < PAGE;
                    for read in page {
                        after = match &read {
                            Ok(sealed) => (sealed.change, sealed.entry.kid.as_str().to_owned()),
                            Err(faulty) => (faulty.change, faulty.kid.clone()),
                        };
                        take(read.and_then(|sealed| sealed.open(&open.keys)), snapshot, &mut self.unreadable);
                    }
                    if is_last {
                        break;
                    }
                }
            }
            seen => {
                let is_first = seen.is_none();
                let (fresh, mut unreadable) = (Snapshot::default(), BTreeSet::new());
                // At the start nobody asks yet: the keys go where they stay.
                let into = if is_first { snapshot } else { &fresh };
                let mut after = String::new();
                loop {
                    let page = within(ASK, open.database.keys_after(&after)).await?;
                    let is_last = page.len() < PAGE;
                    for read in page {
                        after = match &read {
                            Ok(sealed) => sealed.entry.kid.as_str().to_owned(),
                            Err(faulty) => faulty.kid.clone(),
                        };
                        take(read.and_then(|sealed| sealed.open(&open.keys)), into, &mut unreadable);
                    }
                    if is_last {
                        break;
                    }
                }
                if !is_first {
                    snapshot.become_as(fresh);
                }
                self.unreadable = unreadable;
            }
        }
        self.seen = Some((head, mark));
        status.unreadable.store(self.unreadable.len(), Ordering::Relaxed);
        Ok(true)
    }

    async fn connect(&self) -> Result<Open, ServerError> {
        let keys = RegistryKeys::read(&self.registry_key)?;
        let place = self.address.what_is_there();
        // Made at the first start only: what vanished is not replaced by nothing.
        let create = keys.newest().filter(|_| self.seen.is_none() && self.opening == Opening::Serve).map(|key| key.id().to_owned());
        let database = within(CONNECT, self.address.open(create.as_deref())).await?;
        // It may have been made just now.
        let place = place.or_else(|| self.address.what_is_there());
        let listener = match self.address.postgres_options()? {
            Some(options) => {
                let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT).connect_lazy_with(options);
                let mut listener = PgListener::connect_with(&pool).await.map_err(of_sqlx)?;
                listener.eager_reconnect(false);
                listener.listen(CHANNEL).await.map_err(of_sqlx)?;
                Some(listener)
            }
            None => None,
        };
        Ok(Open { database, keys, place, listener })
    }

    /// Ready once the database says that something has changed. Not every one does: it is to be asked besides.
    pub(crate) async fn notified(&mut self) {
        match self.open.as_mut().and_then(|open| open.listener.as_mut()) {
            Some(listener) => {
                if !matches!(listener.try_recv().await, Ok(Some(_))) {
                    // The connection is gone. The next question finds that out, or asking has to do.
                    if let Some(open) = &mut self.open {
                        open.listener = None;
                    }
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Writes down when some keys were used. Whether there are more.
    pub(crate) async fn write_uses(&mut self, snapshot: &Snapshot) -> Result<bool, ServerError> {
        self.uses.extend(snapshot.take_last_uses());
        let uses: Vec<_> = self.uses.iter().take(USES_AT_ONCE).map(|(kid, at)| (kid.clone(), *at)).collect();
        let Some(open) = self.open.as_mut().filter(|_| !uses.is_empty()) else { return Ok(false) };
        if let Err(e) = within(ASK, open.database.write_last_uses(&uses)).await {
            self.close().await;
            return Err(e);
        }
        for (kid, _) in &uses {
            self.uses.remove(kid);
        }
        Ok(!self.uses.is_empty())
    }

    pub(crate) async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            // Where the other end is gone, nobody waits for its farewell.
            let _ = timeout(Duration::from_secs(1), open.database.close()).await;
        }
    }
}

/// Takes one key in. A row that is no key is that key's fault alone: it is refused, and the others go on.
fn take(read: Result<Entry, Faulty>, snapshot: &Snapshot, unreadable: &mut BTreeSet<String>) {
    match read {
        Ok(entry) => {
            unreadable.remove(entry.kid.as_str());
            let (kid, is_succeeded) = (entry.kid.clone(), entry.successor.is_some());
            match entry.into_key() {
                Some(key) => snapshot.put(key, is_succeeded),
                None => drop(snapshot.remove(&kid)),
            }
        }
        Err(Faulty { kid, what, .. }) => {
            tracing::error!(kid = ?kid, what, "a row of the registry's database is no key, and is refused");
            if let Ok(kid) = KeyId::new(&kid) {
                snapshot.remove(&kid);
            }
            unreadable.insert(kid);
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, ServerError>>) -> Result<T, ServerError> {
    let late = || ServerError::Unavailable(format!("the registry's database does not answer within {} seconds", limit.as_secs()));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}
