//! Signals: SIGTERM and SIGINT stop the server, also while it still starts; SIGHUP does not.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::ServerError;

/// Listens from its making on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, ServerError> {
        let listen = |kind| signal(kind).map_err(|e| ServerError::io("cannot wait for signals", &e));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
        })
    }

    /// Waits until the server is to stop.
    pub(crate) async fn stop(&mut self) {
        self.stop_or(|| ()).await;
    }

    /// The same; `again` is called when files that are written on are to be opened again.
    pub(crate) async fn stop_or(&mut self, again: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // Its default would end the process: a closed terminal must not.
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP opens the logs again and nothing else: registry and certificate are read at the start only");
                    again();
                }
                _ = self.user1.recv() => again(),
            }
        }
    }
}
