//! Why there are no credentials.

use std::time::Duration;

use crate::key::KeyError;

/// Why there are no credentials, split by whose fault it is. Shows no secret, token or password; what a service said is cut to one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// What was asked for makes no sense: the caller's.
    #[error("{0}")]
    Usage(String),
    /// The key did not answer.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The service cannot be reached.
    #[error("{service} cannot be reached: {why}")]
    Unreachable {
        /// Which, with its host.
        service: String,
        /// What the network said.
        why: String,
    },
    /// Who answers has not proved to be the service: TLS failed.
    #[error("{service} has not proved who it is: {why}")]
    NotProven {
        /// Which, with its host.
        service: String,
        /// What TLS said.
        why: String,
    },
    /// It did not answer in time, all tries taken together.
    #[error("{service} gave nothing of use within {within:?}: {last}")]
    Deadline {
        /// Which, with its host.
        service: String,
        /// How long it had.
        within: Duration,
        /// What the last try came to.
        last: String,
    },
    /// It refused: the caller has no right, or is not who it says.
    #[error("{service} refused ({code}): {}{}", message.trim_end_matches('.'), hint.as_ref().map(|hint| format!(". {hint}")).unwrap_or_default())]
    Refused {
        /// Which, with its host.
        service: String,
        /// The service's own code, such as `SignatureDoesNotMatch`, or the HTTP status.
        code: String,
        /// Its words.
        message: String,
        /// What to do about it, where that is known.
        hint: Option<String>,
    },
    /// It answered with something that is no answer.
    #[error("{service} answered with something else than {wanted}: {why}")]
    Answer {
        /// Which, with its host.
        service: String,
        /// What was to come.
        wanted: &'static str,
        /// What is wrong with it.
        why: String,
    },
}
