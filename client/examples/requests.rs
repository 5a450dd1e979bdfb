//! A program that sends requests, with a key holder of its own: `cargo run -p ekm-otp-client --example requests https://localhost:8443 CA.pem`
//!
//! The secret is test data, the one of the servers in `middleware/examples`.

use std::error::Error;
use std::path::Path;

use bytes::Bytes;
use ekm_otp_client::{Client, ConnectionInfo, Secret, Signer, SignerError, Tag};
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::{BodyExt as _, Full};

type AnyError = Box<dyn Error + Send + Sync>;

/// Stands for whatever holds your secret: a PKCS#11 module, a KMS. It is asked once per connection.
#[derive(Debug)]
pub struct Holder(pub Secret);

impl Signer for Holder {
    fn mac<'a>(&'a self, input: &'a [u8]) -> BoxFuture<'a, Result<Tag, SignerError>> {
        // A remote one is awaited here; what it cannot do for now is `SignerError::temporary`, for good `SignerError::new`.
        Box::pin(async move { Ok(self.0.mac(input)) })
    }
}

/// A resource as text, and an upload whose answer is read as it comes. Yields the text and the upload's answer.
pub async fn run(origin: &str, ca: &Path, holder: Holder) -> Result<(String, Vec<u8>), AnyError> {
    let api = Client::new(origin).kid("client1").signer(holder).ca_file(ca)?.build()?;
    let text = api.get("/whoami").await?.text().await?;

    let request = Request::post("/echo").header("content-type", "text/plain").body(Full::new(Bytes::from_static(b"hello")))?;
    let response = api.send(request).await?;
    if let Some(connection) = response.extensions().get::<ConnectionInfo>() {
        eprintln!("{:?} over {}, a MAC of {:?}", response.status(), connection.tls(), connection.mac_time());
    }
    let (mut body, mut answer) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            answer.extend_from_slice(&data);
        }
    }
    Ok((text, answer))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(origin), Some(ca)) = (arguments.next(), arguments.next()) else {
        return Err("usage: requests https://HOST:PORT CA.pem".into());
    };
    let holder = Holder(Secret::new(b"test data, used nowhere else ...".to_vec())?);
    let (text, answer) = run(&origin, ca.as_ref(), holder).await?;
    println!("{text}{}", String::from_utf8_lossy(&answer));
    Ok(())
}
