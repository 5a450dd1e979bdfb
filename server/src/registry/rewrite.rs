//! A file in the place of another: whole or not at all, with the owner, mode and access control list of the one before.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ekm_otp_tower::registry_file::{Format, text};
use rustix::fs::{FlockOperation, XattrFlags, fgetxattr, flock, fsetxattr};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::edit::{self, Edit};
use super::file::of_file;
use crate::error::ServerError;

const ACL: &str = "system.posix_acl_access";

/// Makes these changes in a registry file. Another writer is waited for.
pub(super) fn apply(path: &Path, weak: bool, edits: Vec<Edit>) -> Result<(), ServerError> {
    // A link stays one: what it leads to is replaced.
    let path = match std::fs::canonicalize(path) {
        Ok(path) => path,
        // The first key makes the file.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && edits.iter().all(|edit| matches!(edit, Edit::Add(_))) => {
            return create(path, weak, edits);
        }
        Err(e) => return Err(ServerError::io(&format!("cannot open {}", path.display()), &e)),
    };
    let old = locked(&path)?;
    let before = text(&path).map_err(of_file)?;
    let after = edit::apply(&before, Format::of(&path), weak, edits)?;
    replace(&path, &after, Some(&old))
}

/// Makes another text of a file's, while no other writer has it. A link stays one.
pub(crate) fn update(path: &Path, change: impl FnOnce(&str) -> Result<Zeroizing<String>, ServerError>) -> Result<(), ServerError> {
    let cannot = |e: &std::io::Error| ServerError::io(&format!("cannot open {}", path.display()), e);
    let path = std::fs::canonicalize(path).map_err(|e| cannot(&e))?;
    let old = locked(&path)?;
    let before = text(&path).map_err(of_file)?;
    replace(&path, &change(&before)?, Some(&old))
}

fn create(path: &Path, weak: bool, edits: Vec<Edit>) -> Result<(), ServerError> {
    let format = Format::of(path);
    let empty = if format == Format::Json { "{}" } else { "" };
    write_new(path, &edit::apply(empty, format, weak, edits)?)
}

/// The file, locked: no other writer has it, and it is still the one of that name.
fn locked(path: &Path) -> Result<File, ServerError> {
    let failed = |e: &std::io::Error| ServerError::io(&format!("cannot open {}", path.display()), e);
    loop {
        let file = File::open(path).map_err(|e| failed(&e))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| failed(&e.into()))?;
        let (mine, named) = (file.metadata().map_err(|e| failed(&e))?, std::fs::metadata(path).map_err(|e| failed(&e))?);
        if (mine.dev(), mine.ino()) == (named.dev(), named.ino()) {
            return Ok(file);
        }
    }
}

fn beside(path: &Path) -> Result<(PathBuf, NamedTempFile), ServerError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let file = tempfile::Builder::new().prefix(".ekm-otp-").tempfile_in(&folder);
    let file = file.map_err(|e| ServerError::io(&format!("cannot write to the folder of {}", path.display()), &e))?;
    Ok((folder, file))
}

/// A new file that its owner alone can read. It has its name when it is on the disk as a whole; none is overwritten.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), ServerError> {
    let cannot = |e: &std::io::Error| ServerError::io(&format!("cannot create {}", path.display()), e);
    if path.symlink_metadata().is_ok() {
        return Err(ServerError::Config(format!("{} is there already: name another file", path.display())));
    }
    let (folder, mut file) = beside(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(|e| cannot(&e))?;
    file.persist_noclobber(path).map_err(|e| cannot(&e.error))?;
    sync(&folder, path)
}

/// Puts this text in the file's place. `old` is the file, whose owner, mode and access control list it gets.
fn replace(path: &Path, text: &str, old: Option<&File>) -> Result<(), ServerError> {
    let cannot = |e: std::io::Error| ServerError::io(&format!("cannot write {}", path.display()), &e);
    let (folder, mut file) = beside(path)?;
    if let Some(old) = old {
        let (of, own) = (old.metadata().map_err(cannot)?, file.as_file().metadata().map_err(cannot)?);
        if (own.uid(), own.gid()) != (of.uid(), of.gid()) {
            std::os::unix::fs::fchown(file.as_file(), Some(of.uid()), Some(of.gid())).map_err(cannot)?;
        }
        file.as_file().set_permissions(of.permissions()).map_err(cannot)?;
        let mut list = vec![0; 64 * 1024];
        if let Ok(len) = fgetxattr(old, ACL, &mut list) {
            fsetxattr(file.as_file(), ACL, &list[..len], XattrFlags::empty()).map_err(|e| cannot(e.into()))?;
        }
    }
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
    file.persist(path).map_err(|e| cannot(e.error))?;
    sync(&folder, path)
}

fn sync(folder: &Path, path: &Path) -> Result<(), ServerError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| {
        ServerError::io(&format!("{} has its name, but it is not known whether it outlives a power failure", path.display()), &e)
    })
}
