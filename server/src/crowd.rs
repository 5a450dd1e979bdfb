//! The connections that are open: so that who cannot authenticate keeps nobody out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ekm_otp_tower::{ConnectionAuthenticator, EkmListener};

/// How the file descriptors are shared out. Each connection takes one, and so does each handshake that is not finished; the rest is for the
/// listener, the log and the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
}

impl Room {
    pub(crate) fn of(descriptors: usize, max_connections: usize) -> Self {
        let room = descriptors.saturating_sub(64).max(8);
        let handshakes = (room / 4).clamp(4, EkmListener::MAX_HANDSHAKES);
        Self { connections: max_connections.min(room.saturating_sub(handshakes).max(1)), handshakes }
    }
}

/// Connections that were not verified when last looked at, the oldest first. All clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowd(Arc<Mutex<VecDeque<ConnectionAuthenticator>>>);

impl Crowd {
    /// A connection was accepted.
    pub(crate) fn enter(&self, connection: ConnectionAuthenticator) {
        let mut unverified = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that were verified or have ended meanwhile are let go from time to time: the queue stays in proportion to what is open.
        if unverified.len() == unverified.capacity() {
            unverified.retain(|connection| !connection.is_verified() && !connection.is_closed());
        }
        unverified.push_back(connection);
    }

    /// Cuts the oldest connection that is not verified. Whether there was one.
    pub(crate) fn cut_oldest_unverified(&self) -> bool {
        let mut unverified = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = unverified.pop_front() {
            if !connection.is_verified() && !connection.is_closed() {
                connection.cut();
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_handshakes_fit_into_the_descriptors_together() {
        for descriptors in [0, 100, 256, 1024, 4096, 1_048_576] {
            let room = Room::of(descriptors, 10_000);
            assert!(room.connections >= 1 && room.handshakes >= 4, "{room:?}");
            assert!(descriptors < 100 || room.connections + room.handshakes + 64 <= descriptors, "{descriptors}: {room:?}");
        }
        assert_eq!(Room::of(1_048_576, 10_000), Room { connections: 10_000, handshakes: 1024 });
    }
}
