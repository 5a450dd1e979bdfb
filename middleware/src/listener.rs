//! TCP and TLS together: handshakes run beside each other, so that a stalled one blocks nobody.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::log_budget::LogBudget;
use crate::{AcceptError, EkmAcceptor, EkmStream};

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it pauses for a connection that was ended to be gone.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

type Accepted = (Result<EkmStream<TcpStream>, AcceptError>, SocketAddr);

/// Accepts TCP connections and finishes their handshakes.
pub struct EkmListener {
    tcp: TcpListener,
    acceptor: EkmAcceptor,
    handshakes: JoinSet<Accepted>,
    /// Which source each running handshake is for.
    sources: HashMap<Id, IpAddr>,
    max_handshakes: usize,
    /// The running handshakes, the oldest first.
    oldest: VecDeque<AbortHandle>,
    make_room: Option<Box<dyn FnMut() -> bool + Send>>,
    log_budget: LogBudget,
    no_descriptor: LogBudget,
}

impl EkmListener {
    /// How many handshakes run at a time, unless set otherwise.
    pub const MAX_HANDSHAKES: usize = 1024;

    /// Accepts from `tcp`.
    #[must_use]
    pub fn new(tcp: TcpListener, acceptor: EkmAcceptor) -> Self {
        Self {
            tcp,
            acceptor,
            handshakes: JoinSet::new(),
            sources: HashMap::new(),
            max_handshakes: Self::MAX_HANDSHAKES,
            oldest: VecDeque::new(),
            make_room: None,
            log_budget: LogBudget::new(10),
            no_descriptor: LogBudget::new(1),
        }
    }

    /// Sets how many handshakes run at a time (at least 4); further connections wait in the operating system's queue. One source (an
    /// IPv4 address, an IPv6 /64) may hold a quarter of them, so that it cannot keep all others out; its further connections are closed.
    #[must_use]
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.max_handshakes = handshakes.max(4);
        self
    }

    /// What to do when no file descriptor is left: end a connection, and say whether there was one. Connections that nobody was verified on come
    /// first. Where there was none, or unless this is set, the oldest unfinished handshake ends.
    #[must_use]
    pub fn make_room(mut self, end_one: impl FnMut() -> bool + Send + 'static) -> Self {
        self.make_room = Some(Box::new(end_one));
        self
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection whose handshake is finished. What fails is logged and passed over. Cancel-safe.
    pub async fn accept(&mut self) -> (EkmStream<TcpStream>, SocketAddr) {
        loop {
            tokio::select! {
                Some(finished) = self.handshakes.join_next_with_id() => {
                    let id = finished.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                    self.sources.remove(&id);
                    match finished {
                        Ok((_, (Ok(stream), peer))) => return (stream, peer),
                        Ok((_, (Err(error), peer))) => {
                            if let Some(left_out) = self.log_budget.take() {
                                tracing::info!(%peer, %error, left_out, "connection refused");
                            }
                        }
                        Err(error) if error.is_cancelled() => {}
                        Err(error) => tracing::error!(%error, "a handshake's task failed"),
                    }
                },
                accepted = self.tcp.accept(), if self.handshakes.len() < self.max_handshakes => match accepted {
                    Ok((tcp, peer)) => self.start(tcp, peer),
                    Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a connection ended before it was accepted"),
                    Err(error) => {
                        if let Some(left_out) = self.no_descriptor.take() {
                            tracing::error!(%error, left_out, "cannot accept connections: the oldest that nobody was verified on is ended");
                        }
                        let is_made = self.make_room.as_mut().is_some_and(|make_room| make_room()) || self.end_oldest_handshake();
                        tokio::time::sleep(if is_made { ROOM_PAUSE } else { ACCEPT_PAUSE }).await;
                    }
                },
            }
        }
    }

    fn end_oldest_handshake(&mut self) -> bool {
        while let Some(handshake) = self.oldest.pop_front() {
            if !handshake.is_finished() {
                handshake.abort();
                return true;
            }
        }
        false
    }

    fn start(&mut self, tcp: TcpStream, peer: SocketAddr) {
        let source = source(peer);
        if self.sources.values().filter(|other| **other == source).count() >= self.max_handshakes / 4 {
            if let Some(left_out) = self.log_budget.take() {
                tracing::info!(%peer, left_out, "closed: this source has too many unfinished handshakes");
            }
            return;
        }
        let acceptor = self.acceptor.clone();
        let handshake = self.handshakes.spawn(async move {
            // Answers are small: none waits for more to send.
            let _ = tcp.set_nodelay(true);
            (acceptor.accept(tcp).await, peer)
        });
        self.sources.insert(handshake.id(), source);
        // Those that have ended are let go from time to time: the queue stays in proportion to what is running.
        if self.oldest.len() == self.oldest.capacity() {
            self.oldest.retain(|handshake| !handshake.is_finished());
        }
        self.oldest.push_back(handshake);
    }
}

/// An IPv4 address, or an IPv6 /64: what one subscriber usually has.
fn source(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl fmt::Debug for EkmListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EkmListener").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}
