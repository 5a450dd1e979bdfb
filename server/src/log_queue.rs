//! The log's way out: lines wait in a bounded queue for a thread that writes them. Who logs never waits, and what finds no room is counted.

use std::io::{self, Write};
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
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    left_out: u64,
    /// The writer waits for the first line.
    is_waiting: bool,
    is_writing: bool,
    is_ending: bool,
}

impl LogQueue {
    /// Starts the writer. `tell` queues a line that says how many found no room.
    pub(crate) fn new(mut out: impl Write + Send + 'static, tell: impl Fn(&Self, u64) + Send + 'static) -> io::Result<Self> {
        let queue = Self(Arc::new(Shared { state: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new() }));
        let lines_of = queue.clone();
        thread::Builder::new().name("log".into()).spawn(move || {
            let mut lines = Vec::new();
            loop {
                let left_out = lines_of.0.take(&mut lines);
                if left_out > 0 {
                    tell(&lines_of, left_out);
                }
                // A line that cannot be written is lost, and nothing else: there is no other place for it.
                let _ = out.write_all(&lines);
                lines.clear();
                lines_of.0.collect();
            }
        })?;
        Ok(queue)
    }

    /// Adds one line, which ends in a newline, if there is room.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.lines.len() + line.len() > CAPACITY {
            state.left_out += 1;
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
        if state.lines.is_empty() && state.left_out == 0 {
            self.emptied.notify_all();
            state.is_waiting = true;
            state = self.filled.wait_while(state, |state| state.lines.is_empty()).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.lines, lines);
        state.is_writing = true;
        std::mem::take(&mut state.left_out)
    }
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
        let queue = LogQueue::new(Gate { open: opened, written }, |queue, left_out| {
            queue.push(format!("{left_out} left out\n").as_bytes());
        });
        (queue.expect("a thread"), open, writes)
    }

    #[test]
    fn who_logs_never_waits_and_what_finds_no_room_is_counted() {
        let (queue, open, writes) = gated();
        let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<u8>>();
        // Nobody reads: at most one queue is being written, another is full.
        for _ in 0..10 * CAPACITY / line.len() {
            queue.push(&line);
        }
        let mut written = Vec::new();
        while !written.ends_with(b" left out\n") {
            open.send(()).expect("the writer");
            written.extend(writes.recv().expect("a write"));
        }
        let whole = written.chunks(line.len()).take_while(|chunk| *chunk == line).count();
        let told = String::from_utf8(written[whole * line.len()..].to_vec()).expect("text");
        assert_eq!(told, format!("{} left out\n", 10 * CAPACITY / line.len() - whole));
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
