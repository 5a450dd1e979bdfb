//! The registry file: key id → secret and client name, in TOML or JSON. `ekm-otp-server key` and `ekm-otp-client key create` write it.
//!
//! No message of this module holds a part of the file.

mod entry;
mod parse;
mod pieces;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ekm_otp_files::must_be_private;
use zeroize::Zeroizing;

pub use self::entry::{Entry, KeyState};
pub use self::parse::{Format, Intake, parse};
pub use self::pieces::pieces;
use crate::MemoryStore;

/// Reads the registry. Secrets of fewer than 16 bytes are refused.
///
/// # Errors
/// When the file cannot be read, others can read it, or what is in it is no registry.
pub fn load(path: impl AsRef<Path>) -> Result<MemoryStore, Error> {
    read(path, false)
}

/// Reads the registry into what takes its entries. With `weak_secrets`, secrets of fewer than 16 bytes are taken, which a rogue server can
/// guess offline.
///
/// # Errors
/// When the file cannot be read, others can read it, or what is in it is no registry.
pub fn read<I: Intake>(path: impl AsRef<Path>, weak_secrets: bool) -> Result<I, Error> {
    let path = path.as_ref();
    let text = text(path)?;
    parse(&text, Format::of(path), weak_secrets).map_err(|why| Error::Faulty { path: path.to_owned(), why })
}

/// The file's text, where nobody else can read it.
///
/// # Errors
/// When the file cannot be read, or others can read it.
pub fn text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let io = |doing| move |source| Error::Io { doing, path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(io("open"))?;
    must_be_private(&file)
        .map_err(io("look at"))?
        .map_err(|why| Error::Exposed { path: path.to_owned(), why: format!("{why}. {}", why.advice(&path.display().to_string())) })?;
    // With its capacity at once: a String that grows leaves pieces of the secrets behind.
    let size = file.metadata().map_or(0, |file| usize::try_from(file.len()).unwrap_or(0));
    let mut text = Zeroizing::new(String::with_capacity(size + 1));
    file.read_to_string(&mut text).map_err(io("read"))?;
    Ok(text)
}

/// Why a registry file was not read, split by what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not there, may not be read, or the like.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// To open, look at or read it.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Others can read or change it.
    #[error("others can read or change {}, and it holds secrets: {why}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Who, and what to do about it.
        why: String,
    },
    /// What is in it is no registry.
    #[error("{}: {why}", path.display())]
    Faulty {
        /// The file.
        path: PathBuf,
        /// Where it is wrong, and how. Never a part of the text.
        why: String,
    },
}
