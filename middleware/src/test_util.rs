//! For tests of handlers, without TLS (feature `test-util`): what the layer puts into a request's extensions, made by hand.
//!
//! A request that has it passes an [`EkmOtpLayer`](crate::EkmOtpLayer), as one does that a layer outside has verified. Switch the feature on in
//! `[dev-dependencies]` only: in a server, nobody but the layer is to make a [`VerifiedClient`].

use std::sync::Arc;

#[cfg(feature = "jose")]
use ekm_otp::field::CredentialKind;
use ekm_otp::{Ekm, Handshake, KeyId, Secret, ServerName, ServerNames, TlsFacts};

#[cfg(feature = "jose")]
use crate::VerifiedClaims;
use crate::registered_key::RegisteredKey;
use crate::store::MemoryStore;
use crate::{Authentication, ConnectionAuthenticator, Unverified, VerifiedClient};

/// `TLS_AES_256_GCM_SHA384` and `X25519MLKEM768`, by their IANA numbers.
const SUITE_AND_GROUP: (u16, u16) = (0x1302, 0x11ec);

const HOST: &str = "localhost";

fn facts() -> TlsFacts {
    let name = ServerName::from_host(HOST).unwrap_or_else(|_| unreachable!("it is a name"));
    TlsFacts::tls13(SUITE_AND_GROUP.0, Some(SUITE_AND_GROUP.1), name)
}

fn kid(kid: &str) -> KeyId {
    KeyId::new(kid).unwrap_or_else(|error| panic!("{kid:?}: {error}"))
}

impl VerifiedClient {
    /// For a request of a test: `request.extensions_mut().insert(VerifiedClient::for_test("client1", "Alice"))`.
    ///
    /// # Panics
    /// When `key_id` is none.
    #[must_use]
    pub fn for_test(key_id: &str, client: &str) -> Self {
        let secret = Secret::new(vec![0; 32]).unwrap_or_else(|_| unreachable!("32 bytes are a secret"));
        Self::new(Arc::new(RegisteredKey::new(kid(key_id), client, secret)), facts(), None, 0)
    }
}

#[cfg(feature = "jose")]
impl VerifiedClaims {
    /// For a request of a test: the token's own claims, beside a [`VerifiedClient::for_test`].
    #[must_use]
    pub fn for_test(kind: CredentialKind, extra: serde_json::Map<String, serde_json::Value>) -> Self {
        Self::of_other_profile(kind, extra)
    }
}

impl Unverified {
    /// For a request of a test that passes without a credential. Where a layer stands before the handler, the request needs `Host: localhost`.
    #[must_use]
    pub fn for_test() -> Self {
        let mut names = ServerNames::new();
        names.allow_host(HOST).unwrap_or_else(|_| unreachable!("it is a name"));
        let authentication =
            Authentication::new(Arc::new(MemoryStore::new()), names, "test").unwrap_or_else(|_| unreachable!("the realm is printable"));
        let handshake = Handshake { ekm: Ekm::from_bytes([0; Ekm::LEN]), facts: facts() };
        Self::new(ConnectionAuthenticator::new(handshake, Arc::new(authentication.open_to(|_, _| true))))
    }
}
