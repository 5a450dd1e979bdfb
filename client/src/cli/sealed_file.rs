//! Key files, and what may stand behind the key in one: data that is encrypted with it ([`pieces`](super::pieces)).

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use ekm_otp_tpm::KeyFile;

use super::error::CliError;
use super::pieces::MARK;
use super::shown::shown;

/// More than any key takes.
const MAX_KEY: u64 = 64 * 1024;

/// What stands behind the key.
pub(super) type Envelope = Box<dyn Read + Send>;

/// The key of a file, and the envelope behind it, if there is one.
pub(super) fn read(path: &Path) -> Result<(KeyFile, Option<Envelope>), CliError> {
    let (text, envelope) = read_text(path)?;
    Ok((key(text, path)?, envelope))
}

/// The same in a thread of its own: a file may be a pipe, and a signal must still be heard.
pub(super) async fn read_patiently(path: &Path) -> Result<(KeyFile, Option<Envelope>), CliError> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read(&path)).await;
    reading.unwrap_or_else(|e| Err(CliError::Other(format!("reading what is sealed failed: {e}"))))
}

/// The key of what was read already, at least its beginning.
pub(super) fn parse(mut bytes: Vec<u8>, path: &Path) -> Result<KeyFile, CliError> {
    if let Some(at) = mark(&bytes) {
        bytes.truncate(at);
    }
    key(bytes, path)
}

fn mark(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MARK.len()).position(|window| window == MARK)
}

fn key(text: Vec<u8>, path: &Path) -> Result<KeyFile, CliError> {
    let text = String::from_utf8(text).map_err(|_| CliError::Usage(format!("{}: it is no text, so it is no key file", shown(path))))?;
    KeyFile::from_pem(&text).map_err(|e| CliError::Usage(format!("{}: {e}", shown(path))))
}

/// The key's own text.
fn read_text(path: &Path) -> Result<(Vec<u8>, Option<Envelope>), CliError> {
    if path == Path::new("-") {
        return Err(CliError::Usage("a key file is not taken from standard input: name a file, or /dev/stdin".into()));
    }
    if path.to_str().is_some_and(|text| text.starts_with("handle:")) {
        return Err(CliError::Usage(format!("{}: this needs the key's file, a persistent key will not do", path.display())));
    }
    let mut file = File::open(path).map_err(|e| CliError::io("read", path, &e))?;
    let mut head = Vec::new();
    (&mut file).take(MAX_KEY).read_to_end(&mut head).map_err(|e| CliError::io("read", path, &e))?;
    match mark(&head) {
        Some(at) => {
            let behind = head.split_off(at).split_off(MARK.len());
            Ok((head, Some(Box::new(Cursor::new(behind).chain(file)))))
        }
        None if head.len() as u64 == MAX_KEY => Err(CliError::Usage(format!("{}: it is too long for a key file", shown(path)))),
        None => Ok((head, None)),
    }
}
