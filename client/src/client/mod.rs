//! The client that programs embed: one origin, one pool, requests in and answers out.

mod body;
mod builder;
mod error;
mod given;
#[cfg(feature = "tonic")]
mod grpc;
mod replay;
mod response;
mod service;
mod upgrade;
mod watched;
mod websocket;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ekm_otp::Authority;
use http::{HeaderMap, Request};
use http_body_util::Empty;

use self::replay::Outgoing;
use crate::connection::RetiredCredential;
use crate::pool::{Pool, Status};

pub use body::ResponseBody;
pub use builder::ClientBuilder;
pub use error::{Error, ErrorKind};
pub use given::BuildError;
#[cfg(feature = "tonic")]
pub use grpc::GrpcClient;
pub use response::Response;
pub use upgrade::{Upgrade, UpgradedStream};

/// Sends requests to one origin on authenticated connections, which it makes, shares and replaces. Cheap to clone: clones share the connections.
///
/// Redirects are not followed, cookies not kept, nothing is cached or decompressed: tower's layers do such things where they are wanted.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

impl Client {
    /// A client for this origin: `https://` and host, with the port where it is another than 443.
    #[expect(clippy::new_ret_no_self, reason = "what is new is not usable before it has a key")]
    pub fn new(origin: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(origin.into())
    }

    /// Sends one request and waits for the response's header section; the body comes as it is read. The URI is a path, or names the client's origin.
    ///
    /// The response's extensions hold the [`ConnectionInfo`](crate::ConnectionInfo). Any status is a response, 401 included.
    ///
    /// A request that certainly was not processed is sent again on another connection. One that may have been is sent again once, and only if its
    /// method is idempotent (RFC 9110 §9.2.2) and its body is empty or a [`Full`](http_body_util::Full).
    ///
    /// Dropped before it is done, it ends the request: on HTTP/1.1 with its connection.
    ///
    /// # Errors
    /// As [`Error`] tells.
    pub async fn send<B>(&self, request: Request<B>) -> Result<http::Response<ResponseBody>, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        replay::send(&self.pool, Outgoing::of(request)).await
    }

    /// Gets a resource.
    ///
    /// # Errors
    /// As [`Error`] tells. No status is an error.
    pub async fn get(&self, path: &str) -> Result<Response, Error> {
        let request = Request::get(path).body(Empty::<Bytes>::new()).map_err(Error::target)?;
        Ok(Response::of(self.send(request).await?))
    }

    /// Asks for another protocol on a stream of its own: by extended CONNECT (RFC 8441) where the server takes that on HTTP/2, by an upgrade
    /// (RFC 9110 §7.8) on an HTTP/1.1 connection of its own else. The request is authenticated as any other.
    ///
    /// `fields` are sent as they are, but for those that one of the two ways has and the other has not: for `websocket`, HTTP/1.1's
    /// `Sec-WebSocket-Key` is made here, and its answer is checked.
    ///
    /// # Errors
    /// As [`Error`] tells. A server that does not want is [`Upgrade::Refused`].
    pub async fn upgrade(&self, target: &str, protocol: &str, fields: HeaderMap) -> Result<Upgrade, Error> {
        upgrade::ask(&self.pool, target, protocol, fields).await
    }

    /// Waits until a connection stands on which the server has proved itself (unless [`Mutual::Prefer`](crate::Mutual::Prefer) asks for less), and
    /// makes one if there is none: for readiness checks.
    ///
    /// # Errors
    /// As [`Error`] tells.
    pub async fn connected(&self) -> Result<(), Error> {
        self.pool.acquire().await?.give_back();
        Ok(())
    }

    /// How the pool stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.pool.status()
    }

    /// The origin.
    #[must_use]
    pub fn origin(&self) -> &Authority {
        self.pool.origin()
    }

    /// Takes no new requests, and waits until those under way have ended, upgraded streams included. Then all connections are closed.
    pub async fn drain(&self) {
        self.pool.drain().await;
    }

    /// Closes all connections at once and yields the credential that was used last, for demonstrations: it fits no other connection. `None` when
    /// no request was sent.
    pub async fn retire(self) -> Option<RetiredCredential> {
        self.pool.retire().await
    }

    /// The same client as a service whose errors are `tonic::Status`, for tonic's stubs.
    #[cfg(feature = "tonic")]
    #[must_use]
    pub fn grpc(&self) -> GrpcClient {
        GrpcClient::new(self.clone())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("origin", self.pool.origin()).finish_non_exhaustive()
    }
}
