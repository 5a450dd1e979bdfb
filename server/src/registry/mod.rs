//! The registry: which secret a key id names, and whose it is. Kept in a file or a database, read into a snapshot that answers from memory.

mod config;
mod file;
mod health;
mod keeper;
mod snapshot;
mod store;

pub(crate) use self::config::{Config, Settings};
pub(crate) use self::health::{Engine, Health, Overlap};
pub(crate) use self::store::{Prepared, Registry};
