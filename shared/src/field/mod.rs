//! The three fields of the scheme, strictly: `Authorization`, `WWW-Authenticate`, `Authentication-Info` (RFC 9110 §11, RFC 7615).
//!
//! Readers take every spelling that the grammar allows (token and quoted-string, optional white space, any parameter order,
//! names without regard to case) and nothing else. Writers have one spelling.

mod authentication_info;
mod authorization;
mod challenge;
mod grammar;

pub use authentication_info::AuthenticationInfo;
#[cfg(feature = "jose")]
pub use authorization::TooLong;
pub use authorization::{Credential, CredentialError, CredentialKind, Presented, PresentedToken, UnknownKind};
pub use challenge::{Challenge, ChallengeError};
