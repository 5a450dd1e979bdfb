//! The registry as the key commands see it: records that are listed, and changed together or not at all. The same over all engines.

use std::time::Duration;

use ekm_otp::KeyId;
use ekm_otp_tower::registry_file::{Entry, KeyState, read};

use super::config::{Config, Location};
use super::database::{Address, CHANNEL, Database, NOT_UNIQUE, PAGE, Read, Value, unknown_registry_key};
use super::edit::{Edit, Entries};
use super::file::of_file;
use super::registry_key::{RegistryKey, RegistryKeys};
use super::rewrite;
use crate::error::ServerError;

/// How long a database may take to answer.
const OPEN: Duration = Duration::from_secs(20);

/// An open registry, for looking at and for changing.
pub(crate) enum Records {
    File { path: std::path::PathBuf, weak: bool },
    Database { database: Box<Database>, keys: RegistryKeys, config: Box<Config> },
}

impl Records {
    /// Opens it. A database that is not there yet is made.
    pub(crate) async fn open(config: &Config) -> Result<Self, ServerError> {
        match &config.location {
            Location::File(path) => Ok(Self::File { path: path.clone(), weak: config.weak_secrets }),
            Location::Database { address, registry_key } => {
                let keys = RegistryKeys::read(registry_key)?;
                let newest = keys.newest().map(|key| key.id().to_owned());
                let late =
                    || ServerError::Unavailable(format!("the registry's database does not answer within {} seconds", OPEN.as_secs()));
                let opening = tokio::time::timeout(OPEN, Address::open(address, newest.as_deref()));
                let mut database = opening.await.unwrap_or_else(|_| Err(late()))?;
                if matches!(database, Database::Sqlite(_)) {
                    // KiB: a fingerprint lies anywhere in its index, and thousands of new ones would read and write each page again and again.
                    database.execute("PRAGMA cache_size = -131072", &[]).await?;
                }
                if matches!(database, Database::Postgres(_)) {
                    // Another writer, an import say, is waited for, but not for ever.
                    database.execute("SET lock_timeout = '60s'", &[]).await?;
                }
                let head = database.head().await?;
                keys.get(&head.registry_key).ok_or_else(|| unknown_registry_key(&head.registry_key, &keys))?;
                Ok(Self::Database { database: Box::new(database), keys, config: Box::new(config.clone()) })
            }
        }
    }

    /// All keys, those that were removed as well, secrets included where they are asked for.
    pub(crate) async fn list(&mut self, with_secrets: bool) -> Result<Vec<Entry>, ServerError> {
        match self {
            Self::File { path, weak } => {
                let mut list = read::<Entries>(&path, *weak).map_err(of_file)?.list;
                if !with_secrets {
                    list.iter_mut().for_each(|entry| entry.secret = None);
                }
                list.sort_by(|a, b| a.kid.cmp(&b.kid));
                Ok(list)
            }
            Self::Database { database, keys, .. } => {
                let mut list = Vec::new();
                each_key(database, |read| {
                    let sealed = read.map_err(super::database::Faulty::into_error)?;
                    list.push(if with_secrets { sealed.open(keys).map_err(super::database::Faulty::into_error)? } else { sealed.entry });
                    Ok(())
                })
                .await?;
                Ok(list)
            }
        }
    }

    /// One key, without its secret.
    pub(crate) async fn find(&mut self, kid: &KeyId) -> Result<Entry, ServerError> {
        self.look_up(kid).await?.ok_or_else(|| Edit::no_such(kid))
    }

    /// The same; `None` only where it is known that there is none.
    pub(crate) async fn look_up(&mut self, kid: &KeyId) -> Result<Option<Entry>, ServerError> {
        match self {
            Self::File { path, .. } if !path.exists() => Ok(None),
            Self::File { .. } => Ok(self.list(false).await?.into_iter().find(|entry| entry.kid == *kid)),
            Self::Database { database, .. } => match database.key(kid).await? {
                Some(read) => Ok(Some(read.map_err(super::database::Faulty::into_error)?.entry)),
                None => Ok(None),
            },
        }
    }

    /// One key, with its secret.
    pub(crate) async fn with_secret(&mut self, kid: &KeyId) -> Result<Option<Entry>, ServerError> {
        match self {
            Self::File { .. } => Ok(self.list(true).await?.into_iter().find(|entry| entry.kid == *kid)),
            Self::Database { database, keys, .. } => {
                let read = database.key(kid).await?;
                let opened = read.map(|read| read.and_then(|sealed| sealed.open(keys)));
                opened.transpose().map_err(super::database::Faulty::into_error)
            }
        }
    }

    /// `name-2` of `name`, `name-3` of `name-2`; the first that is free.
    pub(crate) async fn next_kid(&mut self, old: &KeyId) -> Result<KeyId, ServerError> {
        let counted = old.as_str().rsplit_once('-').and_then(|(stem, number)| Some((stem, number.parse::<u32>().ok()?)));
        let (stem, mut number) = counted.unwrap_or((old.as_str(), 1));
        loop {
            number = number.saturating_add(1);
            let kid = KeyId::new(&format!("{stem}-{number}"))
                .map_err(|e| ServerError::Config(format!("no name can be made of {old} ({e}): give one with --new-kid")))?;
            if number == u32::MAX || self.look_up(&kid).await?.is_none() {
                return Ok(kid);
            }
        }
    }

    /// The same as [`look_up`](Self::look_up), asked anew: the connection may be what failed.
    pub(crate) async fn look_up_anew(&mut self, kid: &KeyId) -> Result<Option<Entry>, ServerError> {
        if let Self::Database { config, .. } = self {
            *self = Box::pin(Self::open(&config.clone())).await?;
        }
        self.look_up(kid).await
    }

    /// Makes all these changes, or none.
    pub(crate) async fn apply(&mut self, edits: Vec<Edit>) -> Result<(), ServerError> {
        match self {
            Self::File { path, weak } => rewrite::apply(path, *weak, edits),
            Self::Database { database, keys, .. } => {
                let (mut added, mut others) = (Vec::new(), Vec::new());
                for edit in edits {
                    match edit {
                        Edit::Add(entry) => added.push(*entry),
                        other => others.push(other),
                    }
                }
                database.begin().await?;
                let done = write(database, keys, &added, others).await;
                if done.is_err() {
                    database.roll_back().await;
                }
                match done {
                    Err(ServerError::Config(why)) if why == NOT_UNIQUE => Err(explain(database, keys, &added).await),
                    done => done,
                }
            }
        }
    }

    /// Seals all secrets with the newest key of the registry keys' file. Whether there was anything to do, and that key's id.
    pub(crate) async fn rekey(&mut self) -> Result<(usize, String), ServerError> {
        let Self::Database { database, keys, .. } = self else {
            return Err(ServerError::Config("a registry file has no registry key: its secrets are not sealed".into()));
        };
        let Some(new) = keys.newest() else { return Err(ServerError::Other("no registry key".into())) };
        database.begin().await?;
        match seal_anew(database, keys, new).await {
            Ok(sealed) => Ok((sealed, new.id().to_owned())),
            Err(e) => {
                database.roll_back().await;
                Err(e)
            }
        }
    }

    pub(crate) async fn close(self) {
        if let Self::Database { database, .. } = self {
            database.close().await;
        }
    }
}

async fn each_key(database: &mut Database, mut with: impl FnMut(Read) -> Result<(), ServerError>) -> Result<(), ServerError> {
    let mut after = String::new();
    loop {
        let page = database.keys_after(&after).await?;
        let is_last = page.len() < PAGE;
        for read in page {
            after = match &read {
                Ok(sealed) => sealed.entry.kid.as_str().to_owned(),
                Err(faulty) => faulty.kid.clone(),
            };
            with(read)?;
        }
        if is_last {
            return Ok(());
        }
    }
}

async fn finish(database: &mut Database) -> Result<(), ServerError> {
    if matches!(database, Database::Postgres(_)) {
        database.execute("SELECT pg_notify($1, '')", &[Value::text(CHANNEL)]).await?;
    }
    database.commit().await
}

async fn write(database: &mut Database, keys: &RegistryKeys, added: &[Entry], others: Vec<Edit>) -> Result<(), ServerError> {
    let (change, registry_key) = database.next_change().await?;
    let key = keys.get(&registry_key).ok_or_else(|| unknown_registry_key(&registry_key, keys))?;
    database.insert_keys(added, key, change).await?;
    for edit in others {
        let kid = edit.kid().clone();
        if matches!(edit, Edit::Remove(_)) {
            // It needs no look at what is there: a row that somebody else changed can be taken away.
            if database.remove_key(&kid, change).await? != 1 {
                return Err(Edit::no_such(&kid));
            }
            continue;
        }
        let read = database.key(&kid).await?.ok_or_else(|| Edit::no_such(&kid))?;
        let opened = read.and_then(|sealed| sealed.open(keys));
        let mut entry = opened.map_err(super::database::Faulty::into_error)?;
        if entry.state == KeyState::Removed {
            return Err(Edit::no_such(&kid));
        }
        edit.change(&mut entry)?;
        database.update_key(&entry, key, change).await?;
    }
    finish(database).await
}

/// Which of these is there already.
async fn explain(database: &mut Database, keys: &RegistryKeys, added: &[Entry]) -> ServerError {
    match find_double(database, keys, added).await {
        Ok(why) => ServerError::Config(why),
        Err(e) => e,
    }
}

async fn find_double(database: &mut Database, keys: &RegistryKeys, added: &[Entry]) -> Result<String, ServerError> {
    let head = database.head().await?;
    for entry in added {
        if let Some(there) = database.key(&entry.kid).await? {
            let was = if there.is_ok_and(|there| there.entry.state == KeyState::Removed) {
                "was registered before, and is never bound to another secret"
            } else {
                "is registered already"
            };
            return Ok(format!("the key id {} {was}", entry.kid));
        }
        let Some((key, secret)) = keys.get(&head.registry_key).zip(entry.secret.as_ref()) else { continue };
        if let Some(other) = database.holder_of(key, secret).await? {
            return Ok(format!("the secret of {} is the same as that of {other}: each key id needs a secret of its own", entry.kid));
        }
    }
    Ok("a key id, or a secret, stands twice among the new keys".to_owned())
}

async fn seal_anew(database: &mut Database, keys: &RegistryKeys, new: &RegistryKey) -> Result<usize, ServerError> {
    let (_, old) = database.next_change().await?;
    if old == new.id() {
        database.roll_back().await;
        return Ok(0);
    }
    let mut list = Vec::new();
    each_key(database, |read| {
        let sealed = read.map_err(super::database::Faulty::into_error)?;
        let change = sealed.change;
        list.push((sealed.open(keys).map_err(super::database::Faulty::into_error)?, change));
        Ok(())
    })
    .await?;
    list.retain(|(entry, _)| entry.secret.is_some());
    for (entry, change) in &list {
        // The keys are what they were: their rows keep their change, and nobody reads them again.
        database.update_key(entry, new, *change).await?;
    }
    database.execute("UPDATE ekm_otp_registry SET registry_key = $1", &[Value::text(new.id())]).await?;
    finish(database).await?;
    Ok(list.len())
}
