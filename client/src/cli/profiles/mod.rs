//! Profiles: which key is shown to which server, and how, so that a URL alone is enough.
//!
//! ```text
//! flags, EKM_OTP_* variables, config.toml ── resolve(&ConnectArgs, dialled) ──► Resolved ── open_keys, tls_config ──► a connection
//! ```
//!
//! A profile's key id is sent to its own `origins` only.

mod access;
mod choose;
mod edit;
mod environment;
mod file;
mod open;
mod resolve;
mod settings;
mod show;
pub(crate) mod table;

pub(crate) use self::show::{ProfileCommand, run};
pub(crate) use self::{
    choose::{first_origin, only_origin},
    edit::Editor,
    file::{ConfigFile, path},
    open::Opened,
    resolve::{KeyChoice, Material, Resolved, resolve, resolve_credential, resolve_in},
};
