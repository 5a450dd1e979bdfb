//! Where a profile other than v1 comes in: one whose keying material depends on the request, so that it is exported after the handshake.
//!
//! v1 exports once, before there is an authenticator. Only where such a profile is switched on does a connection keep an [`Exporter`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ekm_otp::field::CredentialKind;
use ekm_otp::{KeyId, Profile};
use http::HeaderMap;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use crate::jose::VerifiedClaims;
use crate::refusal::Refusal;
use crate::registered_key::RegisteredKey;

/// Another wire than v1's.
pub(crate) trait OtherProfile: Send + Sync {
    /// Of which kind this profile's credential is; `None` where there is none: then v1 looks for its own.
    fn kind_of(&self, headers: &HeaderMap) -> Option<CredentialKind>;

    /// Reads the credential, which is of this kind, and looks its key up; whether the credential is right under it, comes with it.
    fn verify(
        &self,
        kind: CredentialKind,
        headers: &HeaderMap,
        registry: Registry<'_>,
        exporter: &Exporter,
    ) -> Result<ForeignCredential, Refusal>;

    /// Takes this profile's fields away from what the application sees.
    fn strip(&self, headers: &mut HeaderMap);
}

/// What a profile needs to know of the server: whose a key id is, and how far clocks may differ.
#[derive(Clone, Copy)]
pub(crate) struct Registry<'a> {
    pub(crate) keys: &'a dyn LookUp,
    pub(crate) leeway: Duration,
}

/// Looks keys up.
pub(crate) trait LookUp {
    /// The key that `kid` names in this profile. An unknown key id costs the same work as a known one: it gets a key that is never active.
    fn look_up(&self, kid: &KeyId, profile: Profile) -> Result<Arc<RegisteredKey>, Refusal>;
}

/// A credential of another profile, checked but for whether its key is active.
pub(crate) struct ForeignCredential {
    pub(crate) key: Arc<RegisteredKey>,
    pub(crate) kid: KeyId,
    pub(crate) claims: Result<Option<VerifiedClaims>, &'static str>,
}

type Export = dyn Fn(&[u8], &[u8]) -> Option<Zeroizing<[u8; 32]>> + Send + Sync;

/// Exports keying material of a connection as long as that is open.
pub(crate) struct Exporter(Box<Export>);

impl Exporter {
    /// Of a stream that somebody else owns.
    pub(crate) fn new<IO: Send + 'static>(stream: Weak<Mutex<TlsStream<IO>>>) -> Self {
        Self(Box::new(move |label, context| {
            let stream = stream.upgrade()?;
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            let mut ekm = Zeroizing::new([0; 32]);
            stream.get_ref().1.export_keying_material(&mut ekm[..], label, Some(context)).ok()?;
            Some(ekm)
        }))
    }

    /// 32 bytes of the RFC 5705 exporter.
    pub(crate) fn export(&self, label: &[u8], context: &[u8]) -> Result<Zeroizing<[u8; 32]>, Refusal> {
        (self.0)(label, context).ok_or(Refusal::Ended)
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(..)")
    }
}
