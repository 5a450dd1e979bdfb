//! One authenticated connection: its credential goes with every request, its proof is checked on every response that carries one.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use ekm_otp::field::{AuthenticationInfo, Challenge};
use ekm_otp::jose::SignedRequest;
use ekm_otp::{Authority, ServerProof, TlsFacts, WELL_KNOWN_PATH};
use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::tasks::Tasks;
use crate::{ConnectError, RequestError};

/// A request's body, whatever it is made of.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// What belongs to one connection and ends with it.
pub(crate) struct Keys {
    pub(crate) signer: Box<dyn Sign>,
    /// `None` in a profile whose server proves nothing.
    pub(crate) proof: Option<ServerProof>,
}

/// Puts the connection's credential into its requests.
pub(crate) trait Sign: Send + Sync {
    /// Signs a request whose URI is its origin-form target. Yields the credential that it put there.
    fn sign(&mut self, request: &mut Request<Body>) -> Result<HeaderValue, RequestError>;
}

/// A TLS connection with its credential. Closed when dropped.
pub struct Connection {
    sender: Sender,
    tasks: Tasks,
    origin: Authority,
    facts: TlsFacts,
    keys: Keys,
    last_credential: Option<HeaderValue>,
    mac_time: Duration,
    deadline: Duration,
    is_proven: bool,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

impl Connection {
    pub(crate) async fn start(
        tls: TlsStream<TcpStream>,
        origin: Authority,
        facts: TlsFacts,
        keys: Keys,
        mac_time: Duration,
        deadline: Duration,
    ) -> Result<Self, hyper::Error> {
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        // A broken connection shows in the answer to the request that is under way.
        let tasks = Tasks::default();
        let sender = if is_h2 {
            let (sender, connection) = http2::handshake(tasks.clone(), io).await?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::H2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::H1(sender)
        };
        Ok(Self { sender, tasks, origin, facts, keys, last_credential: None, mac_time, deadline, is_proven: false })
    }

    /// The mutual round: a bodyless GET that only a holder of the secret can answer rightly.
    pub(crate) async fn require_proof(&mut self) -> Result<(), ConnectError> {
        let probe = Request::get(WELL_KNOWN_PATH).body(Empty::new()).map_err(|e| ConnectError::NotProven(e.to_string()))?;
        let response = match self.send(probe).await {
            Ok(response) => response,
            Err(RequestError::WrongProof) => return Err(ConnectError::NotProven("its proof is wrong".into())),
            Err(RequestError::Http(e)) => return Err(e.into()),
            Err(RequestError::Deadline(deadline)) => return Err(ConnectError::Deadline { phase: "the probe", deadline }),
            Err(other) => return Err(ConnectError::NotProven(other.to_string())),
        };
        match response.status() {
            StatusCode::NO_CONTENT if self.is_proven => Ok(()),
            StatusCode::NO_CONTENT => Err(ConnectError::NotProven("its answer carries no proof".into())),
            StatusCode::UNAUTHORIZED => {
                let why = match Challenge::read(response.headers().get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes)) {
                    Some(Challenge { error: Some(error), .. }) if error == "channel" => {
                        "it sees another TLS connection than this client: TLS ends somewhere in between"
                    }
                    Some(Challenge { error: Some(error), .. }) if error == "credential" => {
                        "it wants another kind of credential from this key id, or from all (--credential otp, jws or jwe)"
                    }
                    Some(Challenge { error: Some(error), .. }) if error == "time" => "the two clocks differ too much",
                    Some(Challenge { error: Some(error), .. }) if error == "claims" => {
                        "it sees another request than this client sent: something in between changes the authority or the target"
                    }
                    Some(_) => {
                        "unknown key id, another secret, a revoked key, one of the other profile, or a name that the server is not configured for"
                    }
                    None => {
                        return Err(ConnectError::NotProven(
                            "it answers 401 without an EKM-OTP challenge (is it an EKM-OTP server, of protocol v1?)".into(),
                        ));
                    }
                };
                Err(ConnectError::Refused { status: StatusCode::UNAUTHORIZED, why })
            }
            status @ StatusCode::MISDIRECTED_REQUEST => Err(ConnectError::Refused {
                status,
                why: "the server is not configured for this authority (its --server-name or --authority)",
            }),
            status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => Err(ConnectError::Unavailable(status)),
            status => Err(ConnectError::NotProven(format!("it answers {status} to the probe (is it an EKM-OTP server?)"))),
        }
    }

    /// Sends one request and waits for the response's header section. The URI is a path, or names the connection's origin.
    ///
    /// A connection with [tokens](crate::Connector::credential) adds the [`ExtraClaims`](ekm_otp::jose::ExtraClaims) that it finds in the
    /// request's extensions to the request's token.
    ///
    /// # Errors
    /// As [`RequestError`] tells. After [`RequestError::WrongProof`] the connection is not to be used again.
    pub async fn send<B>(&mut self, request: Request<B>) -> Result<Response<Incoming>, RequestError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        self.address(&mut request)?;
        for reserved in [AUTHORIZATION, HOST] {
            if request.headers().contains_key(&reserved) {
                return Err(RequestError::ReservedField(reserved));
            }
        }
        self.last_credential = Some(self.keys.signer.sign(&mut request)?);
        let response = tokio::time::timeout(self.deadline, self.sender.send(request, &self.origin))
            .await
            .map_err(|_| RequestError::Deadline(self.deadline))??;
        let Some(expected) = &self.keys.proof else { return Ok(response) };
        match AuthenticationInfo::read(response.headers().get_all(AuthenticationInfo::FIELD).iter().map(HeaderValue::as_bytes)) {
            AuthenticationInfo::Absent => {}
            AuthenticationInfo::Proof(proof) if expected.verify(&proof) => self.is_proven = true,
            _ => {
                self.tasks.end();
                return Err(RequestError::WrongProof);
            }
        }
        Ok(response)
    }

    /// Brings the request's URI into origin form, after a look at what else it names.
    fn address(&self, request: &mut Request<Body>) -> Result<(), RequestError> {
        let uri = request.uri();
        let is_ours = match uri.authority() {
            None => request.method() != Method::CONNECT,
            Some(authority) => {
                uri.scheme() == Some(&Scheme::HTTPS) && Authority::parse(authority.as_str()).is_ok_and(|asked| asked == self.origin)
            }
        };
        if !is_ours {
            return Err(RequestError::ForeignAuthority { asked: uri.to_string(), origin: self.origin.clone() });
        }
        let target = PathAndQuery::try_from(&*SignedRequest::origin_form(uri)).map_err(http::Error::from)?;
        *request.uri_mut() = Uri::from(target);
        Ok(())
    }

    /// The connection's TLS facts.
    #[must_use]
    pub fn tls(&self) -> &TlsFacts {
        &self.facts
    }

    /// The HTTP version that was agreed on.
    #[must_use]
    pub fn http_version(&self) -> http::Version {
        match self.sender {
            Sender::H1(_) => http::Version::HTTP_11,
            Sender::H2(_) => http::Version::HTTP_2,
        }
    }

    /// How long the holder of the key took for its one MAC (in the profile `go`, with a JWE: two).
    #[must_use]
    pub fn mac_time(&self) -> Duration {
        self.mac_time
    }

    /// Whether the server has proved that it holds the secret.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Closes the connection and yields its last credential, for demonstrations: it fits no other connection. `None` when no request was sent.
    pub async fn retire(mut self) -> Option<RetiredCredential> {
        // Their socket is closed then.
        self.tasks.ended().await;
        self.last_credential.take().map(RetiredCredential)
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
        f.debug_struct("Connection").field("origin", &self.origin).field("tls", &self.facts).finish_non_exhaustive()
    }
}

impl Sender {
    async fn send(&mut self, mut request: Request<Body>, origin: &Authority) -> Result<Response<Incoming>, RequestError> {
        match self {
            Self::H1(sender) => {
                let host = HeaderValue::from_str(&origin.to_string()).map_err(http::Error::from)?;
                request.headers_mut().insert(HOST, host);
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Self::H2(sender) => {
                let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
                *request.uri_mut() = Uri::builder().scheme(Scheme::HTTPS).authority(origin.to_string()).path_and_query(target).build()?;
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
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
