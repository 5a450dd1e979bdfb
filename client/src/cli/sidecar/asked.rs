//! Whom a request says that it is for (RFC 9112 §3.2, RFC 9113 §8.3.1).
//!
//! A page of another site can have a browser send requests here, under a name of its own that suddenly means this machine (DNS rebinding). So a name counts
//! only if nobody else can point it here, or the operator has named it.

use std::net::{IpAddr, SocketAddr};

use ekm_otp::Authority;
use ekm_otp_relay::loopback::is_loopback;
use http::header::HOST;
use http::request::Parts;
use http::{Uri, Version};

use super::accept::Caller;
use super::failure::Failure;

/// A host with a port or without, as in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostName {
    /// Lower case, no dot at the end; IPv6 in brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// As a browser would have it in `Origin`, behind `http://`.
    pub(super) name: HostName,
    /// The target names it with a scheme: the program takes this for its HTTP proxy.
    pub(super) is_proxied: bool,
}

impl HostName {
    /// # Errors
    /// When it is none: `None`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                (
                    &text[..address.len() + 2],
                    rest.strip_prefix(':').map_or_else(|| rest.is_empty().then_some(None), |port| Some(Some(port)))?,
                )
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() || !host.bytes().all(is_name) {
            return None;
        }
        let port = match port {
            None => None,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(Self { host: host.to_ascii_lowercase(), port })
    }

    /// The port that plain HTTP means.
    pub(super) fn http_port(&self) -> u16 {
        self.port.unwrap_or(80)
    }

    /// Whether a name that was configured is meant: its port counts only where it has one.
    pub(super) fn is_meant_by(&self, asked: &Self) -> bool {
        self.host == asked.host && self.port.is_none_or(|port| port == asked.http_port())
    }

    /// Whether a URL with http in place of https names this origin.
    pub(super) fn is_origin(&self, origin: &Authority) -> bool {
        let host = origin.host().to_ascii_lowercase();
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let port = self.port.filter(|port| *port != 80).unwrap_or(443);
        host.trim_start_matches('[').trim_end_matches(']') == bare && origin.port() == port
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Asked {
    /// # Errors
    /// When it is missing, stands twice, or contradicts itself.
    pub(super) fn of(parts: &Parts) -> Result<Self, Failure> {
        let mut fields = parts.headers.get_all(HOST).iter();
        let field = match (fields.next(), fields.next()) {
            (None, _) => None,
            (Some(field), None) => Some(field.to_str().ok().and_then(HostName::parse).ok_or(Failure::HostField)?),
            (Some(_), Some(_)) => return Err(Failure::HostField),
        };
        let target = of_target(&parts.uri)?;
        if parts.version >= Version::HTTP_2 {
            // Both may be there; then they are the same (RFC 9113 §8.3.1).
            let name = match (target, field) {
                (Some(target), Some(field)) if target != field => return Err(Failure::HostField),
                (target, field) => target.or(field).ok_or(Failure::HostField)?,
            };
            return Ok(Self { name, is_proxied: false });
        }
        match target {
            // The field does not count then (RFC 9112 §3.2.2).
            Some(name) => Ok(Self { name, is_proxied: true }),
            None => Ok(Self { name: field.ok_or(Failure::HostField)?, is_proxied: false }),
        }
    }

    /// Whether the name means this machine, and nobody else could have made it mean that: the port is the socket's, too. On a Unix socket, every name
    /// does: no browser and no name service leads there.
    pub(super) fn is_here(&self, caller: &Caller) -> bool {
        let Caller::Tcp { local, .. } = caller else { return true };
        let is_port = self.name.http_port() == local.port();
        is_port && (is_loopback(&self.name.host) || self.name.ip().is_some_and(|ip| is_same(ip, local)))
    }
}

fn is_same(ip: IpAddr, local: &SocketAddr) -> bool {
    ip.to_canonical() == local.ip().to_canonical()
}

fn of_target(uri: &Uri) -> Result<Option<HostName>, Failure> {
    match uri.authority() {
        // `user@host` is no authority of HTTP (RFC 9110 §4.2.4).
        Some(authority) => HostName::parse(authority.as_str()).map(Some).ok_or(Failure::HostField),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(uri: &str, hosts: &[&str]) -> Option<Asked> {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        Asked::of(&request.body(()).expect("a request").into_parts().0).ok()
    }

    #[test]
    fn a_host_that_is_missing_doubled_or_no_host_is_refused() {
        for hosts in
            [&[][..], &["a", "a"], &[""], &["a b"], &["user@a"], &["a:"], &["a:x"], &["a:70000"], &["[::1"], &["[::g]"], &["[::1]x"]]
        {
            assert_eq!(asked("/", hosts), None, "{hosts:?}");
        }
        assert_eq!(asked("http://user@a/", &["a"]), None);
        let proxied = asked("http://API.example.com./x", &["whatever.example"]).expect("a host");
        assert_eq!((proxied.name.to_string(), proxied.is_proxied), ("api.example.com".into(), true));
    }

    #[test]
    fn only_names_that_nobody_else_can_point_here_with_the_sockets_port_are_here() {
        let tcp = |local: &str| Caller::Tcp { peer: "127.0.0.1:9".parse().expect("it"), local: local.parse().expect("an address") };
        for (local, host) in [
            ("127.0.0.1:8080", "localhost:8080"),
            ("127.0.0.1:8080", "LOCALHOST:8080"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("127.0.0.1:80", "localhost"),
            ("172.17.0.1:8080", "172.17.0.1:8080"),
        ] {
            assert!(asked("/", &[host]).expect(host).is_here(&tcp(local)), "{host} at {local}");
        }
        for (local, host) in [
            ("127.0.0.1:8080", "evil.example:8080"),
            ("127.0.0.1:8080", "localhost.evil.example:8080"),
            ("127.0.0.1:8080", "localhost"),
            ("127.0.0.1:8080", "localhost:8081"),
            ("127.0.0.1:8080", "api.example.com"),
            ("127.0.0.1:8080", "0.0.0.0:8080"),
            ("127.0.0.1:8080", "192.0.2.1:8080"),
            ("127.0.0.1:8080", "127.1:8080"),
        ] {
            assert!(!asked("/", &[host]).expect(host).is_here(&tcp(local)), "{host} at {local}");
        }
        assert!(asked("/", &["anything.example"]).expect("it").is_here(&Caller::Unix { uid: None }));
    }

    #[test]
    fn a_url_with_http_names_the_origin_with_https() {
        let origin = |text: &str| Authority::parse(text).expect("an origin");
        let is = |name: &str, of: &str| HostName::parse(name).expect(name).is_origin(&origin(of));
        assert!(is("api.example.com", "api.example.com") && is("api.example.com:80", "api.example.com"));
        assert!(is("API.example.com:443", "api.example.com") && is("api.example.com:8443", "api.example.com:8443"));
        assert!(!is("api.example.com", "api.example.com:8443") && !is("example.com", "api.example.com"));
        assert!(!is("api.example.com:8443", "api.example.com"));
    }
}
