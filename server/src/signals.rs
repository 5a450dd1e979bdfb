//! Signals: SIGTERM and SIGINT stop the server, also while it still starts; SIGHUP does not.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::ServerError;

/// Listens from its making on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, ServerError> {
        let listen = |kind| signal(kind).map_err(|e| ServerError::io("cannot wait for signals", &e));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits until the server is to stop.
    pub(crate) async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // Its default would end the process: a closed terminal, or who expects a reload, must not.
                _ = self.hangup.recv() => tracing::warn!("SIGHUP is ignored: registry and certificate are read at the start only"),
            }
        }
    }
}
