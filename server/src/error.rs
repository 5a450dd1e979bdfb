//! Why the server does not start or go on, split by whose fault it is.

/// What is told on standard error; the kind gives the exit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ServerError {
    /// The operator's: flags, configuration, certificate, registry.
    #[error("{0}")]
    Config(String),
    /// A file or port that this user may not use, or a secret that others may read.
    #[error("{0}")]
    NotPermitted(String),
    /// The address is taken, a file is not there.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl ServerError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 64,
            Self::Unavailable(_) => 69,
            Self::NotPermitted(_) => 77,
            Self::Other(_) => 1,
        }
    }

    /// Of an operating system's error at `what`.
    pub(crate) fn io(what: &str, error: &std::io::Error) -> Self {
        let text = format!("{what}: {error}");
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Self::NotPermitted(text),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AddrNotAvailable => Self::Unavailable(text),
            std::io::ErrorKind::IsADirectory => Self::Config(text),
            _ => Self::Other(text),
        }
    }
}
