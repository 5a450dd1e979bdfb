//! From a byte stream to an [`EkmStream`]: one TLS handshake within a deadline, one export.

use std::sync::Arc;
use std::time::Duration;

use ekm_otp::{Handshake, TlsError, TlsPolicy};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::{Authentication, ConnectionAuthenticator, EkmStream};

/// Finishes TLS handshakes and makes each connection's authenticator. Cloning is cheap.
#[derive(Clone)]
pub struct EkmAcceptor {
    tls: TlsAcceptor,
    policy: TlsPolicy,
    authentication: Arc<Authentication>,
    handshake_within: Duration,
}

impl EkmAcceptor {
    /// How long a handshake may take, unless set otherwise: 10 seconds.
    pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

    /// Takes a rustls configuration and restricts it to `policy` ([`TlsPolicy::restrict_server`]): no early data, no half-RTT data, TLS 1.2
    /// only with extended master secret and without resumption. Where it names no application protocol, h2 and http/1.1 are offered.
    ///
    /// Build it with [`TlsPolicy::provider`] and [`TlsPolicy::versions`]; what a handshake agrees on against the policy is refused in any case.
    #[must_use]
    pub fn new(mut config: ServerConfig, policy: TlsPolicy, authentication: Authentication) -> Self {
        policy.restrict_server(&mut config);
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Self {
            tls: TlsAcceptor::from(Arc::new(config)),
            policy,
            authentication: Arc::new(authentication),
            handshake_within: Self::HANDSHAKE_WITHIN,
        }
    }

    /// Sets how long a handshake may take.
    #[must_use]
    pub fn handshake_within(mut self, deadline: Duration) -> Self {
        self.handshake_within = deadline;
        self
    }

    /// Finishes the handshake on `io`.
    ///
    /// # Errors
    /// When the handshake fails, takes too long, or agrees on what the policy refuses.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, io: IO) -> Result<EkmStream<IO>, AcceptError> {
        let stream = tokio::time::timeout(self.handshake_within, self.tls.accept(io))
            .await
            .map_err(|_| AcceptError::Deadline(self.handshake_within))?
            .map_err(AcceptError::Handshake)?;
        let handshake = Handshake::of_server(stream.get_ref().1, &self.policy)?;
        let authentication = Arc::clone(&self.authentication);
        if authentication.other_profile.is_some() {
            return Ok(EkmStream::with_exporter(stream, handshake, authentication));
        }
        Ok(EkmStream::new(stream, ConnectionAuthenticator::new(handshake, authentication)))
    }
}

/// Why a connection was not accepted. Each is the peer's or the network's doing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The handshake took longer than it may.
    #[error("the TLS handshake was not finished within {0:?}")]
    Deadline(Duration),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] std::io::Error),
    /// The handshake agreed on what the policy refuses.
    #[error(transparent)]
    Policy(#[from] TlsError),
}
