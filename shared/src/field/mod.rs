//! The three fields of the scheme, strictly: `Authorization`, `WWW-Authenticate`, `Authentication-Info` (RFC 9110 §11, RFC 7615).
//!
//! Readers take every spelling that the grammar allows (token and quoted-string, optional white space, any parameter order,
//! names without regard to case) and nothing else. Writers have one spelling.

mod authentication_info;
mod authorization;
mod challenge;
mod grammar;
mod presented;

pub use authentication_info::AuthenticationInfo;
#[cfg(feature = "jose")]
pub use authorization::TooLong;
pub use authorization::{Credential, CredentialError};
pub use challenge::{Challenge, ChallengeError};
pub use presented::{CredentialKind, Presented, PresentedToken, UnknownKind};
