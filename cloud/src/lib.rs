//! Credentials of AWS, Google Cloud and Entra ID from keys that somebody else holds: a TPM, or this process.
//!
//! Each cloud has one way in: what is asked → what is to be signed, a value → the key answers → request or token. Keys come through two small
//! traits, [`MacKey`] and [`SigningKey`]: the client puts its TPM behind them, [`SoftwareMac`] and [`SoftwareSigner`] are for machines without
//! one, and a PKCS#11 module or a KMS would be a third.
//!
//! Knows no TPM, no command line, and shows nothing.

pub mod aws;
pub mod azure;
mod certificate;
mod error;
mod form;
pub mod gcp;
mod http;
mod jwt;
mod key;
mod loopback;
mod refresh;
mod software;
mod token;
mod utc;

pub use certificate::{Certificate, CertificateError, Certificates};
pub use error::CloudError;
pub use http::{Answer, Clock, Http, HttpSettings, Tries};
pub use jwt::UnsignedJwt;
pub use key::{KeyError, KeyFuture, MacKey, PublicKey, PublicKeyKind, SignatureAlgorithm, SigningKey, sign};
pub use loopback::{Handler, Loopback, LoopbackError};
pub use refresh::{Expires, Refreshing, RefreshingEach};
pub use software::{SoftwareKeyError, SoftwareMac, SoftwareSigner};
pub use token::BearerToken;
pub use utc::utc;
