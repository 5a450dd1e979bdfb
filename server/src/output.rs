//! All that this program shows. What cannot be shown ends no server: nobody is there to be told.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use crate::error::ServerError;

/// A line on standard error. Where that is closed or full, there is no other place for it.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "ekm-otp-server: {text}");
}

/// What was asked for, on standard output. A reader that is gone is an error, too: it did not get it.
pub(crate) fn result(text: &str) -> Result<(), ServerError> {
    let mut out = io::stdout();
    let shown = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    shown.map_err(|e| ServerError::Other(format!("cannot write to standard output: {e}")))
}

/// What clap has to say: help and version, or what is wrong with the flags. Who closed the pipe wants no more of it.
pub(crate) fn of_clap(error: &clap::Error) -> ExitCode {
    let shown = error.print().and_then(|()| io::stdout().flush());
    match shown {
        _ if error.use_stderr() => ExitCode::from(64),
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {e}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// A command's result on standard output, and its exit code. Who closed the pipe wants no more of it.
pub(crate) fn show(text: &str, code: u8) -> ExitCode {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {e}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(code),
    }
}
