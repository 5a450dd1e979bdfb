//! Connections and TLS together: handshakes run beside each other, so that a stalled one blocks nobody.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::acceptor::Handshaking;
use crate::connections::{Connections, Limits};
use crate::listen::Listen;
use crate::log_budget::LogBudget;
use crate::peer::Peer;
use crate::{EkmAcceptor, EkmStream};

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it pauses for a connection that was ended to be gone.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// Accepts connections from a TCP listener, or [another one](Listen), within the [`Limits`] of its [`Connections`].
pub struct EkmListener<L: Listen = TcpListener> {
    door: Door<L>,
    /// For [`accept`](Self::accept) only.
    handshakes: JoinSet<Option<EkmStream<L::Io>>>,
}

struct Door<L> {
    incoming: L,
    acceptor: EkmAcceptor,
    connections: Connections,
    speaks_for_others: Arc<dyn Fn(&Peer) -> bool + Send + Sync>,
    no_descriptor: LogBudget,
}

impl<L: Listen> EkmListener<L> {
    /// Accepts from `incoming`, with the default limits.
    #[must_use]
    pub fn new(incoming: L, acceptor: EkmAcceptor) -> Self {
        let door = Door {
            incoming,
            acceptor,
            connections: Connections::new(Limits::default()),
            speaks_for_others: Arc::new(|_| false),
            no_descriptor: LogBudget::new(1),
        };
        Self { door, handshakes: JoinSet::new() }
    }

    /// Counts its connections among these.
    #[must_use]
    pub fn among(mut self, connections: Connections) -> Self {
        self.door.connections = connections;
        self
    }

    /// Takes the PROXY protocol (version 1 and 2) from the peers that are `trusted`, load balancers: their connections must begin with its
    /// header, within the handshake's deadline, and from then on come from whom it names, for limits, logs and
    /// [`peer`](crate::ConnectionAuthenticator::peer). From anybody else the header is not TLS, and so refused.
    #[must_use]
    pub fn proxy_protocol_from(mut self, trusted: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.door.speaks_for_others = Arc::new(trusted);
        self
    }

    /// Its connections that are open, and those of every listener that shares them.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.door.connections
    }

    /// The next connection, whose handshake is to be done by the task that [serves](crate::serve_connection) it; and the other end, a load
    /// balancer perhaps. Cancel-safe.
    ///
    /// When no file descriptor is left, the oldest connection that nobody was verified on is ended, or the oldest unfinished handshake.
    pub async fn arrival(&self) -> (Handshaking<L::Io>, Peer) {
        self.door.arrival().await
    }

    /// The next connection whose handshake is finished: it is done in a task of the listener's, for servers that take finished streams only. What
    /// fails is logged and passed over. Cancel-safe.
    pub async fn accept(&mut self) -> (EkmStream<L::Io>, Peer) {
        loop {
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => match finished {
                    Ok(Some(stream)) => {
                        let peer = stream.authenticator().origin();
                        return (stream, peer.unwrap_or_else(|| unreachable!("a listener's connections have a peer")));
                    }
                    // The handshake has logged why.
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "a handshake's task failed"),
                },
                (handshaking, _) = self.door.arrival() => {
                    self.handshakes.spawn(async move { handshaking.await.ok() });
                }
            }
        }
    }
}

impl EkmListener<TcpListener> {
    /// The address it listens on.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.door.incoming.local_addr()
    }
}

impl<L: Listen> Door<L> {
    async fn arrival(&self) -> (Handshaking<L::Io>, Peer) {
        loop {
            if self.connections.is_crowded() {
                // Those that were cut leave when their tasks run.
                tokio::task::yield_now().await;
            }
            match self.incoming.accept().await {
                Ok((io, peer)) => {
                    let is_proxied = (self.speaks_for_others)(&peer);
                    match self.connections.enter(peer, is_proxied) {
                        Ok((lifeline, place)) => return (self.acceptor.begin(io, lifeline, Some(place), is_proxied), peer),
                        Err(error) => self.acceptor.tell_turned_away(peer, &error),
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

impl<L: Listen> fmt::Debug for EkmListener<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EkmListener").field("connections", &self.door.connections).finish_non_exhaustive()
    }
}
