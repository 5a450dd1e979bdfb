//! Who is at the other end of a connection, and whom limits count it to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection, as far as the network tells: behind a load balancer that speaks the PROXY protocol, its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// By TCP, from this address.
    Ip(SocketAddr),
    /// By a Unix socket, from a process of this user of this machine, where the operating system tells.
    Unix {
        /// The user's number.
        uid: Option<u32>,
    },
    /// By a virtual machine's socket (`vsock(7)`).
    Vsock {
        /// The machine: its context identifier.
        cid: u32,
        /// The port there.
        port: u32,
    },
}

impl Peer {
    /// Its address, if it has one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            _ => None,
        }
    }

    /// Whom it counts to.
    #[must_use]
    pub fn source(&self) -> Source {
        match *self {
            Self::Ip(address) => Source::Ip(match address.ip().to_canonical() {
                IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
                v4 => v4,
            }),
            Self::Unix { uid } => Source::User(uid),
            Self::Vsock { cid, .. } => Source::Machine(cid),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// As in logs: `192.0.2.1:4711`, `unix:1000`, `vsock:3:4711`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix { uid: Some(uid) } => write!(f, "unix:{uid}"),
            Self::Unix { uid: None } => f.write_str("unix"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

/// Whom connections count to where limits are per source: what one subscriber, user or machine usually has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// An IPv4 address, or an IPv6 /64.
    Ip(IpAddr),
    /// A user of this machine.
    User(Option<u32>),
    /// A virtual machine.
    Machine(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_subscriber_is_one_source_and_a_mapped_ipv4_address_the_same_as_a_plain_one() {
        let source = |text: &str| Peer::Ip(SocketAddr::new(text.parse().expect("an address"), 1)).source();
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), source("2001:db8:1:2::"));
        assert_ne!(source("2001:db8:1:2::"), source("2001:db8:1:3::"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_ne!(Peer::Unix { uid: Some(1) }.source(), Peer::Unix { uid: None }.source());
    }
}
