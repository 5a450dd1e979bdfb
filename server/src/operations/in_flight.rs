//! A request under way. Recorded when it is dropped, however it ends.

use std::sync::Arc;

use super::exchange::Exchange;
use super::watch::Watch;

/// A request that is not over.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) exchange: Exchange,
    pub(crate) watch: Arc<Watch>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.watch.record(&self.exchange);
    }
}
