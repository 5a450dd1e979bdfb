//! A log in a file of its own: opened for appending, and opened again when whoever rotates logs has moved it away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::log_queue::{LogQueue, Trouble};

/// Readable by its group, so that whoever collects logs needs no more than that.
const MODE: u32 = 0o640;

/// A queue whose lines end in a file. All clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    path: Arc<Path>,
    queue: LogQueue,
    next: Arc<Mutex<Option<File>>>,
}

impl LogFile {
    /// Opens or makes the file, and starts its writer. What befalls it later is told in the server's own log.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let path: Arc<Path> = path.into();
        let next = Arc::new(Mutex::new(None));
        let out = Out { file: append_to(&path)?, next: Arc::clone(&next) };
        let shown = Arc::clone(&path);
        let queue = LogQueue::new(out, move |_, trouble| {
            let file = shown.display();
            match trouble {
                Trouble::LeftOut(left_out) => tracing::warn!(%file, left_out, "log lines found no room: the disk is too slow for them"),
                Trouble::Fails(error) => {
                    tracing::error!(%file, %error, "a log cannot be written: its lines are lost until it can; free some space, or name another file");
                }
                Trouble::Recovered(lost) => tracing::warn!(%file, lost, "the log can be written again, some lines were lost"),
            }
        })?;
        Ok(Self { path, queue, next })
    }

    pub(crate) fn queue(&self) -> &LogQueue {
        &self.queue
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file again, by its name. Where that fails, the one that is open stays so.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let file = append_to(&self.path)?;
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.queue.call();
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

/// Changes files between two batches, so that no line stands in both.
struct Out {
    file: File,
    next: Arc<Mutex<Option<File>>>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    /// Called by the queue before each batch.
    fn flush(&mut self) -> io::Result<()> {
        if let Some(next) = self.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.file = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_was_moved_away_keeps_its_lines_and_the_new_one_gets_those_after_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        std::fs::write(&path, "from before\n").expect("writing");
        let log = LogFile::open(path.clone()).expect("the file");
        log.queue().push(b"one\n");
        log.queue().flush();
        std::fs::rename(&path, folder.path().join("access.log.1")).expect("renaming");
        log.reopen().expect("opening");
        log.queue().flush();
        log.queue().push(b"two\n");
        log.queue().flush();
        let read = |path: &Path| std::fs::read_to_string(path).expect("the log");
        assert_eq!(read(&folder.path().join("access.log.1")), "from before\none\n");
        assert_eq!(read(&path), "two\n");
        assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o137, 0, "nobody else may read it");
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_stays_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("logs").join("access.log");
        std::fs::create_dir(folder.path().join("logs")).expect("a folder");
        let log = LogFile::open(path.clone()).expect("the file");
        let moved = folder.path().join("moved");
        std::fs::rename(folder.path().join("logs"), &moved).expect("renaming");
        log.reopen().expect_err("its folder is gone");
        log.queue().push(b"one\n");
        log.queue().flush();
        assert_eq!(std::fs::read_to_string(moved.join("access.log")).expect("the log"), "one\n");
    }

    #[test]
    fn a_full_disk_ends_nothing_and_the_lost_lines_are_counted() {
        let log = LogFile::open("/dev/full".into()).expect("the device");
        for _ in 0..3 {
            log.queue().push(b"one\ntwo\n");
            log.queue().flush();
        }
        assert_eq!(log.queue().lost().not_written, 6);
    }
}
