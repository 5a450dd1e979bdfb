//! All that the commands show. Results go to standard output: that they cannot be written is an error. Notes go to standard error: one that
//! cannot be shown undoes no work, and there is no other place for it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use super::error::CliError;

/// A line on standard error, in `format_args!`'s terms.
macro_rules! note {
    ($($text:tt)*) => { $crate::cli::output::show_note(format_args!($($text)*)) };
}
pub(crate) use note;

pub(crate) fn show_note(text: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A result. Who closed the pipe wants no more of it: the command ends, quietly.
pub(crate) fn result(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(CliError::output)
}

/// A line of a result.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    result(format!("{text}\n").as_bytes())
}

impl CliError {
    /// Standard output cannot be written.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Other(format!("cannot write to standard output: {error}")),
        }
    }
}

/// What clap has to say: help and version, or what is wrong with the flags.
pub(crate) fn of_clap(error: &clap::Error) -> ExitCode {
    let shown = error.print().and_then(|()| io::stdout().flush());
    match shown.map_err(CliError::output) {
        _ if error.use_stderr() => ExitCode::from(64),
        Err(e) => of_error(&e),
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// Why a command failed, and the exit code that goes with it.
pub(crate) fn of_error(error: &CliError) -> ExitCode {
    if !matches!(error, CliError::ClosedPipe) {
        note!("ekm-otp-client: {error}");
    }
    ExitCode::from(error.exit_code())
}
