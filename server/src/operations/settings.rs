//! What of the watching can be set.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use super::address::AdminAddress;
use crate::settings::{self, Mistakes};

/// The flags and keys of this room.
#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(crate) struct Settings {
    /// Where metrics, health and the status page are served, over plain HTTP: a loopback address and port, or unix:PATH; nowhere else
    /// [default: nowhere]
    #[arg(long, value_name = "IP:PORT|unix:PATH", help_heading = "Operations")]
    admin: Option<String>,
    /// One line for each request that is let in: a file, `stderr` (with the rest, as `--log` says of the target `access`) or `off`
    /// [default: stderr]
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    access_log: Option<String>,
    /// One JSON line for each connection that is verified, refused or ended: a file, `stderr` (with the rest, target `audit`) or `off`
    /// [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    audit_log: Option<String>,
}

/// What this room runs with. Complete and checked, nothing opened.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) admin: Option<AdminAddress>,
    pub(crate) access_log: LogTo,
    pub(crate) audit_log: LogTo,
}

impl Config {
    /// The files that are written to, or made.
    pub(crate) fn written(&self) -> impl Iterator<Item = PathBuf> {
        let logs = [&self.access_log, &self.audit_log]
            .into_iter()
            .filter_map(|log| if let LogTo::File(file) = log { Some(file.clone()) } else { None });
        let socket = if let Some(AdminAddress::Unix(socket)) = &self.admin { Some(socket.clone()) } else { None };
        logs.chain(socket)
    }
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTo {
    Off,
    StandardError,
    File(PathBuf),
}

impl LogTo {
    fn read(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "off" => Some(Self::Off),
            "stderr" => Some(Self::StandardError),
            file => Some(Self::File(file.into())),
        }
    }
}

impl settings::Settings for Settings {
    fn relative_to(&mut self, folder: &Path) {
        for log in [&mut self.access_log, &mut self.audit_log].into_iter().flatten() {
            if let Some(LogTo::File(file)) = LogTo::read(log) {
                *log = folder.join(file).to_string_lossy().into_owned();
            }
        }
        if let Some(admin) = &mut self.admin
            && let Some(socket) = admin.strip_prefix("unix:").filter(|path| !path.is_empty())
        {
            *admin = format!("unix:{}", folder.join(socket).display());
        }
    }
}

impl Settings {
    pub(crate) fn resolve(self, mistakes: &mut Mistakes) -> Config {
        let admin =
            self.admin.and_then(|text| text.parse().map_err(|e: super::address::AddressError| mistakes.add("admin", e.to_string())).ok());
        let mut log = |key, set: Option<String>, default| match set.as_deref().map(LogTo::read) {
            None => default,
            Some(Some(to)) => to,
            Some(None) => {
                mistakes.add(key, "write a file's name, \"stderr\" or \"off\"");
                default
            }
        };
        let access_log = log("access_log", self.access_log, LogTo::StandardError);
        let audit_log = log("audit_log", self.audit_log, LogTo::Off);
        // Lines of two writers, and of two kinds, would stand mixed in it.
        if access_log == audit_log && matches!(access_log, LogTo::File(_)) {
            mistakes.add("audit_log", "is the file of access_log: each needs one of its own");
        }
        Config { admin, access_log, audit_log }
    }
}
