//! One connection under hyper, from its handshake on, closed gracefully by whoever wants its end.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_layer::Layer as _;

use crate::acceptor::Handshaking;
use crate::lifeline::Lifeline;
use crate::timer::HeadTimer;
use crate::{EkmOtp, EkmStream, ResponseFuture};

type BoxError = Box<dyn Error + Send + Sync>;

/// How HTTP is spoken: hyper's settings for both versions.
#[derive(Clone, Debug)]
pub struct Http<E> {
    http1: http1::Builder,
    http2: http2::Builder<E>,
    header_within: Duration,
}

impl<E: Clone> Http<E> {
    /// How long a request's header section may take from its first byte on, unless set otherwise: 15 seconds.
    pub const HEADER_WITHIN: Duration = Duration::from_secs(15);

    /// hyper's defaults, and a timer for HTTP/2. The executor runs the requests of HTTP/2 connections.
    pub fn new(executor: E) -> Self {
        let mut http2 = http2::Builder::new(executor);
        http2.timer(TokioTimer::new());
        Self { http1: http1::Builder::new(), http2, header_within: Self::HEADER_WITHIN }
    }

    /// The settings of HTTP/1. Its timer is the connection's own, whatever is set here: its `header_read_timeout` is how long a connection
    /// may be idle before a request's header section is there, 30 seconds by default.
    pub fn http1(&mut self) -> &mut http1::Builder {
        &mut self.http1
    }

    /// Sets how long a request's header section may take from its first byte on (HTTP/1), however long a connection may be idle before that.
    pub fn header_within(&mut self, deadline: Duration) -> &mut Self {
        self.header_within = deadline;
        self
    }

    /// The settings of HTTP/2.
    pub fn http2(&mut self) -> &mut http2::Builder<E> {
        &mut self.http2
    }
}

/// Serves one connection with `service` behind the authentication layer, upgrades included: its TLS handshake first, where `connection` is still
/// [at that](Handshaking), then HTTP/2 or HTTP/1.1, whichever both sides agreed on. Resolves when the peer has left, or the connection
/// was [closed](crate::ConnectionAuthenticator::close), [drained](crate::Connections::drain), or ended by its authenticator: then
/// what is under way is finished first.
///
/// A tower service (an axum router, say) is wrapped in hyper-util's `TowerToHyperService` first. Spawn the future as it is: an
/// `async move` block around it doubles the memory of an idle connection.
///
/// # Errors
/// When the handshake fails, or the connection breaks.
pub fn serve_connection<C, IO, S, B, E>(
    http: &Http<E>,
    connection: C,
    service: S,
) -> impl Future<Output = Result<(), BoxError>> + Send + use<C, IO, S, B, E>
where
    C: Into<Connection<IO>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    E: Http2ServerConnExec<ResponseFuture<S::Future, B>, B> + Clone + Send + Unpin + 'static,
    B: Body + Default + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    match connection.into() {
        Connection::Handshaking(handshaking) => Serving {
            protocol: Protocol::Handshaking { handshaking, next: Some((http.clone(), service)) },
            lifeline: None,
            is_ending: false,
        },
        Connection::Open(stream) => {
            let lifeline = Arc::clone(stream.authenticator().lifeline());
            Serving { protocol: Protocol::of(stream, http, service), lifeline: Some(lifeline), is_ending: false }
        }
    }
}

/// What can be served. Made from either.
#[derive(Debug)]
pub enum Connection<IO> {
    /// The handshake is yet to be finished.
    Handshaking(Handshaking<IO>),
    /// It is finished.
    Open(EkmStream<IO>),
}

impl<IO> From<Handshaking<IO>> for Connection<IO> {
    fn from(handshaking: Handshaking<IO>) -> Self {
        Self::Handshaking(handshaking)
    }
}

impl<IO> From<EkmStream<IO>> for Connection<IO> {
    fn from(stream: EkmStream<IO>) -> Self {
        Self::Open(stream)
    }
}

/// Written by hand: the compiler's own future would keep handshake and connection side by side.
struct Serving<IO, S, B, E>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>>,
    B: Body + Default,
{
    protocol: Protocol<IO, S, B, E>,
    /// Once the handshake is finished.
    lifeline: Option<Arc<Lifeline>>,
    is_ending: bool,
}

type Http2<IO, S, E> = http2::Connection<TokioIo<EkmStream<IO>>, EkmOtp<S>, E>;

/// How far it has come. HTTP/2's state is boxed: it is larger, and most connections have none.
#[expect(clippy::large_enum_variant, reason = "the large ones are the usual ones")]
enum Protocol<IO, S, B, E>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>>,
    B: Body + Default,
{
    Handshaking { handshaking: Handshaking<IO>, next: Option<(Http<E>, S)> },
    Http1(http1::UpgradeableConnection<TokioIo<EkmStream<IO>>, EkmOtp<S>>),
    Http2(Pin<Box<Http2<IO, S, E>>>),
}

impl<IO, S, B, E> Protocol<IO, S, B, E>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    E: Http2ServerConnExec<ResponseFuture<S::Future, B>, B> + Clone + Unpin,
    B: Body + Default + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn of(stream: EkmStream<IO>, http: &Http<E>, service: S) -> Self {
        let service = stream.authenticator().layer().outermost().layer(service);
        if stream.is_http2() {
            return Self::Http2(Box::pin(http.http2.serve_connection(TokioIo::new(stream), service)));
        }
        stream.authenticator().lifeline().set_head_within(u64::try_from(http.header_within.as_nanos()).unwrap_or(u64::MAX));
        let timer = HeadTimer(Arc::clone(stream.authenticator().lifeline()));
        Self::Http1(http.http1.clone().timer(timer).serve_connection(TokioIo::new(stream), service).with_upgrades())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        match self {
            Self::Http1(connection) => Pin::new(connection).poll(cx),
            Self::Http2(connection) => connection.as_mut().poll(cx),
            Self::Handshaking { .. } => Poll::Pending,
        }
    }

    fn end(&mut self) {
        match self {
            Self::Http1(connection) => Pin::new(connection).graceful_shutdown(),
            Self::Http2(connection) => connection.as_mut().graceful_shutdown(),
            Self::Handshaking { .. } => {}
        }
    }
}

impl<IO, S, B, E> Future for Serving<IO, S, B, E>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    E: Http2ServerConnExec<ResponseFuture<S::Future, B>, B> + Clone + Unpin,
    B: Body + Default + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Protocol::Handshaking { handshaking, next } = &mut this.protocol {
            let stream = ready!(Pin::new(handshaking).poll(cx))?;
            let (http, service) = next.take().unwrap_or_else(|| unreachable!("a handshake is finished once"));
            this.lifeline = Some(Arc::clone(stream.authenticator().lifeline()));
            this.protocol = Protocol::of(stream, &http, service);
        }
        loop {
            if let Poll::Ready(result) = this.protocol.poll(cx) {
                return Poll::Ready(Ok(result?));
            }
            if this.is_ending || this.lifeline.as_ref().is_none_or(|lifeline| lifeline.poll_closing(cx).is_pending()) {
                return Poll::Pending;
            }
            this.is_ending = true;
            this.protocol.end();
        }
    }
}

/// Nothing in it is pinned: hyper's connections are moved or boxed, the service is called, not polled.
impl<IO, S, B, E> Unpin for Serving<IO, S, B, E>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>>,
    B: Body + Default,
{
}
