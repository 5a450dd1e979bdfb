//! A gRPC server: `cargo run -p ekm-otp-tower --features registry-file,server,tonic --example tonic CERT_CHAIN.pem KEY.pem SECRETS.toml`
//!
//! It listens on 127.0.0.1:8443 for `localhost`, until Ctrl-C. The service is what tonic-build makes of this, written by hand, so that no compiler for it is
//! needed; a generated server, or tonic's `Routes` of several, is given to `serve_tower` just so.
//!
//! ```proto
//! package greeter;
//! message Name { string name = 1; }
//! service Greeter { rpc Hello(Name) returns (Name); }
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _};
use ekm_otp_tower::{EkmServer, VerifiedClient};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::Grpc;
use tower_service::Service;

/// `message Name`: one field, number 1, a string of less than 128 bytes.
#[derive(Clone, Default)]
pub struct Name;

const FIELD_1_STRING: u8 = 0x0a;

impl Encoder for Name {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, name: String, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let len = u8::try_from(name.len()).ok().filter(|len| *len < 128).ok_or_else(|| Status::internal("a long name"))?;
        out.put_slice(&[FIELD_1_STRING, len]);
        out.put_slice(name.as_bytes());
        Ok(())
    }
}

impl Decoder for Name {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = message.copy_to_bytes(message.remaining());
        match bytes.as_ref() {
            [] => Ok(Some(String::new())),
            [FIELD_1_STRING, len @ ..128, name @ ..] if name.len() == usize::from(*len) => {
                Ok(Some(String::from_utf8_lossy(name).into_owned()))
            }
            _ => Err(Status::invalid_argument("this is no Name")),
        }
    }
}

impl Codec for Name {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

/// `rpc Hello`. A handler finds its client in the request's extensions.
#[derive(Clone)]
struct Hello;

impl Service<tonic::Request<String>> for Hello {
    type Response = tonic::Response<String>;
    type Error = Status;
    type Future = std::future::Ready<Result<tonic::Response<String>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        let answer = match request.extensions().get::<VerifiedClient>() {
            Some(client) => Ok(tonic::Response::new(format!("hello {}, says {}", request.get_ref(), client.client()))),
            None => Err(Status::unauthenticated("nobody was verified")),
        };
        std::future::ready(answer)
    }
}

/// `service Greeter`.
#[derive(Clone)]
pub struct Greeter;

impl<B> Service<Request<B>> for Greeter
where
    B: http_body::Body<Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/greeter.Greeter/Hello" => Grpc::new(Name).unary(Hello, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// What stands before it.
pub fn server(chain: &str, key: &str, secrets: &str) -> EkmServer {
    EkmServer::new("localhost").certificate(chain, key).registry_file(secrets)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [chain, key, secrets] = args.as_slice() else { return Err("usage: tonic CERT_CHAIN.pem KEY.pem SECRETS.toml".into()) };
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    Ok(server(chain, key, secrets).serve_tower("127.0.0.1:8443", Greeter).with_graceful_shutdown(ctrl_c).await?)
}
