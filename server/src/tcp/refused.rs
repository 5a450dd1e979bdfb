//! Why there is no tunnel. The client is told which kind, and nothing of what is behind this server.

use ekm_otp::tunnel::PROTOCOL;
use http::header::{ALLOW, CONNECTION, RETRY_AFTER, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode};

/// What is answered instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// HTTP/1 without an upgrade to the protocol of tunnels.
    NoUpgrade,
    /// Another method than the one of that version of HTTP.
    Method(&'static str),
    /// With a body, which would come before the stream.
    Body,
    /// No such target, or not this client's: the same answer.
    NotAllowed,
    /// The connection has as many as it may.
    TooManyOfConnection,
    /// The server has.
    TooMany,
    /// The target does not take the connection.
    Unreachable,
    /// The target did not take it in time.
    TimedOut,
}

impl Refused {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::NoUpgrade => StatusCode::UPGRADE_REQUIRED,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body => StatusCode::BAD_REQUEST,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::TooManyOfConnection => StatusCode::TOO_MANY_REQUESTS,
            Self::TooMany => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NoUpgrade => "this is a tunnel: ask for an upgrade to ekm-otp-tcp\n",
            Self::Method(_) => "this is a tunnel: it begins with GET and an upgrade, or with an extended CONNECT\n",
            Self::Body => "a request for a tunnel has no body\n",
            Self::NotAllowed => "this target is not there for this client\n",
            Self::TooManyOfConnection => "this connection has as many tunnels as it may\n",
            Self::TooMany => "there are as many tunnels as there may be; try again later\n",
            Self::Unreachable => "the target cannot be reached\n",
            Self::TimedOut => "the target does not answer in time\n",
        }
    }

    pub(crate) fn fields(self) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::NoUpgrade => {
                vec![(UPGRADE, HeaderValue::from_static(PROTOCOL)), (CONNECTION, HeaderValue::from_static("upgrade"))]
            }
            Self::Method(allowed) => vec![(ALLOW, HeaderValue::from_static(allowed))],
            Self::TooManyOfConnection | Self::TooMany => vec![(RETRY_AFTER, HeaderValue::from_static("5"))],
            _ => Vec::new(),
        }
    }
}
