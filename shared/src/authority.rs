//! Which names a server answers to, and which authorities belong to each (docs/protocol.md, rules N and A).

use std::fmt;
use std::net::IpAddr;

use crate::server_name::ip_literal;
use crate::{ServerName, ServerNameError};

/// Host and port of a request (RFC 3986 §3.2), without user information. The default port of `https` counts as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Dns(ServerName),
    Ip(IpAddr),
}

impl Authority {
    /// Reads `host`, `host:port`, `[ipv6]` or `[ipv6]:port`.
    ///
    /// # Errors
    /// When it is no authority, holds user information, or its host is neither an IP literal nor a DNS name in A-labels.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let authority: http::uri::Authority = text.parse().map_err(|_| AuthorityError::Syntax)?;
        if text.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        let port = match (authority.port_u16(), text.strip_prefix(authority.host())) {
            (Some(port), _) => port,
            (None, Some("" | ":")) => 443,
            _ => return Err(AuthorityError::Syntax),
        };
        let host = match ip_literal(authority.host()) {
            Some(ip) => Host::Ip(ip),
            None => Host::Dns(ServerName::from_host(authority.host())?),
        };
        Ok(Self { host, port })
    }

    /// What a client sends as SNI, and both ends put into the MAC, for this authority.
    #[must_use]
    pub fn server_name(&self) -> ServerName {
        match &self.host {
            Host::Dns(name) => name.clone(),
            Host::Ip(_) => ServerName::none(),
        }
    }

    /// The host without brackets, as a certificate names it.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Dns(name) => name.as_str().to_owned(),
            Host::Ip(ip) => ip.to_string(),
        }
    }

    /// The port; 443 where none was written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The origin's spelling in a token's `aud`: `https://` and the authority, lower case, the default port left out.
    #[must_use]
    pub fn audience(&self) -> String {
        format!("https://{self}")
    }
}

/// As a client writes it into `Host` and `:authority`: lower case, the default port left out.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            _ => f.write_str(&self.host())?,
        }
        if self.port == 443 { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Why a text is no authority that a request may carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Not `host[:port]`.
    #[error("not of the form host[:port]")]
    Syntax,
    /// It holds `user@`.
    #[error("user information is not allowed in front of the host")]
    UserInfo,
    /// The host is no name that can be used.
    #[error(transparent)]
    Host(#[from] ServerNameError),
}

/// The names a server is configured for and, for each, the authorities whose requests it takes.
///
/// Without the check of the name the MAC's server name protects nothing: a server that echoed any SNI could be played against another.
#[derive(Clone, Debug, Default)]
pub struct ServerNames {
    names: Vec<(ServerName, Vec<Allowed>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    AnyPort(Host),
    Exactly(Authority),
}

impl ServerNames {
    /// No name: every connection is refused until [`allow_host`](Self::allow_host) adds one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes connections for this host, and requests whose authority is this host at any port.
    ///
    /// An IP literal means: connections without SNI, and requests whose authority is that address.
    ///
    /// # Errors
    /// When `host` is neither an IP literal nor a DNS name in A-labels.
    pub fn allow_host(&mut self, host: &str) -> Result<(), ServerNameError> {
        let (name, host) = match ip_literal(host) {
            Some(ip) => (ServerName::none(), Host::Ip(ip)),
            None => ServerName::from_host(host).map(|name| (name.clone(), Host::Dns(name)))?,
        };
        self.entry(name).push(Allowed::AnyPort(host));
        Ok(())
    }

    /// Takes requests for `authority` on connections for `name`, besides those that are allowed already.
    pub fn allow_authority(&mut self, name: ServerName, authority: Authority) {
        self.entry(name).push(Allowed::Exactly(authority));
    }

    fn entry(&mut self, name: ServerName) -> &mut Vec<Allowed> {
        let at = self.names.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
            self.names.push((name, Vec::new()));
            self.names.len() - 1
        });
        &mut self.names[at].1
    }

    /// Whether no name is configured at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Rule N: whether the server is configured for this name.
    #[must_use]
    pub fn accepts(&self, name: &ServerName) -> bool {
        self.names.iter().any(|(n, _)| n == name)
    }

    /// Rule A: whether a request with this authority belongs on a connection for `name`.
    #[must_use]
    pub fn covers(&self, name: &ServerName, authority: &Authority) -> bool {
        self.names.iter().filter(|(n, _)| n == name).flat_map(|(_, allowed)| allowed).any(|allowed| match allowed {
            Allowed::AnyPort(host) => *host == authority.host,
            Allowed::Exactly(exact) => exact == authority,
        })
    }
}
