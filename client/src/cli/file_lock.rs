//! Locks on files, against other processes of this program that change the same.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::error::CliError;
use super::secret_file::folder_of;

/// How long another process may take.
const LOCKED_WITHIN: Duration = Duration::from_secs(30);

/// A lock that nobody else can take: the file is this user's alone. Held until dropped.
pub(super) async fn lock(path: &Path) -> Result<File, CliError> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    let lock = lock.map_err(|e| CliError::io("open", path, &e))?;
    if let (Ok(made), Ok(folder)) = (lock.metadata(), std::fs::metadata(folder_of(path)))
        && made.uid() != folder.uid()
    {
        // Made by root in a user's folder, who is to use it, too. Others cannot give it away, and need not.
        let _ = fchown(&lock, Some(folder.uid()), Some(folder.gid()));
    }
    let end = Instant::now() + LOCKED_WITHIN;
    while let Err(e) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if e != rustix::io::Errno::WOULDBLOCK {
            return Err(CliError::io("lock", path, &e.into()));
        }
        if Instant::now() > end {
            return Err(CliError::Unavailable(format!("another process changes the file, and has not ended within {LOCKED_WITHIN:?}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(lock)
}
