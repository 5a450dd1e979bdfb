//! A server on `axum::serve`, put together by hand: `cargo run -p ekm-otp-tower --features axum --example axum_serve CERT_CHAIN.pem KEY.pem`
//!
//! `axum::serve` does not close a connection gracefully when it is to end, and takes no settings of HTTP: `axum.rs` has the server that does.
//!
//! It listens on 127.0.0.1:8443 for `localhost`. The one client is `client1`; its secret is test data.

use std::error::Error;
use std::sync::Arc;

use axum::extract::Request;
use axum::routing::get;
use axum::{Router, ServiceExt};
use ekm_otp_tower::protocol::{KeyId, Secret, ServerNames, TlsPolicy};
use ekm_otp_tower::{
    Authentication, ConnectionAuthenticator, EkmAcceptor, EkmListener, EkmOtpLayer, MemoryStore, RegisteredKey, VerifiedClient,
    layer_stands_before,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tower_layer::Layer as _;

type AnyError = Box<dyn Error + Send + Sync>;

async fn hello(client: VerifiedClient) -> String {
    format!("hello {}\n", client.client())
}

/// Who may come: the keys, and the names that this server answers to.
pub fn authentication() -> Result<Authentication, AnyError> {
    let store = MemoryStore::new();
    store.add(RegisteredKey::new(KeyId::new("client1")?, "Alice", Secret::new(b"test data, used nowhere else ...".to_vec())?))?;
    let mut names = ServerNames::new();
    names.allow_host("localhost")?;
    Ok(Authentication::new(Arc::new(store), names, "example")?)
}

/// Serves until the process ends.
pub async fn serve(tcp: TcpListener, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), AnyError> {
    let policy = TlsPolicy::default();
    let tls = rustls::ServerConfig::builder_with_provider(policy.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(policy.versions())?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let listener = EkmListener::new(tcp, EkmAcceptor::new(tls, policy, authentication()?));

    // Around the router as a whole, so that it stands before every route, nested ones and the fallback included.
    let app = EkmOtpLayer::new().layer(Router::new().route("/", get(hello)));
    layer_stands_before::<_, axum::body::Body, _>(&app, ["/"]).await?;
    let app = ServiceExt::<Request>::into_make_service_with_connect_info::<ConnectionAuthenticator>(app);
    Ok(axum::serve(listener, app).await?)
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut args = std::env::args().skip(1);
    let (Some(chain), Some(key)) = (args.next(), args.next()) else { return Err("usage: axum_serve CERT_CHAIN.pem KEY.pem".into()) };
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    serve(TcpListener::bind("127.0.0.1:8443").await?, chain, key).await
}
