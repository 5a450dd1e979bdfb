//! A TCP connection to a host by name, whichever of its addresses takes it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// How many of a name's addresses are tried.
const ADDRESSES: usize = 4;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DialError {
    #[error("its address cannot be found: {0}")]
    Name(io::Error),
    #[error("its name leads to {0}, where it must not")]
    Refused(SocketAddr),
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("it did not accept a connection in time")]
    TimedOut,
}

/// Connects. Where one of the host's addresses is `unwanted`, none is tried. Each address has its own time, `limit`: one that swallows what it is sent must
/// not take that of the others.
pub(crate) async fn dial(host: &str, port: u16, limit: Duration, unwanted: impl Fn(&SocketAddr) -> bool) -> Result<TcpStream, DialError> {
    let found = timeout(limit, tokio::net::lookup_host((host, port))).await.map_err(|_| DialError::TimedOut)?;
    let addresses: Vec<SocketAddr> = found.map_err(DialError::Name)?.collect();
    if let Some(address) = addresses.iter().find(|address| unwanted(address)) {
        return Err(DialError::Refused(*address));
    }
    let mut error = DialError::Name(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses.into_iter().take(ADDRESSES) {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A failure costs speed only.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(e)) => error = DialError::Unreachable(e),
            Err(_) => error = DialError::TimedOut,
        }
    }
    Err(error)
}
