//! TCP and TLS together: handshakes run beside each other, so that a stalled one blocks nobody.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::acceptor::Handshaking;
use crate::connections::{Connections, Limits};
use crate::log_budget::LogBudget;
use crate::{EkmAcceptor, EkmStream};

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it pauses for a connection that was ended to be gone.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// Accepts TCP connections, within the [`Limits`] of its [`Connections`].
pub struct EkmListener {
    door: Door,
    /// For [`accept`](Self::accept) only.
    handshakes: JoinSet<Option<(EkmStream<TcpStream>, SocketAddr)>>,
}

struct Door {
    tcp: TcpListener,
    acceptor: EkmAcceptor,
    connections: Connections,
    no_descriptor: LogBudget,
}

impl EkmListener {
    /// Accepts from `tcp`, with the default limits.
    #[must_use]
    pub fn new(tcp: TcpListener, acceptor: EkmAcceptor) -> Self {
        let door = Door { tcp, acceptor, connections: Connections::new(Limits::default()), no_descriptor: LogBudget::new(1) };
        Self { door, handshakes: JoinSet::new() }
    }

    /// Counts its connections among these.
    #[must_use]
    pub fn among(mut self, connections: Connections) -> Self {
        self.door.connections = connections;
        self
    }

    /// Its connections that are open, and those of every listener that shares them.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.door.connections
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.door.tcp.local_addr()
    }

    /// The next connection, whose handshake is to be done by the task that [serves](crate::serve_connection) it. Cancel-safe.
    ///
    /// When no file descriptor is left, the oldest connection that nobody was verified on is ended, or the oldest unfinished handshake.
    pub async fn arrival(&self) -> (Handshaking<TcpStream>, SocketAddr) {
        self.door.arrival().await
    }

    /// The next connection whose handshake is finished: it is done in a task of the listener's, for servers that take finished streams only. What
    /// fails is logged and passed over. Cancel-safe.
    pub async fn accept(&mut self) -> (EkmStream<TcpStream>, SocketAddr) {
        loop {
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => match finished {
                    Ok(Some(accepted)) => return accepted,
                    // The handshake has logged why.
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "a handshake's task failed"),
                },
                (handshaking, peer) = self.door.arrival() => {
                    self.handshakes.spawn(async move { Some((handshaking.await.ok()?, peer)) });
                }
            }
        }
    }
}

impl Door {
    async fn arrival(&self) -> (Handshaking<TcpStream>, SocketAddr) {
        loop {
            let handshake = self.connections.may_handshake().await;
            match self.tcp.accept().await {
                Ok((tcp, peer)) => {
                    if let Some((lifeline, place)) = self.connections.enter(peer.into(), handshake) {
                        // Answers are small: none waits for more to send.
                        let _ = tcp.set_nodelay(true);
                        return (self.acceptor.begin(tcp, lifeline, Some(place)), peer);
                    }
                }
                Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a connection ended before it was accepted"),
                Err(error) => {
                    if let Some(left_out) = self.no_descriptor.take() {
                        tracing::error!(%error, left_out, "cannot accept connections: the oldest that nobody was verified on is ended");
                    }
                    tokio::time::sleep(if self.connections.make_room() { ROOM_PAUSE } else { ACCEPT_PAUSE }).await;
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl fmt::Debug for EkmListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EkmListener").field("tcp", &self.door.tcp).field("connections", &self.door.connections).finish_non_exhaustive()
    }
}
