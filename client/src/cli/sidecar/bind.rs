//! Opens what is listened on, before anything is served, so that a mistake ends the start.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use ekm_otp_relay::unix_socket::{self, SocketFile};

use super::super::error::CliError;
use super::super::output::note;
use super::address::{Address, is_loopback};
use super::place;
use super::users::Users;

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Socket {
    /// For whoever is on this machine, unless the address is another's, too.
    Tcp(std::net::TcpListener),
    /// For the users that are named; the file goes with it, where it was made here.
    Unix(UnixListener, Option<SocketFile>),
}

/// How a socket is to be opened.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) address: Address,
    /// The file's mode. `None`: this user's alone, or everybody's where other users are let in, who are told apart by the kernel.
    pub(crate) mode: Option<u32>,
    pub(super) users: Users,
}

/// Opens it: more than one socket where a name has several addresses.
///
/// # Errors
/// When it cannot be opened, or others than this machine's users could reach it and `is_unsafe` does not say that they may.
pub(crate) fn open(door: &Door, is_unsafe: bool) -> Result<Vec<Socket>, CliError> {
    let path = match &door.address {
        Address::Unix(path) => path,
        address => return open_tcp(address, is_unsafe),
    };
    if !is_unsafe {
        place::must_be_ours(path)?;
    }
    let mode = door.mode.unwrap_or(if door.users.has_others() { 0o666 } else { 0o600 });
    let (socket, file) = unix_socket::listen(path, mode).map_err(|e| failed(&door.address, &e))?;
    Ok(vec![Socket::Unix(socket, Some(file))])
}

fn open_tcp(address: &Address, is_unsafe: bool) -> Result<Vec<Socket>, CliError> {
    let mut sockets = Vec::new();
    let mut port = None;
    for at in address.tcp() {
        may_be_reached(&at, is_unsafe)?;
        // One port for both families, also where it was left open.
        let at = SocketAddr::new(at.ip(), port.unwrap_or(at.port()));
        let bound = std::net::TcpListener::bind(at).and_then(|socket| {
            socket.set_nonblocking(true)?;
            port = Some(socket.local_addr()?.port());
            Ok(socket)
        });
        match bound {
            Ok(socket) => sockets.push(Socket::Tcp(socket)),
            // This machine has no IPv6.
            Err(e) if !sockets.is_empty() && matches!(e.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => {}
            Err(e) => return Err(failed(address, &e)),
        }
    }
    Ok(sockets)
}

/// What the service manager has opened. It listens already.
///
/// # Errors
/// As [`open`].
pub(crate) fn adopt(name: &str, socket: OwnedFd, is_unsafe: bool) -> Result<Socket, CliError> {
    let broken = |e: io::Error| CliError::Other(format!("the service manager's socket {name} cannot be taken: {e}"));
    let tcp = std::net::TcpListener::from(socket.try_clone().map_err(broken)?);
    if let Ok(address) = tcp.local_addr() {
        may_be_reached(&address, is_unsafe)?;
        tcp.set_nonblocking(true).map_err(broken)?;
        return Ok(Socket::Tcp(tcp));
    }
    let unix = UnixListener::from(socket);
    unix.set_nonblocking(true).map_err(broken)?;
    Ok(Socket::Unix(unix, None))
}

fn may_be_reached(address: &SocketAddr, is_unsafe: bool) -> Result<(), CliError> {
    if is_loopback(address) {
        return Ok(());
    }
    if !is_unsafe {
        return Err(CliError::Usage(format!(
            "{address} is reached from other machines, and whoever reaches it acts with this client's key: listen on 127.0.0.1, on [::1] or on \
             unix:PATH, or say --unsafe-listen"
        )));
    }
    note!("ekm-otp-client: warning: whoever reaches {address} acts with this client's key, and reads and changes what others send");
    Ok(())
}

fn failed(address: &Address, error: &io::Error) -> CliError {
    let text = format!("cannot listen on {address}: {error}");
    match error.kind() {
        ErrorKind::PermissionDenied => CliError::NotPermitted(format!("{text} (ports below 1024 need a capability; folders their owner)")),
        ErrorKind::AddrInUse => CliError::Unavailable(format!("{text}: does another sidecar run? Choose another port or path")),
        ErrorKind::AlreadyExists | ErrorKind::InvalidInput | ErrorKind::NotFound => CliError::Usage(text),
        _ => CliError::Unavailable(text),
    }
}

impl Socket {
    /// As it is shown.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.local_addr().map_or_else(|_| "a TCP port".into(), |address| address.to_string()),
            Self::Unix(socket, _) => {
                let address = socket.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                // The name that it was bound to was another's before it got its own.
                match self {
                    Self::Unix(_, Some(file)) => format!("unix:{}", file.path().display()),
                    _ => path.map_or_else(|| "a Unix socket".into(), |path| format!("unix:{}", path.display())),
                }
            }
        }
    }
}
