//! A JWS or JWE for each request.

use std::time::SystemTime;

use ekm_otp::field::Credential;
use ekm_otp::jose::{ExtraClaims, SignedRequest, TokenSigner};
use ekm_otp::{Authority, Channel, KeyId};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};

use super::sensitive;
use crate::RequestError;
use crate::connection::{Body, Sign};

/// Makes them for one connection.
pub(crate) struct Tokens {
    kid: KeyId,
    channel: Channel,
    audience: String,
    signer: TokenSigner,
    /// The number of the request that was signed last.
    n: u64,
}

impl Tokens {
    pub(crate) fn new(kid: &KeyId, origin: &Authority, channel: Channel, signer: TokenSigner) -> Self {
        Self { kid: kid.clone(), channel, audience: origin.audience(), signer, n: 0 }
    }
}

impl Sign for Tokens {
    fn sign(&mut self, request: &mut Request<Body>) -> Result<HeaderValue, RequestError> {
        self.n += 1;
        // They stay: a request that could not be sent goes with another connection, and then with them, too.
        let extra = request.extensions().get::<ExtraClaims>().cloned().unwrap_or_default();
        let signed = SignedRequest {
            audience: &self.audience,
            method: request.method().as_str(),
            target: &SignedRequest::origin_form(request.uri()),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let token = self.signer.sign(&signed, self.n, now, &extra)?;
        let credential = sensitive(&Credential::write_token(&self.kid, &self.channel, &token)?);
        request.headers_mut().insert(AUTHORIZATION, credential.clone());
        Ok(credential)
    }
}
