//! AWS: session credentials from a long-lived secret, or from a certificate, whose key somebody else holds.

mod credentials;

pub use credentials::SessionCredentials;
