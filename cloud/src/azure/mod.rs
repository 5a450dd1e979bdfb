//! Entra ID (Azure AD): tokens of an application whose certificate's key somebody else holds.

mod assertion;
mod credential;
mod metadata;
mod tokens;

pub use assertion::{Application, Assertion, AssertionAlgorithm, Authority};
pub use credential::CertificateCredential;
pub use metadata::{IDENTITY_PATH, Metadata};
pub use tokens::TokenEndpoint;
