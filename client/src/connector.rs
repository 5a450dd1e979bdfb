//! From an origin and a key to an authenticated connection: dial, handshake, export once, one MAC, probe.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekm_otp::field::Credential;
use ekm_otp::{Authority, Derivation, Handshake, KeyId, TlsPolicy};
use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::connection::{Connection, Keys};
use crate::{ConnectError, Key};

/// When the server must have proved itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutual {
    /// Before anything but the bodyless probe leaves: a rogue server with a valid certificate learns nothing.
    #[default]
    Require,
    /// Proofs are checked where they come. Only a diagnosis: a rogue server leaves the proof out.
    Prefer,
}

/// Makes connections to one origin with one key. The key id is sent to that origin only.
pub struct Connector {
    tls: TlsConnector,
    policy: TlsPolicy,
    origin: Authority,
    dialled: Authority,
    kid: KeyId,
    key: Key,
    mutual: Mutual,
    deadline: Duration,
}

impl Connector {
    /// How long each phase (dialling, handshake, probe, a response's header section) may take, unless set otherwise: 30 seconds.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// For `https://` + `origin`. The TLS configuration says which certificates are trusted and is restricted to `policy`
    /// ([`TlsPolicy::restrict_client`]); build it with [`TlsPolicy::provider`] and [`TlsPolicy::versions`].
    #[must_use]
    pub fn new(mut tls: ClientConfig, policy: TlsPolicy, origin: Authority, kid: KeyId, key: Key) -> Self {
        policy.restrict_client(&mut tls);
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            tls: TlsConnector::from(Arc::new(tls)),
            policy,
            dialled: origin.clone(),
            origin,
            kid,
            key,
            mutual: Mutual::default(),
            deadline: Self::DEADLINE,
        }
    }

    /// Dials this host and port instead of the origin's. Name, certificate check and the requests' authority stay the origin's.
    #[must_use]
    pub fn dial(mut self, address: &Authority) -> Self {
        self.dialled = address.clone();
        self
    }

    /// Sets when the server must have proved itself.
    #[must_use]
    pub fn mutual(mut self, mutual: Mutual) -> Self {
        self.mutual = mutual;
        self
    }

    /// Sets how long each phase may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes one connection. With [`Mutual::Require`] the server has proved itself when this returns.
    ///
    /// # Errors
    /// As [`ConnectError`] tells. The connection is closed then.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let tcp = self
            .within("dialling", TcpStream::connect((self.dialled.host(), self.dialled.port())))
            .await?
            .map_err(|source| ConnectError::Unreachable { address: self.dialled.clone(), source })?;
        // Requests are small: none waits for more to send.
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(self.origin.host())
            .map_err(|e| ConnectError::Handshake(std::io::Error::new(std::io::ErrorKind::InvalidInput, e)))?;
        let tls = self.within("the TLS handshake", self.tls.connect(name, tcp)).await?.map_err(ConnectError::of_handshake)?;

        let handshake = Handshake::of_client(tls.get_ref().1, self.origin.server_name(), &self.policy)?;
        let derivation = Derivation::new(&handshake.ekm, &self.kid, handshake.facts.server_name());
        let started = Instant::now();
        let tag = self.key.mac(&derivation).await?;
        let mac_time = started.elapsed();
        let prk = derivation.finish(tag);

        let field = Credential::write(&self.kid, &handshake.ekm.channel(), &prk.otp());
        let mut credential = HeaderValue::from_str(&field).unwrap_or_else(|_| unreachable!("a credential is visible ASCII"));
        credential.set_sensitive(true);
        let keys = Keys { credential, proof: prk.server_proof() };
        let mut connection = Connection::start(tls, self.origin.clone(), handshake.facts, keys, mac_time, self.deadline).await?;
        if self.mutual == Mutual::Require {
            connection.require_proof().await?;
        }
        Ok(connection)
    }

    async fn within<T>(&self, phase: &'static str, work: impl Future<Output = T>) -> Result<T, ConnectError> {
        tokio::time::timeout(self.deadline, work).await.map_err(|_| ConnectError::Deadline { phase, deadline: self.deadline })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("origin", &self.origin).field("kid", &self.kid).field("key", &self.key).finish_non_exhaustive()
    }
}
