//! What is read for a body: files, and standard input, which can be read once.

use std::io::Read as _;
use std::path::Path;

use super::body::{FilePart, Part};
use crate::cli::CliError;
use crate::cli::shown::shown;

/// Knows who has read standard input: whoever came second would find it empty, and send that.
#[derive(Debug, Default)]
pub(super) struct Input {
    is_taken: bool,
}

impl Input {
    /// Standard input is somebody else's.
    pub(super) fn taken() -> Self {
        Self { is_taken: true }
    }

    pub(super) fn take(&mut self) -> Result<(), CliError> {
        if std::mem::replace(&mut self.is_taken, true) {
            return Err(CliError::Usage("standard input (-) is named twice, and can be read once: put one of the two into a file".into()));
        }
        Ok(())
    }

    /// All of a file; `-` is standard input.
    pub(super) async fn whole(&mut self, path: &Path) -> Result<Vec<u8>, CliError> {
        let is_input = path == Path::new("-");
        if is_input {
            self.take()?;
        }
        let owned = path.to_owned();
        // A pipe may never end: a signal must still be heard.
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            if is_input {
                std::io::stdin().lock().read_to_end(&mut bytes)?;
            } else {
                std::fs::File::open(&owned)?.read_to_end(&mut bytes)?;
            }
            Ok::<_, std::io::Error>(bytes)
        });
        match read.await {
            Ok(read) if is_input => read.map_err(|e| CliError::Other(format!("cannot read standard input: {e}"))),
            Ok(read) => read.map_err(|e| CliError::io("read", path, &e)),
            Err(e) => Err(CliError::Other(format!("reading {} failed: {e}", shown(path)))),
        }
    }

    /// A file that is read while it is sent. What is no file on a disk (a pipe, standard input) is read now: its length is told then, and it can be sent again.
    pub(super) async fn file(&mut self, path: &Path) -> Result<Part, CliError> {
        if path != Path::new("-")
            && let Some(file) = FilePart::open(path)?
        {
            return Ok(Part::File(file));
        }
        Ok(Part::Bytes(self.whole(path).await?.into()))
    }
}
