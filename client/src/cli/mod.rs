//! The command line: what flags mean, what errors exit with.

pub(crate) mod get;
pub(crate) mod keys;
pub(crate) mod secret_file;
mod trust;

use std::io;
use std::path::Path;

use clap::Args;
use ekm_otp_client::{ConnectError, RequestError};
use ekm_otp_tpm::{Tcti, TpmError, TpmHandle};

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
            Self::Signal(number) => 128 + number,
        }
    }

    fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let text = format!("cannot {what} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted(text),
            io::ErrorKind::AlreadyExists => Self::Usage(format!("{} exists already; it is not overwritten", path.display())),
            io::ErrorKind::NotFound => Self::Unavailable(text),
            _ => Self::Other(text),
        }
    }
}

impl From<TpmError> for CliError {
    fn from(error: TpmError) -> Self {
        let text = error.to_string();
        match error {
            TpmError::Unreachable { .. }
            | TpmError::Deadline(_)
            | TpmError::Busy(_)
            | TpmError::Crowded
            | TpmError::NotStarted(_)
            | TpmError::Full(_)
            | TpmError::NoParent { .. } => Self::Unavailable(text),
            TpmError::NotPermitted { .. } | TpmError::Auth(_) | TpmError::Lockout(_) => Self::NotPermitted(text),
            TpmError::KeyFile(_) | TpmError::OtherTpm(_) => Self::Usage(text),
            _ => Self::Other(text),
        }
    }
}

impl From<ConnectError> for CliError {
    fn from(error: ConnectError) -> Self {
        let text = error.to_string();
        match error {
            ConnectError::Key(error) => error.into(),
            ConnectError::Unreachable { .. } | ConnectError::Deadline { .. } | ConnectError::Unavailable(_) => Self::Unavailable(text),
            ConnectError::Refused { .. } | ConnectError::NotProven(_) | ConnectError::Certificate(_) => Self::NotPermitted(text),
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

/// Which TPM.
#[derive(Args, Debug)]
pub(crate) struct TpmArgs {
    /// How to reach the TPM: device:/dev/tpmrm0, swtpm:host=HOST,port=PORT or tabrmd: [default: $TPM2TOOLS_TCTI, $TCTI, device:/dev/tpmrm0]
    #[arg(long, value_name = "TCTI")]
    tcti: Option<String>,
}

impl TpmArgs {
    pub(crate) fn open(&self) -> Result<TpmHandle, CliError> {
        let environment = || ["TPM2TOOLS_TCTI", "TCTI"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let text = self.tcti.clone().or_else(environment).unwrap_or_else(|| Tcti::DEFAULT.to_owned());
        let tcti: Tcti = text.parse().map_err(|e| CliError::Usage(format!("--tcti {text}: {e}")))?;
        Ok(TpmHandle::open(tcti)?)
    }
}
