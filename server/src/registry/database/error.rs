//! What a database says, as the server's errors: by whose fault it is.

use crate::error::ServerError;

/// What two keys with one id, or one secret, end in.
pub(crate) const NOT_UNIQUE: &str = "the registry holds one of these already";

pub(crate) fn of_sqlx(error: sqlx::Error) -> ServerError {
    let text = format!("the registry's database: {error}");
    match &error {
        sqlx::Error::Database(told) if told.is_unique_violation() => ServerError::Config(NOT_UNIQUE.to_owned()),
        sqlx::Error::Database(told) => match told.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
            Some(postgres) => of_postgres(postgres.code(), text),
            None => of_sqlite(told.code().and_then(|code| code.parse().ok()).unwrap_or(0), text),
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            ServerError::Unavailable(text)
        }
        sqlx::Error::Tls(_) => ServerError::Unavailable(format!("{text} (`sslrootcert=FILE` in the URL names a certificate authority)")),
        sqlx::Error::Configuration(_) => ServerError::Config(text),
        _ => ServerError::Other(text),
    }
}

/// PostgreSQL, Appendix A: the class is in the first two characters.
fn of_postgres(code: &str, text: String) -> ServerError {
    match code {
        "42501" => ServerError::NotPermitted(text),
        "3D000" => ServerError::Unavailable(text),
        _ => match code.get(..2) {
            Some("08" | "53" | "57" | "58") => ServerError::Unavailable(text),
            Some("28") => ServerError::NotPermitted(text),
            _ => ServerError::Other(text),
        },
    }
}

/// SQLite's result codes; an extended one has the primary one in its lowest byte.
fn of_sqlite(code: u32, text: String) -> ServerError {
    match code & 0xff {
        // PERM, READONLY, AUTH
        3 | 8 | 23 => ServerError::NotPermitted(text),
        // BUSY, LOCKED, IOERR, FULL, CANTOPEN
        5 | 6 | 10 | 13 | 14 => ServerError::Unavailable(text),
        // CORRUPT, NOTADB
        11 | 26 => ServerError::Config(text),
        _ => ServerError::Other(text),
    }
}
