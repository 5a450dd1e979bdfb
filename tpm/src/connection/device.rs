//! The TPM as its one owner sees it: reached when needed, and again when the connection was at fault.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use super::live::Live;
use super::loaded::Slot;
use super::presence::Presence;
use super::raw::transmit;
use super::tcti::Kind;
use super::{Settings, Tcti};
use crate::TpmError;

pub(crate) struct Device {
    tcti: Tcti,
    settings: Settings,
    presence: Option<Presence>,
    live: Option<Live>,
    /// Whether a connection broke, or was given up, that may have left something in the TPM.
    has_leftovers: bool,
}

/// What a broken connection left in a TPM that is ours alone is flushed through another one.
impl Drop for Device {
    fn drop(&mut self) {
        if self.has_leftovers && self.presence.is_some() {
            self.live = None;
            let _ = self.live();
        }
    }
}

impl Device {
    pub(crate) fn new(tcti: Tcti, settings: Settings) -> Self {
        Self { tcti, settings, presence: None, live: None, has_leftovers: false }
    }

    /// Runs `operation`; where the connection to the TPM may be at fault, once more on a new one.
    pub(crate) fn run<T>(&mut self, operation: impl Fn(&mut Live) -> Result<T, TpmError>) -> Result<T, TpmError> {
        self.try_run(operation).map_err(|error| match error {
            TpmError::Command { operation, code } if error.is_break() => {
                TpmError::Unreachable { tcti: self.tcti.clone(), why: format!("the connection broke during {operation} [0x{code:x}]") }
            }
            other => other,
        })
    }

    /// Runs `operation`, and never again where the connection breaks meanwhile: what must not be done twice.
    pub(crate) fn once<T>(&mut self, operation: impl FnOnce(&mut Live) -> Result<T, TpmError>) -> Result<T, TpmError> {
        operation(self.live()?).map_err(|error| match error {
            TpmError::Command { operation, code } if error.is_break() => {
                self.give_up();
                let why = format!("the connection broke during {operation}, and nothing tells whether that was done [0x{code:x}]");
                TpmError::Unreachable { tcti: self.tcti.clone(), why }
            }
            other => other,
        })
    }

    /// Sends bytes as they are, past the C library.
    pub(crate) fn raw(&self) -> impl Fn(&[u8]) -> Result<Vec<u8>, TpmError> + use<> {
        let tcti = self.tcti.clone();
        move |command| transmit(&tcti, command)
    }

    fn try_run<T>(&mut self, operation: impl Fn(&mut Live) -> Result<T, TpmError>) -> Result<T, TpmError> {
        let is_new = self.live.is_none();
        let result = operation(self.live()?);
        match result {
            Err(e) if e.is_worth_a_new_connection() => {
                tracing::debug!(error = %e, "the TPM's context is dropped");
                self.give_up();
                if is_new { Err(e) } else { operation(self.live()?).inspect_err(|_| self.give_up()) }
            }
            Err(e @ TpmError::Interrupted(_)) => {
                self.give_up();
                Err(e)
            }
            result => {
                if self.live.as_ref().is_some_and(|live| live.is_broken) {
                    self.give_up();
                }
                result
            }
        }
    }

    /// Looks at the TPM as it is: what others left in it is not flushed, and nothing is kept.
    pub(crate) fn look<T>(&mut self, look: impl Fn(&mut Live) -> Result<T, TpmError>) -> Result<T, TpmError> {
        if self.live.is_some() {
            return self.run(look);
        }
        reach(&self.tcti)?;
        look(&mut Live::connect(&self.tcti, &Settings::default())?)
    }

    fn give_up(&mut self) {
        self.live = None;
        self.has_leftovers = true;
    }

    fn live(&mut self) -> Result<&mut Live, TpmError> {
        if self.live.is_none() {
            let reached = reach(&self.tcti)?;
            if let (Some(address), None) = (reached, &self.presence) {
                self.presence = Some(Presence::at(address).ok_or(TpmError::Crowded)?);
            }
            let mut live = Live::connect(&self.tcti, &self.settings)?;
            if let Some(alone) = self.presence.as_ref().and_then(Presence::alone) {
                // Nobody else is there: what is loaded now, a killed process left behind (or this one, when its connection broke).
                live.flush_leftovers()?;
                self.has_leftovers = false;
                drop(alone);
            }
            self.live = Some(live);
        }
        self.live.as_mut().ok_or(TpmError::ThreadEnded)
    }

    pub(crate) fn unload(&mut self, slot: Slot) {
        if let Some(Err(e)) = self.live.as_mut().map(|live| live.unload(slot)) {
            tracing::debug!(error = %e, "a key could not be flushed");
            self.give_up();
        }
    }
}

/// Looks whether the TPM is there: the C library reports every reason as one code, the operating system tells them apart. For a software
/// TPM, the address at which it was reached.
fn reach(tcti: &Tcti) -> Result<Option<SocketAddr>, TpmError> {
    let unreachable = |why: String| TpmError::Unreachable { tcti: tcti.clone(), why };
    match &tcti.kind {
        Kind::Device(path) => match std::fs::OpenOptions::new().read(true).write(true).open(path) {
            Ok(_) => Ok(None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(TpmError::NotPermitted { path: path.display().to_string() }),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let why = "there is no such device. Enable the TPM in the firmware, or name a software TPM with --tcti swtpm:…";
                Err(unreachable(why.into()))
            }
            Err(e) => Err(unreachable(e.to_string())),
        },
        // The data channel takes one connection at a time: the look is at the control channel.
        Kind::Swtpm { host, port } => TcpStream::connect((host.as_str(), port + 1))
            .and_then(|control| control.peer_addr())
            .map(Some)
            .map_err(|e| unreachable(format!("{e}. Is swtpm running, with --server at this port and --ctrl at the next one?"))),
        Kind::Tabrmd => Ok(None),
    }
}
