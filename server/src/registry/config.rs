//! Where the registry is, from flags and configuration file.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::settings::{self, Mistakes, rebase};

/// What flags and the configuration file can set.
#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(crate) struct Settings {
    /// Registry: a file (TOML, or JSON where its name ends in .json) of key ids with secret (base64) and client name, readable by its owner only
    #[arg(long, value_name = "FILE", help_heading = "Registry and credentials")]
    registry: Option<String>,
    /// Another name of `--registry FILE`
    #[arg(long, value_name = "FILE", hide_short_help = true, help_heading = "Registry and credentials")]
    secrets: Option<PathBuf>,
    /// For how long to go by what was read last while the registry cannot be read, in seconds; look-ups are answered 503 then [default: for ever]
    #[arg(long, value_name = "SECONDS", help_heading = "Registry and credentials")]
    max_staleness: Option<NonZeroU64>,
    /// Take secrets of fewer than 16 bytes. A rogue server can guess them offline
    #[arg(long, hide_short_help = true, help_heading = "Registry and credentials")]
    #[serde(skip)]
    unsafe_weak_secret: bool,
}

impl settings::Settings for Settings {
    fn relative_to(&mut self, folder: &Path) {
        if let Some(file) = self.registry.as_mut().filter(|registry| !registry.contains("://")) {
            *file = folder.join(&*file).display().to_string();
        }
        rebase(&mut self.secrets, folder);
    }
}

impl Settings {
    /// Checks them. Opens nothing.
    pub(crate) fn resolve(self, mistakes: &mut Mistakes) -> Config {
        if self.registry.is_some() && self.secrets.is_some() {
            mistakes.add("secrets", "`registry` says where the registry is already");
        }
        let location = match (self.registry, self.secrets) {
            (Some(registry), _) => Location::parse(&registry).unwrap_or_else(|why| {
                mistakes.add("registry", why);
                Location::File(PathBuf::new())
            }),
            (None, Some(secrets)) => Location::File(secrets),
            (None, None) => {
                mistakes.add("registry", "is missing");
                Location::File(PathBuf::new())
            }
        };
        let max_staleness = self.max_staleness.map(|seconds| Duration::from_secs(seconds.get()));
        Config { location, weak_secrets: self.unsafe_weak_secret, max_staleness }
    }
}

/// Where the registry is, and how it is read. Checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) location: Location,
    pub(crate) weak_secrets: bool,
    pub(crate) max_staleness: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) enum Location {
    File(PathBuf),
}

impl Location {
    /// A file's path, or a URL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None => Ok(Self::File(PathBuf::from(text))),
            Some((scheme, _)) => Err(format!("{scheme}:// is none: name a file")),
        }
    }
}
