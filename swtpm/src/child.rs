//! Programs that tests start, and what these must not inherit.

use std::ffi::OsStr;
use std::process::Command;

/// Closes all but standard input, output and error, then becomes the program.
const CLOSE_AND_RUN: &str = r#"for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done; exec "$@""#;

/// A command that inherits nothing but standard input, output and error.
///
/// libtss2 opens its sockets without close-on-exec. A program that is started while some thread of the same process talks to a swtpm would
/// hold that connection open as long as it lives, and swtpm serves one connection at a time: whoever comes next waits for ever.
///
/// # Panics
/// When there is no such program; the message names the package.
#[must_use]
pub fn command(program: impl AsRef<OsStr>, package: &str) -> Command {
    let program = program.as_ref();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An absolute path stays as it is when it is joined.
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file());
    let found = found.unwrap_or_else(|| panic!("there is no {}: install the Debian package `{package}`", program.display()));
    let mut command = Command::new("/bin/bash");
    command.args(["-c", CLOSE_AND_RUN, "bash"]).arg(found);
    command
}
