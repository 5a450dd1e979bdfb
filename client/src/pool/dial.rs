//! One dial under way, in a task of its own: who waits for it may give up.

use std::sync::{Arc, Weak};

use super::keys;
use super::lease::Home;
use crate::ConnectError;
use crate::connection::Connection;
use crate::connector::Connector;
use crate::signer::SignerError;

pub(super) type Outcome = Result<(Connection, usize), ConnectError>;

/// However it ends, also by a panic of somebody's signer or with its runtime, the pool is told.
pub(super) struct Dial {
    home: Weak<dyn Home>,
    connectors: Arc<[Connector]>,
    order: Vec<usize>,
    is_told: bool,
}

impl Dial {
    pub(super) fn new(home: Weak<dyn Home>, connectors: Arc<[Connector]>, order: Vec<usize>) -> Self {
        Self { home, connectors, order, is_told: false }
    }

    /// Never under the pool's lock: a runtime that ends drops its tasks at once.
    pub(super) fn begin(self) {
        // Without a runtime nobody waits, either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.run());
        }
    }

    async fn run(mut self) {
        let outcome = keys::connect(&self.connectors, &self.order).await;
        self.is_told = true;
        if let Some(home) = self.home.upgrade() {
            home.dialled(outcome);
        }
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if let (false, Some(home)) = (self.is_told, self.home.upgrade()) {
            let why = SignerError::temporary("the dial was cut off: its runtime ended, or the key's holder panicked");
            home.dialled(Err(ConnectError::Key(why)));
        }
    }
}
