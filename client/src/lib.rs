//! An HTTPS client that proves, on each TLS connection, that it holds its key, and has the server prove the same.
//!
//! ```no_run
//! # #[cfg(feature = "tpm")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ekm_otp_client::Client;
//!
//! let api = Client::new("https://api.example.com").kid("client1").key_file("client1.pem")?.build()?;
//! let me = api.get("/whoami").await?.text().await?;
//! # Ok(()) }
//! ```
//!
//! A [`Client`] is for one origin. It is cheap to clone, and a [tower service](tower_service::Service): tower's layers and (feature `tonic`)
//! tonic's stubs take it as it is. Inside is a pool whose unit is the connection with its credential: a request is signed for the connection that
//! it is sent on. Nothing but a bodyless probe leaves before the server has proved itself.
//!
//! Below it stands the [`Connector`], which makes single connections.
//!
//! # Features
//! - `tpm`: keys in a TPM ([`ClientBuilder::key_file`], [`ClientBuilder::tpm_key`]). Links libtss2.
//! - `jose`: JWS and JWE credentials, and the Go original's wire. Links OpenSSL.
//! - `tonic`: [`Client::grpc`], whose errors are `tonic::Status`.
//! - `cli` and `cloud` (both on by default): what the command `ekm-otp-client` is made of.
//!
//! Without features a secret in memory or a [`Signer`] of yours is what there is, and neither library is linked.

mod certificate;
mod client;
#[cfg(feature = "cloud")]
pub mod cloud;
mod connection;
mod connector;
mod credential;
mod dial;
mod error;
#[cfg(feature = "jose")]
mod go;
mod pool;
mod signer;
mod tasks;

#[cfg(feature = "tonic")]
pub use client::GrpcClient;
pub use client::{BuildError, Client, ClientBuilder, Error, ErrorKind, Response, ResponseBody, Upgrade, UpgradedStream};
pub use connection::{Body, Connection, ConnectionInfo, RetiredCredential, Timings};
pub use connector::{Connector, HttpVersions, Mutual};
pub use dial::dial;
pub use ekm_otp::field::CredentialKind;
#[cfg(feature = "jose")]
pub use ekm_otp::jose::ExtraClaims;
pub use ekm_otp::{Authority, KeyId, Secret, Tag, TlsFacts, TlsPolicy};
#[cfg(feature = "tpm")]
pub use ekm_otp_tpm::{KeyFile, TpmHandle, TpmKey};
pub use error::{ConnectError, Refusal, RequestError, with_sources};
pub use pool::Status;
pub use rustls;
pub use signer::{Signer, SignerError};

/// The snippets of docs/client.md compile.
#[cfg(all(doctest, feature = "tpm"))]
#[doc = include_str!("../../docs/client.md")]
mod client_md {}
