//! Files that are read together: how they looked when they were, and whether they have changed since.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::error::LoadError;

/// Some files, and how they looked when they were last read.
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    /// Held while they are read: one reads at a time, so that nothing older is taken after what is newer.
    taken: Mutex<Seen>,
}

impl Watched {
    /// Reads them for the first time. What is written from here on is found to have changed.
    pub(super) fn first<T>(paths: Vec<PathBuf>, read: impl FnOnce() -> Result<T, LoadError>) -> Result<(Self, T), LoadError> {
        let before = Seen::of(&paths);
        let read = read()?;
        Ok((Self { paths, taken: Mutex::new(before) }, read))
    }

    /// Reads them again, then takes what they hold.
    pub(super) fn again<T, U>(&self, read: impl FnOnce() -> Result<T, LoadError>, take: impl FnOnce(T) -> U) -> Result<U, LoadError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.look();
        match read() {
            // What was written meanwhile may have been read in part: half a registry would cut the clients of the other half.
            _ if self.look() != before => Err(LoadError::Changing),
            Ok(read) => {
                *taken = before;
                Ok(take(read))
            }
            Err(error) => {
                // What is wrong in them stays so until somebody writes them. That they could not be read (too many files open, a device that
                // is away) may be over the next moment, and nobody would see it on them.
                if !error.is_of_reading() {
                    *taken = before;
                }
                Err(error)
            }
        }
    }

    /// How they look now.
    pub(super) fn look(&self) -> Seen {
        Seen::of(&self.paths)
    }

    /// Whether they were read when they looked so.
    pub(super) fn is_taken(&self, seen: &Seen) -> bool {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) == *seen
    }
}

/// How files looked at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen(Vec<Option<Stamp>>);

impl Seen {
    fn of(paths: &[PathBuf]) -> Self {
        Self(paths.iter().map(|path| std::fs::metadata(path).ok().map(|file| Stamp::of(&file))).collect())
    }
}

/// What changes with a file, whether it is written in place or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            inode: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}
