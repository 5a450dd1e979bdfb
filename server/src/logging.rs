//! Structured logs on standard error. No secret and no password is ever handed to them.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::error::ServerError;
use crate::output;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), ServerError> {
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word.to_ascii_lowercase().as_str());
    // A filter takes a word that is no level for a target, and shows all of that and nothing else.
    if let Some(word) = filter.split(',').map(str::trim).find(|word| word.chars().all(char::is_alphanumeric) && !is_level(word)) {
        return Err(ServerError::Config(format!(
            "--log {filter} (or EKM_OTP_LOG): {word:?} is no level: off, error, warn, info, debug and trace are; a target is written TARGET=LEVEL"
        )));
    }
    let filter = EnvFilter::try_new(filter).map_err(|e| ServerError::Config(format!("--log {filter}: {e}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(output::Log).log_internal_errors(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|e| ServerError::Other(format!("cannot log: {e}")))
}
