//! TCP and TLS together: handshakes run beside each other, so that a stalled one blocks nobody.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{AcceptError, EkmAcceptor, EkmStream};

/// How many handshakes run at a time; further connections wait in the operating system's queue.
const MAX_HANDSHAKES: usize = 512;
/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Accepted = Result<(EkmStream<TcpStream>, SocketAddr), (AcceptError, SocketAddr)>;

/// Accepts TCP connections and finishes their handshakes.
pub struct EkmListener {
    tcp: TcpListener,
    acceptor: EkmAcceptor,
    handshakes: JoinSet<Accepted>,
}

impl EkmListener {
    /// Accepts from `tcp`.
    #[must_use]
    pub fn new(tcp: TcpListener, acceptor: EkmAcceptor) -> Self {
        Self { tcp, acceptor, handshakes: JoinSet::new() }
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
                Some(finished) = self.handshakes.join_next() => match finished {
                    Ok(Ok(accepted)) => return accepted,
                    Ok(Err((error, peer))) => tracing::info!(%peer, %error, "connection refused"),
                    Err(error) => tracing::error!(%error, "a handshake's task failed"),
                },
                accepted = self.tcp.accept(), if self.handshakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((tcp, peer)) => self.start(tcp, peer),
                    Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a connection ended before it was accepted"),
                    Err(error) => {
                        tracing::error!(%error, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn start(&mut self, tcp: TcpStream, peer: SocketAddr) {
        let acceptor = self.acceptor.clone();
        self.handshakes.spawn(async move {
            // Answers are small: none waits for more to send.
            let _ = tcp.set_nodelay(true);
            acceptor.accept(tcp).await.map(|stream| (stream, peer)).map_err(|error| (error, peer))
        });
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
