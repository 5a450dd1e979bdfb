//! JWS and JWE credentials (docs/protocol.md, "Tokens"; RFC 7515, RFC 7516, RFC 7519): a token for each request, signed, or signed and
//! encrypted, with keys of the connection.
//!
//! A token covers the request's method, target, authority and time, and a number that the connection takes once. It does not cover the
//! body nor other header fields. The client's way: [`Prk::jws_signer`] or [`Prk::jwe_signer`], [`TokenSigner::sign`],
//! [`Credential::write_token`](crate::field::Credential::write_token). The server's: [`Prk::token_verifier`], [`TokenVerifier::verify`],
//! [`VerifiedPayload::check`], [`Window::admit`].

mod claims;
pub(crate) mod compact;
pub(crate) mod token;
mod window;

pub use claims::{Claims, ClaimsError, ExtraClaims, ReservedClaim, SignedRequest, VerifiedPayload};
pub use token::{NotVerified, SignError, Token, TokenSigner, TokenVerifier};
pub use window::Window;

#[cfg(doc)]
use crate::Prk;
