//! From a byte stream to an [`EkmStream`]: one TLS handshake within a deadline, one export.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ekm_otp::{Handshake, ServerName, TlsPolicy};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::accept_error::AcceptError;
use crate::connections::Place;
use crate::events::{ConnectionFacts, Events, NoEvents};
use crate::lifeline::{Lifeline, State};
use crate::opening::{Arrived, Opening, feed};
use crate::peer::Peer;
use crate::timer::ConnectionTimer;
use crate::{Authentication, EkmStream};

/// Finishes TLS handshakes and makes each connection's authenticator. Cloning is cheap.
#[derive(Clone)]
pub struct EkmAcceptor {
    tls: TlsAcceptor,
    policy: TlsPolicy,
    authentication: Site,
    events: Arc<dyn Events>,
    handshake_within: Duration,
}

type Choose = dyn Fn(&ServerName) -> Arc<Authentication> + Send + Sync;

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a connection is authenticated against.
#[derive(Clone)]
enum Site {
    One(Arc<Authentication>),
    ByName(Arc<Choose>),
}

impl EkmAcceptor {
    /// How long a handshake may take, unless set otherwise: 10 seconds.
    pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

    /// How long a connection may say nothing, or not finish a load balancer's header: 3 seconds, or the handshake's deadline where that is
    /// shorter.
    pub const SPEAKS_WITHIN: Duration = Duration::from_secs(3);

    /// Takes a rustls configuration and restricts it to `policy` ([`TlsPolicy::restrict_server`]): no early data, no half-RTT data, TLS 1.2
    /// only with extended master secret and without resumption. Where it names no application protocol, h2 and http/1.1 are offered.
    ///
    /// Build it with [`TlsPolicy::provider`] and [`TlsPolicy::versions`]; what a handshake agrees on against the policy is refused in any case.
    #[must_use]
    pub fn new(config: ServerConfig, policy: TlsPolicy, authentication: Authentication) -> Self {
        Self::of(config, policy, Site::One(Arc::new(authentication)))
    }

    /// The same for several sites: `choose` is called once for each finished handshake, with the server name that the client asked for (empty
    /// where it named none), and says what the connection is authenticated against. For names that are none of yours, return any: its own
    /// [`ServerNames`](ekm_otp::ServerNames) refuse them.
    #[must_use]
    pub fn by_server_name(
        config: ServerConfig,
        policy: TlsPolicy,
        choose: impl Fn(&ServerName) -> Arc<Authentication> + Send + Sync + 'static,
    ) -> Self {
        Self::of(config, policy, Site::ByName(Arc::new(choose)))
    }

    fn of(mut config: ServerConfig, policy: TlsPolicy, authentication: Site) -> Self {
        policy.restrict_server(&mut config);
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Self {
            tls: TlsAcceptor::from(Arc::new(config)),
            policy,
            authentication,
            events: Arc::new(NoEvents),
            handshake_within: Self::HANDSHAKE_WITHIN,
        }
    }

    /// Sets how long a handshake may take.
    #[must_use]
    pub fn handshake_within(mut self, deadline: Duration) -> Self {
        self.handshake_within = deadline;
        self
    }

    /// Tells `events` of its connections and their requests.
    #[must_use]
    pub fn events(mut self, events: Arc<dyn Events>) -> Self {
        self.events = events;
        self
    }

    /// The handshake on `io`, to be awaited, or served as it is ([`serve_connection`](crate::serve_connection)).
    pub fn accept<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, io: IO) -> Handshaking<IO> {
        self.begin(io, Arc::new(Lifeline::new()), None, false)
    }

    /// The same for a connection that holds a place among a listener's, and perhaps begins with a load balancer's header.
    pub(crate) fn begin<IO>(&self, io: IO, lifeline: Arc<Lifeline>, place: Option<Place>, has_header: bool) -> Handshaking<IO>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let deadline = nanoseconds(self.handshake_within.min(Self::SPEAKS_WITHIN));
        Handshaking {
            phase: Phase::Opening(Opening::new(io, has_header)),
            timer: Some(ConnectionTimer::new(&lifeline, deadline)),
            lifeline,
            place,
            acceptor: self.clone(),
        }
    }

    /// Tells of a connection for which there is no place.
    pub(crate) fn tell_turned_away(&self, peer: Peer, error: &AcceptError) {
        let lifeline = Lifeline::new();
        let facts = ConnectionFacts { id: lifeline.id(), peer: Some(peer), tls: None, client: None };
        self.events.handshake_failed(&facts, error, lifeline.age());
    }
}

/// A TLS handshake. Resolves to the stream, or to why there is none.
pub struct Handshaking<IO> {
    phase: Phase<IO>,
    /// The connection's only timer. The stream goes on with it.
    timer: Option<ConnectionTimer>,
    lifeline: Arc<Lifeline>,
    place: Option<Place>,
    acceptor: EkmAcceptor,
}

enum Phase<IO> {
    Opening(Opening<IO>),
    Tls(Accept<IO>),
    /// What came first is no TLS: the alert is on its way.
    Failed(Accept<IO>, Option<io::Error>),
    Over,
}

impl<IO> Handshaking<IO> {
    /// The connection's number, which no other one of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.lifeline.id()
    }

    /// The other end, where it came by an [`EkmListener`](crate::EkmListener).
    fn peer(&self) -> Option<Peer> {
        self.place.as_ref().map(|place| place.member().peer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Handshaking<IO> {
    /// A load balancer's header, a look at the first bytes, TLS.
    fn poll_tls(&mut self, cx: &mut Context<'_>) -> Result<Poll<TlsStream<IO>>, AcceptError> {
        loop {
            match &mut self.phase {
                Phase::Opening(opening) => match opening.poll_next(cx) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Ready(Ok(Arrived::From(peer))) => {
                        if let Some(place) = &mut self.place {
                            place.comes_from(peer)?;
                        }
                    }
                    Poll::Ready(Ok(Arrived::Tls)) => {
                        if let Some(place) = &self.place {
                            place.has_spoken();
                        }
                        if let Some(timer) = &mut self.timer {
                            timer.set(nanoseconds(self.acceptor.handshake_within));
                        }
                        self.begin_tls();
                    }
                },
                Phase::Tls(tls) => {
                    return match Pin::new(tls).poll(cx) {
                        Poll::Ready(finished) => finished.map(Poll::Ready).map_err(AcceptError::Handshake),
                        Poll::Pending => Ok(Poll::Pending),
                    };
                }
                Phase::Failed(tls, error) => {
                    // It writes the alert, and then awaits what does not come.
                    let _ = Pin::new(tls).poll(cx);
                    return Err(AcceptError::Handshake(error.take().unwrap_or_else(|| io::ErrorKind::InvalidData.into())));
                }
                Phase::Over => return Ok(Poll::Pending),
            }
        }
    }

    fn begin_tls(&mut self) {
        if let Phase::Opening(opening) = std::mem::replace(&mut self.phase, Phase::Over) {
            let (io, received) = opening.into_parts();
            let mut fed = Ok(());
            let tls = self.acceptor.tls.accept_with(io, |session| fed = feed(session, &received));
            self.phase = match fed {
                Ok(()) => Phase::Tls(tls),
                Err(error) => Phase::Failed(tls, Some(error)),
            };
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<EkmStream<IO>, AcceptError>> {
        let stream = match self.poll_tls(cx)? {
            Poll::Ready(stream) => stream,
            Poll::Pending => {
                self.lifeline.register_reader(cx);
                if self.lifeline.state() >= State::Cut {
                    return Poll::Ready(Err(AcceptError::Ended));
                }
                if self.timer.as_mut().is_some_and(|timer| timer.is_over(&self.lifeline)) {
                    let is_answered = matches!(&self.phase, Phase::Opening(opening) if opening.is_answering());
                    let within = self.acceptor.handshake_within;
                    let has_spoken = !matches!(&self.phase, Phase::Opening(_));
                    let late = AcceptError::Deadline(if has_spoken { within } else { within.min(EkmAcceptor::SPEAKS_WITHIN) });
                    return Poll::Ready(Err(if is_answered { AcceptError::PlainHttp } else { late }));
                }
                return Poll::Pending;
            }
        };
        let handshake = Handshake::of_server(stream.get_ref().1, &self.acceptor.policy)?;
        let timer = self.timer.take().unwrap_or_else(|| unreachable!("a handshake is finished once"));
        if let Some(place) = &mut self.place {
            place.handshake_is_done()?;
        }
        let authentication = match &self.acceptor.authentication {
            Site::One(authentication) => Arc::clone(authentication),
            Site::ByName(choose) => choose(handshake.facts.server_name()),
        };
        let events = Arc::clone(&self.acceptor.events);
        let stream = EkmStream::new(stream, handshake, authentication, events, Arc::clone(&self.lifeline), timer, self.place.take());
        stream.authenticator().tell_open();
        tracing::debug!(peer = ?stream.authenticator().origin(), tls = %stream.authenticator().tls(), "accepted");
        Poll::Ready(Ok(stream))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Future for Handshaking<IO> {
    type Output = Result<EkmStream<IO>, AcceptError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let finished = ready!(self.poll_finish(cx));
        if let Err(error) = &finished {
            let facts = ConnectionFacts { id: self.id(), peer: self.peer(), tls: None, client: None };
            self.acceptor.events.handshake_failed(&facts, error, self.lifeline.age());
            if let Some(place) = &self.place {
                place.log_refused(error);
            }
        }
        Poll::Ready(finished)
    }
}

impl<IO> fmt::Debug for Handshaking<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshaking").field("place", &self.place).finish_non_exhaustive()
    }
}
