//! Where the admin pages are listened for: a loopback address, or a Unix socket of this user's.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::operations::address::AdminAddress;

/// Listens, but nobody accepts yet.
#[derive(Debug)]
pub(crate) enum Bound {
    Loopback(std::net::TcpListener),
    Unix(UnixListener, Remove),
}

/// Removes a socket's file, unless it is another one by now.
#[derive(Debug)]
pub(crate) struct Remove {
    path: PathBuf,
    inode: (u64, u64),
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
            Self::Unix(_, remove) => write!(f, "unix:{}", remove.path.display()),
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<Bound> {
    free(path)?;
    // From its first moment on nobody else may connect: whoever connects needs the right to write.
    let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(umask);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    // The group may, where the process lets its group write what it makes.
    if !umask.contains(Mode::WGRP) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    }
    let file = fs::symlink_metadata(path)?;
    Ok(Bound::Unix(listener, Remove { path: path.to_owned(), inode: (file.dev(), file.ino()) }))
}

/// Removes what a process that is gone has left there; nothing else.
fn free(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            Err(io::Error::new(ErrorKind::AddrInUse, "there is a file of that name, and it is no socket"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
        },
    }
}

impl Drop for Remove {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
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
