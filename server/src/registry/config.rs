//! Where the registry is, from flags and configuration file.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::database::Address;
use crate::settings::{self, Mistakes, rebase};

/// In seconds.
const WEEK: u64 = 7 * 24 * 3600;
const CENTURY: u64 = 100 * 366 * 24 * 3600;

/// What flags and the configuration file can set.
#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(crate) struct Settings {
    /// Registry: sqlite:///PATH, postgres://USER@HOST/DATABASE, or a file (TOML; JSON where its name ends in .json) of key ids with secret
    /// (base64) and client name, readable by its owner only
    #[arg(long, value_name = "FILE|URL", help_heading = "Registry and credentials")]
    registry: Option<String>,
    /// Another name of `--registry`, for a file
    #[arg(long, value_name = "FILE", hide_short_help = true, help_heading = "Registry and credentials")]
    secrets: Option<PathBuf>,
    /// File with the key that a database's secrets are sealed with, made by `key new-registry-key` [default: the credential
    /// ekm-otp.registry-key, where systemd passes one]
    #[arg(long, value_name = "FILE", help_heading = "Registry and credentials")]
    registry_key: Option<PathBuf>,
    /// File with the password for PostgreSQL [default: the credential ekm-otp.registry-password; PGPASSWORD, PGPASSFILE]
    #[arg(long, value_name = "FILE", help_heading = "Registry and credentials")]
    registry_password: Option<PathBuf>,
    /// For how long to go by what was read last while the registry cannot be read, in seconds; look-ups are answered 503 then [default: for ever]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry and credentials")]
    max_staleness: Option<NonZeroU64>,
    /// Let the server write into its registry where that is a file, too: when a bundle's key is used first, and what `rotation` makes. A database is written to in any
    /// case [default: as `rotation`]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = "Registry and credentials")]
    registry_writable: Option<bool>,
    /// Let clients rotate their keys themselves, over post-quantum connections alone. Whoever may use a client's key for a moment can then give themselves another one
    /// that stays [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = "Registry and credentials")]
    rotation: Option<bool>,
    /// How long a key that its client rotated still holds, in seconds [default: 604800, a week]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry and credentials")]
    rotation_overlap: Option<NonZeroU64>,
    /// Take secrets of fewer than 16 bytes. A rogue server can guess them offline
    #[arg(long, hide_short_help = true, help_heading = "Registry and credentials")]
    #[serde(skip)]
    unsafe_weak_secret: bool,
    /// Ask a PostgreSQL on another machine without knowing that it is the right one. Whoever is in between decides which keys are valid
    #[arg(long, hide_short_help = true, help_heading = "Registry and credentials")]
    #[serde(skip)]
    unsafe_database_tls: bool,
}

impl settings::Settings for Settings {
    fn relative_to(&mut self, folder: &Path) {
        if let Some(registry) = &mut self.registry {
            match registry.split_once("://") {
                None => *registry = folder.join(&*registry).display().to_string(),
                Some(("sqlite", path)) => *registry = format!("sqlite://{}", folder.join(path).display()),
                Some(_) => {}
            }
        }
        rebase(&mut self.registry_key, folder);
        rebase(&mut self.registry_password, folder);
        rebase(&mut self.secrets, folder);
    }
}

impl Settings {
    /// Of the key commands' flags; the last two are those that are not safe: for weak secrets, and for a database that may be another.
    pub(crate) fn of_flags(
        registry: Option<String>,
        registry_key: Option<PathBuf>,
        registry_password: Option<PathBuf>,
        (unsafe_weak_secret, unsafe_database_tls): (bool, bool),
    ) -> Self {
        Self { registry, registry_key, registry_password, unsafe_weak_secret, unsafe_database_tls, ..Self::default() }
    }

    /// What the key commands need of them, over those of a configuration file.
    pub(crate) fn for_keys(self, of_file: Self) -> Self {
        let here = self.registry.is_some() || self.secrets.is_some();
        let (registry, secrets) = if here { (self.registry, self.secrets) } else { (of_file.registry, of_file.secrets) };
        Self {
            registry,
            secrets,
            registry_key: self.registry_key.or(of_file.registry_key),
            registry_password: self.registry_password.or(of_file.registry_password),
            ..self
        }
    }

    /// Checks them. Opens nothing.
    pub(crate) fn resolve(self, mistakes: &mut Mistakes) -> Config {
        if self.registry.is_some() && self.secrets.is_some() {
            mistakes.add("secrets", "`registry` says where the registry is already");
        }
        let location = match (self.registry, self.secrets) {
            (Some(registry), _) => {
                location(&registry, self.registry_key, self.registry_password, self.unsafe_database_tls).unwrap_or_else(|(key, why)| {
                    mistakes.add(key, why);
                    Location::File(PathBuf::new())
                })
            }
            (None, Some(secrets)) => Location::File(secrets),
            (None, None) => Location::File(credential("ekm-otp.secrets").unwrap_or_else(|| {
                mistakes.add("registry", "is missing");
                PathBuf::new()
            })),
        };
        let max_staleness = self.max_staleness.map(|seconds| Duration::from_secs(seconds.get()));
        let overlap = Duration::from_secs(self.rotation_overlap.map_or(WEEK, |seconds| seconds.get().min(CENTURY)));
        let rotation = self.rotation.unwrap_or(false).then_some(overlap);
        if rotation.is_some() && self.registry_writable == Some(false) {
            mistakes.add("registry_writable", "`rotation` writes new keys into the registry");
        }
        let is_writable = self.registry_writable.unwrap_or(rotation.is_some());
        Config { location, weak_secrets: self.unsafe_weak_secret, max_staleness, is_writable, rotation }
    }
}

/// Where the registry is, and how it is read. Checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) location: Location,
    pub(crate) weak_secrets: bool,
    pub(crate) max_staleness: Option<Duration>,
    /// Whether a running server may write into a file.
    pub(crate) is_writable: bool,
    /// Whether clients may rotate their keys, and how long the old ones hold then.
    pub(crate) rotation: Option<Duration>,
}

impl Config {
    /// What the server writes to: the database's file, or the registry's where that is wanted.
    pub(crate) fn written(&self) -> Option<PathBuf> {
        match &self.location {
            Location::Database { address: Address::Sqlite(file), .. } => Some(file.clone()),
            Location::File(file) if self.is_writable => Some(file.clone()),
            Location::Database { .. } | Location::File(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Location {
    File(PathBuf),
    Database { address: Address, registry_key: PathBuf },
}

impl Location {
    /// A database's file that is not there: the server makes it.
    pub(crate) fn is_to_be_made(&self) -> Option<&Path> {
        match self {
            Self::Database { address: Address::Sqlite(path), .. } if !path.exists() => Some(path),
            _ => None,
        }
    }
}

/// Of a file's path, or a URL. Else which setting is wrong, and how.
fn location(
    text: &str,
    registry_key: Option<PathBuf>,
    password: Option<PathBuf>,
    unsafe_tls: bool,
) -> Result<Location, (&'static str, String)> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(Location::File(PathBuf::from(text))) };
    let address = match scheme {
        "sqlite" => Address::sqlite(rest),
        "postgres" | "postgresql" => Address::postgres(text, password.or_else(|| credential("ekm-otp.registry-password")), unsafe_tls),
        _ => Err(format!("{scheme}:// is none: sqlite:///PATH, postgres://USER@HOST/DATABASE, or a file")),
    };
    let address = address.map_err(|why| ("registry", why))?;
    let registry_key = registry_key.or_else(|| credential("ekm-otp.registry-key")).ok_or((
        "registry_key",
        "is missing: a database's secrets are sealed with a key, which `ekm-otp-server key new-registry-key --out FILE` makes".to_owned(),
    ))?;
    Ok(Location::Database { address, registry_key })
}

/// What systemd passes (systemd.exec(5), "Credentials").
fn credential(name: &str) -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    file.exists().then_some(file)
}
