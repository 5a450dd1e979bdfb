//! Where the server would listen and write to: whether it could, without leaving anything behind.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use ekm_otp_relay::unix_socket;
use rustix::fs::{Access, AtFlags, CWD};

use super::ready::is_answered;
use super::report::{Finding, Report};
use crate::config::Config;
use crate::doors::Address;
use crate::error::ServerError;
use crate::operations::{AdminAddress, LogTo};

pub(super) fn look(config: &Config, report: &mut Report) {
    for address in &config.doors.listen {
        report.listen.push(address.to_string());
        let bound = match address {
            Address::Ip(address) => bind(&[*address]),
            Address::Name(name, port) => (name.as_str(), *port).to_socket_addrs().and_then(|found| bind(&found.collect::<Vec<_>>())),
            Address::Unix(path) => socket(path),
            // Nobody but the kernel knows.
            Address::Vsock { .. } => continue,
        };
        match bound {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AddrInUse => {
                report.add(Finding::warning(0, format!("listen: {address} is in use: by the running server, or by something else")));
            }
            Err(e) if is_made_at_the_start(&e, matches!(address, Address::Unix(path) if path.starts_with("/run"))) => {
                report.add(Finding::warning(0, format!("listen: {address}: {e} yet: RuntimeDirectory= of its unit makes it")));
            }
            Err(e) => report.add_error(0, ServerError::io(&format!("listen: cannot listen on {address}"), &e)),
        }
    }
    if let Some(address) = &config.operations.admin {
        admin(address, report);
    }
    for (key, to) in [("access_log", &config.operations.access_log), ("audit_log", &config.operations.audit_log)] {
        if let LogTo::File(path) = to
            && let Err(e) = log(path)
        {
            report.add_error(0, ServerError::io(&format!("{key}: cannot open {}", path.display()), &e));
        }
    }
}

fn admin(address: &AdminAddress, report: &mut Report) {
    let bound = match address {
        AdminAddress::Loopback(address) => bind(&[*address]),
        AdminAddress::Unix(path) => socket(path),
    };
    match bound {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AddrInUse && is_answered(address) => {
            report.add(Finding::warning(0, format!("admin: {address} is in use by a running ekm-otp-server")));
        }
        Err(e) if is_made_at_the_start(&e, matches!(address, AdminAddress::Unix(path) if path.starts_with("/run"))) => {
            report.add(Finding::warning(0, format!("admin: {address}: {e} yet: RuntimeDirectory= of its unit makes it")));
        }
        Err(e) => report.add_error(0, ServerError::io(&format!("admin: cannot listen on {address}"), &e)),
    }
}

/// A folder in /run is gone while the service is stopped.
fn is_made_at_the_start(error: &io::Error, is_in_run: bool) -> bool {
    is_in_run && error.kind() == ErrorKind::NotFound
}

/// Never listens: nobody's connection is taken.
fn bind(addresses: &[SocketAddr]) -> io::Result<()> {
    addresses.iter().try_for_each(|address| TcpListener::bind(address).map(drop))
}

/// Whether a socket could be made there. One that is left behind is replaced.
fn socket(path: &Path) -> io::Result<()> {
    unix_socket::must_be_free(path)?;
    folder_of(path)
}

/// Whether a log could be appended to, or made there.
fn log(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        // A pipe would wait for its reader.
        Ok(file) if file.file_type().is_fifo() => Ok(()),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop),
        Err(e) if e.kind() == ErrorKind::NotFound => folder_of(path),
        Err(e) => Err(e),
    }
}

/// Whether files can be made in a file's folder.
pub(super) fn folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Asked of the kernel, which knows more than the mode says.
    let may = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, folder, may, AtFlags::EACCESS).map_err(|e| {
        let e = io::Error::from(e);
        let what = match e.kind() {
            ErrorKind::NotFound => format!("there is no folder {}", folder.display()),
            _ => format!("nothing can be made in {}: {e}", folder.display()),
        };
        io::Error::new(e.kind(), what)
    })
}
