//! How text that comes from elsewhere is shown.

use std::path::Path;

/// Text that comes from elsewhere (a file, a server, a TPM): nothing in it steers a terminal. Control characters are shown as Rust writes them.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A file's name, as it is shown.
pub(crate) fn shown(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "standard output".to_owned(),
        _ => printable(&path.to_string_lossy()),
    }
}
