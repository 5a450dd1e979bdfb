//! What a server may be told of its connections, for metrics and audit logs. No credential is in any of it.

use std::time::Duration;

use ekm_otp::{KeyId, TlsFacts};
use http::StatusCode;

use crate::accept_error::AcceptError;
use crate::closed::Closed;
use crate::peer::Peer;
use crate::reason::Reason;
use crate::verified::VerifiedClient;

/// Is told what happens, by [`EkmAcceptor::events`](crate::EkmAcceptor::events). Each method does nothing unless it is written.
///
/// They are called where the thing happens, [`verified`](Self::verified) for each request: so they must not wait. Who wants to write
/// hands on to somebody who may.
pub trait Events: Send + Sync + 'static {
    /// A TLS handshake is finished; `took` counts from when the connection was accepted. From now on the connection counts as open,
    /// until [`closed`](Self::closed).
    fn handshake_finished(&self, connection: &ConnectionFacts<'_>, took: Duration) {
        let _ = (connection, took);
    }

    /// There is no connection, and why.
    fn handshake_failed(&self, connection: &ConnectionFacts<'_>, error: &AcceptError, took: Duration) {
        let _ = (connection, error, took);
    }

    /// A request was verified; `is_first` on each connection once.
    fn verified(&self, connection: &ConnectionFacts<'_>, client: &VerifiedClient, is_first: bool) {
        let _ = (connection, client, is_first);
    }

    /// A request was refused. Told after it was answered: how long this takes tells its peer nothing.
    fn refused(&self, connection: &ConnectionFacts<'_>, refused: &Refused<'_>) {
        let _ = (connection, refused);
    }

    /// An open connection has come to its end, `open` after its handshake began.
    fn closed(&self, connection: &ConnectionFacts<'_>, why: Closed, open: Duration) {
        let _ = (connection, why, open);
    }
}

/// Tells nobody.
#[derive(Debug)]
pub(crate) struct NoEvents;

impl Events for NoEvents {}

/// Which connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnectionFacts<'a> {
    /// Its number, which no other connection of this process has.
    pub id: u64,
    /// The other end, where it came by an [`EkmListener`](crate::EkmListener).
    pub peer: Option<Peer>,
    /// What TLS agreed on, the server name included; `None` while the handshake is not finished.
    pub tls: Option<&'a TlsFacts>,
    /// Whose it is: the client that was verified on it first.
    pub client: Option<&'a VerifiedClient>,
}

/// A refusal.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Refused<'a> {
    /// Why.
    pub reason: Reason,
    /// What it was answered.
    pub status: StatusCode,
    /// The key id that it named, whether it was right or not. What a peer writes there may be anything that is a key id.
    pub kid: Option<&'a KeyId>,
}
