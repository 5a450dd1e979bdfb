//! A file that has no name until it is whole (open(2), O_TMPFILE): whatever ends the program before, SIGKILL included, nothing stays.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::super::error::CliError;
use super::super::secret_file::folder_of;

/// tmpfs and ramfs (statfs(2)).
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A new file of mode 0600.
pub(super) struct NewFile {
    path: PathBuf,
    file: Holder,
}

enum Holder {
    Unnamed(File),
    /// Where a file system knows no files without a name. Removed when dropped.
    Named(NamedTempFile),
}

impl NewFile {
    /// Makes it where `path` is to be. Never overwrites a file: see [`replace`](Self::replace).
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(CliError::io("create", path, &ErrorKind::AlreadyExists.into()));
        }
        Self::to_replace(path)
    }

    /// Makes it where `path` is, or is to be.
    pub(super) fn to_replace(path: &Path) -> Result<Self, CliError> {
        let failed = |e: io::Error| CliError::io("create", path, &e.kind().into());
        let file = match unnamed(folder_of(path)) {
            Ok(file) => Holder::Unnamed(file),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                Holder::Named(NamedTempFile::with_prefix_in(".ekm-otp-", folder_of(path)).map_err(failed)?)
            }
            Err(e) => return Err(failed(e.into())),
        };
        Ok(Self { path: path.to_owned(), file })
    }

    fn file(&mut self) -> &mut File {
        match &mut self.file {
            Holder::Unnamed(file) => file,
            Holder::Named(file) => file.as_file_mut(),
        }
    }

    /// Whether it never reaches a disk, but for swap.
    pub(super) fn is_in_memory(&self) -> Result<bool, CliError> {
        let found = match &self.file {
            Holder::Unnamed(file) => rustix::fs::fstatfs(file),
            Holder::Named(file) => rustix::fs::fstatfs(file.as_file()),
        };
        let found = found.map_err(|e| CliError::io("look at", &self.path, &e.into()))?;
        // The number has 32 bits, whatever the type's size and sign.
        Ok(IN_MEMORY.contains(&(found.f_type as u32)))
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), CliError> {
        self.file().write_all(piece).map_err(|e| CliError::io("write", &self.path, &e))
    }

    /// Gives it its name, which nothing else may have got meanwhile.
    pub(super) fn keep(mut self) -> Result<(), CliError> {
        self.is_written()?;
        let named = match self.file {
            Holder::Unnamed(file) => link(&file, &self.path).map_err(io::Error::from),
            Holder::Named(file) => file.persist_noclobber(&self.path).map(drop).map_err(|e| e.error),
        };
        named.map_err(|e| CliError::io("create", &self.path, &e))
    }

    /// Gives it its name, and takes that from what had it: a reader sees the old or the new.
    pub(super) fn replace(mut self) -> Result<(), CliError> {
        self.is_written()?;
        let failed = |e: io::Error| CliError::io("create", &self.path, &e);
        let named = match self.file {
            Holder::Named(file) => file.into_temp_path(),
            Holder::Unnamed(file) => {
                let named = tempfile::Builder::new().prefix(".ekm-otp-").make_in(folder_of(&self.path), |name| Ok(link(&file, name)?));
                named.map_err(failed)?.into_temp_path()
            }
        };
        named.persist(&self.path).map_err(|e| failed(e.error))
    }

    /// A network's file system, too, says at last whether there was room.
    fn is_written(&mut self) -> Result<(), CliError> {
        self.file().sync_all().map_err(|e| CliError::io("write", &self.path, &e))
    }
}

fn unnamed(folder: &Path) -> Result<File, Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(file.into())
}

fn link(file: &File, path: &Path) -> Result<(), Errno> {
    let known_as = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, known_as, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().expect("UTF-8")).collect()
    }

    #[test]
    fn a_file_has_no_name_until_it_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let mut file = NewFile::create(&path).expect("a file");
        file.write(b"a se").expect("writing");
        assert!(names(folder.path()).is_empty());
        file.write(b"cret").expect("writing");
        file.keep().expect("its name");
        assert_eq!(std::fs::read(&path).expect("the file"), b"a secret");
        assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["secret"]);
    }

    #[test]
    fn what_is_there_is_replaced_only_where_that_is_wanted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        assert!(matches!(NewFile::create(&folder.path().join("none/secret")), Err(CliError::Unavailable(_))));
        let mut late = NewFile::create(&path).expect("a file");
        std::fs::write(&path, "old").expect("writing");
        assert!(NewFile::create(&path).is_err());
        late.write(b"new").expect("writing");
        assert!(late.keep().is_err(), "another one came first");
        assert_eq!(std::fs::read(&path).expect("the file"), b"old");
        let mut file = NewFile::to_replace(&path).expect("a file");
        file.write(b"new").expect("writing");
        file.replace().expect("its name");
        assert_eq!(std::fs::read(&path).expect("the file"), b"new");
        assert_eq!(names(folder.path()), ["secret"]);
    }
}
