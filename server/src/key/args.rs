//! The flags of the key commands.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use ekm_otp::field::CredentialKind;
use ekm_otp::{KeyId, Profile};

use super::bundle::BundleWay;
use crate::error::ServerError;
use crate::registry::{Config, Settings};
use crate::settings::{Mistakes, Settings as _};

/// Look at and change the registry's keys.
///
/// A running server follows within a second, and so does each server that shares the database.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) place: Place,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Where the registry is.
#[derive(clap::Args, Debug)]
pub(super) struct Place {
    /// The server's configuration file, which says where the registry is
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Registry: sqlite:///PATH, postgres://USER@HOST/DATABASE, or a file
    #[arg(long, alias = "secrets", value_name = "FILE|URL", global = true)]
    registry: Option<String>,
    /// File with the key that a database's secrets are sealed with
    #[arg(long, value_name = "FILE", global = true)]
    registry_key: Option<PathBuf>,
    /// File with the password for PostgreSQL [default: PGPASSWORD, PGPASSFILE]
    #[arg(long, value_name = "FILE", global = true)]
    registry_password: Option<PathBuf>,
    /// Take secrets of fewer than 16 bytes. A rogue server can guess them offline
    #[arg(long, hide_short_help = true, global = true)]
    unsafe_weak_secret: bool,
    /// Ask a PostgreSQL on another machine without knowing that it is the right one
    #[arg(long, hide_short_help = true, global = true)]
    unsafe_database_tls: bool,
}

impl Place {
    /// The flags, over what the configuration file says.
    pub(super) fn resolve(self) -> Result<Config, ServerError> {
        let of_file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let mut mistakes = Mistakes::default();
        let settings = Settings::of_flags(
            self.registry,
            self.registry_key,
            self.registry_password,
            (self.unsafe_weak_secret, self.unsafe_database_tls),
        );
        let config = settings.for_keys(of_file).resolve(&mut mistakes);
        match mistakes.into_vec().first() {
            Some(mistake) => Err(ServerError::Config(format!("--{}: {}", mistake.key.replace('_', "-"), mistake.what))),
            None => Ok(config),
        }
    }
}

fn read(path: &Path) -> Result<Settings, ServerError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| ServerError::io(&format!("cannot read {shown}"), &e))?;
    // Other parts' keys are not looked at: `check` does that.
    let mut settings: Settings = toml::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text))
        .map_err(|_| ServerError::Config(format!("{shown} is not understood: `ekm-otp-server check --config {shown}` tells why")))?;
    settings.relative_to(path.parent().unwrap_or(Path::new("")));
    Ok(settings)
}

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Add a key. Its new secret is shown this once, or written to a file
    Add(Add),
    /// Show all keys
    List(List),
    /// Show one key
    Show(Show),
    /// Make a new key for the same client; the old one stays valid for an overlap
    Rotate(Rotate),
    /// End keys at once: open connections are closed. For secrets that somebody else may have
    Revoke(Kids),
    /// End keys for now: open connections are closed
    Disable(Kids),
    /// Let keys be used again
    Enable(Kids),
    /// Remove keys. Their key ids stay taken: they are never bound to another secret
    Remove(Kids),
    /// Add the keys of a registry file, all or none
    Import(Import),
    /// Write all keys as a registry file
    Export(Export),
    /// Make a registry key, which a database's secrets are sealed with
    NewRegistryKey(NewRegistryKey),
    /// Seal all secrets of a database with the newest key of --registry-key
    Rekey,
}

/// How a new secret comes or goes.
#[derive(clap::Args, Debug)]
pub(super) struct SecretWay {
    /// Write the new secret (base64) to this new file, which only its owner can read, instead of showing it
    #[arg(long, value_name = "FILE", conflicts_with = "entry")]
    pub(super) secret_out: Option<PathBuf>,
    /// Take the secret from this entry, which `ekm-otp-client key create --secret-out` wrote, instead of making one
    #[arg(long, value_name = "FILE")]
    pub(super) entry: Option<PathBuf>,
    #[command(flatten)]
    pub(super) bundle: BundleWay,
    /// Tell the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct Add {
    /// The new key id [default: that of --entry]
    #[arg(required_unless_present = "entry")]
    pub(super) kid: Option<KeyId>,
    /// The client's name [default: the key id, or what --entry says]
    #[arg(long)]
    pub(super) client: Option<String>,
    /// From when it is valid: 2027-01-31T12:00:00Z, or how long from now: 12h, 7d
    #[arg(long, value_name = "TIME")]
    pub(super) not_before: Option<String>,
    /// Until when it is valid
    #[arg(long, value_name = "TIME")]
    pub(super) not_after: Option<String>,
    /// The weakest kind of credential that it takes [default: otp]
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(CredentialKind::ALL.map(CredentialKind::as_str)))]
    pub(super) credential: Option<String>,
    /// The wire that it is for [default: v1]
    #[arg(long, hide_short_help = true, value_name = "PROFILE", value_parser = PossibleValuesParser::new(Profile::ALL.map(Profile::as_str)))]
    pub(super) profile: Option<String>,
    /// Only on connections for this name of the server; repeat for more
    #[arg(long = "server-name", value_name = "NAME")]
    pub(super) server_names: Vec<String>,
    /// A note
    #[arg(long, value_name = "TEXT")]
    pub(super) comment: Option<String>,
    #[command(flatten)]
    pub(super) secret: SecretWay,
}

#[derive(clap::Args, Debug)]
pub(super) struct Rotate {
    /// The key id whose place a new one takes
    pub(super) kid: KeyId,
    /// The new key id [default: the old one with -2, -3, … behind it, or that of --entry]
    #[arg(long, value_name = "KID")]
    pub(super) new_kid: Option<KeyId>,
    /// How long the old one stays valid: 90m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub(super) overlap: String,
    #[command(flatten)]
    pub(super) secret: SecretWay,
}

#[derive(clap::Args, Debug)]
pub(super) struct List {
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Also those that were removed
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct Show {
    pub(super) kid: KeyId,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct Kids {
    /// The key ids: all or none
    #[arg(required = true)]
    pub(super) kids: Vec<KeyId>,
}

#[derive(clap::Args, Debug)]
pub(super) struct Import {
    /// A registry file (TOML; JSON where its name ends in .json)
    pub(super) file: PathBuf,
}

#[derive(clap::Args, Debug)]
pub(super) struct Export {
    /// Write to this new file, which only its owner can read (JSON where its name ends in .json) [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Secrets, too: what comes out is a whole registry file, good for `import`
    #[arg(long, requires = "out")]
    pub(super) with_secrets: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct NewRegistryKey {
    /// The new file, which only its owner can read
    #[arg(long, value_name = "FILE", required_unless_present = "append")]
    pub(super) out: Option<PathBuf>,
    /// Add it to this file of a registry key that is in use: the first step of exchanging it
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    pub(super) append: Option<PathBuf>,
}
