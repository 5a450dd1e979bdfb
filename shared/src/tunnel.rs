//! Raw TCP through the server (docs/protocol.md §23): how a client says where to.

use std::fmt;
use std::net::IpAddr;

/// The protocol's name: in `Upgrade` on HTTP/1.1 (RFC 9110 §7.8), in `:protocol` on HTTP/2 (RFC 8441 §4).
pub const PROTOCOL: &str = "ekm-otp-tcp";

/// What paths of tunnels begin with. Host and port follow.
pub const PATH: &str = "/.well-known/ekm-otp/tcp/";

/// Where a tunnel ends, as the client names it: what that leads to is the server's matter. Two that are equal name the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// A name in lower case, or an address as its standard library type writes it, without brackets.
    host: String,
    port: u16,
}

/// Why a text names no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not `HOST:PORT`.
    #[error("not of the form HOST:PORT, such as db.internal:5432 or [2001:db8::1]:22")]
    Syntax,
    /// The host is neither a name nor an address.
    #[error("its host is neither a name of letters, digits, '-', '_' and '.', nor an address")]
    Host,
    /// The port is none.
    #[error("its port is no number from 1 to 65535")]
    Port,
}

impl Target {
    /// A name, compared without regard to case, or an IP address without brackets; and a port.
    ///
    /// # Errors
    /// When the host is neither, or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, TargetError> {
        let host = match host.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) if is_name(host) => host.to_ascii_lowercase(),
            Err(_) => return Err(TargetError::Host),
        };
        if port == 0 { Err(TargetError::Port) } else { Ok(Self { host, port }) }
    }

    /// Reads `host:port` or `[address]:port`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (host, port) = text.rsplit_once(':').ok_or(TargetError::Syntax)?;
        let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match in_brackets {
            Some(address) if address.contains(':') => Self::new(address, port_of(port)?),
            None if !host.contains([':', '[', ']']) => Self::new(host, port_of(port)?),
            _ => Err(TargetError::Syntax),
        }
    }

    /// The request's path: host and port as segments, the colons of an IPv6 address percent-encoded, as RFC 9298 §2 has it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{PATH}{}/{}", self.host.replace(':', "%3A"), self.port)
    }

    /// The target that a request's path names; `None` where it names none.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let (host, port) = path.strip_prefix(PATH)?.split_once('/')?;
        Self::new(&decoded(host)?, port_of(port).ok()?).ok()
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// As [`Target::parse`] reads it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// Digits only: what a number's own parser takes besides, a sign, is no port.
fn port_of(text: &str) -> Result<u16, TargetError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or(TargetError::Port)
}

/// What names of hosts consist of, underscores included, which networks of their own have.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// Without percent-encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? * 16 + digit()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_found_again_in_its_path() {
        for (text, path) in [
            ("db.internal:5432", "db.internal/5432"),
            ("192.0.2.1:22", "192.0.2.1/22"),
            ("[2001:db8::1]:22", "2001%3Adb8%3A%3A1/22"),
            ("my_db-1:1", "my_db-1/1"),
        ] {
            let target = Target::parse(text).expect(text);
            assert_eq!(target.to_string(), text);
            assert_eq!(target.path(), format!("{PATH}{path}"));
            assert_eq!(Target::from_path(&target.path()), Some(target));
        }
    }

    #[test]
    fn a_target_has_one_meaning_however_it_is_spelt() {
        let target = Target::parse("db.internal:5432").ok();
        assert_eq!(Target::parse("DB.Internal:5432").ok(), target);
        assert_eq!(Target::from_path("/.well-known/ekm-otp/tcp/d%62.INTERNAL/05432"), target);
        let target = Target::parse("[2001:db8::1]:22").ok();
        assert_eq!(Target::parse("[2001:0DB8:0::1]:22").ok(), target);
        assert_eq!(Target::from_path("/.well-known/ekm-otp/tcp/2001:DB8::1/22"), target);
    }

    #[test]
    fn what_names_no_target_is_refused() {
        for text in [
            "",
            ":",
            "db",
            "db:",
            ":22",
            "db:0",
            "db:65536",
            "db:+22",
            "db:-1",
            "db:ssh",
            "a:b:22",
            "2001:db8::1:22",
            "[db]:22",
            "[::1]",
            "[::1:22",
            "a..b:22",
            ".a:22",
            "a.:22",
            "a b:22",
            "a/b:22",
            "a%2eb:22",
            "user@db:22",
            "\u{e4}:22",
            "[192.0.2.1]:22",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
        assert!(Target::parse(&format!("{}:22", "a".repeat(64))).is_err());
        assert!(Target::parse(&format!("{}:22", "a.".repeat(127) + "a")).is_err());
        for below in
            ["", "db", "db/", "/22", "db/22/", "db/22/x", "db%/22", "db%2/22", "db%zz/22", "db%2f22", "%ff/22", "d%00b/22", "..%2f/22"]
        {
            assert_eq!(Target::from_path(&format!("{PATH}{below}")), None, "{below}");
        }
        assert_eq!(Target::from_path("/tcp/db/22"), None);
    }
}
