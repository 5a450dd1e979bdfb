//! Tokens on one connection: what verifies them, which numbers it has taken, and what a handler is given.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ekm_otp::field::{CredentialKind, PresentedToken};
pub(crate) use ekm_otp::jose::VerifiedPayload;
use ekm_otp::jose::{ClaimsError, SignedRequest, TokenVerifier, Window};
use ekm_otp::{KeyId, Prk};
use http::Request;
use serde_json::{Map, Value};

use crate::diagnosis::Diagnosis;

/// One connection's tokens, from the first that was verified.
pub(crate) struct Tokens {
    verifier: TokenVerifier,
    window: Mutex<Window>,
}

impl Tokens {
    pub(crate) fn new(prk: &Prk, kid: &KeyId) -> Self {
        Self { verifier: prk.token_verifier(kid), window: Mutex::default() }
    }

    pub(crate) fn verify(&self, kind: CredentialKind, token: &PresentedToken<'_>) -> Result<VerifiedPayload, &'static str> {
        self.verifier.verify(kind, token).map_err(|fault| fault.0)
    }

    /// The claims, if they fit this request. Takes the token's number: the last check of all.
    pub(crate) fn check<B>(
        &self,
        kind: CredentialKind,
        payload: &VerifiedPayload,
        request: &Request<B>,
        audience: &str,
        leeway: Duration,
    ) -> Result<VerifiedClaims, TokenFault> {
        let signed = SignedRequest { audience, method: request.method().as_str(), target: &SignedRequest::origin_form(request.uri()) };
        let claims = payload.check(&signed, unix_time(), leeway)?;
        // hyper calls a connection's service in one task. Under axum, or where an embedder spawns them, the requests of one HTTP/2 connection are
        // checked on several threads.
        if !self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(claims.n) {
            return Err(ClaimsError::Claims("n was used before, or is 1024 or more below the highest one").into());
        }
        Ok(VerifiedClaims(Arc::new(Inner {
            kind,
            n: Some(claims.n),
            issued_at: Some(claims.iat),
            expires_at: Some(claims.exp),
            extra: claims.extra.into_map(),
        })))
    }
}

/// Why a token does not fit its request. Its maker holds the secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct TokenFault(#[from] ClaimsError);

impl TokenFault {
    pub(crate) fn diagnosis(&self) -> Diagnosis {
        match self.0 {
            ClaimsError::Time(_) => Diagnosis::Time,
            _ => Diagnosis::Claims,
        }
    }
}

/// Seconds since 1970-01-01T00:00:00Z.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What the token of one request says, checked. Only [`EkmOtpLayer`](crate::EkmOtpLayer) makes one; cloning is cheap.
///
/// A request that was authenticated with a one-time password has none.
#[derive(Clone)]
pub struct VerifiedClaims(Arc<Inner>);

struct Inner {
    kind: CredentialKind,
    n: Option<u64>,
    issued_at: Option<u64>,
    expires_at: Option<u64>,
    extra: Map<String, Value>,
}

impl VerifiedClaims {
    /// Where the protocol has no claims of its own.
    pub(crate) fn of_other_profile(kind: CredentialKind, claims: Map<String, Value>) -> Self {
        Self(Arc::new(Inner { kind, n: None, issued_at: None, expires_at: None, extra: claims }))
    }

    /// [`Jws`](CredentialKind::Jws) or [`Jwe`](CredentialKind::Jwe).
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        self.0.kind
    }

    /// The number of the request on its connection: no other request of it has the same. `None` in the profile `go`.
    #[must_use]
    pub fn n(&self) -> Option<u64> {
        self.0.n
    }

    /// `iat`: when the client made the token, by its own clock, in seconds since 1970-01-01T00:00:00Z. `None` in the profile `go`.
    #[must_use]
    pub fn issued_at(&self) -> Option<u64> {
        self.0.issued_at
    }

    /// `exp`: when the token ends, in seconds since 1970-01-01T00:00:00Z. `None` in the profile `go`.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.0.expires_at
    }

    /// The claims that the client added of its own. In the profile `go`, where the protocol has none: all claims.
    #[must_use]
    pub fn extra(&self) -> &Map<String, Value> {
        &self.0.extra
    }
}

/// The names of the client's claims only: they may travel encrypted because they are nobody's business.
impl fmt::Debug for VerifiedClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra: Vec<&String> = self.0.extra.keys().collect();
        f.debug_struct("VerifiedClaims").field("kind", &self.0.kind).field("n", &self.0.n).field("extra", &extra).finish_non_exhaustive()
    }
}
