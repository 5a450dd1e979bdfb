//! Why a command failed.

use std::io;
use std::path::Path;

use ekm_otp_attestation::cms::CmsError;
use ekm_otp_client::{ConnectError, ErrorKind, RequestError, SignerError};
use ekm_otp_tpm::{NitroError, TpmError};

use super::shown::shown;

/// Why a command failed; the kind gives the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The caller's: flags, files.
    #[error("{0}")]
    Usage(String),
    /// A file, device or server that is not there.
    #[error("{0}")]
    Unavailable(String),
    /// Not allowed by the operating system, the TPM or the server; or the server did not prove itself.
    #[error("{0}")]
    NotPermitted(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
    /// Whoever read standard output has closed it. Nothing is told.
    #[error("standard output was closed")]
    ClosedPipe,
    /// Ended by this signal.
    #[error("ended by signal {0}")]
    Signal(u8),
}

impl CliError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Unavailable(_) => 69,
            Self::NotPermitted(_) => 77,
            Self::Other(_) => 1,
            Self::ClosedPipe => 0,
            Self::Signal(number) => 128 + number,
        }
    }

    /// Of what a client says, in the caller's words.
    pub(crate) fn of_kind(kind: ErrorKind, text: String) -> Self {
        match kind {
            ErrorKind::Usage => Self::Usage(text),
            ErrorKind::Refused | ErrorKind::NotProven | ErrorKind::Intercepted | ErrorKind::Certificate => Self::NotPermitted(text),
            ErrorKind::Unavailable | ErrorKind::Deadline => Self::Unavailable(text),
            _ => Self::Other(text),
        }
    }

    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let shown = shown(path);
        let text = format!("cannot {what} {shown}: {error}");
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted(text),
            io::ErrorKind::AlreadyExists => Self::Usage(format!("{shown} exists already; it is not overwritten")),
            // Where it is taken for standard input, it is never looked for.
            io::ErrorKind::NotFound if path == Path::new("-") => {
                Self::Usage("- is no file, and standard input is not taken here: name a file (./- where it is called so)".to_owned())
            }
            io::ErrorKind::NotFound => Self::Unavailable(text),
            io::ErrorKind::IsADirectory => Self::Usage(text),
            _ => Self::Other(text),
        }
    }
}

impl From<TpmError> for CliError {
    fn from(error: TpmError) -> Self {
        Self::from(&error)
    }
}

impl From<&TpmError> for CliError {
    fn from(error: &TpmError) -> Self {
        let text = error.to_string();
        match error {
            TpmError::Unreachable { .. }
            | TpmError::Deadline(_)
            | TpmError::Busy(_)
            | TpmError::Crowded
            | TpmError::NotStarted(_)
            | TpmError::NotReady(_)
            | TpmError::OutOfOrder(_)
            | TpmError::Interrupted(_)
            | TpmError::Full(_)
            | TpmError::NoParent { .. }
            | TpmError::NoKey { .. }
            | TpmError::NvFull(_)
            | TpmError::RestlessPcrs
            | TpmError::Nitro(NitroError::NotNitro(_))
            | TpmError::Ephemeral => Self::Unavailable(text),
            TpmError::NotPermitted { .. }
            | TpmError::Auth { .. }
            | TpmError::Lockout { .. }
            | TpmError::PcrChanged(_)
            | TpmError::OtherPolicy { .. }
            | TpmError::Policy(_)
            | TpmError::PolicyClosed(_)
            | TpmError::SessionKey { .. }
            | TpmError::Contradiction(_)
            | TpmError::NotDecrypted(_)
            | TpmError::OtherCredential(_)
            | TpmError::PcrNotAllowed { .. }
            | TpmError::OtherKey { .. } => Self::NotPermitted(text),
            TpmError::KeyFile(_)
            | TpmError::Nitro(NitroError::TooLong)
            | TpmError::OtherTpm(_)
            | TpmError::OtherPrimary(_)
            | TpmError::NotForThis { .. }
            | TpmError::PolicyPassword { .. }
            | TpmError::PolicySize
            | TpmError::PolicyUnknown
            | TpmError::HandleTaken(_)
            | TpmError::HandleRange(_)
            | TpmError::NotMovable(_)
            | TpmError::NewParent(_)
            | TpmError::Duplicate(_)
            | TpmError::ParentPolicy(_)
            | TpmError::NotAParent(_)
            | TpmError::NoBank(_) => Self::Usage(text),
            _ => Self::Other(text),
        }
    }
}

impl From<CmsError> for CliError {
    fn from(error: CmsError) -> Self {
        let text = format!("the message: {error}");
        match error {
            CmsError::NotOpened => Self::NotPermitted(text),
            _ => Self::Usage(text),
        }
    }
}

impl From<&SignerError> for CliError {
    fn from(error: &SignerError) -> Self {
        match error.downcast_ref::<TpmError>() {
            Some(error) => error.into(),
            None => Self::Other(error.to_string()),
        }
    }
}

impl From<ConnectError> for CliError {
    fn from(error: ConnectError) -> Self {
        let text = error.to_string();
        match error {
            ConnectError::Key(error) => Self::from(&error),
            ConnectError::Unreachable { .. } | ConnectError::Deadline { .. } | ConnectError::Unavailable(_) => Self::Unavailable(text),
            ConnectError::Refused { .. } | ConnectError::Intercepted { .. } | ConnectError::NotProven(_) | ConnectError::Certificate(_) => {
                Self::NotPermitted(text)
            }
            _ => Self::Other(text),
        }
    }
}

impl From<RequestError> for CliError {
    fn from(error: RequestError) -> Self {
        let text = error.to_string();
        match error {
            RequestError::ForeignAuthority { .. }
            | RequestError::ReservedField(_)
            | RequestError::Target(_)
            | RequestError::NoToken
            | RequestError::ClaimsTooLong(_) => Self::Usage(text),
            RequestError::WrongProof => Self::NotPermitted(text),
            RequestError::Deadline(_) => Self::Unavailable(text),
            _ => Self::Other(text),
        }
    }
}
