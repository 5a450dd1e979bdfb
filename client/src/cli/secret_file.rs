//! Secrets in files: read for an import or for use without a TPM, written for the server's registry.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ekm_otp::{KeyId, Profile, Secret};
use ekm_otp_files::must_be_private;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::error::CliError;
use super::output::{self, note};
use super::shown::{shown, shown_output};

/// How a secret stands in a file.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum SecretFormat {
    /// Standard base64, padded or not; white space in it is passed over.
    #[default]
    Base64,
    /// Hexadecimal digits; white space in them is passed over.
    Hex,
    /// The bytes themselves, a last line feed included.
    Raw,
}

/// Reads a secret from `path`; `-` is standard input.
pub(crate) async fn read(path: &Path, format: SecretFormat, weak: bool, profile: Profile) -> Result<Secret, CliError> {
    let path = path.to_owned();
    // Standard input may never end: a signal must still be heard.
    let reading = tokio::task::spawn_blocking(move || read_blocking(&path, format, weak, profile));
    reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading the secret failed: {e}"))))
}

fn read_blocking(path: &Path, format: SecretFormat, weak: bool, profile: Profile) -> Result<Secret, CliError> {
    let bytes = read_private(path, "a secret", 4096)?;
    let shown = shown(path);
    let bytes = match format {
        SecretFormat::Raw => bytes.to_vec(),
        SecretFormat::Hex => {
            let text = one_word(&bytes, &shown)?;
            unhex(&text).ok_or_else(|| CliError::Usage(format!("{shown} does not hold hexadecimal digits")))?
        }
        SecretFormat::Base64 => {
            let text = one_word(&bytes, &shown)?;
            if text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(CliError::Usage(format!("{shown} holds hexadecimal digits, not base64: --secret-format hex reads them")));
            }
            Secret::decode_base64(&text)
                .map_err(|e| CliError::Usage(format!("{shown}: {e}; --secret-format hex or raw take other spellings")))?
        }
    };
    let bytes = if profile == Profile::Go { Secret::fold(bytes) } else { bytes };
    let secret = if weak { Secret::weak(bytes) } else { Secret::new(bytes) };
    secret.map_err(|e| CliError::Usage(format!("{shown}: {e}")))
}

/// What stands before a secret access key of AWS where it is an HMAC key (AWS Signature Version 4).
const AWS_PREFIX: &str = "AWS4";
/// The length of a secret access key.
const AWS_SECRET_LEN: usize = 40;

/// Reads a secret access key of AWS, and puts the prefix before it.
pub(crate) async fn aws_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let path = path.to_owned();
    // Standard input may never end: a signal must still be heard.
    let reading = tokio::task::spawn_blocking(move || {
        let bytes = read_private(&path, "a secret access key", 4096)?;
        let shown = shown(&path);
        let word = one_word(&bytes, &shown)?;
        let is_alone = bytes.trim_ascii().iter().all(|b| !b.is_ascii_whitespace());
        let is_one = is_alone && word.len() >= 16 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+=".contains(&b));
        if !is_one {
            return Err(CliError::Usage(format!(
                "{shown}: a secret access key is one word of letters, digits, / and +, and stands alone in its file (of the console's CSV file it \
                 is the second field of the second line)"
            )));
        }
        if word.starts_with(AWS_PREFIX) && word.len() > AWS_SECRET_LEN {
            note!("ekm-otp-client: warning: {shown} begins with {AWS_PREFIX} already: it is not put before it once more");
            return Ok(Zeroizing::new(word.as_bytes().to_vec()));
        }
        if word.len() != AWS_SECRET_LEN {
            note!("ekm-otp-client: warning: {shown} has {} characters; a secret access key has {AWS_SECRET_LEN}", word.len());
        }
        Ok(Zeroizing::new([AWS_PREFIX.as_bytes(), word.as_bytes()].concat()))
    });
    reading.await.unwrap_or_else(|e| Err(CliError::Other(format!("reading the secret failed: {e}"))))
}

/// The text without white space and byte order mark: openssl and xxd write long ones in several lines.
fn one_word(bytes: &[u8], shown: &str) -> Result<Zeroizing<String>, CliError> {
    let text = std::str::from_utf8(bytes).map_err(|_| CliError::Usage(format!("{shown} is no text: is it --secret-format raw?")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains('=') && text.lines().any(|line| line.trim_start().starts_with("secret")) {
        return Err(CliError::Usage(format!(
            "{shown} is an entry of a registry: a file with the secret alone is wanted, what stands in quotes there"
        )));
    }
    // With its final capacity at once: a String that grows leaves pieces of the secret behind.
    let mut word = Zeroizing::new(String::with_capacity(text.len()));
    word.extend(text.chars().filter(|c| !c.is_ascii_whitespace()));
    Ok(word)
}

/// Reads a file of at most `limit` bytes that nobody else can read; `-` is standard input. `holds` says what is in it.
pub(crate) fn read_private(path: &Path, holds: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
    read_wiped(path, holds, limit, true)
}

/// The same of a file that others may read: what is in it is wiped here all the same.
pub(crate) fn read_open(path: &Path, holds: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
    read_wiped(path, holds, limit, false)
}

fn read_wiped(path: &Path, holds: &str, limit: usize, is_private: bool) -> Result<Zeroizing<Vec<u8>>, CliError> {
    // With its final capacity at once: a Vec that grows leaves pieces of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    // One more: what is longer is refused, not cut off.
    let (most, limit) = (limit, limit as u64 + 1);
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(|e| CliError::io("open", path, &e))?;
        if is_private {
            must_be_private(&file).map_err(|e| CliError::io("look at", path, &e))?.map_err(|why| {
                let name = shown(path);
                // A device is the system's, and others use it.
                let is_device =
                    file.metadata().is_ok_and(|found| found.file_type().is_char_device() || found.file_type().is_block_device());
                let advice = if is_device { "It is a device: name a file".to_owned() } else { why.advice(&name) };
                CliError::NotPermitted(format!("others can read or change {name}, and it holds {holds}: {why}. {advice}"))
            })?;
        }
        file.take(limit).read_to_end(&mut bytes)
    };
    read.map_err(|e| CliError::io("read", path, &e))?;
    if bytes.len() > most {
        return Err(CliError::Usage(format!("{} holds more than {most} bytes, which is too much for {holds}", shown(path))));
    }
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

/// A new file that only its owner can read; `-` is standard output. It gets its name when it is on the disk as a whole: what ends the program
/// before, a full disk or a kill, leaves nothing in the next one's way.
pub(crate) struct PrivateFile {
    path: PathBuf,
    /// `None` for standard output.
    file: Option<NamedTempFile>,
    to_show: Vec<u8>,
}

impl PrivateFile {
    /// Makes the file, without its name. Never overwrites one.
    pub(crate) fn create(path: &Path) -> Result<Self, CliError> {
        let path = path.to_owned();
        if path == Path::new("-") {
            return Ok(Self { path, file: None, to_show: Vec::new() });
        }
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(CliError::io("create", &path, &ErrorKind::AlreadyExists.into()));
        }
        std::fs::metadata(folder_of(&path)).map_err(|e| CliError::io("create", &path, &e))?;
        let file = new_beside(&path).map_err(|e| CliError::io("create", &path, &e))?;
        Ok(Self { path, file: Some(file), to_show: Vec::new() })
    }

    /// Writes it, and makes sure that it is on the disk.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match &mut self.file {
            None => self.to_show = bytes.to_vec(),
            Some(file) => {
                file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| CliError::io("write", &self.path, &e))?;
            }
        }
        Ok(())
    }

    /// A descriptor to write what takes long, with [`keep_written`](Self::keep_written) or [`replace`](Self::replace) after it. That of standard output where it is that.
    pub(crate) fn handle(&self) -> Result<File, CliError> {
        match &self.file {
            None => std::io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(CliError::output),
            Some(file) => file.as_file().try_clone().map_err(|e| CliError::io("write", &self.path, &e)),
        }
    }

    /// As [`keep`](Self::keep), of what was written by its descriptor.
    pub(crate) fn keep_written(mut self) -> Result<String, CliError> {
        self.write(&[])?;
        self.keep()
    }

    /// A new file that will take the place of this one.
    pub(crate) fn beside(path: &Path) -> Result<Self, CliError> {
        let file = new_beside(path).map_err(|e| CliError::io("replace", path, &e))?;
        Ok(Self { path: path.to_owned(), file: Some(file), to_show: Vec::new() })
    }

    /// Gives it the owner and the mode of another file: whoever could read that can read it.
    pub(crate) fn take_owner_and_mode(&self, of: &Path) -> Result<(), CliError> {
        let Some(file) = &self.file else { return Ok(()) };
        let of = std::fs::metadata(of).map_err(|e| CliError::io("look at", of, &e))?;
        let own = file.as_file().metadata().map_err(|e| CliError::io("look at", &self.path, &e))?;
        if (own.uid(), own.gid()) != (of.uid(), of.gid()) {
            std::os::unix::fs::fchown(file.as_file(), Some(of.uid()), Some(of.gid()))
                .map_err(|e| CliError::io("give its owner", &self.path, &e))?;
        }
        file.as_file().set_permissions(of.permissions()).map_err(|e| CliError::io("give its mode", &self.path, &e))
    }

    /// Puts it in the place of the file of its name, as a whole, once it is on the disk.
    pub(crate) fn replace(mut self) -> Result<(), CliError> {
        self.write(&[])?;
        if let Some(file) = self.file {
            file.persist(&self.path).map_err(|e| CliError::io("replace", &self.path, &e.error))?;
            sync_name(&self.path)?;
        }
        Ok(())
    }

    /// Gives it its name, which is returned as it is shown to people.
    pub(crate) fn keep(self) -> Result<String, CliError> {
        let name = shown_output(&self.path);
        match self.file {
            None => output::result(&self.to_show)?,
            Some(file) => {
                file.persist_noclobber(&self.path).map_err(|e| CliError::io("create", &self.path, &e.error))?;
                sync_name(&self.path)?;
            }
        }
        Ok(name)
    }

    /// Gives both their names, or neither. Returns the second's.
    pub(crate) fn keep_both(first: Self, second: Self) -> Result<String, CliError> {
        let path = first.file.is_some().then(|| first.path.clone());
        first.keep()?;
        second.keep().inspect_err(|_| {
            // Made a moment ago, here.
            if let Some(path) = path {
                let _ = std::fs::remove_file(path);
            }
        })
    }
}

/// Beside it, mode 0600, and removed when dropped.
fn new_beside(path: &Path) -> std::io::Result<NamedTempFile> {
    // The error names that file, which nobody knows.
    NamedTempFile::with_prefix_in(".ekm-otp-", folder_of(path)).map_err(|e| e.kind().into())
}

/// Sees that the file's name, too, is on the disk, where the folder may be read.
fn sync_name(path: &Path) -> Result<(), CliError> {
    let Ok(folder) = File::open(folder_of(path)) else { return Ok(()) };
    folder.sync_all().map_err(|e| CliError::io("write", path, &e))
}

/// The folder that a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
