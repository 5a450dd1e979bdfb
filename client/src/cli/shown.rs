//! How text that comes from elsewhere is shown.

use std::path::Path;

/// Text that comes from elsewhere (a file, a server, a TPM): nothing in it steers a terminal. Control characters are shown as Rust writes them.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a file that is written, as it is shown.
pub(crate) fn shown_output(path: &Path) -> String {
    if path == Path::new("-") { "standard output".to_owned() } else { shown(path) }
}

/// A file's name, as it is shown: one that is read.
pub(crate) fn shown(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => printable(&path.to_string_lossy()),
    }
}

/// What means nothing to a shell, nor to what splits a line as one.
#[cfg(feature = "cloud")]
pub(crate) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:/=,@+".contains(&byte)
}

/// A word of a shell's, which takes nothing in it apart (POSIX, XCU 2.2.2).
#[cfg(feature = "cloud")]
pub(crate) fn quoted(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(all(test, feature = "cloud"))]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_what_was_meant() {
        for text in ["plain/a-b_c.d", "", "a b", "it's", "$(id)", "`id`", "a\\b", "\"", "a;b&c|d", "~", "*", "ä"] {
            let shell = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(text))).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&shell.stdout), text);
        }
    }
}
