//! How a pool stands: for readiness checks and metrics.

use std::sync::Arc;
use std::time::Duration;

use http::Version;

use crate::ConnectError;

/// A look at a client's pool. Those that end in `_total` only grow.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// Connections that stand, used or not.
    pub connections: usize,
    /// Of these, those that nothing is under way on.
    pub idle: usize,
    /// Requests under way, upgraded streams included.
    pub in_flight: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
    /// Connections that are being made.
    pub dialling: usize,
    /// What the server spoke last. `None` before the first connection.
    pub http_version: Option<Version>,
    /// How long the holder of the key took for the last connection.
    pub mac_time: Option<Duration>,
    /// How long no dial is tried, after failures.
    pub back_off: Option<Duration>,
    /// Why the last dial failed. `None` once one has succeeded.
    pub last_error: Option<Arc<ConnectError>>,
    /// The position of the key that worked last, in order of preference, from 0 on.
    pub key: Option<usize>,
    /// Dials that were begun, since the client was made.
    pub dials_total: u64,
    /// Dials that failed.
    pub failures_total: u64,
    /// Requests that were sent again on another connection.
    pub resent_total: u64,
    /// Whether it takes no more requests.
    pub is_draining: bool,
}
