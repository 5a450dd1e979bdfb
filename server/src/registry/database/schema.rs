//! The one schema of both engines.

use super::{Database, Value};
use crate::error::ServerError;

/// The version that this program writes and reads.
const VERSION: i64 = 1;

/// `change` counts transactions: whoever looks for what is new asks for the rows with a greater one. It is counted up first in each, so that they
/// follow one another in this order. `identity` is another one in another database, a restored one included if it is made anew.
const REGISTRY: &str = "CREATE TABLE ekm_otp_registry (version BIGINT NOT NULL, identity TEXT NOT NULL, registry_key TEXT NOT NULL, \
     change BIGINT NOT NULL)";

/// A key that was removed keeps its row, without secret, so that its key id is never bound to another one. Times are seconds since 1970; server
/// names are separated by spaces.
const KEY: &str = "CREATE TABLE ekm_otp_key (kid TEXT PRIMARY KEY NOT NULL, client TEXT NOT NULL, secret BYTEA, sealed_with TEXT, \
     fingerprint BYTEA UNIQUE, credential TEXT NOT NULL, profile TEXT NOT NULL, state TEXT NOT NULL \
     CHECK (state IN ('active', 'disabled', 'revoked', 'removed')), not_before BIGINT, not_after BIGINT, server_names TEXT NOT NULL, \
     successor TEXT, created BIGINT NOT NULL, last_use BIGINT, comment TEXT, change BIGINT NOT NULL, \
     CHECK ((state = 'removed') = (secret IS NULL)))";

/// What came later: until when a key that left in a bundle is to be used first, and when it was. Programs that do not know these columns leave them alone,
/// and find that they cannot open the secrets of rows that have them.
const LATER: [&str; 2] = ["enrol_by", "enrolled"];

/// A word of chance for each change: whoever has seen that change finds out whether this is the same history, or another one since a backup.
const CHANGE: &str = "CREATE TABLE ekm_otp_change (change BIGINT PRIMARY KEY NOT NULL, mark TEXT NOT NULL)";

const BY_CHANGE: &str = "CREATE INDEX ekm_otp_key_change ON ekm_otp_key (change, kid)";

/// The channel that tells PostgreSQL's listeners of a change.
pub(crate) const CHANNEL: &str = "ekm_otp_registry";

/// What the registry says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) identity: String,
    /// The id of the registry key that secrets are sealed with now.
    pub(crate) registry_key: String,
    pub(crate) change: i64,
}

impl Database {
    /// Whether the tables are there.
    pub(super) async fn has_schema(&mut self) -> Result<bool, ServerError> {
        let sql = match self {
            Self::Sqlite(_) => "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'ekm_otp_registry'",
            Self::Postgres(_) => "SELECT count(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('ekm_otp_registry')",
        };
        let row = self.first(sql, &[]).await?;
        Ok(row.map(|row| row.int(0)).transpose()?.unwrap_or(0) > 0)
    }

    /// Adds the columns that came later, where they are missing.
    pub(super) async fn add_columns(&mut self) -> Result<(), ServerError> {
        if self.has_columns().await? {
            return Ok(());
        }
        self.begin().await?;
        let added = self.add_missing().await;
        match added {
            Ok(()) => self.commit().await,
            Err(e) => {
                self.roll_back().await;
                // Without the right to change tables, somebody who has it does it once.
                let statements = LATER.map(|column| format!("ALTER TABLE ekm_otp_key ADD COLUMN {column} BIGINT")).join("; ");
                Err(ServerError::NotPermitted(format!(
                    "the registry's database is of an earlier version, and its new columns cannot be added ({e}). Have its owner do so: {statements}"
                )))
            }
        }
    }

    async fn has_columns(&mut self) -> Result<bool, ServerError> {
        let sql = match self {
            Self::Sqlite(_) => "SELECT count(*) FROM pragma_table_info('ekm_otp_key') WHERE name IN ('enrol_by', 'enrolled')",
            Self::Postgres(_) => {
                "SELECT count(*) FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass('ekm_otp_key') AND NOT attisdropped \
                 AND attname IN ('enrol_by', 'enrolled')"
            }
        };
        let row = self.first(sql, &[]).await?;
        Ok(row.map(|row| row.int(0)).transpose()? == Some(2))
    }

    async fn add_missing(&mut self) -> Result<(), ServerError> {
        if matches!(self, Self::Postgres(_)) {
            // As where the tables are made.
            self.first("SELECT 1::bigint FROM pg_advisory_xact_lock(7521904401)", &[]).await?;
        }
        if self.has_columns().await? {
            return Ok(());
        }
        for column in LATER {
            self.execute(&format!("ALTER TABLE ekm_otp_key ADD COLUMN {column} BIGINT"), &[]).await?;
        }
        Ok(())
    }

    /// Makes the tables, unless somebody else did meanwhile.
    pub(super) async fn create_schema(&mut self, registry_key: &str) -> Result<(), ServerError> {
        let identity = by_chance()?;
        self.begin().await?;
        let made = self.create_tables(&identity, registry_key).await;
        match made {
            Ok(()) => self.commit().await,
            Err(e) => {
                self.roll_back().await;
                Err(e)
            }
        }
    }

    async fn create_tables(&mut self, identity: &str, registry_key: &str) -> Result<(), ServerError> {
        let is_sqlite = matches!(self, Self::Sqlite(_));
        if !is_sqlite {
            // Two programs may do this at once. The number is any one.
            self.first("SELECT 1::bigint FROM pg_advisory_xact_lock(7521904401)", &[]).await?;
        }
        if self.has_schema().await? {
            return Ok(());
        }
        self.execute(REGISTRY, &[]).await?;
        // Key ids are compared bytewise, whatever the database's language.
        let key =
            if is_sqlite { KEY.replace("BYTEA", "BLOB") + " WITHOUT ROWID" } else { KEY.replace("kid TEXT", "kid TEXT COLLATE \"C\"") };
        self.execute(&key, &[]).await?;
        self.execute(BY_CHANGE, &[]).await?;
        self.execute(CHANGE, &[]).await?;
        self.execute("INSERT INTO ekm_otp_change (change, mark) VALUES (0, $1)", &[Value::text(identity)]).await?;
        let values = [Value::int(VERSION), Value::text(identity), Value::text(registry_key)];
        self.execute("INSERT INTO ekm_otp_registry (version, identity, registry_key, change) VALUES ($1, $2, $3, 0)", &values).await?;
        Ok(())
    }

    /// Counts the change up, which keeps other writers out until the end, and tells which registry key is in use.
    pub(crate) async fn next_change(&mut self) -> Result<(i64, String), ServerError> {
        // What a newer program made is refused here, too.
        self.head().await?;
        let row = self.first("UPDATE ekm_otp_registry SET change = change + 1 RETURNING change, registry_key", &[]).await?;
        let row =
            row.ok_or_else(|| ServerError::Config("the registry's database is empty: its table ekm_otp_registry has no row".into()))?;
        let (change, registry_key) = (row.int(0)?, row.text(1)?);
        let values = [Value::int(change), Value::text(&by_chance()?)];
        self.execute("INSERT INTO ekm_otp_change (change, mark) VALUES ($1, $2)", &values).await?;
        Ok((change, registry_key))
    }

    /// The word of this change; `None` where there was none.
    pub(crate) async fn mark(&mut self, change: i64) -> Result<Option<String>, ServerError> {
        let row = self.first("SELECT mark FROM ekm_otp_change WHERE change = $1", &[Value::int(change)]).await?;
        row.map(|row| row.text(0)).transpose()
    }

    /// What the registry says of itself. Refuses one that a newer program made.
    pub(crate) async fn head(&mut self) -> Result<Head, ServerError> {
        let row = self.first("SELECT version, identity, registry_key, change FROM ekm_otp_registry", &[]).await?;
        let row =
            row.ok_or_else(|| ServerError::Config("the registry's database is empty: its table ekm_otp_registry has no row".into()))?;
        match row.int(0)? {
            VERSION => Ok(Head { identity: row.text(1)?, registry_key: row.text(2)?, change: row.int(3)? }),
            version => Err(ServerError::Config(format!(
                "the registry's database has the schema version {version}, this program knows {VERSION}: use the program that is as new as it"
            ))),
        }
    }
}

fn by_chance() -> Result<String, ServerError> {
    let mut word = [0; 16];
    getrandom::fill(&mut word).map_err(|e| ServerError::Other(format!("the operating system gives no randomness: {e}")))?;
    Ok(word.iter().map(|byte| format!("{byte:02x}")).collect())
}
