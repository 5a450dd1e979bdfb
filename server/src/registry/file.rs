//! The registry in a file: read as a whole, again when it has changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ekm_otp_tower::Changes;
use ekm_otp_tower::registry_file::{self, Entry, Intake};

use super::snapshot::{Filling, Snapshot};
use crate::error::ServerError;

impl Intake for Filling {
    fn take(&mut self, entry: Entry) -> Result<(), String> {
        let (kid, is_succeeded) = (entry.kid.clone(), entry.successor.is_some());
        self.add(kid, entry.into_key(), is_succeeded)
    }
}

/// By what a file that has changed is told: a new one in its place, or new text in it.
type Mark = (u64, u64, u64, i64, i64);

fn mark(file: &Metadata) -> Mark {
    (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec())
}

pub(crate) struct FileSource {
    path: PathBuf,
    weak_secrets: bool,
    /// Of what was read last.
    mark: Option<Mark>,
    /// Of what was there when it was looked at last.
    seen: Option<Mark>,
}

impl FileSource {
    pub(crate) fn new(path: PathBuf, weak_secrets: bool) -> Self {
        Self { path, weak_secrets, mark: None, seen: None }
    }

    /// Reads the file if it is not what was read last, or in any case. Whether it was read.
    pub(crate) fn refresh(&mut self, snapshot: &Snapshot, always: bool) -> Result<bool, ServerError> {
        let found = self.look()?;
        // Who writes it in place takes a while, and half a registry may be one, too: it is read once it has come to rest.
        let rests = self.seen.replace(found) == Some(found);
        if !always && (self.mark == Some(found) || !rests) {
            return Ok(false);
        }
        let filling = read(&self.path, self.weak_secrets);
        if !always && self.look()? != found {
            return Ok(false);
        }
        let Changes { added, removed, changed, .. } = snapshot.become_as(filling?.snapshot);
        if self.mark.is_some() && added + removed + changed > 0 {
            tracing::info!(added, removed, changed, "keys of the registry's file");
        }
        self.mark = Some(found);
        Ok(true)
    }

    fn look(&self) -> Result<Mark, ServerError> {
        let found = std::fs::metadata(&self.path).map_err(|e| ServerError::io(&format!("cannot open {}", self.path.display()), &e))?;
        Ok(mark(&found))
    }
}

/// Reads it as a whole.
pub(crate) fn read(path: &Path, weak_secrets: bool) -> Result<Filling, ServerError> {
    registry_file::read(path, weak_secrets).map_err(of_file)
}

/// The file's errors as the server's.
pub(crate) fn of_file(error: registry_file::Error) -> ServerError {
    match &error {
        registry_file::Error::Io { doing, path, source } => ServerError::io(&format!("cannot {doing} {}", path.display()), source),
        registry_file::Error::Exposed { .. } => ServerError::NotPermitted(error.to_string()),
        _ => ServerError::Config(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(path: &Path, state: &str) {
        // Test data, used nowhere else.
        let text = format!("[a]\nstate = \"{state}\"\nsecret = \"dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=\"\nclient = \"A\"\n");
        std::fs::write(path, text).expect("writing");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    #[test]
    fn a_file_is_read_once_it_rests() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("registry.toml");
        let snapshot = Snapshot::default();
        let mut source = FileSource::new(path.clone(), false);
        write(&path, "active");
        assert!(source.refresh(&snapshot, true).expect("a registry"));
        write(&path, "revoked");
        assert_eq!([source.refresh(&snapshot, false).expect("it"), source.refresh(&snapshot, false).expect("it")], [false, true]);
        assert!(!source.refresh(&snapshot, false).expect("it"), "once");
    }
}
