//! The program that this process becomes, with the plaintext in its environment or on its standard input.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, MemfdFlags};
use rustix::io::Errno;

use super::super::error::CliError;
use super::super::output;
use super::super::shown::printable;

/// Where the plaintext is, unless another name is given.
pub(super) const DEFAULT_VARIABLE: &str = "EKM_OTP_SECRET";
/// Of one string of an environment, with its last NUL byte (execve(2), MAX_ARG_STRLEN of Linux).
const MAX_STRING: usize = 128 * 1024;

/// A program and its arguments. Shows nothing of them: its environment holds the plaintext.
pub(crate) struct Program(Command);

impl Program {
    /// `None` where none is named. A first `--` is no name.
    pub(super) fn new(words: &[OsString]) -> Result<Option<Self>, CliError> {
        let words = match words.split_first() {
            None => return Ok(None),
            Some((first, rest)) if first == "--" => rest,
            Some(_) => words,
        };
        let (name, arguments) = words
            .split_first()
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| CliError::Usage("--exec: which program? it and its arguments come last".into()))?;
        must_be_there(name).map_err(|e| cannot_run(name, &e))?;
        let mut command = Command::new(name);
        command.args(arguments);
        Ok(Some(Self(command)))
    }

    pub(super) fn with_variable(mut self, name: &str, value: &[u8]) -> Result<Self, CliError> {
        if value.contains(&0) {
            return Err(CliError::Usage(
                "the plaintext has a NUL byte in it, which an environment variable cannot hold: --exec-stdin hands it over as it is".into(),
            ));
        }
        self.0.env(name, OsStr::from_bytes(value));
        Ok(self)
    }

    /// From its start to its end.
    pub(super) fn with_stdin(mut self, mut memory: File) -> io::Result<Self> {
        memory.rewind()?;
        self.0.stdin(memory);
        Ok(self)
    }

    /// Becomes it. Comes back only where that fails.
    pub(crate) fn become_it(mut self) -> CliError {
        let error = self.0.stderr(output::stderr_for_child()).exec();
        cannot_run(self.0.get_program(), &error)
    }
}

fn cannot_run(program: &OsStr, error: &io::Error) -> CliError {
    let text = format!("cannot run {}: {error}", printable(&program.to_string_lossy()));
    match error.kind() {
        ErrorKind::NotFound => CliError::Unavailable(text),
        ErrorKind::PermissionDenied => CliError::NotPermitted(text),
        ErrorKind::ArgumentListTooLong => CliError::Usage(format!("{text}; --exec-stdin takes a longer plaintext")),
        _ => CliError::Other(text),
    }
}

/// Whether a program is where execvp(3) looks for it, before there is a plaintext that it is to get. What it is, it tells when it is started.
fn must_be_there(name: &OsStr) -> io::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![name.into()]
    } else {
        // A folder without a name is the one that this runs in.
        std::env::split_paths(&path).map(|folder| Path::new(".").join(folder).join(name)).collect()
    };
    let mut error = Errno::NOENT;
    for candidate in candidates {
        match rustix::fs::access(&candidate, Access::EXEC_OK) {
            Ok(()) if candidate.is_dir() => error = Errno::ACCESS,
            Ok(()) => return Ok(()),
            Err(Errno::ACCESS) => error = Errno::ACCESS,
            Err(_) => {}
        }
    }
    Err(error.into())
}

/// As POSIX shells have them (XBD 3.231).
pub(super) fn variable_name(text: &str) -> Result<String, String> {
    let is_one = !text.starts_with(|c: char| c.is_ascii_digit())
        && (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_one { Ok(text.to_owned()) } else { Err("a variable's name is letters, digits and _, such as DB_PASSWORD".to_owned()) }
}

/// What a variable of this name can hold.
pub(super) fn longest_value(name: &str) -> usize {
    // `NAME=`, and the NUL byte.
    MAX_STRING - name.len() - 2
}

/// A file that no file system has (memfd_create(2)), for a standard input of any length that is there as a whole before it is read.
pub(super) fn memory() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("plaintext", MemfdFlags::CLOEXEC)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_s_name_is_one() {
        for good in ["A", "_a1", "DB_PASSWORD"] {
            assert_eq!(variable_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "1A", "A=B", "A B", "A-B", "ä", "A\0"] {
            assert!(variable_name(bad).is_err(), "{bad:?}");
        }
    }
}
