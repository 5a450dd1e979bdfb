//! Google Cloud: tokens of a service account, or of a workload identity, whose key somebody else holds.

mod account;
mod jwks;
mod metadata;
mod subject_token;
mod tokens;

pub use account::{AccountError, ServiceAccount};
pub use jwks::{jwk_thumbprint, jwks};
pub use metadata::Metadata;
pub use subject_token::{SubjectToken, executable_failure};
pub use tokens::{CLOUD_PLATFORM, Delegation, Grant, Impersonation, SelfSigned, Target, TokenService};
