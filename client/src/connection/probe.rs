//! The mutual round: a bodyless GET that only a holder of the secret can answer rightly (docs/protocol.md).

use std::sync::Arc;
use std::time::Instant;

use ekm_otp::WELL_KNOWN_PATH;
use ekm_otp::field::Challenge;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Empty;

use super::Connection;
use crate::error::Refusal;
use crate::{ConnectError, RequestError};

impl Connection {
    /// Nothing else is sent before this has succeeded.
    pub(crate) async fn require_proof(&mut self) -> Result<(), ConnectError> {
        let started = Instant::now();
        let probe = Request::get(WELL_KNOWN_PATH).body(Empty::new()).map_err(|e| ConnectError::NotProven(e.to_string()))?;
        let response = match self.send(probe).await {
            Ok(response) => response,
            Err(RequestError::WrongProof) => return Err(ConnectError::NotProven("its proof is wrong".into())),
            Err(RequestError::Http(e)) => return Err(e.into()),
            Err(RequestError::Deadline(deadline)) => return Err(ConnectError::Deadline { phase: "the probe", deadline }),
            Err(other) => return Err(ConnectError::NotProven(other.to_string())),
        };
        match response.status() {
            StatusCode::NO_CONTENT if self.is_proven() => {
                if let Some(facts) = Arc::get_mut(&mut self.facts) {
                    facts.timings.probe = started.elapsed();
                }
                Ok(())
            }
            StatusCode::NO_CONTENT => Err(ConnectError::NotProven("its answer carries no proof".into())),
            status @ StatusCode::UNAUTHORIZED => match refusal(response.headers()) {
                Some(Refusal::Channel) => Err(ConnectError::Intercepted { issuer: self.facts.issuer.clone() }),
                Some(why) => Err(ConnectError::Refused { status, why }),
                None => Err(ConnectError::NotProven(
                    "it answers 401 without an EKM-OTP challenge (is it an EKM-OTP server, of protocol v1?)".into(),
                )),
            },
            status @ StatusCode::MISDIRECTED_REQUEST => Err(ConnectError::Refused { status, why: Refusal::Authority }),
            status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => Err(ConnectError::Unavailable(status)),
            status => Err(ConnectError::NotProven(format!("it answers {status} to the probe (is it an EKM-OTP server?)"))),
        }
    }
}

/// What a 401 says of itself. Nobody has authenticated that: it is a diagnosis. `None` where it is not this scheme's.
pub(crate) fn refusal(headers: &HeaderMap) -> Option<Refusal> {
    let challenge = Challenge::read(headers.get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes))?;
    Some(match challenge.error.as_deref() {
        Some("channel") => Refusal::Channel,
        Some("credential") => Refusal::Credential,
        Some("time") => Refusal::Time,
        Some("claims") => Refusal::Claims,
        _ => Refusal::Unknown,
    })
}
