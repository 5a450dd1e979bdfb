//! Why a client has no answer, in a form that may go to all who wait for the same connection.

use std::sync::Arc;
use std::time::Duration;

use crate::pool::PoolError;
use crate::{ConnectError, RequestError, with_sources};

/// Why there is no answer. Cheap to clone: a dial that fails goes to all who wait for it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection. Nothing of the request was sent.
    #[error(transparent)]
    Connect(Arc<ConnectError>),
    /// The last dial failed, and the next is not tried before `wait` has passed. Nothing of the request was sent.
    #[error("{cause} (tried again in {} ms)", .wait.as_millis())]
    BackOff {
        /// Why the last dial failed.
        #[source]
        cause: Arc<ConnectError>,
        /// How long until the next one.
        wait: Duration,
    },
    /// All connections are in use, and so many wait for one already. Nothing of the request was sent.
    #[error("all connections are in use, and {0} requests wait already: send less at once, or allow more (max_connections, max_waiting)")]
    Crowded(usize),
    /// No connection became free in time. Nothing of the request was sent.
    #[error("no connection became free within {0:?}: send less at once, or allow more (max_connections)")]
    NoneFree(Duration),
    /// The client drains. Nothing of the request was sent.
    #[error("this client takes no more requests: it drains")]
    Draining,
    /// The request cannot be sent as it is, or broke on its connection.
    #[error(transparent)]
    Request(Arc<RequestError>),
    /// The answer's body broke off.
    #[error("the answer's body is incomplete: {}", with_sources(&**.0))]
    Body(Arc<hyper::Error>),
    /// The answer's body is longer than it may be.
    #[error("the answer's body is longer than {0} bytes: raise the limit, or read it as it comes (into_inner)")]
    TooLong(usize),
    /// The answer's body is no UTF-8.
    #[error("the answer's body is no UTF-8 text")]
    NotText,
    /// The answer's body is no JSON, or other JSON than was expected.
    #[error("the answer's body is not the JSON that was expected: {0}")]
    Json(Arc<serde_json::Error>),
    /// The answer to an upgrade contradicts the protocol.
    #[error("the server's answer to the upgrade is not right: {0}")]
    Upgrade(&'static str),
}

/// What went wrong, in a word: for metrics, and for deciding what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's mistake: the request, or the settings.
    Usage,
    /// The server refuses the credential.
    Refused,
    /// The server did not prove that it holds the secret.
    NotProven,
    /// TLS ends somewhere in between, says who answers.
    Intercepted,
    /// The server's certificate is not trusted, or TLS agreed on what the policy refuses.
    Certificate,
    /// The key cannot be used.
    Key,
    /// No connection: not reachable, busy, or asked to wait.
    Unavailable,
    /// Something took longer than it may.
    Deadline,
    /// The connection broke while the request or its answer was under way.
    Broken,
    /// The answer is not what was expected.
    Answer,
}

impl Error {
    pub(crate) fn target(error: http::Error) -> Self {
        RequestError::from(error).into()
    }

    /// What went wrong, in a word.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) | Self::BackOff { cause: error, .. } => of_connect(error),
            Self::Request(error) => match **error {
                RequestError::WrongProof => ErrorKind::NotProven,
                RequestError::Deadline(_) => ErrorKind::Deadline,
                RequestError::Http(_) => ErrorKind::Broken,
                _ => ErrorKind::Usage,
            },
            Self::Crowded(_) | Self::Draining => ErrorKind::Unavailable,
            Self::NoneFree(_) => ErrorKind::Deadline,
            Self::Body(_) => ErrorKind::Broken,
            Self::TooLong(_) | Self::NotText | Self::Json(_) | Self::Upgrade(_) => ErrorKind::Answer,
        }
    }

    /// Whether the same request may be sent again as it is, because nothing of it was sent, and the reason may pass.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) | Self::BackOff { cause: error, .. } => match &**error {
                ConnectError::Key(error) => error.is_temporary(),
                error => matches!(of_connect(error), ErrorKind::Unavailable | ErrorKind::Deadline | ErrorKind::Broken),
            },
            Self::Crowded(_) | Self::NoneFree(_) => true,
            _ => false,
        }
    }

    /// How long the client itself waits before it dials again, where it does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BackOff { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    /// Why there is no connection, where that is the reason.
    #[must_use]
    pub fn connect_error(&self) -> Option<&ConnectError> {
        match self {
            Self::Connect(error) | Self::BackOff { cause: error, .. } => Some(error),
            _ => None,
        }
    }

    /// The status code of gRPC (grpc/doc/statuscodes.md) that says the same: 16 UNAUTHENTICATED, 14 UNAVAILABLE, 4 DEADLINE_EXCEEDED,
    /// 8 RESOURCE_EXHAUSTED, 3 INVALID_ARGUMENT, 13 INTERNAL.
    #[must_use]
    pub fn grpc_code(&self) -> i32 {
        match (self, self.kind()) {
            (Self::Crowded(_), _) => 8,
            (_, ErrorKind::Usage) => 3,
            (_, ErrorKind::Refused | ErrorKind::NotProven | ErrorKind::Intercepted | ErrorKind::Certificate) => 16,
            (error, ErrorKind::Key) => {
                if error.is_retryable() {
                    14
                } else {
                    16
                }
            }
            (_, ErrorKind::Unavailable | ErrorKind::Broken) => 14,
            (_, ErrorKind::Deadline) => 4,
            (_, ErrorKind::Answer) => 13,
        }
    }
}

fn of_connect(error: &ConnectError) -> ErrorKind {
    match error {
        ConnectError::Unreachable { .. } | ConnectError::Unavailable(_) => ErrorKind::Unavailable,
        ConnectError::Deadline { .. } => ErrorKind::Deadline,
        ConnectError::Certificate(_) | ConnectError::Handshake(_) | ConnectError::Policy(_) => ErrorKind::Certificate,
        ConnectError::Key(_) => ErrorKind::Key,
        ConnectError::Http(_) => ErrorKind::Broken,
        ConnectError::Refused { .. } => ErrorKind::Refused,
        ConnectError::Intercepted { .. } => ErrorKind::Intercepted,
        ConnectError::NotProven(_) => ErrorKind::NotProven,
        #[cfg(not(feature = "jose"))]
        ConnectError::NoTokens(_) => ErrorKind::Usage,
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Self::Request(Arc::new(error))
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Connect(cause) => Self::Connect(cause),
            PoolError::BackOff { cause, wait } => Self::BackOff { cause, wait },
            PoolError::Crowded(waiting) => Self::Crowded(waiting),
            PoolError::NoneFree(deadline) => Self::NoneFree(deadline),
            PoolError::Draining => Self::Draining,
        }
    }
}
