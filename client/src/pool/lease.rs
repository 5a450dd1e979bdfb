//! A connection while one request uses it.

use std::fmt;
use std::sync::Arc;

use http::Response;

use crate::connection::{Connection, ConnectionInfo};

/// A connection for one request. Dropped, it ends the request: on HTTP/1.1 with its connection.
pub(crate) struct Lease {
    connection: Arc<Connection>,
    is_fresh: bool,
}

impl Lease {
    pub(super) fn new(connection: Arc<Connection>, is_fresh: bool) -> Self {
        Self { connection, is_fresh }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        self.connection.info()
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// What the response says of the connection.
    pub(crate) fn look_at<B>(&self, _response: &Response<B>) {}

    /// The request and its answer are done.
    pub(crate) fn give_back(self) {}
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}
