//! What a sidecar can be listened for on: a TCP address of this machine, or a Unix socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `127.0.0.1:8080`, `[::1]:8080`.
    Ip(SocketAddr),
    /// `localhost:8080`: 127.0.0.1, and ::1 where this machine has it.
    Localhost(u16),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// What is no address, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing to listen on: write 127.0.0.1:PORT, [::1]:PORT, localhost:PORT or unix:PATH")]
pub(crate) struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(error()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(port) = text.strip_prefix("localhost:") {
            return Ok(Self::Localhost(port.parse().map_err(|_| error())?));
        }
        text.parse().map(Self::Ip).map_err(|_| error())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// The TCP addresses behind it; none of a Unix socket. The second is taken where it can be.
    pub(super) fn tcp(&self) -> Vec<SocketAddr> {
        match self {
            Self::Ip(address) => vec![*address],
            Self::Localhost(port) => {
                vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *port), SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), *port)]
            }
            Self::Unix(_) => Vec::new(),
        }
    }

    /// A socket's path as seen from `folder`, where it is relative.
    pub(super) fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path)),
            other => other,
        }
    }
}

/// Whether only this machine reaches it.
pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_and_shown_as_it_was_written() {
        for text in ["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:80", "localhost:0", "unix:/run/a.sock", "unix:a.sock"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        for text in ["", "8080", ":8080", "example.com:80", "localhost", "localhost:x", "unix:", "127.0.0.1", "::1:8080", "/run/a.sock"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_of_this_machine_alone_is_told_from_those_that_others_reach() {
        for (address, is) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("172.17.0.1:1", false),
        ] {
            assert_eq!(is_loopback(&address.parse().expect("an address")), is, "{address}");
        }
    }
}
