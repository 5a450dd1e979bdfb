//! A whole server on axum: `cargo run -p ekm-otp-tower --features axum,registry-file,server --example axum CERT_CHAIN.pem KEY.pem SECRETS.toml`
//!
//! It listens on 127.0.0.1:8443 for `localhost`, until Ctrl-C. `axum_serve.rs` is the same on `axum::serve`, which knows less.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use ekm_otp_tower::{EkmServer, VerifiedClient};

async fn hello(client: VerifiedClient) -> String {
    format!("hello {}\n", client.client())
}

/// The application. Nothing in it authenticates.
pub fn app() -> Router {
    Router::new().route("/", get(hello)).route("/healthz", get(async || "ok\n"))
}

/// What stands before it.
pub fn server(chain: &str, key: &str, secrets: &str) -> EkmServer {
    EkmServer::new("localhost").certificate(chain, key).registry_file(secrets).open_to(|_, target| target.path() == "/healthz")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [chain, key, secrets] = args.as_slice() else { return Err("usage: axum CERT_CHAIN.pem KEY.pem SECRETS.toml".into()) };
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    Ok(server(chain, key, secrets).serve_axum("127.0.0.1:8443", app()).with_graceful_shutdown(ctrl_c).await?)
}
