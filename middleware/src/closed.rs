//! Why a connection was closed.

/// Why a connection whose handshake was finished has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Closed {
    /// The peer left, the network broke, or it did not speak HTTP.
    Peer = 0,
    /// It was as old as connections may be.
    Age = 1,
    /// Its key was revoked.
    Revoked = 2,
    /// Its key's time was over.
    Expired = 3,
    /// Too many of its requests were answered 401.
    Failures = 4,
    /// Its key or its source had too many connections, or its source too many failures (429).
    Limit = 5,
    /// Nobody was verified on it in time.
    Unverified = 6,
    /// It was idle for too long, or a request's header section did not come in time (HTTP/1).
    Idle = 7,
    /// Its place was needed for another one, and nobody was verified on it.
    Displaced = 8,
    /// The server drains.
    Drained = 9,
    /// The application closed it.
    Application = 10,
}

impl Closed {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Peer,
        Self::Age,
        Self::Revoked,
        Self::Expired,
        Self::Failures,
        Self::Limit,
        Self::Unverified,
        Self::Idle,
        Self::Displaced,
        Self::Drained,
        Self::Application,
    ];

    /// A stable name, for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Age => "age",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Failures => "failures",
            Self::Limit => "limit",
            Self::Unverified => "unverified",
            Self::Idle => "idle",
            Self::Displaced => "displaced",
            Self::Drained => "drained",
            Self::Application => "application",
        }
    }

    pub(crate) fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_number() {
        assert!(Closed::ALL.iter().all(|why| Closed::of(*why as u8) == *why));
    }
}
