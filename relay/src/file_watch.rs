//! Tells when one of a set of files is another one, however that came: written in place, renamed over, or a link on the way to it pointed elsewhere
//! (as Kubernetes swaps the folder of a volume).
//!
//! Their folders are watched, not the files, whose names outlive them. Events only say when to look; what counts is whether what is found under a
//! file's name changed. Where there are no events (network file systems, a used-up limit of watches), a look every half minute is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// As long nothing may happen before files are taken to be whole again: programs write them in pieces, or several one after the other.
const SETTLED: Duration = Duration::from_millis(250);
/// As long is waited for that at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often is looked without an event.
const LOOK: Duration = Duration::from_secs(30);

/// What was found under a name: nothing, or a file with these marks.
type Marks = Option<[i128; 5]>;

/// Watches files from its making on.
#[derive(Debug)]
pub struct FileWatch {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    seen: BTreeMap<PathBuf, Marks>,
    events: mpsc::Receiver<()>,
}

impl FileWatch {
    /// Of these files, as they are now: call it before they are read, so that no change is missed.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        // One place is enough: it says that something happened.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_change =
                event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)));
            if is_change {
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher
            .map_err(|error| tracing::warn!(%error, every = ?LOOK, "cannot watch for changed files: they are looked at now and then"))
            .ok();
        let mut watch = Self { watcher, folders: BTreeSet::new(), seen: BTreeMap::new(), events };
        watch.set(files);
        watch
    }

    /// Takes the files as they are now: what changed before is not told any more.
    pub fn look_again(&mut self) {
        self.seen.iter_mut().for_each(|(file, seen)| *seen = marks(file));
    }

    /// Watches these in place of the others; those that were not watched before, as they are now.
    pub fn set(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut before = std::mem::take(&mut self.seen);
        let seen = |file: PathBuf| {
            before.remove_entry(&file).unwrap_or_else(|| {
                let marks = marks(&file);
                (file, marks)
            })
        };
        self.seen = files.into_iter().collect::<BTreeSet<_>>().into_iter().map(seen).collect();
        let folders: BTreeSet<PathBuf> = self.seen.keys().flat_map(|file| folders_of(file)).collect();
        if let Some(watcher) = &mut self.watcher {
            for folder in self.folders.difference(&folders) {
                // It may be gone.
                let _ = watcher.unwatch(folder);
            }
            for folder in folders.difference(&self.folders) {
                if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                    tracing::warn!(folder = %folder.display(), %error, every = ?LOOK, "cannot watch this folder: its files are looked at now and then");
                }
            }
        }
        self.folders = folders;
    }

    /// Whether one of them is another than when it was looked at last.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.different().is_empty()
    }

    fn different(&self) -> Vec<PathBuf> {
        self.seen.iter().filter(|(file, seen)| marks(file) != **seen).map(|(file, _)| file.clone()).collect()
    }

    /// Waits until one of them changed, and is whole. Which did. Cancel-safe.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        loop {
            tokio::select! {
                Some(()) = self.events.recv() => self.settle().await,
                _ = look.tick() => {}
            }
            let changed = self.different();
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    async fn settle(&mut self) {
        let patience = Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                more = timeout(SETTLED, self.events.recv()) => if more.is_err() { return },
                () = sleep_until(patience) => return,
            }
        }
    }
}

/// What tells one file, and one state of it, from another. The file is what links lead to.
fn marks(file: &Path) -> Marks {
    let found = fs::metadata(file).ok()?;
    let at = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    Some([
        found.dev().into(),
        found.ino().into(),
        found.size().into(),
        at(found.mtime(), found.mtime_nsec()),
        at(found.ctime(), found.ctime_nsec()),
    ])
}

/// The folders in which a change of names leads to another file: its own and, where it is a link, those on the way.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut file = file.to_owned();
    // Links in a circle end somewhere.
    for _ in 0..16 {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let target = fs::read_link(&file).map(|target| folder.join(target));
        folders.push(folder);
        match target {
            Ok(target) => file = target,
            Err(_) => break,
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_reached_by_links_is_watched_in_each_folder_on_the_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("..1")).expect("a folder");
        fs::write(at("..1/key.pem"), "1").expect("writing");
        std::os::unix::fs::symlink("..1", at("..data")).expect("a link");
        std::os::unix::fs::symlink("..data/key.pem", at("key.pem")).expect("a link");
        assert_eq!(folders_of(&at("key.pem")), [at(""), at("..data")].map(|path| path.components().collect::<PathBuf>()));
    }

    #[test]
    fn a_file_that_is_replaced_by_one_of_the_same_length_has_other_marks() {
        let folder = tempfile::tempdir().expect("a folder");
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, "1").expect("writing");
        let before = marks(&a);
        assert_eq!(before, marks(&a));
        fs::write(&b, "2").expect("writing");
        fs::rename(&b, &a).expect("renaming");
        assert!(before != marks(&a) && marks(&a).is_some());
        fs::remove_file(&a).expect("removing");
        assert_eq!(marks(&a), None);
    }
}
