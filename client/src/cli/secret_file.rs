//! Secrets in files: read for an import or for use without a TPM, written for the server's registry.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
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
pub(crate) async fn read(path: &Path, format: SecretFormat, weak: bool) -> Result<Secret, CliError> {
    let path = path.to_owned();
    // Standard input may never end: a signal must still be heard.
    let reading = tokio::task::spawn_blocking(move || read_blocking(&path, format, weak));
    reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading the secret failed: {e}"))))
}

fn read_blocking(path: &Path, format: SecretFormat, weak: bool) -> Result<Secret, CliError> {
    let bytes = read_private(path, "a secret", 4096)?;
    let shown = path.display();
    let text = || match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.trim()),
        Err(_) => Err(CliError::Usage(format!("{shown} is no text: is it --secret-format raw?"))),
    };
    let bytes = match format {
        SecretFormat::Raw => bytes.to_vec(),
        SecretFormat::Hex => unhex(text()?).ok_or_else(|| CliError::Usage(format!("{shown} does not hold hexadecimal digits")))?,
        SecretFormat::Base64 => {
            let text = text()?;
            if text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
                eprintln!(
                    "ekm-otp-client: warning: {shown} looks like hexadecimal digits and is read as base64; --secret-format hex reads it as such"
                );
            }
            Secret::decode_base64(text)
                .map_err(|e| CliError::Usage(format!("{shown}: {e}; --secret-format hex or raw take other spellings")))?
        }
    };
    let secret = if weak { Secret::weak(bytes) } else { Secret::new(bytes) };
    secret.map_err(|e| CliError::Usage(format!("{shown}: {e}")))
}

/// Reads at most `limit` bytes of a file that only its owner can read; `-` is standard input. `holds` says what is in it.
pub(crate) fn read_private(path: &Path, holds: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
    // With its final capacity at once: a Vec that grows leaves pieces of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    let limit = limit as u64;
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(|e| CliError::io("open", path, &e))?;
        let mode = file.metadata().map_err(|e| CliError::io("look at", path, &e))?.permissions().mode();
        if mode & 0o077 != 0 {
            let shown = path.display();
            return Err(CliError::NotPermitted(format!(
                "others can read {shown} (mode {:04o}), and it holds {holds}: chmod 600 {shown}",
                mode & 0o7777
            )));
        }
        file.take(limit).read_to_end(&mut bytes)
    };
    read.map_err(|e| CliError::io("read", path, &e))?;
    Ok(bytes)
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    // With its final capacity at once: a Vec that grows leaves pieces of the secret behind.
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for i in (0..text.len()).step_by(2) {
        bytes.push(u8::from_str_radix(&text[i..i + 2], 16).ok()?);
    }
    Some(bytes)
}

/// An entry for the server's registry file (TOML).
pub(crate) fn registry_entry(kid: &KeyId, client: &str, secret: &Secret) -> Zeroizing<String> {
    // A TOML basic string: a key id holds neither quotes nor backslashes, a client name is escaped.
    let mut name = String::new();
    for c in client.chars() {
        match c {
            '"' | '\\' => name.extend(['\\', c]),
            c if c.is_control() => name += &format!("\\u{:04X}", u32::from(c)),
            c => name.push(c),
        }
    }
    Zeroizing::new(format!("[\"{kid}\"]\nsecret = \"{}\"\nclient = \"{name}\"\n", *secret.encode_base64()))
}

/// A new file that only its owner can read. Unless it is [written](Self::write), it is removed again when dropped.
pub(crate) struct PrivateFile<'a> {
    file: File,
    path: &'a Path,
    is_written: bool,
}

impl<'a> PrivateFile<'a> {
    /// Makes the file. Never overwrites one.
    pub(crate) fn create(path: &'a Path) -> Result<Self, CliError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        Ok(Self { file: file.map_err(|e| CliError::io("create", path, &e))?, path, is_written: false })
    }

    /// Writes the text and makes sure that it is on the disk.
    pub(crate) fn write(self, text: &str) -> Result<(), CliError> {
        self.write_bytes(text.as_bytes())
    }

    /// Writes bytes that are no text.
    pub(crate) fn write_bytes(mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.file.write_all(bytes).and_then(|()| self.file.sync_all()).map_err(|e| CliError::io("write", self.path, &e))?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for PrivateFile<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
