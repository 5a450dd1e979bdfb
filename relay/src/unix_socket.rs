//! Unix sockets that are listened on: the place of their file, its mode, its end.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

/// A socket's file, which is this process' own.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Gone with the process, unless another one has put its own in that place.
impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens there. The file gets its name when its mode is right, and until then is this user's alone: nobody connects before.
///
/// Changes the process' umask for a moment: call it before threads make files.
///
/// # Errors
/// As [`must_be_free`] does; when the socket cannot be made.
pub fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    must_be_free(path)?;
    let mut name = path.file_name().ok_or(io::Error::new(ErrorKind::InvalidInput, "the path names no file"))?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let _ = fs::remove_file(&fresh);
    let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(&fresh);
    rustix::process::umask(umask);
    let socket = bound?;
    let named = fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).and_then(|()| fs::rename(&fresh, path));
    let file = named.and_then(|()| fs::symlink_metadata(path)).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
    socket.set_nonblocking(true)?;
    Ok((socket, SocketFile { path: path.to_owned(), device: file.dev(), inode: file.ino() }))
}

/// Whether the place is free: nothing is there, or the socket of a process that is dead.
///
/// # Errors
/// `AlreadyExists` where another file is there, `AddrInUse` where a process listens.
pub fn must_be_free(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is there: remove it, or choose another path"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tls.sock");
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "it stays behind");
        let (socket, file) = listen(&path, 0o660).expect("the dead one's place");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).expect("it listens");
        let error = listen(&path, 0o660).expect_err("a living one is there");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        drop((socket, file));
        assert!(!path.exists(), "it was left behind");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        fs::write(&path, "precious").expect("a file");
        assert!(listen(&path, 0o660).is_err());
        assert_eq!(fs::read_to_string(&path).expect("a file"), "precious");
    }
}
