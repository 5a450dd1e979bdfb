//! What comes before a TLS handshake: a load balancer's header, where one is due, and a look at whether it is TLS at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::accept_error::AcceptError;
use crate::peer::Peer;
use crate::plain_http;
use crate::proxy_header;

/// How much of what a plain HTTP client still sends is read and dropped, so that its answer is not lost (RFC 9112 §9.6).
const LINGER: usize = 64 * 1024;

/// A connection of which the first bytes are awaited.
#[derive(Debug)]
pub(crate) struct Opening<IO> {
    io: IO,
    /// What was read and not used yet.
    received: Vec<u8>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// A header must come first.
    Header,
    /// The first bytes of TLS, or of something else.
    First,
    /// The rest of an answer to plain HTTP.
    Answering(Vec<u8>),
    /// The peer still sends: that much more of it is dropped.
    Lingering { left: usize },
}

/// What has come.
pub(crate) enum Arrived {
    /// The header. The next comes after it.
    From(Option<Peer>),
    /// What TLS is to be begun with.
    Tls,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Opening<IO> {
    pub(crate) fn new(io: IO, has_header: bool) -> Self {
        Self { io, received: Vec::new(), step: if has_header { Step::Header } else { Step::First } }
    }

    /// What comes next, or why nothing does.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrived, AcceptError>> {
        loop {
            match &mut self.step {
                Step::Header if self.received.is_empty() => {}
                Step::Header => {
                    if let Some(header) = proxy_header::read(&self.received).map_err(AcceptError::ProxyHeader)? {
                        self.received.drain(..header.length);
                        self.step = Step::First;
                        return Poll::Ready(Ok(Arrived::From(header.source.map(Peer::Ip))));
                    }
                }
                Step::First => match plain_http::is_plain_http(&self.received) {
                    Some(true) => {
                        self.step = Step::Answering(plain_http::answer(&self.received));
                        continue;
                    }
                    Some(false) => return Poll::Ready(Ok(Arrived::Tls)),
                    None => {}
                },
                Step::Answering(_) | Step::Lingering { .. } => {
                    // However that goes: the connection ends.
                    let _ = ready!(self.poll_answer(cx));
                    return Poll::Ready(Err(AcceptError::PlainHttp));
                }
            }
            if ready!(self.poll_receive(cx)).map_err(AcceptError::Handshake)? == 0 {
                return Poll::Ready(match self.step {
                    Step::Header => Err(AcceptError::ProxyHeader("the connection ended before it")),
                    // TLS says how that is called.
                    _ => Ok(Arrived::Tls),
                });
            }
        }
    }

    /// Whether the peer was answered: then it has nothing more to await.
    pub(crate) fn is_answering(&self) -> bool {
        matches!(self.step, Step::Answering(_) | Step::Lingering { .. })
    }

    /// The connection, and what was read of it.
    pub(crate) fn into_parts(self) -> (IO, Vec<u8>) {
        (self.io, self.received)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 4096];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.received.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Step::Answering(rest) = &mut self.step {
            while !rest.is_empty() {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                rest.drain(..written);
            }
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.step = Step::Lingering { left: LINGER };
        }
        while let Step::Lingering { left: left @ 1.. } = self.step {
            self.received.clear();
            match ready!(self.poll_receive(cx))? {
                0 => break,
                read => self.step = Step::Lingering { left: left.saturating_sub(read) },
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Gives a TLS session what was read before it was made. An error is in the session, too, with the alert that the peer is to be sent.
pub(crate) fn feed(session: &mut ServerConnection, mut received: &[u8]) -> io::Result<()> {
    while !received.is_empty() {
        if session.read_tls(&mut received)? == 0 {
            break;
        }
        session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}
