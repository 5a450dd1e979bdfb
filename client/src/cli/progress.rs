//! A progress bar for what takes long, where notes go to a terminal.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::output;

/// Counts bytes. `total` where it is known.
pub(super) fn bytes(total: Option<u64>) -> ProgressBar {
    bar(
        total,
        if total.is_some() {
            "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
        } else {
            "{spinner} {bytes}, {bytes_per_sec}"
        },
    )
}

/// Counts requests.
pub(super) fn requests(total: u64) -> ProgressBar {
    bar(Some(total), "{bar:30} {human_pos} of {human_len} requests, {per_sec}, {eta} left")
}

fn bar(total: Option<u64>, template: &str) -> ProgressBar {
    let Some(terminal) = output::notes_terminal() else { return ProgressBar::hidden() };
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::term_like_with_hz(Box::new(Terminal(terminal)), 5));
    ProgressStyle::with_template(template).map_or_else(|_| ProgressBar::hidden(), |style| bar.with_style(style))
}

/// Descriptor 2 leads nowhere, so that the TPM's library is silent: indicatif does not find the terminal by itself.
struct Terminal(File);

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminal")
    }
}

impl Terminal {
    fn write(&self, text: fmt::Arguments<'_>) -> io::Result<()> {
        (&self.0).write_fmt(text)
    }
}

/// By the control sequences of ECMA-48.
impl TermLike for Terminal {
    fn width(&self) -> u16 {
        rustix::termios::tcgetwinsize(&self.0).map_or(80, |size| size.ws_col.max(20))
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.write(format_args!("\x1b[{n}A")) }
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.write(format_args!("\x1b[{n}B")) }
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.write(format_args!("\x1b[{n}C")) }
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.write(format_args!("\x1b[{n}D")) }
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write(format_args!("{line}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.write(format_args!("{text}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        (&self.0).flush()
    }
}
