//! What is behind a target.

use std::fmt;
use std::path::{Path, PathBuf};

use ekm_otp::tunnel::{Target, TargetError};

/// Where a tunnel's other end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// A host and port, looked up for each tunnel.
    Tcp(Target),
    /// A Unix socket.
    Unix(PathBuf),
}

impl To {
    pub(super) fn parse(text: &str) -> Result<Self, TargetError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(TargetError::Syntax),
            Some(path) => Ok(Self::Unix(path.into())),
            None => Target::parse(text).map(Self::Tcp),
        }
    }

    /// Makes a relative path relative to the configuration's folder.
    pub(super) fn relative_to(text: &mut String, folder: &Path) {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            *text = format!("unix:{}", folder.join(path).display());
        }
    }
}

/// As it is written in the configuration.
impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(target) => target.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
