//! From an origin and a key to an authenticated connection: dial, handshake, export once, one MAC, probe.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, Derivation, Handshake, KeyId, TlsPolicy};
use futures_util::future::BoxFuture;
use http::Version;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::net::lookup_host;
use tokio_rustls::TlsConnector;

use crate::ConnectError;
use crate::certificate;
use crate::connection::{Connection, Facts, Keys, Sign, Timings};
use crate::credential::Password;
#[cfg(feature = "jose")]
use crate::credential::Tokens;
use crate::dial::dial;
use crate::signer::Signer;

/// When the server must have proved itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutual {
    /// Before anything but the bodyless probe leaves: a rogue server with a valid certificate learns nothing.
    #[default]
    Require,
    /// Proofs are checked where they come. Only a diagnosis: a rogue server leaves the proof out.
    Prefer,
}

/// Which versions of HTTP are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersions {
    /// HTTP/2, or HTTP/1.1 where the server has no other.
    #[default]
    Both,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

impl HttpVersions {
    fn alpn(self) -> Vec<Vec<u8>> {
        let (h2, h1) = (b"h2".to_vec(), b"http/1.1".to_vec());
        match self {
            Self::Both => vec![h2, h1],
            Self::Http1 => vec![h1],
            Self::Http2 => vec![h2],
        }
    }
}

/// Makes connections to one origin with one key. The key id is sent to that origin only.
#[derive(Clone)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    policy: TlsPolicy,
    pub(crate) origin: Authority,
    dialled: Authority,
    addresses: Vec<SocketAddr>,
    pub(crate) kid: KeyId,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) kind: CredentialKind,
    /// What derives the keys where the wire is not v1's.
    #[cfg(feature = "jose")]
    pub(crate) other_profile: Option<OtherProfile>,
    mutual: Mutual,
    deadline: Duration,
}

/// Exports what it needs from the connection at once, then asks the holder of the key.
#[cfg(feature = "jose")]
pub(crate) type OtherProfile = for<'a> fn(&'a Connector, &ClientConnection) -> BoxFuture<'a, Result<Keys, ConnectError>>;

impl Connector {
    /// How long each phase (looking the name up, each address, handshake, probe, a response's header section) may take, unless set otherwise: 30 seconds.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// For `https://` + `origin`. The TLS configuration says which certificates are trusted and is restricted to `policy`
    /// ([`TlsPolicy::restrict_client`]); build it with [`TlsPolicy::provider`] and [`TlsPolicy::versions`].
    #[must_use]
    pub fn new(mut tls: ClientConfig, policy: TlsPolicy, origin: Authority, kid: KeyId, key: impl Signer + 'static) -> Self {
        policy.restrict_client(&mut tls);
        tls.alpn_protocols = HttpVersions::default().alpn();
        Self {
            tls: Arc::new(tls),
            policy,
            dialled: origin.clone(),
            addresses: Vec::new(),
            origin,
            kid,
            signer: Arc::new(key),
            kind: CredentialKind::default(),
            #[cfg(feature = "jose")]
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

    /// Dials these addresses, the first first, and looks no name up.
    #[must_use]
    pub fn addresses(mut self, addresses: Vec<SocketAddr>) -> Self {
        self.addresses = addresses;
        self
    }

    /// Sets which protocols are offered (RFC 7301): `h2`, `http/1.1`. Both, unless set.
    #[must_use]
    pub fn http_versions(mut self, versions: HttpVersions) -> Self {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = versions.alpn();
        self.tls = Arc::new(tls);
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
        let mut timings = Timings::default();
        let addresses = if self.addresses.is_empty() {
            let looked_up = timed(&mut timings.lookup, lookup_host((self.dialled.host(), self.dialled.port())));
            self.within("looking the name up", looked_up).await?.map_err(unreachable)?.collect()
        } else {
            self.addresses.clone()
        };
        let tcp = timed(&mut timings.tcp, dial(&addresses, self.deadline)).await.map_err(unreachable)?;
        // Requests are small: none waits for more to send.
        let _ = tcp.set_nodelay(true);
        let (local, remote) = (tcp.local_addr().ok(), tcp.peer_addr().ok());
        let name = ServerName::try_from(self.origin.host())
            .map_err(|e| ConnectError::Handshake(std::io::Error::new(std::io::ErrorKind::InvalidInput, e)))?;
        let handshake = timed(&mut timings.tls, TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp));
        let tls = self.within("the TLS handshake", handshake).await?.map_err(ConnectError::of_handshake)?;

        let state = tls.get_ref().1;
        let handshake = Handshake::of_client(state, self.origin.server_name(), &self.policy)?;
        let version = if state.alpn_protocol() == Some(b"h2") { Version::HTTP_2 } else { Version::HTTP_11 };
        let issuer = state.peer_certificates().and_then(|chain| certificate::issuer(chain.first()?));
        let born = Instant::now();
        let keys = timed(&mut timings.mac, self.keys(&handshake, state)).await?;
        let tls_facts = handshake.facts;
        let facts = Facts { id: Facts::next_id(), kid: self.kid.clone(), tls: tls_facts, version, timings, local, remote, issuer, born };
        let mut connection = Connection::start(tls, self.origin.clone(), keys, facts, self.deadline).await?;
        if self.mutual == Mutual::Require {
            connection.require_proof().await?;
        }
        Ok(connection)
    }

    /// What asks the holder of the key. All that it needs of the connection is exported before this returns.
    fn keys<'a>(&'a self, handshake: &'a Handshake, tls: &ClientConnection) -> BoxFuture<'a, Result<Keys, ConnectError>> {
        #[cfg(feature = "jose")]
        if let Some(keys) = self.other_profile {
            return keys(self, tls);
        }
        let _ = tls;
        Box::pin(self.keys_of_v1(handshake))
    }

    /// The keys of protocol v1: one MAC.
    async fn keys_of_v1(&self, handshake: &Handshake) -> Result<Keys, ConnectError> {
        let derivation = Derivation::new(&handshake.ekm, &self.kid, handshake.facts.server_name());
        let tag = self.signer.mac(derivation.mac_input()).await?;
        let prk = derivation.finish(tag);
        let channel = handshake.ekm.channel();
        let signer: Box<dyn Sign> = match self.kind {
            CredentialKind::Otp => Box::new(Password::new(&self.kid, &channel, &prk)),
            #[cfg(feature = "jose")]
            CredentialKind::Jws => Box::new(Tokens::new(&self.kid, &self.origin, channel, prk.jws_signer(&self.kid))),
            #[cfg(feature = "jose")]
            CredentialKind::Jwe => Box::new(Tokens::new(&self.kid, &self.origin, channel, prk.jwe_signer(&self.kid))),
            #[cfg(not(feature = "jose"))]
            kind => return Err(ConnectError::NoTokens(kind)),
        };
        Ok(Keys { signer, proof: Some(prk.server_proof()) })
    }

    async fn within<T>(&self, phase: &'static str, work: impl Future<Output = T>) -> Result<T, ConnectError> {
        tokio::time::timeout(self.deadline, work).await.map_err(|_| ConnectError::Deadline { phase, deadline: self.deadline })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("origin", &self.origin).field("kid", &self.kid).field("key", &self.signer).finish_non_exhaustive()
    }
}

/// Adds what the work takes.
async fn timed<T>(time: &mut Duration, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let done = work.await;
    *time = started.elapsed();
    done
}
