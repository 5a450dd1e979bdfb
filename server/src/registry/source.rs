//! The registry in a database, as the keeper reads it: all of it once, then what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use ekm_otp::KeyId;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::timeout;

use super::database::{Address, CHANNEL, Database, Head, PAGE, Place, Sealed, of_sqlx, unknown_registry_key};
use super::health::Status;
use super::registry_key::RegistryKeys;
use super::snapshot::Snapshot;
use crate::error::ServerError;

/// How long connecting may take, and one question each.
const CONNECT: Duration = Duration::from_secs(5);
const ASK: Duration = Duration::from_secs(10);

pub(crate) struct DatabaseSource {
    address: Address,
    registry_key: PathBuf,
    open: Option<Open>,
    seen: Option<Head>,
    unreadable: BTreeSet<KeyId>,
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
    pub(crate) fn new(address: Address, registry_key: PathBuf) -> Self {
        Self { address, registry_key, open: None, seen: None, unreadable: BTreeSet::new(), uses: BTreeMap::new() }
    }

    /// Whether waiting for it may help at the start.
    pub(crate) fn may_come(&self) -> bool {
        matches!(self.address, Address::Postgres { .. })
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
            self.open = Some(self.connect().await?);
        }
        let Some(open) = &mut self.open else { return Ok(false) };
        let head = within(ASK, open.database.head()).await?;
        if open.keys.get(&head.registry_key).is_none() {
            open.keys = RegistryKeys::read(&self.registry_key)?;
            if open.keys.get(&head.registry_key).is_none() {
                return Err(unknown_registry_key(&head.registry_key, &open.keys));
            }
        }
        let is_new = match &self.seen {
            Some(seen) if *seen == head => false,
            Some(seen) if seen.identity == head.identity && seen.change <= head.change => {
                let mut after = (seen.change, String::new());
                // Key ids have at most 128 ASCII characters: this one comes after all of them.
                after.1.push('\u{7f}');
                let mut head = head;
                loop {
                    let page = within(ASK, open.database.changed_after(after.0, &after.1)).await?;
                    let is_last = page.len() < PAGE;
                    if let Some(last) = page.last() {
                        after = (last.change, last.entry.kid.as_str().to_owned());
                    }
                    // Opened as a whole before anything of it is believed.
                    let opened = page.into_iter().map(|sealed| sealed.open(&open.keys)).collect::<Result<Vec<_>, _>>()?;
                    opened.into_iter().for_each(|opened| take(opened, snapshot, &mut self.unreadable));
                    if is_last {
                        break;
                    }
                }
                head.change = head.change.max(after.0);
                self.seen = Some(head);
                true
            }
            seen => {
                let is_first = seen.is_none();
                let (fresh, mut unreadable) = (Snapshot::default(), BTreeSet::new());
                // At the start nobody asks yet: the keys go where they stay.
                let into = if is_first { snapshot } else { &fresh };
                let keys = &open.keys;
                open.database
                    .each_key(false, |sealed: Sealed| {
                        take(sealed.open(keys)?, into, &mut unreadable);
                        Ok(())
                    })
                    .await?;
                if !is_first {
                    snapshot.become_as(fresh);
                }
                self.unreadable = unreadable;
                self.seen = Some(head);
                true
            }
        };
        status.unreadable.store(self.unreadable.len(), Ordering::Relaxed);
        Ok(is_new)
    }

    async fn connect(&self) -> Result<Open, ServerError> {
        let keys = RegistryKeys::read(&self.registry_key)?;
        let place = self.address.what_is_there();
        // Made at the first start only: what vanished is not replaced by nothing.
        let create = keys.newest().filter(|_| self.seen.is_none()).map(|key| key.id().to_owned());
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

    /// Writes down which keys were used when.
    pub(crate) async fn write_uses(&mut self, snapshot: &Snapshot) -> Result<(), ServerError> {
        self.uses.extend(snapshot.take_last_uses());
        let uses: Vec<_> = self.uses.iter().map(|(kid, at)| (kid.clone(), *at)).collect();
        if let Some(open) = self.open.as_mut().filter(|_| !uses.is_empty()) {
            if let Err(e) = within(ASK, open.database.write_last_uses(&uses)).await {
                self.close().await;
                return Err(e);
            }
            self.uses.clear();
        }
        Ok(())
    }

    pub(crate) async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            // Where the other end is gone, nobody waits for its farewell.
            let _ = timeout(Duration::from_secs(1), open.database.close()).await;
        }
    }
}

/// Takes one key in. One that does not open is no key: somebody changed it, and who it was is not known.
fn take(opened: Result<ekm_otp_tower::registry_file::Entry, KeyId>, snapshot: &Snapshot, unreadable: &mut BTreeSet<KeyId>) {
    match opened {
        Ok(entry) => {
            unreadable.remove(&entry.kid);
            let (kid, successor) = (entry.kid.clone(), entry.successor.clone());
            match entry.into_key() {
                Some(key) => snapshot.put(key, successor),
                None => drop(snapshot.remove(&kid)),
            }
        }
        Err(kid) => {
            tracing::error!(%kid, "the registry's database: the secret of this key does not open, so that its row was changed by somebody else: the key is refused");
            snapshot.remove(&kid);
            unreadable.insert(kid);
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, ServerError>>) -> Result<T, ServerError> {
    let late = || ServerError::Unavailable(format!("the registry's database does not answer within {} seconds", limit.as_secs()));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}
