//! What tunnels can be set to, and what that means.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ekm_otp::tunnel::Target;
use serde::Deserialize;

use super::to::To;
use crate::allow::{AllowList, AllowSettings};
use crate::settings::{self, Mistakes, named};

/// How long both sides of a tunnel may be silent, unless set otherwise: people go for lunch with a shell open.
const IDLE: Duration = Duration::from_secs(3600);

/// One `[[tcp]]` or `[[site.tcp]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TargetSettings {
    /// What clients ask for.
    target: String,
    /// What they get.
    to: Option<String>,
    allow: Option<Vec<AllowSettings>>,
    connect_timeout: Option<u64>,
    idle_timeout: Option<u64>,
}

impl TargetSettings {
    /// Makes relative paths relative to the file's folder.
    pub(crate) fn relative_to(&mut self, folder: &Path) {
        if let Some(to) = &mut self.to {
            To::relative_to(to, folder);
        }
    }
}

/// One target, checked. Nothing has been looked up.
#[derive(Clone, Debug)]
pub(crate) struct TargetConfig {
    pub(super) target: Target,
    pub(super) to: To,
    /// The same, as it is shown.
    pub(super) label: Arc<str>,
    pub(super) allow: AllowList,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
}

impl TargetConfig {
    /// Where it leads to, if that is a host and port.
    pub(crate) fn host(&self) -> Option<(&str, u16)> {
        match &self.to {
            To::Tcp(to) => Some((to.host(), to.port())),
            To::Unix(_) => None,
        }
    }
}

/// What they mean. What is wrong is added to `mistakes`; the result is not to be used then.
pub(crate) fn resolve(all: &[TargetSettings], connect_timeout: Duration, mistakes: &mut Mistakes) -> Vec<TargetConfig> {
    let mut targets: Vec<TargetConfig> = Vec::new();
    for (at, settings) in all.iter().enumerate() {
        let mut wrong = |what: String| mistakes.add_at("tcp", at, what);
        if settings.target.is_empty() {
            wrong("has no target: what clients ask for, such as target = \"db.internal:5432\"".to_owned());
            continue;
        }
        let target = match Target::parse(&settings.target) {
            Ok(target) => target,
            Err(e) => {
                wrong(format!("target: {}{e}", named(&settings.target)));
                continue;
            }
        };
        let to = settings.to.as_deref().map_or_else(|| Ok(To::Tcp(target.clone())), To::parse);
        let to = match to {
            Ok(to) => to,
            Err(e) => {
                let text = settings.to.as_deref().unwrap_or_default();
                wrong(format!("to: {}{e}; or unix:/run/socket", named(text)));
                continue;
            }
        };
        let allow = AllowList::of(settings.allow.as_deref(), |_, what| wrong(format!("allow: {what}")));
        let mut seconds = |key, value: Option<u64>, default| match value {
            None => default,
            Some(seconds @ 1..=86_400) => Duration::from_secs(seconds),
            Some(_) => {
                wrong(format!("{key}: must be 1 to 86400 seconds"));
                default
            }
        };
        let connect_timeout = seconds("connect_timeout", settings.connect_timeout, connect_timeout);
        let idle_timeout = seconds("idle_timeout", settings.idle_timeout, IDLE);
        if targets.iter().any(|other| other.target == target) {
            wrong(format!("target: {target} is there already"));
        }
        let label = to.to_string().into();
        targets.push(TargetConfig { target, to, label, allow, connect_timeout, idle_timeout });
    }
    targets
}

/// How many tunnels there may be.
#[derive(Args, Debug, Default, Deserialize)]
#[group(skip)]
#[serde(default)]
pub(crate) struct Settings {
    /// How many TCP tunnels may be open at once [default: 1024]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_tunnels: Option<usize>,
    /// How many of them on one connection [default: 100]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_tunnels_per_connection: Option<usize>,
}

impl settings::Settings for Settings {
    fn relative_to(&mut self, _: &Path) {}
}

/// The same, complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) max_tunnels: usize,
    pub(crate) max_tunnels_per_connection: usize,
}

impl Settings {
    pub(crate) fn resolve(self, _: &mut Mistakes) -> Config {
        Config { max_tunnels: self.max_tunnels.unwrap_or(1024), max_tunnels_per_connection: self.max_tunnels_per_connection.unwrap_or(100) }
    }
}
