//! What can be listened on.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Any machine of this host that connects (vsock(7), `VMADDR_CID_ANY`).
const ANY_CID: u32 = u32::MAX;

/// One member of `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Ip(SocketAddr),
    /// A host name: all addresses that it has when the server starts.
    Name(String, u16),
    Unix(PathBuf),
    Vsock {
        cid: u32,
        port: u32,
    },
}

/// What is no address, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing to listen on: write IP:PORT, NAME:PORT, unix:PATH, vsock:PORT or vsock:CID:PORT")]
pub(crate) struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(error()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(vsock) = text.strip_prefix("vsock:") {
            let (cid, port) = vsock.split_once(':').map_or((None, vsock), |(cid, port)| (Some(cid), port));
            let number = |text: &str| text.parse::<u32>().map_err(|_| error());
            return Ok(Self::Vsock { cid: cid.map_or(Ok(ANY_CID), number)?, port: number(port)? });
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(error)?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        // Digits and dots alone are a mistyped address: no resolver is asked for that.
        if !is_name || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(error());
        }
        Ok(Self::Name(name.to_owned(), port.parse().map_err(|_| error())?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid: ANY_CID, port } => write!(f, "vsock:{port}"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

impl Address {
    /// A socket file's path as seen from `folder`, where it is relative.
    pub(crate) fn relative_to(text: &mut String, folder: &Path) {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty() && Path::new(path).is_relative()) {
            *text = format!("unix:{}", folder.join(path).display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_and_shown_as_it_was_written() {
        for text in ["0.0.0.0:8443", "[::1]:8443", "api.internal:8443", "localhost:0", "unix:/run/tls.sock", "vsock:8443", "vsock:3:8443"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        for text in
            ["", "8443", ":8443", "10.0.0:8443", "host", "host:", "host:65536", "unix:", "vsock:", "vsock:a:1", "vsock:1:2:3", "::1:8443"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        let mut text = "unix:tls.sock".to_owned();
        Address::relative_to(&mut text, Path::new("/etc/ekm-otp"));
        assert_eq!(text, "unix:/etc/ekm-otp/tls.sock");
    }
}
