//! Why a request was refused, under names that stay: for metrics, audit logs and those who read them.

/// Why a request was refused. Its peer is told less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It had no credential.
    Missing,
    /// Its credential could not be read.
    Malformed,
    /// The server is not configured for the connection's server name.
    ServerName,
    /// The credential was made for another connection.
    Channel,
    /// The credential is wrong for its key id.
    Wrong,
    /// Nobody registered the key id.
    UnknownKey,
    /// The key is revoked.
    Revoked,
    /// The key's time is over.
    Expired,
    /// The key's time has not come.
    NotYetValid,
    /// The key is for other server names.
    KeyServerName,
    /// The kind of credential is not accepted here, or less than the key must show.
    Kind,
    /// A token that its client made, for another request or another time, or used twice.
    Token,
    /// The connection belongs to another key id.
    Pinned,
    /// The connection had ended.
    Ended,
    /// Too many failures on the connection.
    Failures,
    /// The key has as many connections as it may.
    KeyConnections,
    /// The source has as many verified connections as it may.
    SourceConnections,
    /// The source failed too often.
    SourceFailures,
    /// The request is for another server name than the connection.
    Misdirected,
    /// What is no request: no `Host` or several, a target that is none, a method that is not served.
    Request,
    /// The registry cannot answer now.
    Registry,
    /// The server is set up wrong: no connection belongs to the request.
    Setup,
}

impl Reason {
    /// All.
    pub const ALL: [Self; 22] = [
        Self::Missing,
        Self::Malformed,
        Self::ServerName,
        Self::Channel,
        Self::Wrong,
        Self::UnknownKey,
        Self::Revoked,
        Self::Expired,
        Self::NotYetValid,
        Self::KeyServerName,
        Self::Kind,
        Self::Token,
        Self::Pinned,
        Self::Ended,
        Self::Failures,
        Self::KeyConnections,
        Self::SourceConnections,
        Self::SourceFailures,
        Self::Misdirected,
        Self::Request,
        Self::Registry,
        Self::Setup,
    ];

    /// A stable name, for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::ServerName => "server_name",
            Self::Channel => "channel",
            Self::Wrong => "wrong",
            Self::UnknownKey => "unknown_key",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::KeyServerName => "key_server_name",
            Self::Kind => "kind",
            Self::Token => "token",
            Self::Pinned => "pinned",
            Self::Ended => "ended",
            Self::Failures => "failures",
            Self::KeyConnections => "key_connections",
            Self::SourceConnections => "source_connections",
            Self::SourceFailures => "source_failures",
            Self::Misdirected => "misdirected",
            Self::Request => "request",
            Self::Registry => "registry",
            Self::Setup => "setup",
        }
    }

    /// Whether it says that somebody does not hold the key that they name, or names none that can be used: what counts against a source.
    pub(crate) fn is_a_failure_of_its_source(self) -> bool {
        use Reason::{Channel, Expired, KeyServerName, Malformed, NotYetValid, Revoked, UnknownKey, Wrong};
        matches!(self, Malformed | Channel | Wrong | UnknownKey | Revoked | Expired | NotYetValid | KeyServerName)
    }
}
