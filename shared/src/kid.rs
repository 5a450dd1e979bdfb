//! Key ids: the public name of one shared secret (docs/protocol.md, "kid").

use std::fmt;

/// The name of one shared secret: 1 to 128 bytes of `A-Z a-z 0-9 . _ ~ @ : / + -`, compared bytewise.
///
/// A key id is no secret. It names one secret and is never bound to another one later.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// The longest key id, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks the grammar.
    ///
    /// # Errors
    /// When `kid` is empty, longer than [`KeyId::MAX_LEN`], or holds a byte outside the grammar.
    pub fn new(kid: &str) -> Result<Self, KeyIdError> {
        Self::from_bytes(kid.as_bytes())
    }

    pub(crate) fn from_bytes(kid: &[u8]) -> Result<Self, KeyIdError> {
        match kid {
            [] => Err(KeyIdError::Empty),
            _ if kid.len() > Self::MAX_LEN => Err(KeyIdError::TooLong(kid.len())),
            _ => match kid.iter().find(|b| !is_kid_byte(**b)) {
                Some(b) => Err(KeyIdError::Forbidden(*b)),
                // Every accepted byte is ASCII, so each is one char.
                None => Ok(Self(kid.iter().map(|b| char::from(*b)).collect())),
            },
        }
    }

    /// The key id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_kid_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._~@:/+-".contains(&b)
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(kid: &str) -> Result<Self, KeyIdError> {
        Self::new(kid)
    }
}

/// Why a text is no key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyIdError {
    /// It is empty.
    #[error("a key id has at least one character")]
    Empty,
    /// It is longer than [`KeyId::MAX_LEN`] bytes.
    #[error("a key id has at most 128 bytes, this one has {0}")]
    TooLong(usize),
    /// It holds this byte, which the grammar does not allow.
    #[error("a key id consists of A-Z a-z 0-9 . _ ~ @ : / + - only, this one holds the byte 0x{0:02x}")]
    Forbidden(u8),
}
