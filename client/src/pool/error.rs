//! Why a pool has no connection to give.

use std::sync::Arc;
use std::time::Duration;

use crate::ConnectError;

/// Why there is no connection for a request.
#[derive(Clone, Debug)]
pub(crate) enum PoolError {
    Connect(Arc<ConnectError>),
    BackOff { cause: Arc<ConnectError>, wait: Duration },
    Crowded(usize),
    NoneFree(Duration),
    Draining,
}
