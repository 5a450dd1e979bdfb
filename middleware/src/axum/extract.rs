//! What handlers ask for: who sent a request, and what its token says.

use axum::Extension;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

#[cfg(feature = "jose")]
use crate::VerifiedClaims;
use crate::diagnosis::{Diagnosis, Wanting};
use crate::{Unverified, VerifiedClient};

/// Why a handler does not run.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotVerified {
    /// The request passed without a credential, and this handler wants to know its client: 401.
    #[error("this resource needs an EKM-OTP credential")]
    NoCredential,
    /// The request came with a password, and this handler wants a token's claims: 401.
    #[error("this resource needs a credential that signs the request (jws or jwe)")]
    NoToken,
    /// Nobody checked the request: 500. Set the server up otherwise.
    #[error("no EKM-OTP layer stands before this route: serve the router by EkmServer, or wrap it as a whole with EkmOtpLayer")]
    NoLayer,
}

impl IntoResponse for NotVerified {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        // The layer, which knows the realm, makes a challenge of it.
        match self {
            Self::NoCredential => (StatusCode::UNAUTHORIZED, Extension(Wanting(Diagnosis::None)), text).into_response(),
            Self::NoToken => (StatusCode::UNAUTHORIZED, Extension(Wanting(Diagnosis::Credential)), text).into_response(),
            Self::NoLayer => {
                tracing::error!("{}", text.trim_end());
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        }
    }
}

/// Whom the request was verified for, if it was; `Err` if nobody looked.
fn client(parts: &Parts) -> Result<Option<&VerifiedClient>, NotVerified> {
    match parts.extensions.get() {
        Some(client) => Ok(Some(client)),
        None if parts.extensions.get::<Unverified>().is_some() => Ok(None),
        None => Err(NotVerified::NoLayer),
    }
}

fn required(parts: &Parts) -> Result<&VerifiedClient, NotVerified> {
    client(parts)?.ok_or(NotVerified::NoCredential)
}

/// Answers 401 where the request passed [without a credential](crate::Authentication::open_to), and 500 where no layer checked it.
impl<S: Sync> FromRequestParts<S> for VerifiedClient {
    type Rejection = NotVerified;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotVerified> {
        required(parts).cloned()
    }
}

/// `None` where the request passed [without a credential](crate::Authentication::open_to). Answers 500 where no layer checked it.
impl<S: Sync> OptionalFromRequestParts<S> for VerifiedClient {
    type Rejection = NotVerified;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, NotVerified> {
        client(parts).map(Option::<&Self>::cloned)
    }
}

/// Answers 401 where the request came without a token, and 500 where no layer checked it.
#[cfg(feature = "jose")]
impl<S: Sync> FromRequestParts<S> for VerifiedClaims {
    type Rejection = NotVerified;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotVerified> {
        required(parts)?;
        parts.extensions.get().cloned().ok_or(NotVerified::NoToken)
    }
}

/// `None` where the request came without a token. Answers 500 where no layer checked it.
#[cfg(feature = "jose")]
impl<S: Sync> OptionalFromRequestParts<S> for VerifiedClaims {
    type Rejection = NotVerified;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, NotVerified> {
        Ok(client(parts)?.and_then(|_| parts.extensions.get().cloned()))
    }
}
