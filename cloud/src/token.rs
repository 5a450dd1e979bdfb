//! A bearer token (RFC 6750), and its end.

use std::fmt;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::refresh::Expires;

/// A token, and its end.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken {
    /// What goes after `Bearer`.
    pub token: Zeroizing<String>,
    /// When it ends, by this machine's clock.
    pub expires: SystemTime,
}

impl Expires for BearerToken {
    fn expires(&self) -> SystemTime {
        self.expires
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}
