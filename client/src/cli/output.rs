//! All that the commands show. Results go to standard output: that they cannot be written is an error. Notes go to standard error: one that
//! cannot be shown undoes no work, and there is no other place for it.

use std::fmt::Arguments;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::{ExitCode, Stdio};
use std::sync::OnceLock;

use super::error::CliError;

/// A line on standard error, in `format_args!`'s terms.
macro_rules! note {
    ($($text:tt)*) => { $crate::cli::output::show_note(format_args!($($text)*)) };
}
pub(crate) use note;

/// A line on standard error that was asked for: shown however quiet the command is.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::show(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use say;

/// What a command does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quiet {
    /// Notes and warnings.
    Notes,
    /// Why it failed, either.
    All,
}

static QUIET: OnceLock<Quiet> = OnceLock::new();

/// From now on.
pub(crate) fn be(quiet: Quiet) {
    let _ = QUIET.set(quiet);
}

/// Where standard error leads, once descriptor 2 leads nowhere.
static NOTES: OnceLock<File> = OnceLock::new();

/// What a command holds is written into no core file, and no other process of this user reads it (prctl(2), PR_SET_DUMPABLE). Where the system refuses, that does not
/// matter to the work.
pub(crate) fn keep_out_of_cores() {
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

pub(crate) fn show_note(text: Arguments<'_>) {
    if QUIET.get().is_none() {
        show(format_args!("{text}\n"));
    }
}

/// In one piece: other processes may write there, too.
pub(crate) fn show(text: Arguments<'_>) {
    show_bytes(text.to_string().as_bytes());
}

pub(crate) fn show_bytes(bytes: &[u8]) {
    let _ = match NOTES.get() {
        Some(mut notes) => notes.write_all(bytes),
        None => io::stderr().write_all(bytes),
    };
}

/// Silences what writes to descriptor 2 by itself: the TPM's C library has a variable for that, but a program cannot safely set one of its own.
/// Notes and panics are shown as before. Where this fails, so are the library's lines.
pub(crate) fn silence_libraries() {
    let Ok(notes) = io::stderr().as_fd().try_clone_to_owned() else { return };
    let Ok(nowhere) = OpenOptions::new().write(true).open("/dev/null") else { return };
    if NOTES.set(notes.into()).is_ok() && rustix::stdio::dup2_stderr(nowhere).is_ok() {
        std::panic::set_hook(Box::new(|panic| show(format_args!("ekm-otp-client: {panic}\n"))));
    }
}

/// The terminal that notes go to, if it is one.
pub(super) fn notes_terminal() -> Option<File> {
    let terminal = match NOTES.get() {
        Some(notes) => notes.try_clone(),
        None => io::stderr().as_fd().try_clone_to_owned().map(File::from),
    };
    terminal.ok().filter(IsTerminal::is_terminal)
}

/// Standard error for a program that is started from here.
pub(crate) fn stderr_for_child() -> Stdio {
    NOTES.get().and_then(|notes| notes.try_clone().ok()).map_or_else(Stdio::inherit, Stdio::from)
}

/// A result. Who closed the pipe wants no more of it: the command ends, quietly.
pub(crate) fn result(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(CliError::output)
}

/// Closes standard output, so that whoever reads it sees the end: what is written there later goes nowhere.
pub(crate) fn close() -> io::Result<()> {
    // Where standard input is the same socket, that stays open, and with it the socket. What is none has no direction to shut down.
    let socket = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let _ = socket.shutdown(Shutdown::Write);
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
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
    if !matches!(error, CliError::ClosedPipe) && QUIET.get() != Some(&Quiet::All) {
        say!("ekm-otp-client: {error}");
    }
    ExitCode::from(error.exit_code())
}
