//! Signals: SIGTERM and SIGINT stop the sidecar, also while it still starts; SIGHUP lets it read its settings again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::error::CliError;

/// Listens from its making on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// By this signal.
    Stop(u8),
    Reload,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|e| CliError::Other(format!("cannot wait for signals: {e}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop(15),
            _ = self.interrupt.recv() => Asked::Stop(2),
            // Its default would end the process.
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits until it is to stop; what else is asked for meanwhile is passed over.
    pub(super) async fn stop(&mut self) -> u8 {
        loop {
            if let Asked::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }
}
