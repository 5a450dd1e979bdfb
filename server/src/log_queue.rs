//! A log's way out: lines wait in a bounded queue for a thread that writes them. Who logs never waits; what finds no room, and what cannot be
//! written, is counted.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How many bytes may wait: some thousand lines.
const CAPACITY: usize = 1 << 20;
/// How long lines are collected after a write, so that a busy server writes many at a time and wakes the writer seldom.
const COLLECT: Duration = Duration::from_millis(20);
/// How long the end of the process waits for a reader that does not read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// All clones are the same.
#[derive(Clone)]
pub(crate) struct LogQueue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or it is the end.
    filled: Condvar,
    /// All is written.
    emptied: Condvar,
    no_room: AtomicU64,
    not_written: AtomicU64,
}

/// What befell a log, to be told elsewhere, or in it once that is possible again.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// So many lines found no room, since nobody took them in time.
    LeftOut(u64),
    /// It cannot be written, and its lines are lost. Told once, until it can be.
    Fails(io::Error),
    /// It can be written again, after so many lines were lost.
    Recovered(u64),
}

impl std::fmt::Debug for LogQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogQueue").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

/// How many lines did not reach their log since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Since it was full: nobody took them in time.
    pub(crate) no_room: u64,
    /// Since it could not be written.
    pub(crate) not_written: u64,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    left_out: u64,
    /// The writer waits for the first line.
    is_waiting: bool,
    is_writing: bool,
    is_ending: bool,
    /// The writer is to come round, lines or not.
    is_called: bool,
}

impl LogQueue {
    /// Starts the writer. `tell` is called from it. `out` is flushed between batches of whole lines, and when the writer is
    /// [called](Self::call).
    pub(crate) fn new(mut out: impl Write + Send + 'static, tell: impl Fn(&Self, Trouble) + Send + 'static) -> io::Result<Self> {
        let queue = Self(Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            no_room: AtomicU64::new(0),
            not_written: AtomicU64::new(0),
        }));
        let lines_of = queue.clone();
        thread::Builder::new().name("log".into()).spawn(move || {
            let mut lines = Vec::new();
            let mut lost = 0;
            let mut is_torn = false;
            loop {
                let left_out = lines_of.0.take(&mut lines);
                if left_out > 0 {
                    tell(&lines_of, Trouble::LeftOut(left_out));
                }
                // Between batches of whole lines: `out` may become another one.
                let _ = out.flush();
                // What was begun of a line that could not be finished stays a line by itself.
                let ended = if is_torn && !lines.is_empty() { write(&mut out, b"\n").1 } else { Ok(()) };
                let (written, result) = if ended.is_ok() { write(&mut out, &lines) } else { (0, ended) };
                is_torn = if result.is_ok() { false } else { lines[..written].last().map_or(is_torn, |byte| *byte != b'\n') };
                let unwritten = lines.get(written..).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
                match result {
                    Err(error) if lost == 0 && unwritten > 0 => tell(&lines_of, Trouble::Fails(error)),
                    Ok(()) if lost > 0 && written > 0 => tell(&lines_of, Trouble::Recovered(std::mem::take(&mut lost))),
                    _ => {}
                }
                lost += unwritten as u64;
                lines_of.0.not_written.fetch_add(unwritten as u64, Ordering::Relaxed);
                lines.clear();
                lines_of.0.collect();
            }
        })?;
        Ok(queue)
    }

    /// How many lines did not reach the log.
    pub(crate) fn lost(&self) -> Lost {
        Lost { no_room: self.0.no_room.load(Ordering::Relaxed), not_written: self.0.not_written.load(Ordering::Relaxed) }
    }

    /// Lets the writer come round, so that it flushes.
    pub(crate) fn call(&self) {
        self.0.lock().is_called = true;
        self.0.filled.notify_one();
    }

    /// Adds one line, which ends in a newline, if there is room.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.lines.len() + line.len() > CAPACITY {
            state.left_out += 1;
            self.0.no_room.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.lines.extend_from_slice(line);
        let is_waiting = std::mem::take(&mut state.is_waiting);
        drop(state);
        if is_waiting {
            self.0.filled.notify_one();
        }
    }

    /// Waits until all lines are written, but not long.
    pub(crate) fn flush(&self) {
        let mut state = self.0.lock();
        state.is_ending = true;
        self.0.filled.notify_one();
        let is_left = |state: &mut State| !state.lines.is_empty() || state.left_out > 0 || state.is_writing;
        let _ = self.0.emptied.wait_timeout_while(state, LAST_LINES, is_left);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a write: lets lines gather.
    fn collect(&self) {
        let mut state = self.lock();
        state.is_writing = false;
        drop(self.filled.wait_timeout_while(state, COLLECT, |state| !state.is_ending));
    }

    /// Waits for lines, takes them, and tells how many found no room.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        if state.lines.is_empty() && state.left_out == 0 && !state.is_called {
            self.emptied.notify_all();
            state.is_waiting = true;
            state =
                self.filled.wait_while(state, |state| state.lines.is_empty() && !state.is_called).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.lines, lines);
        state.is_writing = true;
        state.is_called = false;
        std::mem::take(&mut state.left_out)
    }
}

/// Writes what can be written, and tells how much of it was.
fn write(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Blocks in each write until it is let go on, and hands on what was written.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LogQueue, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let ((open, opened), (written, writes)) = (mpsc::channel(), mpsc::channel());
        let queue = LogQueue::new(Gate { open: opened, written }, |queue, trouble| match trouble {
            Trouble::LeftOut(count) => queue.push(format!("{count} left out\n").as_bytes()),
            Trouble::Fails(error) => queue.push(format!("fails: {error}\n").as_bytes()),
            Trouble::Recovered(count) => queue.push(format!("{count} lost\n").as_bytes()),
        });
        (queue.expect("a thread"), open, writes)
    }

    #[test]
    fn who_logs_never_waits_and_what_finds_no_room_is_counted() {
        let (queue, open, writes) = gated();
        let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<u8>>();
        // Nobody reads: at most one queue is being written, another is full.
        let pushed = 10 * CAPACITY / line.len();
        for _ in 0..pushed {
            queue.push(&line);
        }
        let (mut written, mut accounted) = (Vec::new(), 0);
        while accounted < pushed {
            open.send(()).expect("the writer");
            written.extend(writes.recv().expect("a write"));
            let lines = written.split_inclusive(|byte| *byte == b'\n');
            let told = |text: &[u8]| String::from_utf8_lossy(text).strip_suffix(" left out\n")?.parse().ok();
            accounted = lines.map(|text| if text == line { 1 } else { told(text).unwrap_or(0) }).sum();
        }
        assert_eq!(accounted, pushed);
        let lost = usize::try_from(queue.lost().no_room).expect("a count");
        assert!(lost > 7 * pushed / 10, "{lost} of {pushed}");
    }

    #[test]
    fn the_last_lines_are_written_before_the_end_and_a_reader_that_does_not_read_is_not_waited_for() {
        let (queue, open, writes) = gated();
        open.send(()).expect("the writer");
        queue.push(b"last\n");
        queue.flush();
        assert_eq!(writes.try_recv().expect("written"), b"last\n");
        queue.push(b"stuck\n");
        queue.flush();
        assert!(writes.try_recv().is_err());
    }
}
