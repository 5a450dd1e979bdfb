//! The flags of `run`, put together from every part's. They are kept as clap read them, since they win key by key over a file that is read again.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::credentials::{CONFIG, credential};
use super::general::GeneralSettings;
use super::site::SiteKeys;
use crate::doors;
use crate::operations;
use crate::proxy::SiteSettings;
use crate::registry;
use crate::tcp;

/// The flags of `run`. Each but `--unsafe-…` is also a key of the configuration file (with `_` for `-`).
#[derive(Clone, Debug)]
pub(crate) struct RunArgs(ArgMatches);

#[derive(Args)]
#[group(skip)]
struct ConfigFile {
    /// Configuration file (TOML). Relative paths in it are relative to its folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl RunArgs {
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.0.get_one::<PathBuf>("config").cloned().or_else(|| credential(CONFIG))
    }

    /// The flag by which this key was given, if it was.
    pub(super) fn given(&self, key: &str) -> Option<String> {
        let source = self.0.ids().any(|id| id == key).then(|| self.0.value_source(key))??;
        matches!(source, ValueSource::CommandLine | ValueSource::EnvVariable).then(|| flag(key))
    }

    /// Whether a flag that is no key of the file was given.
    pub(super) fn is_set(&self, flag: &str) -> bool {
        self.0.get_flag(flag)
    }

    /// Which keys of `T` were given as flags.
    pub(super) fn given_of<T: Args>(&self) -> Vec<String> {
        T::augment_args(Command::new("")).get_arguments().filter_map(|argument| self.given(argument.get_id().as_str())).collect()
    }

    /// Lets the flags win.
    pub(super) fn over<T: FromArgMatches>(&self, settings: &mut T) -> Result<(), clap::Error> {
        settings.update_from_arg_matches(&self.0)
    }
}

/// What the flag of this key takes: `SECONDS`, `N`.
pub(super) fn unit(key: &str) -> Option<String> {
    let command = RunArgs::augment_args(Command::new(""));
    let argument = command.get_arguments().find(|argument| argument.get_id() == key)?;
    argument.get_value_names()?.first().map(ToString::to_string)
}

/// Whether it is a flag that no file can set.
pub(super) fn is_only_a_flag(key: &str) -> bool {
    let command = RunArgs::augment_args(Command::new(""));
    key.starts_with("unsafe_") && command.get_arguments().any(|argument| argument.get_id() == key)
}

/// How the flag of this key is spelled.
pub(super) fn flag(key: &str) -> String {
    let command = RunArgs::augment_args(Command::new(""));
    let long = command.get_arguments().find(|argument| argument.get_id() == key).and_then(clap::Arg::get_long);
    format!("--{}", long.map_or_else(|| key.replace('_', "-"), str::to_owned))
}

impl Args for RunArgs {
    fn augment_args(command: Command) -> Command {
        let command = doors::Settings::augment_args(ConfigFile::augment_args(command));
        let command = operations::Settings::augment_args(tcp::Settings::augment_args(command));
        GeneralSettings::augment_args(registry::Settings::augment_args(SiteSettings::augment_args(SiteKeys::augment_args(command))))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RunArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}
