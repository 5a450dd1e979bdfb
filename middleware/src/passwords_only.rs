//! Stands for `jose` where that feature is off: its names, and nothing that could be done with them.

use std::time::Duration;

use ekm_otp::field::{CredentialKind, PresentedToken};
use ekm_otp::{KeyId, Prk};
use http::Request;

use crate::diagnosis::Diagnosis;

/// Verifies no token. [`Authentication`](crate::Authentication) accepts no kind but passwords, so that none is asked for.
pub(crate) struct Tokens;

impl Tokens {
    pub(crate) fn new(_: &Prk, _: &KeyId) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "as in jose")]
    pub(crate) fn verify(&self, _: CredentialKind, _: &PresentedToken<'_>) -> Result<VerifiedPayload, &'static str> {
        Err("tokens are not built in")
    }

    #[expect(clippy::unused_self, reason = "as in jose")]
    pub(crate) fn check<B>(
        &self,
        _: CredentialKind,
        payload: &VerifiedPayload,
        _: &Request<B>,
        _: &str,
        _: Duration,
    ) -> Result<VerifiedClaims, TokenFault> {
        match *payload {}
    }
}

pub(crate) enum VerifiedPayload {}

#[derive(Clone)]
pub(crate) struct VerifiedClaims;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum TokenFault {}

impl TokenFault {
    pub(crate) fn diagnosis(&self) -> Diagnosis {
        match *self {}
    }
}
