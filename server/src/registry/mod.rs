//! The registry: which secret a key id names, and whose it is. Kept in a file or a database, read into a snapshot that answers from memory.

mod changes;
mod config;
mod database;
mod edit;
mod file;
mod health;
mod keeper;
mod records;
mod registry_key;
mod rewrite;
mod snapshot;
mod source;
mod store;

pub(crate) use self::changes::{FirstUse, NoSuccessor, Successor};
pub(crate) use self::config::{Config, Location, Settings};
pub(crate) use self::database::NO_REGISTRY;
pub(crate) use self::edit::{Edit, Entries, as_toml, instant, json};
pub(crate) use self::file::of_file;
pub(crate) use self::health::Overlap;
pub(crate) use self::records::Records;
pub(crate) use self::registry_key::{RegistryKey, RegistryKeys};
pub(crate) use self::rewrite::{update, write_new};
pub(crate) use self::store::Registry;
