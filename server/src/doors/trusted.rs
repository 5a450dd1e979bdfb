//! Which load balancers may say whom they connect.

use std::net::IpAddr;
use std::str::FromStr;

use ekm_otp_tower::Peer;
use ipnet::IpNet;

/// One member of `proxy_protocol_from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trusted {
    Network(IpNet),
    /// Whoever may open the Unix sockets.
    Unix,
    /// Each virtual machine, or the one.
    Vsock(Option<u32>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no load balancer: write its address or network, such as 10.0.0.0/8, or unix, vsock or vsock:CID")]
pub(crate) struct TrustedError(String);

impl FromStr for Trusted {
    type Err = TrustedError;

    fn from_str(text: &str) -> Result<Self, TrustedError> {
        let error = || TrustedError(text.to_owned());
        match text {
            "unix" => Ok(Self::Unix),
            "vsock" => Ok(Self::Vsock(None)),
            _ => match text.strip_prefix("vsock:") {
                Some(cid) => cid.parse().map(|cid| Self::Vsock(Some(cid))).map_err(|_| error()),
                None => {
                    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                    network.map(Self::Network).map_err(|_| error())
                }
            },
        }
    }
}

impl Trusted {
    pub(crate) fn is(&self, peer: &Peer) -> bool {
        match (self, peer) {
            (Self::Network(network), Peer::Ip(address)) => network.contains(&address.ip().to_canonical()),
            (Self::Unix, Peer::Unix { .. }) => true,
            (Self::Vsock(only), Peer::Vsock { cid, .. }) => only.is_none_or(|only| only == *cid),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_however_they_arrive_and_nobody_else() {
        let network: Trusted = "10.0.0.0/8".parse().expect("a network");
        let peer = |text: &str| Peer::Ip(text.parse().expect("an address"));
        assert!(network.is(&peer("10.1.2.3:1")) && network.is(&peer("[::ffff:10.1.2.3]:1")));
        assert!(!network.is(&peer("11.1.2.3:1")) && !network.is(&peer("[::1]:1")) && !network.is(&Peer::Unix { uid: None }));
        let one: Trusted = "2001:db8::1".parse().expect("an address");
        assert!(one.is(&peer("[2001:db8::1]:1")) && !one.is(&peer("[2001:db8::2]:1")));
        let machine: Trusted = "vsock:3".parse().expect("a machine");
        assert!(machine.is(&Peer::Vsock { cid: 3, port: 1 }) && !machine.is(&Peer::Vsock { cid: 4, port: 1 }));
        for wrong in ["", "10.0.0.0/33", "balancer.internal", "unix:/run/x", "vsock:x"] {
            assert!(wrong.parse::<Trusted>().is_err(), "{wrong}");
        }
    }
}
