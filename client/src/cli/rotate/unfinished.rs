//! The file of a successor that is not in use yet.

use std::path::{Path, PathBuf};

use ekm_otp::KeyId;

use crate::cli::enroll::place::next_to;
use crate::cli::error::CliError;
use crate::cli::shown::shown;

/// Where it is until the end, and what it is called then.
pub(super) struct Unfinished {
    at: PathBuf,
    named: PathBuf,
}

impl Unfinished {
    /// Beside the old key's file.
    pub(super) fn beside(old: &Path, kid: &KeyId) -> Self {
        let named = next_to(old, kid);
        let mut at = named.clone().into_os_string();
        at.push(".unfinished");
        Self { at: at.into(), named }
    }

    pub(super) fn path(&self) -> &Path {
        &self.at
    }

    /// What an earlier run left: with its name, where only the profile was not switched.
    pub(super) fn found(&self) -> Option<PathBuf> {
        [&self.at, &self.named].into_iter().find(|path| path.exists()).cloned()
    }

    /// Of a key that the server does not know.
    pub(super) fn discard(&self) -> Result<(), CliError> {
        match std::fs::remove_file(&self.at) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CliError::io("remove", &self.at, &e)),
            _ => Ok(()),
        }
    }

    /// Gives it its name, which is returned. None is overwritten.
    pub(super) fn finish(&self) -> Result<PathBuf, CliError> {
        if self.at.exists() {
            // A link fails where the name is taken, as no renaming does.
            std::fs::hard_link(&self.at, &self.named).map_err(|e| CliError::io("create", &self.named, &e))?;
            self.discard()?;
        } else if !self.named.exists() {
            return Err(CliError::Other(format!("{} is gone: run `rotate` again", shown(&self.at))));
        }
        Ok(self.named.clone())
    }
}
