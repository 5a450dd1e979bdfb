//! tower's layers take the client as it is. This one asks again what was certainly not processed:
//! `cargo run -p ekm-otp-client --example tower_retry https://localhost:8443 CA.pem`
//!
//! The secret is test data, the one of the servers in `middleware/examples`.

use std::time::Duration;

use bytes::Bytes;
use ekm_otp_client::{Client, Error, Response, ResponseBody, Secret};
use http::Request;
use http_body_util::Full;
use tokio::time::{Sleep, sleep};
use tower::ServiceExt as _;
use tower::retry::{Policy, Retry};

/// As long as it makes sense, but not for ever. A client of its own kind backs off by itself: this waits as long as that.
#[derive(Clone)]
pub struct Patience {
    /// How often it is asked again.
    pub tries: u32,
}

impl Policy<Request<Full<Bytes>>, http::Response<ResponseBody>, Error> for Patience {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Request<Full<Bytes>>, result: &mut Result<http::Response<ResponseBody>, Error>) -> Option<Sleep> {
        let error = result.as_ref().err().filter(|error| error.is_retryable())?;
        self.tries = self.tries.checked_sub(1)?;
        Some(sleep(error.retry_after().unwrap_or(Duration::from_millis(50))))
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}

/// Posts, also where the server is not there yet.
pub async fn run(api: Client, patience: Patience) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::post("/echo").body(Full::new(Bytes::from_static(b"hello")))?;
    let response = Retry::new(patience, api).oneshot(request).await?;
    Ok(Response::of(response).text().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(origin), Some(ca)) = (arguments.next(), arguments.next()) else {
        return Err("usage: tower_retry https://HOST:PORT CA.pem".into());
    };
    let secret = Secret::new(b"test data, used nowhere else ...".to_vec())?;
    let api = Client::new(origin).kid("client1").secret(secret).ca_file(ca)?.build()?;
    println!("{}", run(api, Patience { tries: 20 }).await?);
    Ok(())
}
