//! What bounds a pool.

use std::time::Duration;

use crate::Connector;

/// Each has its words at the builder's method of the same name.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) connect_deadline: Duration,
    pub(crate) response_deadline: Option<Duration>,
    pub(crate) max_connections: usize,
    pub(crate) max_waiting: usize,
    pub(crate) max_idle: usize,
    pub(crate) idle_limit: Duration,
    pub(crate) max_age: Duration,
    pub(crate) spare: usize,
}

impl Settings {
    /// How often the pool looks at what idles.
    pub(crate) fn tick(&self) -> Duration {
        (self.idle_limit.min(self.max_age) / 10).clamp(Duration::from_millis(20), Duration::from_secs(5))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_deadline: Connector::DEADLINE,
            response_deadline: Some(Connector::DEADLINE),
            max_connections: 32,
            max_waiting: 1024,
            max_idle: 8,
            idle_limit: Duration::from_secs(90),
            max_age: Duration::from_secs(55 * 60),
            spare: 0,
        }
    }
}
