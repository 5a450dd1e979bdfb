//! What is known of a connection: told with each response, in its extensions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ekm_otp::{KeyId, TlsFacts};
use http::Version;

/// How long each step of a connection's making took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Looking the name up.
    pub lookup: Duration,
    /// TCP, from the first address tried to the one that answered.
    pub tcp: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// The holder of the key: its one MAC (in the profile `go`, with a JWE: two).
    pub mac: Duration,
    /// The bodyless probe by which the server proves itself. Zero where there was none.
    pub probe: Duration,
}

/// What does not change while the connection lives.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) id: u64,
    pub(crate) kid: KeyId,
    pub(crate) tls: TlsFacts,
    pub(crate) version: Version,
    pub(crate) timings: Timings,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) issuer: Option<String>,
    pub(crate) born: Instant,
}

impl Facts {
    /// No two connections of a process have the same.
    pub(crate) fn next_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

/// The connection that a response came on. It stands in the response's extensions.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    facts: Arc<Facts>,
    is_fresh: bool,
    was_proven: bool,
    is_proven: bool,
}

impl ConnectionInfo {
    pub(crate) fn new(facts: Arc<Facts>, is_proven: bool) -> Self {
        Self { facts, is_fresh: false, was_proven: is_proven, is_proven }
    }

    /// After a request: whether it was the connection's first, and whether the server had proved itself before.
    pub(crate) fn of_request(mut self, is_fresh: bool, was_proven: bool) -> Self {
        (self.is_fresh, self.was_proven) = (is_fresh, was_proven);
        self
    }

    /// A number that no other connection of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.facts.id
    }

    /// Whether this request was the connection's first (the probe is not counted).
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// The key id that was used.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.facts.kid
    }

    /// What TLS agreed on.
    #[must_use]
    pub fn tls(&self) -> &TlsFacts {
        &self.facts.tls
    }

    /// The HTTP version that was agreed on.
    #[must_use]
    pub fn http_version(&self) -> Version {
        self.facts.version
    }

    /// How long the holder of the key took.
    #[must_use]
    pub fn mac_time(&self) -> Duration {
        self.facts.timings.mac
    }

    /// How long each step of the connection's making took.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.facts.timings
    }

    /// Whether the server had proved that it holds the secret before this request was sent.
    #[must_use]
    pub fn was_proven(&self) -> bool {
        self.was_proven
    }

    /// Whether the server has proved it by now.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// The address of this end.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.facts.local
    }

    /// The address that answered.
    #[must_use]
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.facts.remote
    }

    /// Who issued the server's certificate, as the certificate says (RFC 4514).
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.facts.issuer.as_deref()
    }

    /// How long ago the TLS handshake ended.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.facts.born.elapsed()
    }
}
