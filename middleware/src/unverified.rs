//! What a handler is told of a request that nobody was verified for.

use crate::ConnectionAuthenticator;

/// In the extensions of a request that passed without a credential, where [none was needed](crate::Authentication::open_to): it says on which
/// connection it came. Only [`EkmOtpLayer`](crate::EkmOtpLayer) makes one.
#[derive(Clone, Debug)]
pub struct Unverified(ConnectionAuthenticator);

impl Unverified {
    pub(crate) fn new(connection: ConnectionAuthenticator) -> Self {
        Self(connection)
    }

    /// The connection. Other requests on it may have been verified.
    #[must_use]
    pub fn connection(&self) -> &ConnectionAuthenticator {
        &self.0
    }
}
