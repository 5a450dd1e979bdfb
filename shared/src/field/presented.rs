//! What a credential shows, of whichever kind (docs/protocol.md, "Credential").

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::PresentedOtp;

/// The three kinds of credential, the weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialKind {
    /// The connection's one-time password, the same with each request.
    #[default]
    Otp,
    /// A signed token of its own for each request: it covers method, target, authority and time, and cannot be used again.
    Jws,
    /// The same, encrypted: its claims stay closed to whoever reads the HTTP layer.
    Jwe,
}

impl CredentialKind {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::Otp, Self::Jws, Self::Jwe];

    /// The parameter's name: `otp`, `jws` or `jwe`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Otp => "otp",
            Self::Jws => "jws",
            Self::Jwe => "jwe",
        }
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CredentialKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

/// A text names no kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential is of one of the kinds otp, jws, jwe")]
pub struct UnknownKind;

/// What a credential shows, by its kind.
#[derive(Debug)]
pub enum Presented<'a> {
    /// A one-time password.
    Otp(PresentedOtp),
    /// A JWS, in its compact serialization (RFC 7515 §7.1) or not: nothing of it was read.
    Jws(PresentedToken<'a>),
    /// A JWE, in its compact serialization (RFC 7516 §7.1) or not: nothing of it was read.
    Jwe(PresentedToken<'a>),
}

impl Presented<'_> {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Otp(_) => CredentialKind::Otp,
            Self::Jws(_) => CredentialKind::Jws,
            Self::Jwe(_) => CredentialKind::Jwe,
        }
    }
}

/// A token as a peer presented it, at most a field long. Its `Debug` shows nothing of it.
pub struct PresentedToken<'a>(Cow<'a, [u8]>);

impl<'a> PresentedToken<'a> {
    /// Takes the bytes of a token that did not come by an `Authorization` field of this scheme.
    #[must_use]
    pub fn from_bytes(token: &'a [u8]) -> Self {
        Self(token.into())
    }

    pub(super) fn new(token: Cow<'a, [u8]>) -> Self {
        Self(token)
    }

    #[cfg(feature = "jose")]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PresentedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresentedToken({} bytes)", self.0.len())
    }
}
