//! Why a request is refused, and what its peer may learn of it: less than the log. How that looks on the wire is the layer's.

use std::time::Duration;

use ekm_otp::KeyId;
use ekm_otp::field::{CredentialError, CredentialKind};
use http::StatusCode;

use crate::diagnosis::Diagnosis;
use crate::jose::TokenFault;
use crate::reason::Reason;
use crate::registered_key::Unusable;

/// Why a request does not reach the application.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("the server is not configured for the connection's server name")]
    ServerName,
    #[error("the credential was made for another connection (TLS may end somewhere in between)")]
    Channel,
    #[error("wrong credential for the key id {kid} ({why}): its client holds another secret, or computed for another server name")]
    Wrong { kid: KeyId, why: &'static str },
    #[error("a credential of the kind {0} is not accepted here")]
    Kind(CredentialKind),
    #[error("the key id {kid} must show more than a credential of the kind {kind}")]
    BelowMinimum { kid: KeyId, kind: CredentialKind },
    #[error(transparent)]
    Token(#[from] TokenFault),
    #[error("unknown key id {0}")]
    UnknownKid(KeyId),
    #[error("the key id {kid} {}", match .why {
        Unusable::Revoked => "is revoked",
        Unusable::NotYetValid => "is not valid yet",
        Unusable::Expired => "has expired",
        Unusable::OtherServerName => "is for other server names",
    })]
    Unusable { kid: KeyId, why: Unusable },
    #[error("the key id {kid} has as many connections as it may, {limit}")]
    TooManyOfKey { kid: KeyId, limit: usize },
    #[error("the source has as many verified connections as it may, {limit}")]
    TooManyOfSource { limit: usize },
    #[error("{why}; and its source has failed too often of late")]
    FailuresOfSource { wait: Duration, why: Box<Self> },
    #[error("the connection belongs to another key id")]
    Pinned,
    #[error("the connection was ended")]
    Ended,
    #[error("too many failures on this connection")]
    TooManyFailures,
    #[error("the request's authority is not one of the connection's server name")]
    Misdirected,
    #[error("no Host field, or more than one")]
    Host,
    #[error("the request's target is an authority, and its method is not CONNECT")]
    Target,
    #[error("CONNECT is not served")]
    Connect,
    #[error("the well-known resource answers GET only")]
    ProbeMethod,
    #[error("the registry is unavailable: {0}")]
    Registry(String),
    #[error("no EKM-OTP connection belongs to this request: serve it through EkmListener, or use ConnectionAuthenticator::layer")]
    NoConnection,
}

impl Refusal {
    /// Whether it counts towards the connection's end.
    pub(crate) fn is_unauthorized(&self) -> bool {
        self.status() == StatusCode::UNAUTHORIZED
    }

    /// Under the name that stays.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Credential(CredentialError::Missing) => Reason::Missing,
            Self::Credential(_) => Reason::Malformed,
            Self::ServerName => Reason::ServerName,
            Self::Channel => Reason::Channel,
            Self::Wrong { .. } => Reason::Wrong,
            Self::Kind(_) | Self::BelowMinimum { .. } => Reason::Kind,
            Self::Token(_) => Reason::Token,
            Self::UnknownKid(_) => Reason::UnknownKey,
            Self::Unusable { why: Unusable::Revoked, .. } => Reason::Revoked,
            Self::Unusable { why: Unusable::NotYetValid, .. } => Reason::NotYetValid,
            Self::Unusable { why: Unusable::Expired, .. } => Reason::Expired,
            Self::Unusable { why: Unusable::OtherServerName, .. } => Reason::KeyServerName,
            Self::TooManyOfKey { .. } => Reason::KeyConnections,
            Self::TooManyOfSource { .. } => Reason::SourceConnections,
            Self::FailuresOfSource { .. } => Reason::SourceFailures,
            Self::Pinned => Reason::Pinned,
            Self::Ended => Reason::Ended,
            Self::TooManyFailures => Reason::Failures,
            Self::Misdirected => Reason::Misdirected,
            Self::Host | Self::Target | Self::Connect | Self::ProbeMethod => Reason::Request,
            Self::Registry(_) => Reason::Registry,
            Self::NoConnection => Reason::Setup,
        }
    }

    /// The key id that the request named, where that was looked at.
    pub(crate) fn kid(&self) -> Option<&KeyId> {
        match self {
            Self::Wrong { kid, .. } | Self::BelowMinimum { kid, .. } | Self::TooManyOfKey { kid, .. } => Some(kid),
            Self::UnknownKid(kid) | Self::Unusable { kid, .. } => Some(kid),
            Self::FailuresOfSource { why, .. } => why.kid(),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Credential(_)
            | Self::ServerName
            | Self::Channel
            | Self::Wrong { .. }
            | Self::Kind(_)
            | Self::BelowMinimum { .. }
            | Self::Token(_)
            | Self::UnknownKid(_)
            | Self::Unusable { .. }
            | Self::Pinned
            | Self::TooManyFailures
            | Self::Ended => StatusCode::UNAUTHORIZED,
            // RFC 6585 §4
            Self::TooManyOfKey { .. } | Self::TooManyOfSource { .. } | Self::FailuresOfSource { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            // RFC 9112 §3.2
            Self::Host | Self::Target => StatusCode::BAD_REQUEST,
            Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::ProbeMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Registry(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoConnection => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the peer of a 401 is told. Anything but a plain one either says nothing about key ids, or is told to a holder of the secret only.
    pub(crate) fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::Channel => Diagnosis::Channel,
            Self::Kind(_) | Self::BelowMinimum { .. } => Diagnosis::Credential,
            Self::Token(fault) => fault.diagnosis(),
            _ => Diagnosis::None,
        }
    }
}
