//! EKM-OTP in a Rust server: what embedders take.
//!
//! The way of a connection: [`EkmListener`] accepts TCP, within the [`Limits`] of its [`Connections`]; [`serve_connection`] does the rest in the
//! connection's own task: [`EkmAcceptor`] finishes the TLS handshake within a deadline and exports its keying material once; the [`EkmStream`]
//! it yields carries a [`ConnectionAuthenticator`]; the [`EkmOtpLayer`] made from that checks every request and puts a [`VerifiedClient`]
//! into the request's extensions. A `VerifiedClient` cannot be made otherwise: a handler that has one serves an authenticated client.
//!
//! `examples/hyper.rs` and `examples/axum.rs` are whole servers; the project's README shows the shortest one.

mod accept_error;
mod acceptor;
mod authentication;
mod authenticator;
mod authority;
#[cfg(feature = "axum")]
mod axum;
mod checks;
mod closed;
mod connections;
mod diagnosis;
mod events;
#[cfg(feature = "jose")]
mod go;

#[cfg(feature = "jose")]
mod jose;
#[cfg(not(feature = "jose"))]
#[path = "passwords_only.rs"]
mod jose;
mod layer;
mod lifeline;
mod listen;
mod listener;
mod log_budget;
mod members;
mod opening;
mod passed;
mod peer;
mod plain_http;
#[cfg_attr(not(feature = "jose"), expect(dead_code, reason = "the only other profile is made of tokens, too"))]
mod profile;
mod proxy_header;
mod reason;
mod refusal;
mod registered_key;
#[cfg(feature = "registry-file")]
pub mod registry_file;
mod serve;
#[cfg(feature = "server")]
mod server;
mod source_failures;
mod start_check;
mod store;
mod stream;
#[cfg(feature = "test-util")]
mod test_util;
mod timer;
mod tls_io;
#[cfg(feature = "tonic")]
mod tonic;
mod unverified;
mod verified;

#[cfg(feature = "axum")]
pub use self::axum::NotVerified;
pub use accept_error::AcceptError;
pub use acceptor::{EkmAcceptor, Handshaking};
pub use authentication::Authentication;
pub use authenticator::{ConnectionAuthenticator, RetiredOtp};
pub use closed::Closed;
pub use connections::{Connections, Counts, Limits};
pub use events::{ConnectionFacts, Events, Refused};
#[cfg(feature = "jose")]
pub use jose::VerifiedClaims;
pub use layer::{EkmOtp, EkmOtpLayer, ResponseFuture};
pub use listen::Listen;
pub use listener::EkmListener;
pub use peer::{Peer, Source};
pub use reason::Reason;
pub use registered_key::RegisteredKey;
pub use serve::{Connection, Http, serve_connection};
#[cfg(all(feature = "axum", feature = "server"))]
pub use server::{AxumApp, OfConnection};
#[cfg(feature = "server")]
pub use server::{BoundServer, EkmServer, Hyper, LoadError, PerConnection, Reloaded, Reloader, Serve, StartError, Tower};
pub use start_check::{LayerMissing, layer_stands_before};
pub use store::{Changes, MemoryStore, RegisterError, SecretStore, StoreUnavailable};
pub use stream::EkmStream;
pub use unverified::Unverified;
pub use verified::VerifiedClient;

// What stands in this crate's signatures.
pub use ekm_otp as protocol;

/// The README's snippets compile.
#[cfg(all(doctest, feature = "axum", feature = "registry-file", feature = "server"))]
#[doc = include_str!("../../README.md")]
struct Readme;

/// So do the guide's.
#[cfg(all(
    doctest,
    feature = "axum",
    feature = "jose",
    feature = "registry-file",
    feature = "server",
    feature = "test-util",
    feature = "tonic"
))]
#[doc = include_str!("../../docs/embedding.md")]
struct Guide;
