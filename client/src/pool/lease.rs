//! A connection while one request uses it.

use std::fmt;
use std::sync::Arc;

use http::{Response, StatusCode};

use super::slot::Slot;
use crate::connection::{Connection, ConnectionInfo, probe};
use crate::{ConnectError, Refusal};

/// Where a connection goes when its request is done.
pub(super) trait Home: Send + Sync {
    /// `is_done`: request and answer have ended as they should.
    fn release(self: Arc<Self>, slot: Arc<Slot>, is_done: bool);

    /// A dial has ended.
    fn dialled(&self, outcome: Result<(Connection, usize), ConnectError>);

    /// No further request is to be given to it: `is_refused` where the server does not take its key any more.
    fn retire(&self, slot: &Arc<Slot>, is_refused: bool);
}

/// A connection for one request. Dropped, it ends the request: on HTTP/1.1 with its connection.
pub(crate) struct Lease {
    /// `None` once it is given back.
    held: Option<(Arc<Slot>, Arc<dyn Home>)>,
    is_fresh: bool,
}

impl Lease {
    pub(super) fn new(slot: Arc<Slot>, home: Arc<dyn Home>) -> Self {
        let is_fresh = slot.is_first_use();
        Self { held: Some((slot, home)), is_fresh }
    }

    fn slot(&self) -> &Arc<Slot> {
        self.held.as_ref().map(|(slot, _)| slot).unwrap_or_else(|| unreachable!("giving it back consumes it"))
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.slot().connection()
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        self.connection().info()
    }

    /// Whether the connection has had no request before.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// What the response says of the connection. A key that the server takes no longer (revoked, rotated) is not tried again on this connection; the answer
    /// goes to the caller as it is.
    pub(crate) fn look_at<B>(&self, response: &Response<B>) {
        if response.status() == StatusCode::UNAUTHORIZED
            && matches!(probe::refusal(response.headers()), Some(Refusal::Unknown | Refusal::Channel))
        {
            self.retire(true);
        }
    }

    /// Gives no further request to the connection.
    pub(crate) fn retire(&self, is_refused: bool) {
        if let Some((slot, home)) = &self.held {
            home.retire(slot, is_refused);
        }
    }

    /// The request and its answer are done.
    pub(crate) fn give_back(mut self) {
        if let Some((slot, home)) = self.held.take() {
            home.release(slot, true);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((slot, home)) = self.held.take() {
            home.release(slot, false);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}
