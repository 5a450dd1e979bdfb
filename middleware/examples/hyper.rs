//! A whole server on plain hyper: `cargo run -p ekm-otp-tower --example hyper CERT_CHAIN.pem KEY.pem`
//!
//! It listens on 127.0.0.1:8443 for `localhost`. The one client is `client1`; its secret is test data.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use ekm_otp_tower::protocol::{KeyId, Secret, ServerNames, TlsPolicy};
use ekm_otp_tower::{Authentication, EkmAcceptor, EkmListener, Http, MemoryStore, RegisteredKey, VerifiedClient, serve_connection};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

type AnyError = Box<dyn Error + Send + Sync>;

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // The layer lets no request pass without one.
    let client = request.extensions().get::<VerifiedClient>().map_or("nobody", VerifiedClient::client);
    Ok(Response::new(Full::from(format!("hello {client}\n"))))
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
    let http = Http::new(TokioExecutor::new());
    loop {
        let (handshaking, _peer) = listener.arrival().await;
        tokio::spawn(serve_connection(&http, handshaking, service_fn(hello)));
    }
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut args = std::env::args().skip(1);
    let (Some(chain), Some(key)) = (args.next(), args.next()) else { return Err("usage: hyper CERT_CHAIN.pem KEY.pem".into()) };
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    serve(TcpListener::bind("127.0.0.1:8443").await?, chain, key).await
}
