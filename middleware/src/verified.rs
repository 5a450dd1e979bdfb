//! The proof of a check: what a handler is given, and cannot be made otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use ekm_otp::{KeyId, Profile, TlsFacts};

use crate::peer::Peer;
use crate::registered_key::RegisteredKey;

/// The client that a request was authenticated for. Only [`EkmOtpLayer`](crate::EkmOtpLayer) makes one; cloning is cheap.
///
/// One-time means: once per TLS connection. Requests of one connection share the password, so this says which client owns the
/// connection and showed the password with this request; it does not say that the request cannot be repeated within it. A request with a
/// token has `VerifiedClaims` (feature `jose`) besides, and cannot be.
#[derive(Clone, Debug)]
pub struct VerifiedClient(Arc<Verified>);

#[derive(Debug)]
struct Verified {
    key: Arc<RegisteredKey>,
    tls: TlsFacts,
    peer: Option<Peer>,
    connection: u64,
}

impl VerifiedClient {
    pub(crate) fn new(key: Arc<RegisteredKey>, tls: TlsFacts, peer: Option<Peer>, connection: u64) -> Self {
        Self(Arc::new(Verified { key, tls, peer, connection }))
    }

    /// Whether both are of one connection's client.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The client's name in the registry.
    #[must_use]
    pub fn client(&self) -> &str {
        self.0.key.client()
    }

    /// The key id that it showed.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        self.0.key.kid()
    }

    /// Whether this key waits for its first use since it left in a bundle. A server that lets keys travel so remembers that use before it answers.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.0.key.is_awaited()
    }

    /// The wire that it spoke.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.0.key.profile()
    }

    /// The other end's address, where the connection came by an [`EkmListener`](crate::EkmListener) and the other end has one. It may be a proxy's.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer?.address()
    }

    /// The other end, where the connection came by an [`EkmListener`](crate::EkmListener): also one without an address. It may be a proxy.
    #[must_use]
    pub fn origin(&self) -> Option<Peer> {
        self.0.peer
    }

    /// The connection's number, which no other one of this process has.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.0.connection
    }

    /// The connection's TLS facts.
    #[must_use]
    pub fn tls(&self) -> &TlsFacts {
        &self.0.tls
    }
}
