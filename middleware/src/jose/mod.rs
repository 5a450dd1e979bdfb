//! What the feature `jose` adds: tokens. Without it `passwords_only` stands here, so that the rest of the
//! crate reads the same with and without.

mod settings;
mod token;

pub use token::VerifiedClaims;
pub(crate) use token::{TokenFault, Tokens, VerifiedPayload, unix_time};
