//! tonic's stubs take the client as it is: `cargo run -p ekm-otp-client --features tonic --example tonic https://localhost:8443 CA.pem`
//!
//! The stub is what tonic-build makes of this, written by hand, so that no compiler for it is needed. The server is `middleware/examples/tonic.rs`, whose
//! secret is test data.
//!
//! ```proto
//! package greeter;
//! message Name { string name = 1; }
//! service Greeter { rpc Hello(Name) returns (Name); }
//! ```

use bytes::{Buf as _, BufMut as _};
use ekm_otp_client::{Client, GrpcClient, Secret};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

/// `message Name`: one field, number 1, a string of less than 128 bytes.
#[derive(Clone, Default)]
struct Name;

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
            [FIELD_1_STRING, len @ ..128, name @ ..] if name.len() == usize::from(*len) => {
                Ok(Some(String::from_utf8_lossy(name).into_owned()))
            }
            _ => Err(Status::internal("this is no Name")),
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

/// The stub, as it is generated: `GreeterClient::new(api.grpc())`.
pub struct GreeterClient(tonic::client::Grpc<GrpcClient>);

impl GreeterClient {
    /// On an authenticated client.
    pub fn new(api: GrpcClient) -> Self {
        Self(tonic::client::Grpc::new(api))
    }

    /// `rpc Hello`. A status of `Unauthenticated` or `Unavailable` is also what a connection that could not be made ends with.
    pub async fn hello(&mut self, name: &str) -> Result<String, Status> {
        self.0.ready().await?;
        let path = PathAndQuery::from_static("/greeter.Greeter/Hello");
        let answer = self.0.unary(Request::new(name.to_owned()), path, Name).await?;
        Ok(answer.into_inner())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(origin), Some(ca)) = (arguments.next(), arguments.next()) else { return Err("usage: tonic https://HOST:PORT CA.pem".into()) };
    let secret = Secret::new(b"test data, used nowhere else ...".to_vec())?;
    let api = Client::new(origin).kid("client1").secret(secret).ca_file(ca)?.http2_only().build()?;
    println!("{}", GreeterClient::new(api.grpc()).hello("world").await?);
    Ok(())
}
