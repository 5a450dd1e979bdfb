//! Which of several keys a connection is made with.

use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::connector::Connector;
use crate::{ConnectError, Refusal};

/// How long a key that worked is taken before those that are preferred to it are tried again: each try costs a handshake and a MAC.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The key that worked last.
#[derive(Debug, Default)]
pub(super) struct Remembered(Option<(usize, Instant)>);

impl Remembered {
    pub(super) fn position(&self) -> Option<usize> {
        self.0.map(|(position, _)| position)
    }

    pub(super) fn worked(&mut self, position: usize, now: Instant) {
        // The time counts from when it was found, so that a busy client looks again, too.
        if self.position() != Some(position) {
            self.0 = Some((position, now));
        }
    }

    /// The server takes this one no longer.
    pub(super) fn refused(&mut self, position: usize, keys: usize, now: Instant) {
        if self.position().is_none_or(|remembered| remembered == position) {
            self.0 = Some(((position + 1) % keys, now));
        }
    }

    /// In which order the keys are to be tried: the remembered one first, then by preference.
    pub(super) fn order(&mut self, keys: usize, now: Instant) -> Vec<usize> {
        if self.0.is_some_and(|(_, since)| now.duration_since(since) > REMEMBERED) {
            self.0 = None;
        }
        let first = self.position().filter(|first| *first < keys);
        first.into_iter().chain((0..keys).filter(|position| Some(*position) != first)).collect()
    }
}

/// Makes a connection with the first key that the server takes. Fails as the first of them does.
pub(super) async fn connect(connectors: &[Connector], order: &[usize]) -> Result<(Connection, usize), ConnectError> {
    let mut first = None;
    for position in order {
        let Some(connector) = connectors.get(*position) else { continue };
        match connector.connect().await {
            Ok(connection) => return Ok((connection, *position)),
            Err(error) if may_try_next(&error) => {
                tracing::debug!(%error, position, "this key is not taken");
                first = first.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or_else(|| ConnectError::NotProven("there is no key to ask it with".into())))
}

/// Where the server says that it does not take the key id, or the key cannot be used for good. Nothing but probes has been sent.
fn may_try_next(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused { why, .. } => matches!(why, Refusal::Unknown | Refusal::Credential),
        ConnectError::Key(error) => !error.is_temporary(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_worked_comes_first_until_it_is_refused_or_ten_minutes_are_over() {
        let (mut remembered, now) = (Remembered::default(), Instant::now());
        assert_eq!(remembered.order(3, now), [0, 1, 2]);
        remembered.worked(1, now);
        assert_eq!(remembered.order(3, now), [1, 0, 2]);
        remembered.worked(1, now + REMEMBERED);
        assert_eq!(remembered.order(3, now + REMEMBERED + Duration::from_secs(1)), [0, 1, 2], "a preferred key is never tried again");
        remembered.worked(2, now);
        remembered.refused(2, 3, now);
        assert_eq!(remembered.order(3, now), [0, 1, 2]);
        remembered.refused(2, 3, now);
        assert_eq!(remembered.order(3, now), [0, 1, 2], "what an old connection says of another key counts");
    }
}
