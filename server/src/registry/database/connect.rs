//! Where a database is, and how it is reached.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use ekm_otp_files::must_be_private;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use zeroize::Zeroizing;

use super::{Database, of_sqlx};
use crate::error::ServerError;

/// How long another writer is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// Of a database that a server makes one in, at its first start.
pub(crate) const NO_REGISTRY: &str = "the registry's database holds no registry";

/// Where a database is. Checked, not opened.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Sqlite(PathBuf),
    Postgres { options: Box<PgConnectOptions>, password: Option<PathBuf> },
}

/// What is there where a database is, so that another one in its place is noticed: device and inode. PostgreSQL tells by itself.
pub(crate) type Place = Option<(u64, u64)>;

impl Address {
    /// `sqlite://PATH`.
    pub(crate) fn sqlite(path: &str) -> Result<Self, String> {
        match path {
            "" | "/" => Err("sqlite:// is followed by the file's path, as in sqlite:///var/lib/ekm-otp/registry.db".into()),
            path => Ok(Self::Sqlite(PathBuf::from(path))),
        }
    }

    /// `postgres://…`, with the file that holds the password. A password in the URL is refused: URLs are seen.
    pub(crate) fn postgres(url: &str, password: Option<PathBuf>, unsafe_tls: bool) -> Result<Self, String> {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) || rest.contains("password=") {
            return Err("no password in the URL, please: put it into a file for `registry_password`, or use PGPASSFILE".into());
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            "not understood: write it as postgres://USER@HOST/DATABASE, or postgres:///DATABASE?host=/run/postgresql".to_owned()
        })?;
        let is_local = options.get_socket().is_some()
            || options.get_host().starts_with('/')
            || options.get_host() == "localhost"
            || options.get_host().parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_chosen = rest.contains("sslmode=") || rest.contains("ssl-mode=") || std::env::var_os("PGSSLMODE").is_some();
        let is_verified = match options.get_ssl_mode() {
            PgSslMode::VerifyFull => true,
            // Of any name: then not by any authority that there is.
            PgSslMode::VerifyCa => rest.contains("sslrootcert=") || std::env::var_os("PGSSLROOTCERT").is_some(),
            _ => false,
        };
        let options = match (is_local, is_chosen) {
            (false, true) if !is_verified && !unsafe_tls => {
                return Err(
                    "sslmode: beyond this machine it is verify-full, or verify-ca with sslrootcert, or whoever is in between decides which keys are \
                            valid (--unsafe-database-tls takes it all the same)"
                        .into(),
                );
            }
            (false, false) => options.ssl_mode(PgSslMode::VerifyFull),
            _ => options,
        };
        let options = options.application_name("ekm-otp-server").disable_statement_logging();
        Ok(Self::Postgres { options: Box::new(options), password })
    }

    /// What is there now.
    pub(crate) fn what_is_there(&self) -> Place {
        match self {
            Self::Sqlite(path) => std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino())),
            Self::Postgres { .. } => None,
        }
    }

    /// For PostgreSQL's listener, which connects by itself.
    pub(crate) fn postgres_options(&self) -> Result<Option<PgConnectOptions>, ServerError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::Postgres { options, password } => {
                let options = PgConnectOptions::clone(options);
                Ok(Some(match password {
                    Some(file) => options.password(&read_password(file)?),
                    None => options,
                }))
            }
        }
    }

    /// Opens it. With the id of a registry key, a database or tables that are not there yet are made.
    pub(crate) async fn open(&self, create: Option<&str>) -> Result<Database, ServerError> {
        let mut database = match self {
            Self::Sqlite(path) => open_sqlite(path, create.is_some()).await?,
            Self::Postgres { .. } => {
                let options = self.postgres_options()?.unwrap_or_default();
                Database::Postgres(Box::new(options.connect().await.map_err(of_sqlx)?))
            }
        };
        if !database.has_schema().await? {
            let registry_key = create.ok_or_else(|| ServerError::Unavailable(NO_REGISTRY.into()))?;
            database.create_schema(registry_key).await?;
        }
        database.add_columns().await?;
        Ok(database)
    }
}

async fn open_sqlite(path: &Path, create: bool) -> Result<Database, ServerError> {
    let shown = path.display();
    if create {
        // SQLite gives its other files the mode of this one.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(ServerError::io(&format!("cannot create {shown}"), &e)),
        }
    }
    let file = File::open(path).map_err(|e| ServerError::io(&format!("cannot open {shown}"), &e))?;
    private(&file, path, "the registry")?;
    // Before SQLite opens them: its locks (fcntl) are the process's, and end where any descriptor of the file is closed.
    for beside in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        if let Ok(file) = File::open(&name) {
            private(&file, Path::new(&name), "a part of the registry")?;
        }
    }
    drop(file);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A revocation outlives a power failure.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .disable_statement_logging();
    let connection = options.connect().await.map_err(of_sqlx)?;
    Ok(Database::Sqlite(Box::new(connection)))
}

fn private(file: &File, path: &Path, holds: &str) -> Result<(), ServerError> {
    let shown = path.display();
    must_be_private(file).map_err(|e| ServerError::io(&format!("cannot look at {shown}"), &e))?.map_err(|why| {
        let advice = why.advice(&shown.to_string());
        ServerError::NotPermitted(format!("others can read or change {shown}, which holds {holds}: {why}. {advice}"))
    })
}

fn read_password(path: &Path) -> Result<Zeroizing<String>, ServerError> {
    let shown = path.display();
    let file = File::open(path).map_err(|e| ServerError::io(&format!("cannot open {shown}"), &e))?;
    private(&file, path, "the database's password")?;
    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(4097).read_to_string(&mut text).map_err(|e| ServerError::io(&format!("cannot read {shown}"), &e))?;
    if text.len() > 4096 {
        return Err(ServerError::Config(format!("{shown} holds more than 4096 bytes, which is too much for a password")));
    }
    let first = text.lines().next().unwrap_or_default();
    Ok(Zeroizing::new(first.to_owned()))
}
