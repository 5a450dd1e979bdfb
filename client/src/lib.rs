//! An HTTPS client that proves, on each TLS connection, that it holds its key, and has the server prove the same.
//!
//! A [`Connector`] is for one origin, one key id and one key. Each [`connect`](Connector::connect) makes one TLS connection with a
//! credential of its own: the unit is the connection with its credential, nothing outlives it.
//!
//! ```no_run
//! # async fn example(tls: rustls::ClientConfig) -> Result<(), Box<dyn std::error::Error>> {
//! use ekm_otp::{Authority, KeyId, TlsPolicy};
//! use ekm_otp_client::{Connector, Key};
//! use ekm_otp_tpm::{KeyFile, TpmHandle};
//!
//! let tpm = TpmHandle::open("device:/dev/tpmrm0".parse()?)?;
//! let key = tpm.load(KeyFile::from_pem(&std::fs::read_to_string("client1.pem")?)?);
//!
//! let connector = Connector::new(tls, TlsPolicy::default(), Authority::parse("api.example.test")?, KeyId::new("client1")?, Key::Tpm(key));
//! let mut connection = connector.connect().await?; // the server has proved itself when this returns
//! let response = connection.send(http::Request::get("/get").body(http_body_util::Empty::new())?).await?;
//! # Ok(()) }
//! ```

mod certificate;
#[cfg(feature = "cloud")]
pub mod cloud;
mod connection;
mod connector;
mod dial;
mod error;
mod go;
mod key;
mod signer;
mod tasks;

pub use connection::{Body, Connection, RetiredCredential};
pub use connector::{Connector, Mutual};
pub use dial::dial;
pub use error::{ConnectError, RequestError, with_sources};
pub use key::Key;
