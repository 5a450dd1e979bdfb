//! The server's name as both ends put it into the MAC (docs/protocol.md, rule N).

use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::DnsName;

/// The ClientHello's server name indication (RFC 6066 §3): A-labels, lower case, no trailing dot; empty if and only if none was sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerName(Box<str>);

impl ServerName {
    /// No server name was sent.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::from(""))
    }

    /// From the host of a URL: a DNS name names itself; an IP literal (IPv6 in brackets or bare) is never sent as SNI.
    ///
    /// # Errors
    /// When `host` is neither an IP literal nor a DNS name in A-labels.
    pub fn from_host(host: &str) -> Result<Self, ServerNameError> {
        if ip_literal(host).is_some() { Ok(Self::none()) } else { Self::from_dns(host) }
    }

    /// From what a TLS server saw in the ClientHello.
    ///
    /// # Errors
    /// When the peer sent something that is no DNS name in A-labels.
    pub fn from_sni(sni: Option<&str>) -> Result<Self, ServerNameError> {
        sni.map_or_else(|| Ok(Self::none()), Self::from_dns)
    }

    fn from_dns(name: &str) -> Result<Self, ServerNameError> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match DnsName::try_from(name.as_str()) {
            Ok(_) if !name.ends_with('.') => Ok(Self(name.into())),
            _ => Err(ServerNameError(name)),
        }
    }

    /// The name; empty when none was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no name was sent.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// The address that a URL's host spells, if it is an IP literal: IPv6 in brackets (RFC 3986 §3.2.2) or bare.
pub(crate) fn ip_literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse().map(IpAddr::V6).ok(),
        None => host.parse().ok(),
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "(none)" } else { &self.0 })
    }
}

/// The text is neither an IP literal nor a DNS name in A-labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IP literal nor a DNS name (write an internationalised name as its A-labels, xn--…)")]
pub struct ServerNameError(String);
