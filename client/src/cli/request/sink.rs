//! Where an answer goes: standard output, or a file that is made when there is something for it. What has come is written whatever happens then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use crate::cli::CliError;
use crate::cli::shown::shown;

/// How much of what goes to a terminal is looked at, as curl does.
const LOOKED_AT: u64 = 2000;

/// `-o` and what stands beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Destination {
    /// `None` is standard output.
    pub(super) file: Option<PathBuf>,
    pub(super) makes_folders: bool,
    pub(super) removes_on_error: bool,
    /// `-o -`: whatever comes may go to a terminal.
    pub(super) any_to_terminal: bool,
}

/// A destination that is written to.
#[derive(Debug)]
pub(super) struct Sink {
    to: Destination,
    open: Option<File>,
    was_opened: bool,
    written: u64,
    is_terminal: bool,
}

impl Sink {
    pub(super) fn new(to: Destination) -> Self {
        let is_terminal = to.file.is_none() && io::stdout().is_terminal();
        Self { to, open: None, was_opened: false, written: 0, is_terminal }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.to.file.as_deref()
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), CliError> {
        if self.is_terminal && !self.to.any_to_terminal && self.written < LOOKED_AT && bytes.contains(&0) {
            return Err(CliError::Usage(
                "the answer is binary, and may do things to your terminal: -o FILE saves it, -o - shows it all the same".into(),
            ));
        }
        self.written += bytes.len() as u64;
        let Some(path) = self.to.file.clone() else {
            let mut stdout = tokio::io::stdout();
            stdout.write_all(&bytes).await.map_err(CliError::output)?;
            return stdout.flush().await.map_err(CliError::output);
        };
        let mut file = self.file(&path)?;
        // A disk or a FIFO may let others wait: a signal must still be heard.
        let (file, written) = tokio::task::spawn_blocking(move || {
            let written = file.write_all(&bytes);
            (file, written)
        })
        .await
        .map_err(|e| CliError::Other(format!("writing failed: {e}")))?;
        self.open = Some(file);
        written.map_err(|e| cannot_write(&path, &e))
    }

    fn file(&mut self, path: &Path) -> Result<File, CliError> {
        if let Some(file) = self.open.take() {
            return Ok(file);
        }
        if self.to.makes_folders
            && let Some(folder) = path.parent()
        {
            fs::create_dir_all(folder).map_err(|e| CliError::io("create the folder", folder, &e))?;
        }
        let opened = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        self.was_opened = opened.is_ok();
        opened.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => CliError::Unavailable(format!("cannot create {}: {e}. --create-dirs makes its folder", shown(path))),
            _ => CliError::io("create", path, &e),
        })
    }

    /// What came is of no use, another try follows. Whether it could be taken back: what went to standard output is out.
    pub(super) fn take_back(&mut self) -> bool {
        if self.written == 0 {
            return true;
        }
        let Some(file) = &mut self.open else { return false };
        let is_empty = file.metadata().is_ok_and(|found| found.is_file()) && file.set_len(0).and_then(|()| io::Seek::rewind(file)).is_ok();
        if is_empty {
            self.written = 0;
        }
        is_empty
    }

    /// All has come: the file is there even if nothing came, and the disk has it.
    pub(super) async fn finish(&mut self) -> Result<(), CliError> {
        let Some(path) = self.to.file.clone() else { return Ok(()) };
        let file = self.file(&path)?;
        let synced = tokio::task::spawn_blocking(move || match file.metadata() {
            // Some file systems tell only now that they are full.
            Ok(found) if found.is_file() => file.sync_data(),
            _ => Ok(()),
        });
        synced.await.map_err(|e| CliError::Other(format!("writing failed: {e}")))?.map_err(|e| cannot_write(&path, &e))
    }

    /// It failed. What there is of the file stays, unless that is not wanted.
    pub(super) fn fail(&mut self) {
        if let Some(path) = self.to.file.as_ref().filter(|path| self.to.removes_on_error && self.was_opened && path.is_file()) {
            let _ = fs::remove_file(path);
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    match error.kind() {
        // A FIFO whose reader has gone wants no more, as standard output.
        io::ErrorKind::BrokenPipe => CliError::ClosedPipe,
        _ => CliError::Other(format!("cannot write to {}: {error}. What has come is kept there", shown(path))),
    }
}

/// The file that `-O` makes in this folder: the last part of the path, as it stands there.
pub(super) fn remote_name(path: &str) -> Result<PathBuf, CliError> {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name {
        "" | "." | ".." => Err(CliError::Usage("-O: the URL ends in no file's name: name the file yourself, -o FILE".into())),
        name => Ok(name.into()),
    }
}
