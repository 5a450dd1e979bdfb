//! Why a try failed, and whether another one may do better.

use std::io;
use std::time::Duration;

use ekm_otp_client::{ConnectError, Error, ErrorKind};

use super::connect::Shown;
use super::retry::Patience;
use super::status;
use crate::cli::CliError;

/// A try that got no answer, or not all of it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: CliError,
    kind: Kind,
    /// The client itself does not dial before.
    pub(super) after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It may pass, as time does.
    Passing,
    /// Nobody listens there.
    RefusedConnection,
    Lasting,
    /// No try changes that: the caller's own, or the key's.
    Final,
}

impl Failure {
    pub(super) fn of(error: &Error, shown: &Shown) -> Self {
        let kind = match (error.connect_error(), error.kind()) {
            (Some(ConnectError::Unreachable { source, .. }), _) if source.kind() == io::ErrorKind::ConnectionRefused => {
                Kind::RefusedConnection
            }
            (_, ErrorKind::Unavailable | ErrorKind::Deadline) => Kind::Passing,
            (_, ErrorKind::Key) if error.is_retryable() => Kind::Passing,
            (_, ErrorKind::Usage | ErrorKind::Key) => Kind::Final,
            _ => Kind::Lasting,
        };
        Self { error: status::failure(error, shown), kind, after: error.retry_after() }
    }

    /// A time that the caller has set has passed.
    pub(super) fn late(text: String) -> Self {
        Self { error: CliError::Unavailable(text), kind: Kind::Passing, after: None }
    }

    pub(super) fn may_pass(&self, patience: Patience) -> bool {
        match self.kind {
            Kind::Passing => true,
            Kind::RefusedConnection => patience.refused_connections || patience.all_errors,
            Kind::Lasting => patience.all_errors,
            Kind::Final => false,
        }
    }
}

/// What this side cannot do: read, write, go on.
impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        let kind = if matches!(error, CliError::Other(_)) { Kind::Lasting } else { Kind::Final };
        Self { error, kind, after: None }
    }
}
