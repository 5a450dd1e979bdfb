//! The registry as the key commands see it: records that are listed, and changed together or not at all. The same over all engines.

use std::time::Duration;

use ekm_otp::KeyId;
use ekm_otp_tower::registry_file::{Entry, KeyState, read};

use super::config::{Config, Location};
use super::database::{Address, CHANNEL, Database, NOT_UNIQUE, Value, seconds, unknown_registry_key};
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
    Database { database: Box<Database>, keys: RegistryKeys },
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
                let head = database.head().await?;
                keys.get(&head.registry_key).ok_or_else(|| unknown_registry_key(&head.registry_key, &keys))?;
                Ok(Self::Database { database: Box::new(database), keys })
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
            Self::Database { database, keys } => {
                let mut list = Vec::new();
                let each = |sealed: super::database::Sealed| {
                    list.push(if with_secrets { sealed.open(keys)?.map_err(|kid| unreadable(&kid))? } else { sealed.entry });
                    Ok(())
                };
                database.each_key(true, each).await?;
                Ok(list)
            }
        }
    }

    /// One key, without its secret.
    pub(crate) async fn find(&mut self, kid: &KeyId) -> Result<Entry, ServerError> {
        let found = match self {
            Self::File { .. } => self.list(false).await?.into_iter().find(|entry| entry.kid == *kid),
            Self::Database { database, .. } => database.key(kid).await?.map(|sealed| sealed.entry),
        };
        found.ok_or_else(|| Edit::no_such(kid))
    }

    /// Makes all these changes, or none.
    pub(crate) async fn apply(&mut self, edits: Vec<Edit>) -> Result<(), ServerError> {
        match self {
            Self::File { path, weak } => rewrite::apply(path, *weak, edits),
            Self::Database { database, keys } => {
                let (mut added, mut others) = (Vec::new(), Vec::new());
                for edit in edits {
                    match edit {
                        Edit::Add(entry) => added.push(*entry),
                        other => others.push(other),
                    }
                }
                database.begin().await?;
                let done = write(database, keys, &added, &others).await;
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
        let Self::Database { database, keys } = self else {
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

fn unreadable(kid: &KeyId) -> ServerError {
    ServerError::Config(format!("the secret of {kid} does not open: somebody changed its row in the database"))
}

/// Counts the change up, which keeps other writers out until the end, and tells which registry key is in use.
async fn next_change(database: &mut Database) -> Result<(i64, String), ServerError> {
    // What a newer program made is refused here, too.
    database.head().await?;
    let row = database.first("UPDATE ekm_otp_registry SET change = change + 1 RETURNING change, registry_key", &[]).await?;
    let row = row.ok_or_else(|| ServerError::Config("the registry's database is empty: its table ekm_otp_registry has no row".into()))?;
    Ok((row.int(0)?, row.text(1)?))
}

async fn finish(database: &mut Database) -> Result<(), ServerError> {
    if matches!(database, Database::Postgres(_)) {
        database.execute("SELECT pg_notify($1, '')", &[Value::text(CHANNEL)]).await?;
    }
    database.commit().await
}

async fn write(database: &mut Database, keys: &RegistryKeys, added: &[Entry], others: &[Edit]) -> Result<(), ServerError> {
    let (change, registry_key) = next_change(database).await?;
    let key = keys.get(&registry_key).ok_or_else(|| unknown_registry_key(&registry_key, keys))?;
    database.insert_keys(added, key, change).await?;
    for edit in others {
        let (set, mut values) = match edit {
            Edit::Add(_) => continue,
            Edit::State(_, state) => ("state = $3", vec![Value::text(state.as_str())]),
            Edit::Succeed { successor, not_after, .. } => {
                ("successor = $3, not_after = $4", vec![Value::text(successor.as_str()), Value::int(seconds(*not_after))])
            }
            Edit::Remove(_) => {
                ("state = 'removed', secret = NULL, sealed_with = NULL, fingerprint = NULL, successor = NULL, comment = NULL", Vec::new())
            }
        };
        values.splice(0..0, [Value::text(edit.kid().as_str()), Value::int(change)]);
        let sql = format!("UPDATE ekm_otp_key SET change = $2, {set} WHERE kid = $1 AND state <> 'removed'");
        if database.execute(&sql, &values).await? != 1 {
            return Err(Edit::no_such(edit.kid()));
        }
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
            let was = if there.entry.state == KeyState::Removed {
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
    let (_, old) = next_change(database).await?;
    if old == new.id() {
        database.roll_back().await;
        return Ok(0);
    }
    let mut list = Vec::new();
    let each = |sealed: super::database::Sealed| {
        list.push(sealed.open(keys)?.map_err(|kid| unreadable(&kid))?);
        Ok(())
    };
    database.each_key(false, each).await?;
    for entry in &list {
        let Some(secret) = &entry.secret else { continue };
        let values = [
            Value::text(entry.kid.as_str()),
            Value::Bytes(Some(new.seal(entry, secret)?)),
            Value::text(new.id()),
            Value::Bytes(Some(new.fingerprint(secret))),
        ];
        database.execute("UPDATE ekm_otp_key SET secret = $2, sealed_with = $3, fingerprint = $4 WHERE kid = $1", &values).await?;
    }
    // The keys are what they were: their rows keep their change, and nobody reads them again.
    database.execute("UPDATE ekm_otp_registry SET registry_key = $1", &[Value::text(new.id())]).await?;
    finish(database).await?;
    Ok(list.len())
}
