//! A tunnel through the server, asked for (docs/protocol.md §23).

use std::fmt;
use std::io;

use ekm_otp::Authority;
use ekm_otp::tunnel::{PROTOCOL, Target};
use ekm_otp_client::{Client, ConnectError, ConnectionInfo, Error, Upgrade, UpgradedStream};
use ekm_otp_relay::framed::Framed;
use ekm_otp_relay::joined::Ended;
use http::{HeaderMap, StatusCode};

use super::super::error::CliError;

/// A stream to a target. An end that was not said is an error; shut down, it still reads.
pub(super) type Tunnel = Framed<UpgradedStream>;

/// Why there is none.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum NoTunnel {
    /// No connection, or no answer.
    Failed(Error),
    /// The server answered otherwise.
    Refused { origin: Authority, target: Target, status: StatusCode },
}

/// Asks for it, and waits until the target has taken the connection. The facts are those of the connection that it goes over.
pub(super) async fn open(client: &Client, target: &Target) -> Result<(Tunnel, Option<ConnectionInfo>), NoTunnel> {
    match client.upgrade(&target.path(), PROTOCOL, HeaderMap::new()).await.map_err(NoTunnel::Failed)? {
        Upgrade::Accepted(response) => {
            let info = response.extensions().get::<ConnectionInfo>().cloned();
            Ok((Framed::new(response.into_body()), info))
        }
        Upgrade::Refused(response) => {
            Err(NoTunnel::Refused { origin: client.origin().clone(), target: target.clone(), status: response.status() })
        }
    }
}

/// Of a tunnel that did not end well: what happened to it.
pub(super) fn how_it_ended(ended: &Ended) -> String {
    match ended {
        Ended::Closed => "has ended".to_owned(),
        Ended::Broken { error, .. } if error.kind() == io::ErrorKind::UnexpectedEof => {
            "was cut (its target broke off, or the server ended it)".to_owned()
        }
        Ended::Broken { error, .. } => format!("was cut ({error})"),
        Ended::Idle => "was silent for too long".to_owned(),
    }
}

/// What happened, and what to do.
impl fmt::Display for NoTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (origin, target, status) = match self {
            Self::Failed(error) => return error.fmt(f),
            Self::Refused { origin, target, status } => (origin.audience(), target, status),
        };
        match *status {
            StatusCode::FORBIDDEN => write!(
                f,
                "{origin} has no target {target} for this key: its configuration lists the targets ([[tcp]]), and who may use each"
            ),
            StatusCode::BAD_GATEWAY => write!(f, "{origin} cannot reach {target}: is it running there? The server's log has the reason"),
            StatusCode::GATEWAY_TIMEOUT => {
                write!(f, "{target} does not answer {origin}: is it running there, and lets a firewall the server through?")
            }
            StatusCode::TOO_MANY_REQUESTS => {
                write!(f, "this connection to {origin} has as many tunnels as it may: end some (or raise max_tunnels_per_connection there)")
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                write!(f, "{origin} takes no more tunnels for now: try again later (or raise max_tunnels there)")
            }
            StatusCode::UNAUTHORIZED => {
                write!(f, "{origin} refuses this key for a tunnel to {target}: `ekm-otp-client doctor --url {origin}` tells more")
            }
            status => write!(f, "{origin} carries no tunnels ({status}): it is another kind of server, or an older one"),
        }
    }
}

impl From<NoTunnel> for CliError {
    fn from(none: NoTunnel) -> Self {
        let text = none.to_string();
        match none {
            NoTunnel::Failed(error) => match error.connect_error() {
                Some(ConnectError::Key(key)) => key.into(),
                _ => Self::of_kind(error.kind(), text),
            },
            NoTunnel::Refused { status, .. } => match status {
                StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::MISDIRECTED_REQUEST => Self::NotPermitted(text),
                StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    Self::Unavailable(text)
                }
                _ => Self::Other(text),
            },
        }
    }
}
