//! Signals: SIGTERM and SIGINT stop the server, also while it still starts; SIGHUP lets it read its files again, SIGUSR1 open its logs again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::ServerError;

/// Listens from its making on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Stop,
    Reload,
    /// Only the files that are written on are to be opened again.
    OpenLogs,
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

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            // Its default would end the process.
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::OpenLogs,
        }
    }

    /// Waits until the server is to stop. What else is asked for meanwhile is passed over.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
