//! Where the admin pages may be served: to this machine only. They authenticate nobody.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A loopback address, or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    Loopback(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why an address is none for the admin pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AddressError {
    #[error("{0} is reached from other machines, and the admin pages authenticate nobody: write 127.0.0.1:PORT, [::1]:PORT or unix:PATH")]
    NotLoopback(SocketAddr),
    #[error("{0:?} is no address for the admin pages: write 127.0.0.1:PORT, [::1]:PORT or unix:PATH")]
    Malformed(String),
    #[error("unix: names no file: write unix:/run/ekm-otp/admin.sock")]
    NoPath,
}

impl FromStr for AdminAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(AddressError::NoPath) } else { Ok(Self::Unix(path.into())) };
        }
        // What a name means is decided by whoever answers for it: so no names, `localhost` included.
        let address: SocketAddr = text.parse().map_err(|_| AddressError::Malformed(text.to_owned()))?;
        if address.ip().to_canonical().is_loopback() { Ok(Self::Loopback(address)) } else { Err(AddressError::NotLoopback(address)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_other_machines_reach_is_taken() {
        for refused in ["0.0.0.0:9443", "[::]:9443", "192.0.2.1:9443", "[fe80::1]:9443", "[::ffff:192.0.2.1]:9443"] {
            assert!(matches!(refused.parse::<AdminAddress>(), Err(AddressError::NotLoopback(_))), "{refused}");
        }
        for refused in ["localhost:9443", "9443", ":9443", "127.0.0.1", "/run/admin.sock", "vsock:9443", ""] {
            assert!(matches!(refused.parse::<AdminAddress>(), Err(AddressError::Malformed(_))), "{refused}");
        }
        assert_eq!("unix:".parse::<AdminAddress>(), Err(AddressError::NoPath));
        for taken in ["127.0.0.1:0", "127.8.8.8:9443", "[::1]:9443", "[::ffff:127.0.0.1]:9443", "unix:/run/admin.sock"] {
            taken.parse::<AdminAddress>().expect(taken);
        }
    }
}
