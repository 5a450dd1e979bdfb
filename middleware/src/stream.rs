//! The TLS stream of one connection, which can be ended from outside: by age, after failures, by a revoked key, or because nobody
//! was verified on it in time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use ekm_otp::Handshake;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use crate::closed::Closed;
use crate::connections::Place;
use crate::events::{Events, NoEvents};
use crate::lifeline::{Lifeline, Stage, State};
use crate::profile::Exporter;
use crate::timer::ConnectionTimer;
use crate::tls_io::TlsIo;
use crate::{Authentication, ConnectionAuthenticator};

/// How long a connection that is to be closed may go on with what is under way.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// How much of an upload that was answered early is read and dropped, and how long, so that the answer is not lost: a connection that is
/// closed with bytes unread is reset (RFC 9112 §9.6).
const LINGER: (usize, Duration) = (32 * 1024 * 1024, Duration::from_secs(10));

/// An accepted connection. It yields bytes and nothing of TLS: the keying material was exported once, before it was made.
#[derive(Debug)]
pub struct EkmStream<IO> {
    io: TlsIo<IO>,
    authenticator: ConnectionAuthenticator,
    lifeline: Arc<Lifeline>,
    timer: ConnectionTimer,
    phase: Phase,
    /// Whether bytes came, or were to leave, since the deadline was set.
    is_busy: bool,
    is_http2: bool,
    /// Tells the peer that the stream ends. A pointer, since `Drop` knows nothing of `IO`.
    close: fn(&mut TlsIo<IO>),
    /// Whether it was told.
    is_closed: bool,
    /// Its place among a listener's connections, for as long as it is here.
    _place: Option<Place>,
}

/// What the deadline ends.
#[derive(Debug)]
enum Phase {
    /// The time for a first verified request; then the connection lives until this instant.
    Unverified { then_until: u64 },
    /// The connection's life.
    Verified,
    /// What was under way when the connection was to be closed.
    Grace,
    /// The stream is closed, and the peer still sends: that much more of it is dropped.
    Lingering { left: usize },
}

/// close_notify, as far as that goes without waiting: hyper drops connections on its time-outs.
fn close<IO: AsyncRead + AsyncWrite + Unpin>(io: &mut TlsIo<IO>) {
    let _ = Pin::new(io).poll_shutdown(&mut Context::from_waker(Waker::noop()));
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> EkmStream<IO> {
    pub(crate) fn new(
        io: TlsStream<IO>,
        handshake: Handshake,
        authentication: Arc<Authentication>,
        events: Arc<dyn Events>,
        lifeline: Arc<Lifeline>,
        timer: ConnectionTimer,
        place: Option<Place>,
    ) -> Self {
        let is_http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
        let (io, exporter) = if authentication.other_profile.is_some() {
            let io = Arc::new(Mutex::new(io));
            // Weak: whoever holds the authenticator does not keep the connection open.
            let exporter = Exporter::new(Arc::downgrade(&io));
            (TlsIo::Shared(io), Some(exporter))
        } else {
            (TlsIo::Owned(io), None)
        };
        let member = place.as_ref().map(|place| place.member().clone());
        let authenticator = ConnectionAuthenticator::of(handshake, authentication, Arc::clone(&lifeline), member, exporter, events);
        Self::open(io, authenticator, lifeline, timer, is_http2, place)
    }

    /// A connection of another TLS stack than rustls: `io` is its stream, past the handshake that is told in `handshake`
    /// ([`Handshake::of_other_stack`]). From here on it is like any other: it ends by age, after failures, with its key, or when nobody is verified on
    /// it in time, and [`serve_connection`](crate::serve_connection) serves it. It counts among no listener's
    /// [`Connections`](crate::Connections), has no peer's address, and takes no credential of the profile `go`.
    #[must_use]
    pub fn over(io: IO, handshake: Handshake, authentication: Arc<Authentication>, is_http2: bool) -> Self {
        let lifeline = Arc::new(Lifeline::new());
        let timer = ConnectionTimer::new(&lifeline, u64::MAX);
        let authenticator = ConnectionAuthenticator::of(handshake, authentication, Arc::clone(&lifeline), None, None, Arc::new(NoEvents));
        Self::open(TlsIo::Other(io), authenticator, lifeline, timer, is_http2, None)
    }

    fn open(
        io: TlsIo<IO>,
        authenticator: ConnectionAuthenticator,
        lifeline: Arc<Lifeline>,
        mut timer: ConnectionTimer,
        is_http2: bool,
        place: Option<Place>,
    ) -> Self {
        let ages = authenticator.authentication().ages();
        lifeline.advance_stage(Stage::Unverified);
        let now = lifeline.nanoseconds(Instant::now());
        let [unverified, verified] = ages.map(|age| now.saturating_add(nanoseconds(age)));
        timer.set(unverified);
        let phase = Phase::Unverified { then_until: verified };
        Self { io, authenticator, lifeline, timer, phase, is_busy: false, is_http2, close, is_closed: false, _place: place }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<IO> EkmStream<IO> {
    /// What authenticates this connection's requests.
    #[must_use]
    pub fn authenticator(&self) -> &ConnectionAuthenticator {
        &self.authenticator
    }

    /// Whether both sides agreed on HTTP/2 (RFC 9113 §3.2). Otherwise it is HTTP/1.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.is_http2
    }

    fn check(&self) -> io::Result<()> {
        if self.lifeline.state() < State::Cut {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was ended by its authenticator"))
        }
    }

    /// Before any bytes pass: whether the connection's time is over, also where neither side ever waits.
    fn check_time(&mut self) -> io::Result<()> {
        if self.lifeline.is_due() {
            while self.lifeline.state() < State::Cut && self.timer.is_over(&self.lifeline) {
                self.on_deadline();
            }
        }
        self.check()
    }

    /// While a read or a write waits: whether the connection's time is over, or it was ended from outside. The waker is registered before.
    fn poll_end(&mut self) -> Poll<io::Error> {
        loop {
            if let Err(e) = self.check() {
                return Poll::Ready(e);
            }
            if self.lifeline.state() == State::Closing && !matches!(self.phase, Phase::Grace) {
                self.start_grace();
            }
            if !self.timer.is_over(&self.lifeline) {
                return Poll::Pending;
            }
            self.on_deadline();
        }
    }

    /// The deadline has passed. Sets the next.
    fn on_deadline(&mut self) {
        match self.phase {
            Phase::Unverified { then_until } if self.authenticator.is_verified() => {
                self.phase = Phase::Verified;
                self.timer.set(then_until);
            }
            Phase::Unverified { then_until } if self.lifeline.was_let_in() => self.go_on_until(then_until),
            Phase::Unverified { .. } => self.start_end(Closed::Unverified),
            Phase::Verified => self.start_end(Closed::Age),
            Phase::Grace | Phase::Lingering { .. } => self.lifeline.advance(State::Cut),
        }
    }

    /// Nobody was verified, and nobody needs to be: an answer that goes on is not cut.
    fn go_on_until(&mut self, end: u64) {
        let now = self.lifeline.nanoseconds(Instant::now());
        if now >= end {
            self.start_end(Closed::Age);
        } else if std::mem::take(&mut self.is_busy) {
            let [unverified, _] = self.authenticator.authentication().ages();
            self.timer.set(now.saturating_add(nanoseconds(unverified)).min(end));
        } else {
            self.start_end(Closed::Unverified);
        }
    }

    fn start_end(&mut self, why: Closed) {
        self.lifeline.end(State::Closing, why);
        self.start_grace();
    }

    fn start_grace(&mut self) {
        self.phase = Phase::Grace;
        self.set_timer(CLOSE_GRACE);
    }

    fn set_timer(&mut self, from_now: Duration) {
        let now = self.lifeline.nanoseconds(Instant::now());
        self.timer.set(now.saturating_add(nanoseconds(from_now)));
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for EkmStream<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let end = match self.check_time() {
            Err(end) => end,
            Ok(()) => match Pin::new(&mut self.io).poll_read(cx, buf) {
                Poll::Pending => {
                    self.lifeline.register_reader(cx);
                    self.lifeline.shorten_head();
                    ready!(self.poll_end())
                }
                ready => {
                    self.is_busy = true;
                    self.lifeline.bytes_came();
                    return ready;
                }
            },
        };
        // Somebody may hold the other half of a stream that was split: the peer is told all the same.
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        Poll::Ready(Err(end))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> EkmStream<IO> {
    fn poll_writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TlsIo<IO>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.check_time()?;
        match write(Pin::new(&mut self.io), cx) {
            Poll::Pending => {
                self.lifeline.register_writer(cx);
                self.poll_end().map(Err)
            }
            ready => ready,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for EkmStream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_busy = true;
        self.poll_writing(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.is_busy = true;
        self.poll_writing(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(self.phase, Phase::Lingering { .. }) {
            ready!(self.poll_writing(cx, |io, cx| io.poll_shutdown(cx)))?;
            self.is_closed = true;
            if !self.authenticator.may_be_uploading() {
                return Poll::Ready(Ok(()));
            }
            self.phase = Phase::Lingering { left: LINGER.0 };
            self.set_timer(LINGER.1);
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> EkmStream<IO> {
    /// Reads what the peer still sends, until it has heard of the end, too.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut dropped = [0; 8192];
        while let Phase::Lingering { left: left @ 1.. } = self.phase {
            let mut buffer = ReadBuf::new(&mut dropped);
            self.lifeline.register_reader(cx);
            if self.check().is_err() || self.timer.is_over(&self.lifeline) {
                break;
            }
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.phase = Phase::Lingering { left: left.saturating_sub(buffer.filled().len()) },
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<IO> Drop for EkmStream<IO> {
    fn drop(&mut self) {
        if !self.is_closed {
            (self.close)(&mut self.io);
        }
        self.authenticator.left();
    }
}
