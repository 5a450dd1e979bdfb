//! Where the admin pages are listened for: a loopback address, or a Unix socket of this user's.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixListener;
use std::path::Path;

use ekm_otp_relay::unix_socket::{self, SocketFile};
use rustix::fs::Mode;

use crate::operations::address::AdminAddress;

/// Listens, but nobody accepts yet.
#[derive(Debug)]
pub(crate) enum Bound {
    Loopback(std::net::TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Bound {
    pub(crate) fn bind(address: &AdminAddress) -> io::Result<Self> {
        match address {
            AdminAddress::Loopback(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Loopback(listener))
            }
            AdminAddress::Unix(path) => bind_unix(path),
        }
    }
}

/// `127.0.0.1:9443`, `unix:/run/ekm-otp/admin.sock`
impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a loopback address"),
            },
            Self::Unix(_, file) => write!(f, "unix:{}", file.path().display()),
        }
    }
}

/// Whoever connects needs the right to write: this user has it, and the group, where the process lets its group write what it makes.
fn bind_unix(path: &Path) -> io::Result<Bound> {
    // It cannot be looked at but by setting it.
    let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
    rustix::process::umask(umask);
    let mode = if umask.contains(Mode::WGRP) { 0o600 } else { 0o660 };
    let (listener, file) = unix_socket::listen(path, mode).map_err(|error| match error.kind() {
        // Taken, as a port may be.
        ErrorKind::AlreadyExists => io::Error::new(ErrorKind::AddrInUse, error),
        _ => error,
    })?;
    Ok(Bound::Unix(listener, file))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_is_this_users_alone_replaces_a_dead_one_and_leaves_when_it_is_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.sock");
        let address = AdminAddress::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("one that is left behind"));
        let bound = Bound::bind(&address).expect("the socket");
        let mode = fs::metadata(&path).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
        let second = Bound::bind(&address).expect_err("it is taken");
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).expect("it still listens");
        drop(bound);
        assert!(!path.exists());
        fs::write(&path, "precious").expect("writing");
        assert_eq!(Bound::bind(&address).expect_err("it is no socket").kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
    }
}
