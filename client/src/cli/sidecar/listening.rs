//! Which sockets belong to which `[[listen]]`: those that are opened here, or in their place those that the service manager hands over.

use ekm_otp_relay::service_manager;

use super::super::error::CliError;
use super::bind::{self, Door, Socket};
use super::settings::{Listener, Settings};

/// The name (`FileDescriptorName=`) of a socket for the admin pages.
const ADMIN: &str = "admin";

/// All that is listened on.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// With the place of its `[[listen]]`.
    pub(super) doors: Vec<(usize, Socket)>,
    pub(super) admin: Vec<Socket>,
}

/// # Errors
/// When a socket cannot be opened or taken, or is not for whom it would have to be.
pub(super) fn listen(settings: &Settings) -> Result<Listening, CliError> {
    let handed = service_manager::sockets().map_err(|e| CliError::Usage(e.to_string()))?;
    let mut listening = Listening::default();
    let mut doors = Vec::new();
    for handed in handed {
        if handed.name == ADMIN {
            // Who looks after it may be elsewhere, but never without that being said.
            listening.admin.push(bind::adopt(&handed.name, handed.socket, settings.is_unsafe)?);
        } else {
            doors.push((handed.name, handed.socket));
        }
    }
    let listeners = &settings.listeners;
    let is_adopting = !doors.is_empty();
    if let Some(only) = Some(listeners).filter(|listeners| listeners.len() > 1 && is_adopting && doors.len() != listeners.len()) {
        return Err(CliError::Usage(format!(
            "the service manager hands {} sockets over, and there are {} to listen on: ListenStream= stands once for each, in their order",
            doors.len(),
            only.len()
        )));
    }
    for (at, (name, socket)) in doors.into_iter().enumerate() {
        let door = at.min(listeners.len().saturating_sub(1));
        let socket = bind::adopt(&name, socket, settings.is_unsafe)?;
        if let (Some(listener), Socket::Tcp(_)) = (listeners.get(door).filter(|listener| listener.names_users()), &socket) {
            return Err(listener.no_users(&socket.shown()));
        }
        listening.doors.push((door, socket));
    }
    if !is_adopting {
        for (at, listener) in listeners.iter().enumerate() {
            let sockets = bind::open(&door(listener)?, settings.is_unsafe)?;
            listening.doors.extend(sockets.into_iter().map(|socket| (at, socket)));
        }
    }
    if let Some(admin) = settings.admin.as_ref().filter(|_| listening.admin.is_empty()) {
        // Not even then: the pages are for this machine.
        listening.admin = bind::open(admin, false)?;
    }
    Ok(listening)
}

fn door(listener: &Listener) -> Result<Door, CliError> {
    let address = listener.address.clone().ok_or_else(|| {
        CliError::Usage("nothing to listen on: --listen 127.0.0.1:8080 or --listen unix:PATH (or a socket of the service manager)".into())
    })?;
    Ok(Door { address, mode: listener.mode, users: listener.users() })
}
