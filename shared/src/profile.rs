//! Which wire a key speaks. One secret is for one profile: nothing that was made in one can be of use in the other.

use std::fmt;
use std::str::FromStr;

/// A wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Protocol v1 (docs/protocol.md).
    #[default]
    V1,
    /// The wire of the Go original (docs/protocol.md, "The profile go"), for fleets that move from it one side at a time. Weaker: the server proves
    /// nothing, tokens are bound to the connection only, and neither server name nor, in tokens, key id is.
    Go,
}

impl Profile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V1, Self::Go];

    /// `v1` or `go`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Go => "go",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or(UnknownProfile)
    }
}

/// A text names no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a profile is one of v1, go")]
pub struct UnknownProfile;
