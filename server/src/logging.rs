//! Structured logs on standard error. No secret and no password is ever handed to them.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::error::ServerError;
use crate::log_lines::{Lines, LogFormat};
use crate::log_queue::{LogQueue, Trouble};

/// The log on standard error. Writes what still waits when it is dropped.
pub(crate) struct Log(Lines);

impl Log {
    /// Its lines, for what is not written through `tracing`.
    pub(crate) fn lines(&self) -> &Lines {
        &self.0
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.queue.flush();
    }
}

/// What `--log` and `log` say. Else what is wrong with it.
pub(crate) fn filter(filter: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word.to_ascii_lowercase().as_str());
    // A filter takes a word that is no level for a target, and shows all of that and nothing else.
    if let Some(word) = filter.split(',').map(str::trim).find(|word| word.chars().all(char::is_alphanumeric) && !is_level(word)) {
        return Err(format!("{word:?} is no level: off, error, warn, info, debug and trace are; a target is written TARGET=LEVEL"));
    }
    EnvFilter::try_new(filter).map_err(|e| format!("{e}: write a level, or TARGET=LEVEL, separated by commas, such as info,access=off"))
}

pub(crate) fn start(filter: &str, format: LogFormat) -> Result<Log, ServerError> {
    let filter = self::filter(filter).map_err(|why| ServerError::Config(format!("--log {filter} (or EKM_OTP_LOG): {why}")))?;
    let cannot = |e: &dyn std::fmt::Display| ServerError::Other(format!("cannot log: {e}"));
    let queue = LogQueue::new(io::stderr(), |_, trouble| match trouble {
        Trouble::LeftOut(left_out) => tracing::warn!(left_out, "log lines found no room, since nobody took them in time"),
        Trouble::Recovered(lost) => tracing::warn!(lost, "standard error can be written again, some lines were lost"),
        // There is no other place for it.
        Trouble::Fails(_) => {}
    });
    let lines = Lines { format, has_colours: io::stderr().is_terminal(), queue: queue.map_err(|e| cannot(&e))? };
    tracing_subscriber::registry().with(filter).with(lines.clone()).try_init().map_err(|e| cannot(&e))?;
    Ok(Log(lines))
}
