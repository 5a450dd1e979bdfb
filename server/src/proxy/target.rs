//! Where an upstream is: `http://host:port`, `https://host:port`, `unix:/path`, or `demo`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use http::uri::Authority;
use serde::Deserialize;

/// One upstream's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The demo origin of this program.
    Demo,
    /// A socket in the file system: whoever may open it is up to its permissions.
    Unix(PathBuf),
    /// TCP.
    Tcp {
        /// A name, or an IP address without brackets.
        host: String,
        port: u16,
        security: Security,
    },
}

/// What keeps others from reading and answering what goes to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// It does not leave this machine: every address that the name has must be loopback's.
    Loopback,
    /// Nothing, and the operator said so.
    None,
    /// TLS.
    Tls,
}

/// Which HTTP an upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// HTTP/1.1; over TLS, whichever both sides agree on (ALPN).
    #[default]
    Auto,
    /// HTTP/1.1 only.
    H1,
    /// HTTP/2 only; without TLS, by prior knowledge (RFC 9113 §3.3).
    H2,
}

/// Why a text is no upstream. Says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TargetError {
    /// No known form.
    #[error("is no upstream: write http://127.0.0.1:3000, https://app.internal:8443, unix:/run/app.sock, or demo")]
    Form,
    /// A path, query or user name in it.
    #[error("has more than scheme, host and port: requests are forwarded with their own path; write only {0}")]
    More(String),
    /// A relative path.
    #[error("the path of a Unix socket must be absolute: write unix:/run/app.sock")]
    Relative,
    /// Plain HTTP to another machine.
    #[error(
        "is plain HTTP to {0}, which is not this machine's loopback: identity fields could be forged and read on the way. Write https://, or a Unix \
         socket; or pass --unsafe-upstream"
    )]
    Plain(String),
}

impl Target {
    /// `is_unsafe`: plain HTTP may leave the machine.
    pub(crate) fn parse(text: &str, is_unsafe: bool) -> Result<Self, TargetError> {
        if text == "demo" {
            return Ok(Self::Demo);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(TargetError::Relative) };
        }
        let (scheme, rest) = text.split_once("://").ok_or(TargetError::Form)?;
        let (default_port, is_tls) = match scheme {
            "http" => (80, false),
            "https" => (443, true),
            _ => return Err(TargetError::Form),
        };
        let written = rest.strip_suffix('/').unwrap_or(rest);
        let end = written.find(['/', '?', '#']).unwrap_or(written.len());
        let (_, bare) = written[..end].rsplit_once('@').unwrap_or(("", &written[..end]));
        let authority: Authority = bare.parse().map_err(|_| TargetError::Form)?;
        if bare != written {
            return Err(TargetError::More(format!("{scheme}://{authority}")));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.as_str().rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((_, port)) => port.parse().map_err(|_| TargetError::Form)?,
            None => default_port,
        };
        if host.is_empty() || port == 0 {
            return Err(TargetError::Form);
        }
        let security = match (is_tls, is_unsafe) {
            (true, _) => Security::Tls,
            (false, true) => Security::None,
            (false, false) => Security::Loopback,
        };
        if security == Security::Loopback && host.parse().is_ok_and(|address: IpAddr| !is_loopback(address)) {
            return Err(TargetError::Plain(host));
        }
        Ok(Self::Tcp { host, port, security })
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { security: Security::Tls, .. })
    }
}

/// Whether what is sent there stays on this machine.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str("demo"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port, security } => {
                let scheme = if *security == Security::Tls { "https" } else { "http" };
                if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_it_shows() {
        for text in
            ["demo", "unix:/run/app.sock", "http://127.0.0.1:3000", "http://localhost:80", "https://app.internal:8443", "http://[::1]:3000"]
        {
            assert_eq!(Target::parse(text, false).expect(text).to_string(), text);
        }
        assert_eq!(Target::parse("https://app/", false).expect("an upstream").to_string(), "https://app:443");
    }

    #[test]
    fn plain_http_to_another_machine_needs_the_flag() {
        for text in ["http://192.0.2.1:80", "http://[2001:db8::1]:80", "http://0.0.0.0:3000", "http://[::ffff:192.0.2.1]:80"] {
            assert!(matches!(Target::parse(text, false), Err(TargetError::Plain(_))), "{text}");
            assert!(Target::parse(text, true).is_ok(), "{text}");
        }
        assert!(Target::parse("http://[::ffff:127.0.0.1]:80", false).is_ok());
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for text in [
            "",
            "127.0.0.1:3000",
            "ftp://127.0.0.1",
            "http://",
            "http://:80",
            "unix:app.sock",
            "http://127.0.0.1:99999",
            "http://127.0.0.1/app",
        ] {
            assert!(Target::parse(text, false).is_err(), "{text}");
        }
        let told = Target::parse("http://user:secret@127.0.0.1:80/app", false).expect_err("a user").to_string();
        assert!(!told.contains("secret") && told.ends_with("write only http://127.0.0.1:80"), "{told}");
    }
}
