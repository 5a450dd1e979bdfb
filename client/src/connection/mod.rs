//! One authenticated connection: its credential goes with every request, its proof is checked on every response that carries one.

mod info;
mod line;
pub(crate) mod probe;

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ekm_otp::field::AuthenticationInfo;
use ekm_otp::{Authority, ServerProof, TlsFacts, origin_form};
use http::header::{AUTHORIZATION, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use self::line::Line;
use crate::RequestError;
use crate::tasks::Tasks;

pub(crate) use info::Facts;
pub use info::{ConnectionInfo, Timings};
pub use line::Body;
pub(crate) use line::{Peer, Sign};

/// What belongs to one connection and ends with it.
pub(crate) struct Keys {
    pub(crate) signer: Box<dyn Sign>,
    /// `None` in a profile whose server proves nothing.
    pub(crate) proof: Option<ServerProof>,
}

/// A request that got no answer.
pub(crate) struct Lost {
    pub(crate) error: RequestError,
    /// The request as it was given, where none of it was written.
    pub(crate) unsent: Option<Box<Request<Body>>>,
}

impl From<RequestError> for Lost {
    fn from(error: RequestError) -> Self {
        Self { error, unsent: None }
    }
}

/// A TLS connection with its credential. Closed when dropped.
pub struct Connection {
    line: Mutex<Line>,
    tasks: Tasks,
    peer: Arc<Peer>,
    origin: Authority,
    proof: Option<ServerProof>,
    facts: Arc<Facts>,
    deadline: Duration,
    is_proven: AtomicBool,
}

impl Connection {
    pub(crate) async fn start(
        tls: TlsStream<TcpStream>,
        origin: Authority,
        keys: Keys,
        facts: Facts,
        deadline: Duration,
    ) -> Result<Self, hyper::Error> {
        // A broken connection shows in the answer to the request that is under way.
        let (tasks, peer) = (Tasks::default(), Arc::default());
        let line = Line::start(tls, keys.signer, &tasks, &peer).await?;
        Ok(Self {
            line: Mutex::new(line),
            tasks,
            peer,
            origin,
            proof: keys.proof,
            facts: Arc::new(facts),
            deadline,
            is_proven: AtomicBool::new(false),
        })
    }

    /// Sends one request and waits for the response's header section. The URI is a path, or names the connection's origin.
    ///
    /// A connection with [tokens](crate::Connector::credential) adds the `ExtraClaims` (feature `jose`) that it finds in the
    /// request's extensions to the request's token.
    ///
    /// # Errors
    /// As [`RequestError`] tells. After [`RequestError::WrongProof`] the connection is not to be used again.
    pub async fn send<B>(&mut self, request: Request<B>) -> Result<Response<Incoming>, RequestError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let exchange = tokio::time::timeout(self.deadline, self.exchange(request));
        exchange.await.map_err(|_| RequestError::Deadline(self.deadline))?.map_err(|lost| lost.error)
    }

    /// [`send`](Self::send) without a deadline. Several may be under way where the connection is HTTP/2; they are signed in the order in which they
    /// are sent.
    pub(crate) async fn exchange(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Lost> {
        self.address(&mut request)?;
        for reserved in [AUTHORIZATION, HOST] {
            if request.headers().contains_key(&reserved) {
                return Err(RequestError::ReservedField(reserved).into());
            }
        }
        if let Err(error) = poll_fn(|context| self.line().poll_ready(context)).await {
            return Err(Lost { error: error.into(), unsent: Some(Box::new(request)) });
        }
        let answer = self.line().send(request, &self.origin)?;
        let response = answer.await.map_err(|mut error| {
            let unsent = error.take_message().map(|mut request| {
                for ours in [AUTHORIZATION, HOST] {
                    request.headers_mut().remove(ours);
                }
                Box::new(request)
            });
            Lost { error: error.into_error().into(), unsent }
        })?;
        self.check(&response)?;
        Ok(response)
    }

    /// The proof, where there is one, must be right.
    fn check(&self, response: &Response<Incoming>) -> Result<(), RequestError> {
        let Some(expected) = &self.proof else { return Ok(()) };
        match AuthenticationInfo::read(response.headers().get_all(AuthenticationInfo::FIELD).iter().map(HeaderValue::as_bytes)) {
            AuthenticationInfo::Absent => Ok(()),
            AuthenticationInfo::Proof(proof) if expected.verify(&proof) => {
                self.is_proven.store(true, Ordering::Release);
                Ok(())
            }
            _ => {
                self.tasks.end();
                Err(RequestError::WrongProof)
            }
        }
    }

    /// Brings the request's URI into origin form, after a look at what else it names.
    fn address(&self, request: &mut Request<Body>) -> Result<(), RequestError> {
        let uri = request.uri();
        let is_ours = match uri.authority() {
            // Extended CONNECT (RFC 8441 §4) has a target as other requests have.
            None => request.method() != Method::CONNECT || request.extensions().get::<hyper::ext::Protocol>().is_some(),
            Some(authority) => {
                uri.scheme() == Some(&Scheme::HTTPS) && Authority::parse(authority.as_str()).is_ok_and(|asked| asked == self.origin)
            }
        };
        if !is_ours {
            return Err(RequestError::ForeignAuthority { asked: uri.to_string(), origin: self.origin.clone() });
        }
        let target = PathAndQuery::try_from(&*origin_form(uri)).map_err(|error| RequestError::Target(error.into()))?;
        *request.uri_mut() = Uri::from(target);
        Ok(())
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection's TLS facts.
    #[must_use]
    pub fn tls(&self) -> &TlsFacts {
        &self.facts.tls
    }

    /// The HTTP version that was agreed on.
    #[must_use]
    pub fn http_version(&self) -> Version {
        self.facts.version
    }

    /// How long the holder of the key took for its one MAC (in the profile `go`, with a JWE: two).
    #[must_use]
    pub fn mac_time(&self) -> Duration {
        self.facts.timings.mac
    }

    /// Whether the server has proved that it holds the secret.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Acquire)
    }

    /// All that is known of the connection.
    #[must_use]
    pub fn info(&self) -> ConnectionInfo {
        ConnectionInfo::new(Arc::clone(&self.facts), self.is_proven())
    }

    /// Closes the connection and yields its last credential, for demonstrations: it fits no other connection. `None` when no request was sent.
    pub async fn retire(self) -> Option<RetiredCredential> {
        self.retire_in_place().await
    }
}

/// For the pool, which shares connections and judges when they are to be used.
impl Connection {
    /// Whether another request may be sent at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.line().is_ready()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.line().is_closed()
    }

    /// Waits until HTTP/1.1 is done with its request and response.
    pub(crate) async fn ready(&self) -> Result<(), hyper::Error> {
        poll_fn(|context| self.line().poll_ready(context)).await
    }

    /// What the server lets this side do.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// [`retire`](Self::retire) of a connection that others hold, too.
    pub(crate) async fn retire_in_place(&self) -> Option<RetiredCredential> {
        // Their socket is closed then.
        self.tasks.ended().await;
        self.line().take_credential().map(RetiredCredential)
    }

    /// Sends no more, and lets what is under way end: TLS and HTTP/2 say goodbye. Closed at the latest when `within` has passed.
    pub(crate) async fn goodbye(&self, within: Duration) {
        self.line().hang_up();
        let _ = tokio::time::timeout(within, self.tasks.finished()).await;
    }

    /// Closes it at once.
    pub(crate) fn end(&self) {
        self.tasks.end();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // HTTP/2 would otherwise wait for its handles.
        self.tasks.end();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("origin", &self.origin).field("tls", &self.facts.tls).finish_non_exhaustive()
    }
}

/// The credential of a closed connection. Its `Debug` is redacted; [`reveal`](Self::reveal) is greppable.
pub struct RetiredCredential(HeaderValue);

impl RetiredCredential {
    /// The whole `Authorization` field; in the profile `go` with an API key, the field `apikey`.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Debug for RetiredCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetiredCredential(..)")
    }
}
