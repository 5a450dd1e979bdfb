//! Names of this machine that nobody elsewhere can point here: a page whose own name suddenly means a loopback address (DNS rebinding) has another one.

use std::net::IpAddr;

/// `localhost`, `127.0.0.1`, `[::1]`, each with any port or none.
#[must_use]
pub fn is_loopback(authority: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let is_end = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_end && address.parse::<std::net::Ipv6Addr>().is_ok_and(|address| IpAddr::V6(address).to_canonical().is_loopback());
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    is_port(port)
        && (host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_point_here_are_answered() {
        for host in ["localhost", "LOCALHOST:9443", "127.0.0.1", "127.0.0.1:9443", "127.9.9.9", "[::1]", "[::1]:9443", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:9443",
            "0.0.0.0",
            "[::]",
            "192.0.2.1",
            "[::1",
            "[::1]evil",
            "user@localhost",
            "localhost:evil",
            "localhost@evil.example",
            "2130706433",
            "127.1",
            "0x7f000001",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
