//! A question at the terminal whose answer is not shown. It is asked at /dev/tty, wherever standard input leads.
//!
//! The echo goes off before the question is written: what is typed ahead is not shown either. The terminal's signals stay on, and `restore` brings
//! the echo back when one of them ends the program while somebody is asked.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The terminal as it was, while somebody is asked.
static ASKED: Mutex<Option<(File, Termios)>> = Mutex::new(None);

fn terminal() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// Whether there is somebody to ask.
pub(super) fn has_terminal() -> bool {
    terminal().is_ok()
}

/// Asks, and waits for a line.
pub(super) fn ask(question: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut tty = terminal()?;
    let before = tcgetattr(&tty)?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    silent.local_modes |= LocalModes::ECHONL;
    *ASKED.lock().unwrap_or_else(PoisonError::into_inner) = Some((tty.try_clone()?, before));
    tcsetattr(&tty, OptionalActions::Now, &silent)?;
    let answer = tty.write_all(question.as_bytes()).and_then(|()| read_line(&tty));
    restore();
    answer
}

fn read_line(tty: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    // With its final capacity at once: a Vec that grows leaves pieces of the password behind. A terminal's line is no longer.
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    match BufReader::with_capacity(4096, tty).read_until(b'\n', &mut line)? {
        0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the terminal was closed")),
        _ => Ok(line),
    }
}

/// Brings the echo back, where a question switched it off.
pub(crate) fn restore() {
    if let Some((tty, before)) = ASKED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(&tty, OptionalActions::Now, &before);
    }
}
