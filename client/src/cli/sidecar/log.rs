//! What is told on standard error: one line for each start, stop and refusal; each request too where that is asked for. A thread of its own writes, so that a
//! log that stalls does not stall requests; what does not fit meanwhile is counted, and that is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::output::note;

/// As many lines wait to be written.
const WAITING: usize = 1024;
/// How often one kind of refusal is told; how many there were meanwhile is told with the next one.
const EVERY: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last lines.
const LAST: Duration = Duration::from_secs(1);

/// The log. Clones write to the same.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
    told: Arc<Mutex<HashMap<&'static str, Told>>>,
    /// Each request is told, too.
    pub(super) is_verbose: bool,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    since: u64,
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer(Receiver<()>);

impl Log {
    pub(super) fn start(is_verbose: bool) -> (Self, Writer) {
        let (lines, waiting) = sync_channel::<String>(WAITING);
        let (end, ended) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        std::thread::spawn(move || {
            while let Ok(line) = waiting.recv() {
                note!("ekm-otp-client proxy: {line}");
                match counted.swap(0, Ordering::Relaxed) {
                    0 => {}
                    lost => note!("ekm-otp-client proxy: {lost} lines were lost: standard error is too slow"),
                }
            }
            let _ = end.send(());
        });
        (Self { lines, lost, told: Arc::default(), is_verbose }, Writer(ended))
    }

    /// One line.
    pub(crate) fn line(&self, line: String) {
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A refusal: of each kind the first, and then one every few seconds, with how many there were.
    pub(crate) fn refusal(&self, kind: &'static str, line: impl FnOnce() -> String) {
        let more = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match told.get_mut(kind) {
                Some(last) if last.at.elapsed() < EVERY => {
                    last.since += 1;
                    return;
                }
                Some(last) => {
                    last.at = Instant::now();
                    std::mem::take(&mut last.since)
                }
                None => {
                    told.insert(kind, Told { at: Instant::now(), since: 0 });
                    0
                }
            }
        };
        let line = line();
        self.line(if more == 0 { line } else { format!("{line} (and {more} more like this)") });
    }
}

impl Writer {
    /// Waits until the last line is written, for a moment. All logs are to be dropped before.
    pub(super) fn finish(self) {
        let _ = self.0.recv_timeout(LAST);
    }
}
