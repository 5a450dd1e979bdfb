//! From an origin and a key to an authenticated connection: dial, handshake, export once, one MAC, probe.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, Derivation, Handshake, KeyId, TlsPolicy};
use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::net::lookup_host;
use tokio_rustls::TlsConnector;

use crate::connection::{Connection, Keys, Sign};
use crate::dial::dial;
use crate::signer::{Password, Tokens};
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
    pub(crate) origin: Authority,
    dialled: Authority,
    pub(crate) kid: KeyId,
    pub(crate) key: Key,
    pub(crate) kind: CredentialKind,
    /// What derives the keys where the wire is not v1's.
    pub(crate) other_profile: Option<OtherProfile>,
    mutual: Mutual,
    deadline: Duration,
}

/// Exports what it needs from the connection at once, then asks the holder of the key.
pub(crate) type OtherProfile = for<'a> fn(&'a Connector, &ClientConnection) -> BoxFuture<'a, Result<Keys, ConnectError>>;

impl Connector {
    /// How long each phase (looking the name up, each address, handshake, probe, a response's header section) may take, unless set otherwise: 30 seconds.
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
            kind: CredentialKind::default(),
            other_profile: None,
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

    /// Sets which kind of credential goes with each request: the connection's one-time password, unless set.
    #[must_use]
    pub fn credential(mut self, kind: CredentialKind) -> Self {
        self.kind = kind;
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
        let unreachable = |source| ConnectError::Unreachable { address: self.dialled.clone(), source };
        let looked_up = self.within("looking the name up", lookup_host((self.dialled.host(), self.dialled.port()))).await?;
        let addresses: Vec<_> = looked_up.map_err(unreachable)?.collect();
        let tcp = dial(&addresses, self.deadline).await.map_err(unreachable)?;
        // Requests are small: none waits for more to send.
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(self.origin.host())
            .map_err(|e| ConnectError::Handshake(std::io::Error::new(std::io::ErrorKind::InvalidInput, e)))?;
        let tls = self.within("the TLS handshake", self.tls.connect(name, tcp)).await?.map_err(ConnectError::of_handshake)?;

        let handshake = Handshake::of_client(tls.get_ref().1, self.origin.server_name(), &self.policy)?;
        let started = Instant::now();
        let keys = match self.other_profile {
            None => self.keys(&handshake).await?,
            Some(keys) => keys(self, tls.get_ref().1).await?,
        };
        let mac_time = started.elapsed();
        let mut connection = Connection::start(tls, self.origin.clone(), handshake.facts, keys, mac_time, self.deadline).await?;
        if self.mutual == Mutual::Require {
            connection.require_proof().await?;
        }
        Ok(connection)
    }

    /// The keys of protocol v1: one MAC.
    async fn keys(&self, handshake: &Handshake) -> Result<Keys, ConnectError> {
        let derivation = Derivation::new(&handshake.ekm, &self.kid, handshake.facts.server_name());
        let tag = self.key.mac(derivation.mac_input()).await?;
        let prk = derivation.finish(tag);
        let channel = handshake.ekm.channel();
        let signer: Box<dyn Sign> = match self.kind {
            CredentialKind::Otp => Box::new(Password::new(&self.kid, &channel, &prk)),
            CredentialKind::Jws => Box::new(Tokens::new(&self.kid, &self.origin, channel, prk.jws_signer(&self.kid))),
            CredentialKind::Jwe => Box::new(Tokens::new(&self.kid, &self.origin, channel, prk.jwe_signer(&self.kid))),
        };
        Ok(Keys { signer, proof: Some(prk.server_proof()) })
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
