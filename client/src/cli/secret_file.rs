//! Secrets in files: read for an import or for use without a TPM, written for the server's registry.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use clap::ValueEnum;
use ekm_otp::{KeyId, Secret};
use zeroize::Zeroizing;

use super::CliError;

/// How a secret stands in a file.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum SecretFormat {
    /// Standard base64, padded or not; white space around it is passed over.
    #[default]
    Base64,
    /// Hexadecimal digits; white space around them is passed over.
    Hex,
    /// The bytes themselves, a last line feed included.
    Raw,
}

/// Reads a secret from `path`; `-` is standard input.
pub(crate) fn read(path: &Path, format: SecretFormat, weak: bool) -> Result<Secret, CliError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let limit = 4096;
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|e| CliError::io("read", path, &e))?;
    let shown = path.display();
    let bytes = match format {
        SecretFormat::Raw => bytes.to_vec(),
        SecretFormat::Base64 | SecretFormat::Hex => {
            let text =
                std::str::from_utf8(&bytes).map_err(|_| CliError::Usage(format!("{shown} is no text: is it --secret-format raw?")))?.trim();
            match format {
                SecretFormat::Hex => unhex(text).ok_or_else(|| CliError::Usage(format!("{shown} does not hold hexadecimal digits"))),
                _ => Secret::decode_base64(text)
                    .map_err(|e| CliError::Usage(format!("{shown}: {e}; --secret-format hex or raw take other spellings"))),
            }?
        }
    };
    let secret = if weak { Secret::weak(bytes) } else { Secret::new(bytes) };
    secret.map_err(|e| CliError::Usage(format!("{shown}: {e}")))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

/// An entry for the server's registry file (TOML).
pub(crate) fn registry_entry(kid: &KeyId, client: &str, secret: &Secret) -> Zeroizing<String> {
    // A TOML basic string: a key id holds neither quotes nor backslashes, a client name is escaped.
    let client: String = client.chars().flat_map(|c| escaped(c).collect::<Vec<_>>()).collect();
    Zeroizing::new(format!("[\"{kid}\"]\nsecret = \"{}\"\nclient = \"{client}\"\n", *secret.encode_base64()))
}

fn escaped(c: char) -> Box<dyn Iterator<Item = char>> {
    match c {
        '"' | '\\' => Box::new(['\\', c].into_iter()),
        c if c.is_control() => Box::new(format!("\\u{:04X}", u32::from(c)).chars().collect::<Vec<_>>().into_iter()),
        c => Box::new(std::iter::once(c)),
    }
}

/// Makes a new file that only its owner can read. Never overwrites one.
pub(crate) fn create_private(path: &Path) -> Result<std::fs::File, CliError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| CliError::io("create", path, &e))
}

/// Writes to a file that was just made, and makes sure that it is on the disk.
pub(crate) fn write_all(mut file: std::fs::File, path: &Path, text: &str) -> Result<(), CliError> {
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| CliError::io("write", path, &e))
}
