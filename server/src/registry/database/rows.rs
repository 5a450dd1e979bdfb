//! Keys as rows: read, and written.

use std::time::{Duration, SystemTime};

use ekm_otp::{KeyId, Secret, ServerName};
use ekm_otp_tower::registry_file::{Entry, KeyState};

use super::{Database, Row, Value};
use crate::error::ServerError;
use crate::registry::registry_key::{NotOpened, RegistryKey, RegistryKeys, names_as_text, seconds};

const COLUMNS: &str = "kid, client, secret, sealed_with, credential, profile, state, not_before, not_after, server_names, successor, created, \
                       last_use, comment, change, enrol_by, enrolled";
/// The same without the change, and with the fingerprint.
const WRITTEN: &str = "kid, client, secret, sealed_with, fingerprint, credential, profile, state, not_before, not_after, server_names, \
                       successor, created, last_use, comment, change, enrol_by, enrolled";
const WRITTEN_COUNT: usize = 18;
/// How many rows one statement writes: SQLite looks each parameter up among all before it, so that ten times as many take a hundred times as long.
const AT_ONCE: usize = 50;
/// How many last uses one statement writes. They have two parameters each.
pub(crate) const USES_AT_ONCE: usize = 400;
/// How many rows one question for changes gets.
pub(crate) const PAGE: usize = 5000;

/// A key as it stands in the database.
pub(crate) struct Sealed {
    pub(crate) entry: Entry,
    /// With the id of the registry key that it is sealed with; `None` of a key that was removed.
    secret: Option<(Vec<u8>, String)>,
    pub(crate) change: i64,
}

/// A row that is no key: somebody else wrote it, or changed it.
pub(crate) struct Faulty {
    /// As it stands there.
    pub(crate) kid: String,
    pub(crate) change: i64,
    pub(crate) what: String,
}

/// A row, whatever it holds.
pub(crate) type Read = Result<Sealed, Faulty>;

impl Sealed {
    fn of(row: &Row) -> Result<Read, ServerError> {
        let (kid, change) = (row.text(0)?, row.int(14)?);
        Ok(Self::columns(row, &kid, change).map_err(|what| Faulty { kid, change, what: what.to_owned() }))
    }

    fn columns(row: &Row, kid: &str, change: i64) -> Result<Self, &'static str> {
        let text = |column, what| row.text(column).map_err(|_| what);
        let at = |column, what| row.int_or_none(column).map(|at| at.map(instant)).map_err(|_| what);
        let (kid, client) = (KeyId::new(kid).map_err(|_| "its key id is none")?, text(1, "its client is no text")?);
        let mut entry = Entry::new(kid, client, None);
        entry.minimum = text(4, "its credential is none")?.parse().map_err(|_| "its credential is none")?;
        entry.profile = text(5, "its profile is none")?.parse().map_err(|_| "its profile is none")?;
        entry.state = text(6, "its state is none")?.parse().map_err(|_| "its state is none")?;
        entry.not_before = at(7, "its not_before is no time")?;
        entry.not_after = at(8, "its not_after is no time")?;
        let name = |name: &str| if name == "-" { Ok(ServerName::none()) } else { ServerName::from_host(name) };
        let names = text(9, "its server names are no text")?;
        let names = names.split_ascii_whitespace().map(name).collect::<Result<_, _>>();
        entry.server_names = names.map_err(|_| "one of its server names is none")?;
        let successor = row.text_or_none(10).map_err(|_| "its successor is no text")?;
        entry.successor = successor.map(|kid| KeyId::new(&kid)).transpose().map_err(|_| "its successor is no key id")?;
        entry.created = at(11, "when it was made is no time")?;
        entry.last_use = at(12, "its last use is no time")?;
        entry.comment = row.text_or_none(13).map_err(|_| "its comment is no text")?;
        entry.enrol_by = at(15, "its enrol_by is no time")?;
        entry.enrolled = at(16, "its enrolled is no time")?;
        let secret = row.bytes_or_none(2).map_err(|_| "its secret is none")?;
        let secret = secret.zip(row.text_or_none(3).map_err(|_| "its registry key is none")?);
        Ok(Self { entry, secret, change })
    }

    /// Opens the secret; else what is wrong with it.
    pub(crate) fn open(mut self, keys: &RegistryKeys) -> Result<Entry, Faulty> {
        let what = match &self.secret {
            None if self.entry.state == KeyState::Removed => return Ok(self.entry),
            None => "it has no secret".to_owned(),
            Some((sealed, sealed_with)) => match keys.get(sealed_with).map(|key| key.open(&self.entry, sealed)) {
                Some(Ok(secret)) => {
                    self.entry.secret = Some(secret);
                    return Ok(self.entry);
                }
                Some(Err(NotOpened)) => "its secret does not open: somebody else changed the row".to_owned(),
                None => format!("it is sealed with the registry key {sealed_with:?}, and the file holds {}", keys.ids()),
            },
        };
        Err(Faulty { kid: self.entry.kid.as_str().to_owned(), change: self.change, what })
    }
}

impl Faulty {
    /// For whoever asked for this key, or for all.
    pub(crate) fn into_error(self) -> ServerError {
        ServerError::Config(format!("the registry's database: {:?} is no key: {}. `key remove` takes it away", self.kid, self.what))
    }
}

/// What the file of registry keys lacks.
pub(crate) fn unknown_registry_key(id: &str, keys: &RegistryKeys) -> ServerError {
    ServerError::Config(format!(
        "the registry is sealed with the registry key {id}, and the file holds {}: is it the right file, or was the key exchanged?",
        keys.ids()
    ))
}

impl Database {
    /// At most [`PAGE`] of the keys that come after this key id, those that were removed as well.
    pub(crate) async fn keys_after(&mut self, kid: &str) -> Result<Vec<Read>, ServerError> {
        let sql = format!("SELECT {COLUMNS} FROM ekm_otp_key WHERE kid > $1 ORDER BY kid LIMIT {PAGE}");
        let mut page = Vec::new();
        self.each(&sql, &[Value::text(kid)], |row| Sealed::of(&row).map(|read| page.push(read))).await?;
        Ok(page)
    }

    /// At most [`PAGE`] of the keys that come after this change and key id.
    pub(crate) async fn changed_after(&mut self, change: i64, kid: &str) -> Result<Vec<Read>, ServerError> {
        let sql = format!("SELECT {COLUMNS} FROM ekm_otp_key WHERE (change, kid) > ($1, $2) ORDER BY change, kid LIMIT {PAGE}");
        let mut page = Vec::new();
        let values = [Value::int(change), Value::text(kid)];
        self.each(&sql, &values, |row| Sealed::of(&row).map(|read| page.push(read))).await?;
        Ok(page)
    }

    pub(crate) async fn key(&mut self, kid: &KeyId) -> Result<Option<Read>, ServerError> {
        let sql = format!("SELECT {COLUMNS} FROM ekm_otp_key WHERE kid = $1");
        self.first(&sql, &[Value::text(kid.as_str())]).await?.map(|row| Sealed::of(&row)).transpose()
    }

    /// Writes a key that is there, its secret sealed anew.
    pub(crate) async fn update_key(&mut self, entry: &Entry, key: &RegistryKey, change: i64) -> Result<(), ServerError> {
        let columns: Vec<String> = WRITTEN.split(", ").enumerate().map(|(at, name)| format!("{} = ${}", name.trim(), at + 1)).collect();
        // The last use is another's to write.
        let columns: Vec<String> = columns.into_iter().filter(|column| !column.starts_with("last_use")).collect();
        // Each parameter has to be named.
        let sql = format!("UPDATE ekm_otp_key SET {}, last_use = COALESCE(last_use, $14) WHERE kid = $1", columns.join(", "));
        self.execute(&sql, &values_of(entry, key, change)?).await.map(drop)
    }

    /// Leaves of a key its key id and its client's name.
    pub(crate) async fn remove_key(&mut self, kid: &KeyId, change: i64) -> Result<u64, ServerError> {
        let sql = "UPDATE ekm_otp_key SET change = $2, state = 'removed', secret = NULL, sealed_with = NULL, fingerprint = NULL, \
                   successor = NULL, comment = NULL, credential = 'otp', profile = 'v1', server_names = '', not_before = NULL, \
                   not_after = NULL, enrol_by = NULL, enrolled = NULL WHERE kid = $1 AND state <> 'removed'";
        self.execute(sql, &[Value::text(kid.as_str()), Value::int(change)]).await
    }

    /// Who holds this secret.
    pub(crate) async fn holder_of(&mut self, key: &RegistryKey, secret: &Secret) -> Result<Option<String>, ServerError> {
        let sql = "SELECT kid FROM ekm_otp_key WHERE fingerprint = $1";
        self.first(sql, &[Value::Bytes(Some(key.fingerprint(secret)))]).await?.map(|row| row.text(0)).transpose()
    }

    /// Writes keys that are not there.
    pub(crate) async fn insert_keys(&mut self, entries: &[Entry], key: &RegistryKey, change: i64) -> Result<(), ServerError> {
        for entries in entries.chunks(AT_ONCE) {
            let mut values = Vec::with_capacity(entries.len() * WRITTEN_COUNT);
            for entry in entries {
                values.extend(values_of(entry, key, change)?);
            }
            let rows: Vec<String> = (0..entries.len()).map(|row| parameters(row, WRITTEN_COUNT)).collect();
            self.execute(&format!("INSERT INTO ekm_otp_key ({WRITTEN}) VALUES {}", rows.join(", ")), &values).await?;
        }
        Ok(())
    }

    /// Writes when keys were last used, at most [`USES_AT_ONCE`] of them. That is no change: nobody needs to read it.
    pub(crate) async fn write_last_uses(&mut self, uses: &[(KeyId, SystemTime)]) -> Result<(), ServerError> {
        let rows: Vec<String> =
            (0..uses.len()).map(|row| format!("(CAST(${} AS TEXT), CAST(${} AS BIGINT))", 2 * row + 1, 2 * row + 2)).collect();
        let values: Vec<Value> = uses.iter().flat_map(|(kid, at)| [Value::text(kid.as_str()), Value::int(seconds(*at))]).collect();
        let sql = format!(
            "WITH used (kid, at) AS (VALUES {}) UPDATE ekm_otp_key SET last_use = used.at FROM used WHERE ekm_otp_key.kid = used.kid \
             AND (last_use IS NULL OR last_use < used.at)",
            rows.join(", ")
        );
        self.execute(&sql, &values).await.map(drop)
    }
}

fn values_of(entry: &Entry, key: &RegistryKey, change: i64) -> Result<[Value; WRITTEN_COUNT], ServerError> {
    let secret = entry.secret.as_ref();
    Ok([
        Value::text(entry.kid.as_str()),
        Value::text(&entry.client),
        Value::Bytes(secret.map(|secret| key.seal(entry, secret)).transpose()?),
        Value::Text(secret.map(|_| key.id().to_owned())),
        Value::Bytes(secret.map(|secret| key.fingerprint(secret))),
        Value::text(entry.minimum.as_str()),
        Value::text(entry.profile.as_str()),
        Value::text(entry.state.as_str()),
        Value::Int(entry.not_before.map(seconds)),
        Value::Int(entry.not_after.map(seconds)),
        Value::Text(Some(names_as_text(&entry.server_names))),
        Value::Text(entry.successor.as_ref().map(|kid| kid.as_str().to_owned())),
        Value::int(seconds(entry.created.unwrap_or_else(SystemTime::now))),
        Value::Int(entry.last_use.map(seconds)),
        Value::Text(entry.comment.clone()),
        Value::int(change),
        Value::Int(entry.enrol_by.map(seconds)),
        Value::Int(entry.enrolled.map(seconds)),
    ])
}

/// `($1, $2, …)` of this row.
fn parameters(row: usize, count: usize) -> String {
    let numbers: Vec<String> = (1..=count).map(|column| format!("${}", row * count + column)).collect();
    format!("({})", numbers.join(", "))
}

/// Since 1970.
fn instant(seconds: i64) -> SystemTime {
    // Before 1970 is as good as then: long ago. Ten thousand years ahead is as good as for ever.
    let seconds = u64::try_from(seconds).unwrap_or(0).min(10_000 * 366 * 24 * 3600);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
