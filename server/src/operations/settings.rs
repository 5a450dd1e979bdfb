//! What of the watching can be set.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::address::AdminAddress;
use crate::log_lines::LogFormat;

/// The flags and keys of this room.
#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(crate) struct Settings {
    /// Where metrics, health and the status page are served, over plain HTTP: a loopback address and port, or unix:PATH; nowhere else
    /// [default: nowhere]
    #[arg(long, value_name = "IP:PORT|unix:PATH", help_heading = "Operations")]
    pub(crate) admin: Option<String>,
    /// One line for each request that is let in: a file, `stderr` (with the rest, target `access`) or `off` [default: stderr]
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    pub(crate) access_log: Option<String>,
    /// One JSON line for each connection that is verified, refused or ended: a file, `stderr` or `off` [default: off]
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    pub(crate) audit_log: Option<String>,
    /// What to log, as tracing's filters write it: info, debug, access=off,ekm_otp_tower=debug,… [default: info]
    #[arg(long, value_name = "FILTER", env = "EKM_OTP_LOG", help_heading = "Log")]
    pub(crate) log: Option<String>,
    /// How to log [default: text]
    #[arg(long, value_enum, help_heading = "Log")]
    pub(crate) log_format: Option<LogFormat>,
}

/// What this room runs with. Complete and checked, nothing opened.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) admin: Option<AdminAddress>,
    pub(crate) access_log: LogTo,
    pub(crate) audit_log: LogTo,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTo {
    Off,
    StandardError,
    File(PathBuf),
}
