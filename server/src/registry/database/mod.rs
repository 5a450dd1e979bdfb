//! One face for both engines: statements with numbered parameters, and rows of integers, texts and bytes. What differs between them stays here.

mod connect;
mod error;
mod rows;
mod schema;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

pub(crate) use self::connect::{Address, NO_REGISTRY, Place};
pub(crate) use self::error::NOT_UNIQUE;
pub(crate) use self::error::of_sqlx;
pub(crate) use self::rows::{Faulty, PAGE, Read, USES_AT_ONCE, unknown_registry_key};
pub(crate) use self::schema::{CHANNEL, Head};
use crate::error::ServerError;

/// An open database.
pub(crate) enum Database {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

/// A statement's parameter.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }

    pub(crate) fn int(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

/// One row of an answer. Columns are counted from 0.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! columns {
    ($($name:ident: $kind:ty),*) => {
        impl Row {
            $(pub(crate) fn $name(&self, column: usize) -> Result<$kind, ServerError> {
                let value = match self {
                    Self::Sqlite(row) => row.try_get(column),
                    Self::Postgres(row) => row.try_get(column),
                };
                value.map_err(of_sqlx)
            })*
        }
    };
}

columns!(int: i64, int_or_none: Option<i64>, text: String, text_or_none: Option<String>, bytes_or_none: Option<Vec<u8>>);

macro_rules! query {
    ($engine:ty, $sql:expr, $values:expr) => {{
        let mut query = sqlx::query::<$engine>($sql);
        for value in $values {
            query = match value.clone() {
                Value::Int(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
            };
        }
        query
    }};
}

impl Database {
    /// How many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, ServerError> {
        let done = match self {
            Self::Sqlite(connection) => query!(Sqlite, sql, values).execute(&mut **connection).await.map(|done| done.rows_affected()),
            Self::Postgres(connection) => query!(Postgres, sql, values).execute(&mut **connection).await.map(|done| done.rows_affected()),
        };
        done.map_err(of_sqlx)
    }

    /// The first row of the answer.
    pub(crate) async fn first(&mut self, sql: &str, values: &[Value]) -> Result<Option<Row>, ServerError> {
        let row = match self {
            Self::Sqlite(connection) => query!(Sqlite, sql, values).fetch_optional(&mut **connection).await.map(|row| row.map(Row::Sqlite)),
            Self::Postgres(connection) => {
                query!(Postgres, sql, values).fetch_optional(&mut **connection).await.map(|row| row.map(Row::Postgres))
            }
        };
        row.map_err(of_sqlx)
    }

    /// Calls `with` for each row as it comes: an answer of a million rows is not held.
    pub(crate) async fn each(
        &mut self,
        sql: &str,
        values: &[Value],
        mut with: impl FnMut(Row) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        match self {
            Self::Sqlite(connection) => {
                let mut rows = query!(Sqlite, sql, values).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await.map_err(of_sqlx)? {
                    with(Row::Sqlite(row))?;
                }
            }
            Self::Postgres(connection) => {
                let mut rows = query!(Postgres, sql, values).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await.map_err(of_sqlx)? {
                    with(Row::Postgres(row))?;
                }
            }
        }
        Ok(())
    }

    /// Begins what is done as a whole or not at all. A connection that is dropped before its end leaves nothing behind.
    pub(crate) async fn begin(&mut self) -> Result<(), ServerError> {
        // SQLite's plain BEGIN would take the lock with the first change only, and fail there if somebody else has it by then.
        let sql = if matches!(self, Self::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.execute(sql, &[]).await.map(drop)
    }

    pub(crate) async fn commit(&mut self) -> Result<(), ServerError> {
        self.execute("COMMIT", &[]).await.map(drop)
    }

    pub(crate) async fn roll_back(&mut self) {
        // Where this fails, too, the connection is broken, and with its end it comes to the same.
        let _ = self.execute("ROLLBACK", &[]).await;
    }

    pub(crate) async fn close(self) {
        // All that was to be kept is committed.
        let _ = match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        };
    }
}
