//! The connections that are open: so that who cannot authenticate keeps nobody out.

use std::collections::VecDeque;

use ekm_otp_tower::ConnectionAuthenticator;

/// Connections that were not verified when last looked at, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    unverified: VecDeque<ConnectionAuthenticator>,
}

impl Crowd {
    /// A connection was accepted.
    pub(crate) fn enter(&mut self, connection: ConnectionAuthenticator) {
        // Those that were verified or have ended meanwhile are let go from time to time: the queue stays in proportion to what is open.
        if self.unverified.len() == self.unverified.capacity() {
            self.unverified.retain(|connection| !connection.is_verified() && !connection.is_closed());
        }
        self.unverified.push_back(connection);
    }

    /// Cuts the oldest connection that is not verified. Whether there was one.
    pub(crate) fn cut_oldest_unverified(&mut self) -> bool {
        while let Some(connection) = self.unverified.pop_front() {
            if !connection.is_verified() && !connection.is_closed() {
                connection.cut();
                return true;
            }
        }
        false
    }
}
