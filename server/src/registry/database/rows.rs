//! Keys as rows: read, and written.

use std::time::{Duration, SystemTime};

use ekm_otp::{KeyId, Secret, ServerName};
use ekm_otp_tower::registry_file::{Entry, KeyState};

use super::{Database, Row, Value};
use crate::error::ServerError;
use crate::registry::registry_key::{NotOpened, RegistryKey, RegistryKeys, names_as_text};

const COLUMNS: &str = "kid, client, secret, sealed_with, credential, profile, state, not_before, not_after, server_names, successor, created, \
                       last_use, comment, change";
/// The same without the change, and with the fingerprint.
const WRITTEN: &str = "kid, client, secret, sealed_with, fingerprint, credential, profile, state, not_before, not_after, server_names, \
                       successor, created, last_use, comment, change";
const WRITTEN_COUNT: usize = 16;
/// How many rows one statement writes: SQLite takes 32,766 parameters.
const AT_ONCE: usize = 500;
/// How many rows one question for changes gets.
pub(crate) const PAGE: usize = 5000;

/// A key as it stands in the database.
pub(crate) struct Sealed {
    pub(crate) entry: Entry,
    /// With the id of the registry key that it is sealed with; `None` of a key that was removed.
    secret: Option<(Vec<u8>, String)>,
    pub(crate) change: i64,
}

impl Sealed {
    fn of(row: &Row) -> Result<Self, ServerError> {
        let kid = row.text(0)?;
        let faulty = |what: &str| ServerError::Config(format!("the registry's database: {kid}: its {what} is none"));
        let mut entry = Entry::new(KeyId::new(&kid).map_err(|_| faulty("key id"))?, row.text(1)?, None);
        entry.minimum = row.text(4)?.parse().map_err(|_| faulty("credential"))?;
        entry.profile = row.text(5)?.parse().map_err(|_| faulty("profile"))?;
        entry.state = row.text(6)?.parse().map_err(|_| faulty("state"))?;
        entry.not_before = row.int_or_none(7)?.map(instant);
        entry.not_after = row.int_or_none(8)?.map(instant);
        let name = |name: &str| if name == "-" { Ok(ServerName::none()) } else { ServerName::from_host(name) };
        entry.server_names =
            row.text(9)?.split_ascii_whitespace().map(name).collect::<Result<_, _>>().map_err(|_| faulty("list of server names"))?;
        entry.successor = row.text_or_none(10)?.map(|kid| KeyId::new(&kid)).transpose().map_err(|_| faulty("successor"))?;
        entry.created = Some(instant(row.int(11)?));
        entry.last_use = row.int_or_none(12)?.map(instant);
        entry.comment = row.text_or_none(13)?;
        let secret = row.bytes_or_none(2)?.zip(row.text_or_none(3)?);
        Ok(Self { entry, secret, change: row.int(14)? })
    }

    /// Opens the secret. That a registry key is not known here is an error, since it is no fault of the key; that the secret does not open with it
    /// is told.
    pub(crate) fn open(mut self, keys: &RegistryKeys) -> Result<Result<Entry, KeyId>, ServerError> {
        let Some((sealed, sealed_with)) = &self.secret else {
            return Ok(if self.entry.state == KeyState::Removed { Ok(self.entry) } else { Err(self.entry.kid) });
        };
        let key = keys.get(sealed_with).ok_or_else(|| unknown_registry_key(sealed_with, keys))?;
        Ok(match key.open(&self.entry, sealed) {
            Ok(secret) => {
                self.entry.secret = Some(secret);
                Ok(self.entry)
            }
            Err(NotOpened) => Err(self.entry.kid),
        })
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
    /// Calls `with` for each key, those that were removed as well where `all` is wanted, in the order of their key ids.
    pub(crate) async fn each_key(&mut self, all: bool, mut with: impl FnMut(Sealed) -> Result<(), ServerError>) -> Result<(), ServerError> {
        let which = if all { "ORDER BY kid" } else { "WHERE state <> 'removed'" };
        let sql = format!("SELECT {COLUMNS} FROM ekm_otp_key {which}");
        self.each(&sql, &[], |row| with(Sealed::of(&row)?)).await
    }

    /// At most [`PAGE`] of the keys that come after this change and key id.
    pub(crate) async fn changed_after(&mut self, change: i64, kid: &str) -> Result<Vec<Sealed>, ServerError> {
        let sql = format!("SELECT {COLUMNS} FROM ekm_otp_key WHERE (change, kid) > ($1, $2) ORDER BY change, kid LIMIT {PAGE}");
        let mut page = Vec::new();
        let values = [Value::int(change), Value::text(kid)];
        self.each(&sql, &values, |row| Sealed::of(&row).map(|sealed| page.push(sealed))).await?;
        Ok(page)
    }

    pub(crate) async fn key(&mut self, kid: &KeyId) -> Result<Option<Sealed>, ServerError> {
        let sql = format!("SELECT {COLUMNS} FROM ekm_otp_key WHERE kid = $1");
        self.first(&sql, &[Value::text(kid.as_str())]).await?.map(|row| Sealed::of(&row)).transpose()
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

    /// Writes when keys were last used. That is no change: nobody needs to read it.
    pub(crate) async fn write_last_uses(&mut self, uses: &[(KeyId, SystemTime)]) -> Result<(), ServerError> {
        for uses in uses.chunks(AT_ONCE) {
            let rows: Vec<String> =
                (0..uses.len()).map(|row| format!("(CAST(${} AS TEXT), CAST(${} AS BIGINT))", 2 * row + 1, 2 * row + 2)).collect();
            let values: Vec<Value> = uses.iter().flat_map(|(kid, at)| [Value::text(kid.as_str()), Value::int(seconds(*at))]).collect();
            let sql = format!(
                "WITH used (kid, at) AS (VALUES {}) UPDATE ekm_otp_key SET last_use = used.at FROM used WHERE ekm_otp_key.kid = used.kid \
                 AND (last_use IS NULL OR last_use < used.at)",
                rows.join(", ")
            );
            self.execute(&sql, &values).await?;
        }
        Ok(())
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
    ])
}

/// `($1, $2, …)` of this row.
fn parameters(row: usize, count: usize) -> String {
    let numbers: Vec<String> = (1..=count).map(|column| format!("${}", row * count + column)).collect();
    format!("({})", numbers.join(", "))
}

/// Since 1970.
pub(crate) fn seconds(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn instant(seconds: i64) -> SystemTime {
    // Before 1970 is as good as then: long ago. Ten thousand years ahead is as good as for ever.
    let seconds = u64::try_from(seconds).unwrap_or(0).min(10_000 * 366 * 24 * 3600);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
