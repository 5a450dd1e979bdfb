//! From an origin and keys to a client.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ekm_otp::field::CredentialKind;
use ekm_otp::{Authority, KeyId, Secret, TlsPolicy};
use rustls::{ClientConfig, RootCertStore};

use super::Client;
use super::given::{BuildError, certificates_of, origin_of, secret_of, trusting};
use crate::connector::{Connector, HttpVersions, Mutual};
use crate::pool::{Pool, Settings};
use crate::signer::Signer;

/// Makes a [`Client`]. Mistakes in the origin and in key ids show in [`build`](Self::build).
pub struct ClientBuilder {
    origin: String,
    kid: Option<String>,
    signer: Option<Arc<dyn Signer>>,
    others: Vec<(String, Arc<dyn Signer>)>,
    roots: Option<RootCertStore>,
    tls: Option<ClientConfig>,
    policy: TlsPolicy,
    kind: CredentialKind,
    mutual: Option<Mutual>,
    dialled: Option<Authority>,
    addresses: Vec<SocketAddr>,
    versions: HttpVersions,
    #[cfg(feature = "jose")]
    is_go: bool,
    settings: Settings,
}

impl ClientBuilder {
    pub(super) fn new(origin: String) -> Self {
        Self {
            origin,
            kid: None,
            signer: None,
            others: Vec::new(),
            roots: None,
            tls: None,
            policy: TlsPolicy::default(),
            kind: CredentialKind::default(),
            mutual: None,
            dialled: None,
            addresses: Vec::new(),
            versions: HttpVersions::default(),
            #[cfg(feature = "jose")]
            is_go: false,
            settings: Settings::default(),
        }
    }

    /// The key id under which the server knows this client.
    #[must_use]
    pub fn kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The key: whatever makes the MACs.
    #[must_use]
    pub fn signer(mut self, signer: impl Signer + 'static) -> Self {
        self.signer = Some(Arc::new(signer));
        self
    }

    /// A secret in this process's memory: for machines without a TPM.
    #[must_use]
    pub fn secret(self, secret: Secret) -> Self {
        self.signer(secret)
    }

    /// A secret in a file (base64) that nobody else can read.
    ///
    /// # Errors
    /// When the file cannot be read, others can read it, or it holds no secret.
    pub fn secret_file(self, path: impl AsRef<Path>) -> Result<Self, BuildError> {
        let secret = secret_of(path.as_ref())?;
        Ok(self.secret(secret))
    }

    /// A key in a TPM that you have opened.
    #[cfg(feature = "tpm")]
    #[must_use]
    pub fn tpm_key(self, key: ekm_otp_tpm::TpmKey) -> Self {
        self.signer(key)
    }

    /// A key file (`BEGIN TSS2 PRIVATE KEY`), used by the TPM that `TPM2TOOLS_TCTI` or `TCTI` names, `device:/dev/tpmrm0` if neither is set. The TPM is
    /// first asked when the first connection is made. For keys with a password or a policy, and for other TPMs: [`tpm_key`](Self::tpm_key).
    ///
    /// # Errors
    /// When the file cannot be read or is no key file, or the TPM's name is none.
    #[cfg(feature = "tpm")]
    pub fn key_file(self, path: impl AsRef<Path>) -> Result<Self, BuildError> {
        use ekm_otp_tpm::{KeyFile, Tcti, TpmHandle};

        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| BuildError::File { path: path.to_owned(), source })?;
        let bad = |source: Box<dyn std::error::Error + Send + Sync>| BuildError::Key { path: path.to_owned(), source };
        let file = KeyFile::from_pem(&text).map_err(|e| bad(e.into()))?;
        let named = ["TPM2TOOLS_TCTI", "TCTI"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let tcti: Tcti = named.as_deref().unwrap_or(Tcti::DEFAULT).parse().map_err(|e: ekm_otp_tpm::TctiError| bad(e.into()))?;
        let tpm = TpmHandle::open(tcti).map_err(|e| bad(e.into()))?;
        Ok(self.tpm_key(tpm.load(file)))
    }

    /// Another key for the same origin, for when the server does not (or no longer) take those before it: so secrets rotate without a restart.
    /// The one that worked is remembered; after ten minutes new connections try those that are preferred to it again.
    #[must_use]
    pub fn or_key(mut self, kid: impl Into<String>, signer: impl Signer + 'static) -> Self {
        self.others.push((kid.into(), Arc::new(signer)));
        self
    }

    /// Which certificates are trusted: the system's, unless set.
    #[must_use]
    pub fn roots(mut self, roots: RootCertStore) -> Self {
        self.roots = Some(roots);
        self
    }

    /// Trusts the certificates in a PEM file, and no others.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no certificate or an unusable one.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self, BuildError> {
        Ok(self.roots(certificates_of(path.as_ref())?))
    }

    /// A TLS configuration of your own (other verifier, client certificate). It is restricted to the policy, and [`roots`](Self::roots) is not looked at.
    #[must_use]
    pub fn tls_config(mut self, tls: ClientConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Which handshakes count: TLS 1.3 alone, unless set.
    #[must_use]
    pub fn tls_policy(mut self, policy: TlsPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Which kind of credential goes with each request: the connection's one-time password, unless set. The others need the feature `jose`.
    #[must_use]
    pub fn credential(mut self, kind: CredentialKind) -> Self {
        self.kind = kind;
        self
    }

    /// When the server must have proved itself: before anything but the probe leaves, unless set.
    #[must_use]
    pub fn mutual(mut self, mutual: Mutual) -> Self {
        self.mutual = Some(mutual);
        self
    }

    /// Dials this host and port instead of the origin's. Name, certificate check and the requests' authority stay the origin's.
    #[must_use]
    pub fn dial(mut self, address: Authority) -> Self {
        self.dialled = Some(address);
        self
    }

    /// Dials these addresses, the first first, and looks no name up.
    #[must_use]
    pub fn addresses(mut self, addresses: Vec<SocketAddr>) -> Self {
        self.addresses = addresses;
        self
    }

    /// How long each phase of making a connection may take (looking the name up, each address, handshake, probe): 30 seconds, unless set.
    #[must_use]
    pub fn connect_deadline(mut self, deadline: Duration) -> Self {
        self.settings.connect_deadline = deadline;
        self
    }

    /// How long an answer's header section may take once nothing of the request is left to be sent, and how long the sending may stall: 30 seconds,
    /// unless set. `None` waits for ever.
    #[must_use]
    pub fn response_deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.settings.response_deadline = deadline.into();
        self
    }

    /// How many connections there may be at once: 32, unless set. (HTTP/2 shares one until the server's limit of streams is reached.)
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = connections.max(1);
        self
    }

    /// How many requests may wait for a connection: 1024, unless set. More are refused ([`Error::Crowded`](super::Error::Crowded)).
    #[must_use]
    pub fn max_waiting(mut self, requests: usize) -> Self {
        self.settings.max_waiting = requests;
        self
    }

    /// How many unused connections are kept: 8, unless set.
    #[must_use]
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.settings.max_idle = connections;
        self
    }

    /// How long an unused connection is kept: 90 seconds, unless set.
    #[must_use]
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.settings.idle_limit = limit;
        self
    }

    /// How old a connection gets before another takes its place: 55 minutes, unless set. Servers end theirs after an hour, unless they are told otherwise.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = age;
        self
    }

    /// How many unused connections are made ahead of need: none, unless set. For HTTP/1.1 (or a full HTTP/2 connection) with a slow TPM. The first
    /// of them is made at the first request.
    #[must_use]
    pub fn spare_connections(mut self, connections: usize) -> Self {
        self.settings.spare = connections;
        self
    }

    /// Speaks HTTP/1.1 alone.
    #[must_use]
    pub fn http1_only(mut self) -> Self {
        self.versions = HttpVersions::Http1;
        self
    }

    /// Speaks HTTP/2 alone.
    #[must_use]
    pub fn http2_only(mut self) -> Self {
        self.versions = HttpVersions::Http2;
        self
    }

    /// Speaks the wire of the Go original ([`Connector::profile_go`]). It is weaker: the server proves nothing.
    #[cfg(feature = "jose")]
    #[must_use]
    pub fn profile_go(mut self) -> Self {
        self.is_go = true;
        self
    }

    /// The client. Nothing is dialled yet.
    ///
    /// # Errors
    /// As [`BuildError`] tells.
    pub fn build(self) -> Result<Client, BuildError> {
        let origin = origin_of(&self.origin)?;
        let kid = KeyId::new(self.kid.as_deref().ok_or(BuildError::NoKid)?)?;
        let mut keys = vec![(kid, self.signer.ok_or(BuildError::NoKey)?)];
        for (kid, signer) in self.others {
            keys.push((KeyId::new(&kid)?, signer));
        }
        let tls = match self.tls {
            Some(tls) => tls,
            None => trusting(self.roots, self.policy)?,
        };
        let mut connectors = Vec::with_capacity(keys.len());
        for (kid, signer) in keys {
            let mut connector = Connector::new(tls.clone(), self.policy, origin.clone(), kid, signer)
                .credential(self.kind)
                .mutual(self.mutual.unwrap_or_default())
                .deadline(self.settings.connect_deadline)
                .addresses(self.addresses.clone());
            if let Some(dialled) = &self.dialled {
                connector = connector.dial(dialled);
            }
            #[cfg(feature = "jose")]
            if self.is_go {
                if self.mutual == Some(Mutual::Require) {
                    return Err(BuildError::GoProvesNothing);
                }
                connector = connector.profile_go();
            }
            connectors.push(connector);
        }
        Ok(Client { pool: Pool::new(origin, connectors, self.versions, self.settings) })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("origin", &self.origin).field("kid", &self.kid).finish_non_exhaustive()
    }
}
