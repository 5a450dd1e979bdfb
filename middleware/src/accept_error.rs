//! Why there is no connection.

use std::time::Duration;

use ekm_otp::TlsError;

/// Why a connection was not accepted. Each is the peer's or the network's doing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The handshake took longer than it may.
    #[error("the TLS handshake was not finished within {0:?}")]
    Deadline(Duration),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] std::io::Error),
    /// The handshake agreed on what the policy refuses.
    #[error(transparent)]
    Policy(#[from] TlsError),
    /// As many connections as there may be are open, and somebody was verified on each.
    #[error("all {0} connections are in use, and verified")]
    Full(usize),
    /// Its place was needed for another connection, or the server ends.
    #[error("the connection was ended before its TLS handshake was finished")]
    Ended,
    /// The peer's source has as many unfinished handshakes as it may.
    #[error("its source has too many unfinished TLS handshakes")]
    SourceIsFull,
    /// No right header of the PROXY protocol came from a load balancer that must send one.
    #[error("the load balancer's PROXY protocol header: {0}")]
    ProxyHeader(&'static str),
    /// Plain HTTP was sent to the TLS port, and answered 400.
    #[error("plain HTTP was sent to the TLS port")]
    PlainHttp,
}

impl AcceptError {
    /// A stable name, for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Deadline(_) => "deadline",
            Self::Handshake(_) => "handshake",
            Self::Policy(_) => "policy",
            Self::Full(_) => "full",
            Self::Ended => "ended",
            Self::SourceIsFull => "source_is_full",
            Self::ProxyHeader(_) => "proxy_header",
            Self::PlainHttp => "plain_http",
        }
    }
}
