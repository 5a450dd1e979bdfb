//! Media types of files, by their names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What is said of a file of which nothing is known.
const UNKNOWN: &str = "application/octet-stream";

/// The media type of a file: by the name that it is sent with, else by its own. curl's where it has one, so that a server sees the same from both: nothing is
/// said of standard input (`-`) and of text whose name tells nothing.
pub(super) fn media_type(name: &[u8], file: Option<&[u8]>) -> Option<String> {
    let is_file = file.is_some_and(|file| file != b"-");
    by_name(name).or_else(|| by_name(file?)).or_else(|| is_file.then(|| UNKNOWN.to_owned()))
}

fn by_name(name: &[u8]) -> Option<String> {
    let extension = Path::new(OsStr::from_bytes(name)).extension()?.to_ascii_lowercase();
    let known = match extension.as_bytes() {
        b"gif" => "image/gif",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"png" => "image/png",
        b"svg" => "image/svg+xml",
        b"txt" => "text/plain",
        b"htm" | b"html" => "text/html",
        b"pdf" => "application/pdf",
        b"xml" => "application/xml",
        _ => return mime_guess::from_path(OsStr::from_bytes(name)).first().map(|guess| guess.essence_str().to_owned()),
    };
    Some(known.to_owned())
}
