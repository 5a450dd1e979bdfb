//! The access log and the audit log, opened as they are set.

use tracing::Level;

use super::settings::{Config, LogTo};
use crate::error::ServerError;
use crate::log_file::LogFile;
use crate::log_lines::{Fields, Lines, LogFormat};
use crate::log_queue::{LogQueue, Lost};

/// Where the lines of one log go.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    Off,
    /// With the rest, as far as `--log` lets it.
    StandardError(Lines),
    /// All of them.
    File(Lines),
}

/// What `--log` knows the access log by.
pub(crate) const ACCESS: &str = "access";
/// What `--log` knows the audit log by.
pub(crate) const AUDIT: &str = "audit";

impl Sink {
    /// For a line of the access log.
    pub(crate) fn access(&self, fields: impl FnOnce(&mut Fields<'_>)) {
        match self {
            Self::StandardError(lines) if tracing::enabled!(target: ACCESS, Level::INFO) => lines.write(Level::INFO, ACCESS, fields),
            Self::File(lines) => lines.write(Level::INFO, ACCESS, fields),
            _ => {}
        }
    }

    /// For a line of the audit log: in a file, a JSON object of just these fields and the time.
    pub(crate) fn audit(&self, fields: impl FnOnce(&mut Fields<'_>)) {
        match self {
            Self::StandardError(lines) if tracing::enabled!(target: AUDIT, Level::INFO) => lines.write(Level::INFO, AUDIT, fields),
            Self::File(lines) => lines.write_object(fields),
            _ => {}
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

/// All logs of this process.
#[derive(Debug)]
pub(crate) struct Logs {
    pub(crate) access: Sink,
    pub(crate) audit: Sink,
    standard_error: LogQueue,
    files: Vec<(&'static str, LogFile)>,
}

impl Logs {
    /// Opens the files. Lines for standard error go to `log`; those of an access log in a file look like them.
    pub(crate) fn open(config: &Config, log: &Lines) -> Result<Self, ServerError> {
        let mut files = Vec::new();
        let mut sink = |name, to: &LogTo, format| {
            Ok(match to {
                LogTo::Off => Sink::Off,
                LogTo::StandardError => Sink::StandardError(log.clone()),
                LogTo::File(path) => {
                    let file = LogFile::open(path.clone())
                        .map_err(|e| ServerError::io(&format!("cannot open the {name} log {}", path.display()), &e))?;
                    let lines = Lines { format, has_colours: false, queue: file.queue().clone() };
                    files.push((name, file));
                    Sink::File(lines)
                }
            })
        };
        let access = sink(ACCESS, &config.access_log, log.format)?;
        let audit = sink(AUDIT, &config.audit_log, LogFormat::Json)?;
        Ok(Self { access, audit, standard_error: log.queue.clone(), files })
    }

    /// Opens the files again, by their names. Where that fails, it is told, and the old one is written on.
    pub(crate) fn reopen(&self) {
        for (log, file) in &self.files {
            match file.reopen() {
                Ok(()) => tracing::info!(log, file = %file.path().display(), "opened again"),
                Err(error) => {
                    tracing::error!(log, file = %file.path().display(), %error, "cannot open the log again: the old file is written on");
                }
            }
        }
    }

    /// Each log's name, and how many lines did not reach it.
    pub(crate) fn lost(&self) -> Vec<(&'static str, Lost)> {
        let files = self.files.iter().map(|(name, file)| (*name, file.queue().lost()));
        std::iter::once(("stderr", self.standard_error.lost())).chain(files).collect()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        for (_, file) in &self.files {
            file.queue().flush();
        }
    }
}
