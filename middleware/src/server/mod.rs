//! A whole server in three lines: names, files and a service in; out comes one that authenticates, drains and reads its files again.
//!
//! Everything here is put together from the crate's other parts, which can be had one by one.

#[cfg(feature = "axum")]
mod axum_app;
mod bound;
mod certificate;
mod error;
mod files;
mod fresh;
mod per_connection;
mod watched;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ekm_otp::{ServerNames, TlsPolicy};
use hyper_util::rt::TokioExecutor;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, ToSocketAddrs};

#[cfg(feature = "axum")]
pub use self::axum_app::{AxumApp, OfConnection};
pub use self::bound::{BoundServer, Serve};
pub use self::error::{LoadError, StartError};
pub use self::files::{Reloaded, Reloader};
pub use self::per_connection::{Hyper, PerConnection, Tower};

use self::certificate::Identity;
use self::files::{Files, RegistrySource};
use crate::{Authentication, Connections, EkmAcceptor, EkmListener, Events, Http, Limits, Peer, SecretStore};

type SpeaksForOthers = Box<dyn Fn(&Peer) -> bool + Send + Sync>;
type Adjust<T> = Box<dyn FnOnce(T) -> T + Send>;

/// A server that authenticates its clients: set up here, then [served](Self::serve) or [bound](Self::bind) first.
///
/// Nothing is read or checked before it starts; then all of it is: files, the certificate's names, the address.
///
/// The authentication layer stands before everything that is served, so it cannot be forgotten, and the service needs none of its own. Connections are
/// served by [`serve_connection`](crate::serve_connection), which ends them when it must: too many failures, their age, a revoked key.
#[must_use = "it serves nothing until it is started"]
pub struct EkmServer {
    names: Vec<String>,
    realm: Option<String>,
    identity: Option<Identity>,
    registry: Option<RegistrySource>,
    policy: TlsPolicy,
    limits: Limits,
    authentication: Vec<Adjust<Authentication>>,
    http: Http<TokioExecutor>,
    events: Option<Arc<dyn Events>>,
    speaks_for_others: Option<SpeaksForOthers>,
    drain_within: Duration,
    look_every: Option<Duration>,
}

impl EkmServer {
    /// How long requests that are under way may go on once the server shuts down, unless set otherwise: 30 seconds.
    pub const DRAIN_WITHIN: Duration = Duration::from_secs(30);
    /// How often the files are looked at, unless set otherwise: each second.
    pub const LOOK_EVERY: Duration = Duration::from_secs(1);
    /// How long a request's header section may take on HTTP/1, an idle connection included, and how long HTTP/2 may be silent, unless set
    /// otherwise: 60 seconds.
    pub const IDLE: Duration = Duration::from_secs(60);

    /// For clients that come by this name (or, an IP literal, by none), as their URLs have it without the port.
    pub fn new(server_name: impl Into<String>) -> Self {
        let mut http = Http::new(TokioExecutor::new());
        http.http1().header_read_timeout(Self::IDLE).max_buf_size(64 * 1024);
        http.http2().keep_alive_interval(Self::IDLE).max_concurrent_streams(128).max_header_list_size(16 * 1024);
        Self {
            names: vec![server_name.into()],
            realm: None,
            identity: None,
            registry: None,
            policy: TlsPolicy::default(),
            limits: Limits::default(),
            authentication: Vec::new(),
            http,
            events: None,
            speaks_for_others: None,
            drain_within: Self::DRAIN_WITHIN,
            look_every: Some(Self::LOOK_EVERY),
        }
    }

    /// A further name that clients come by. The certificate must have it, too.
    pub fn also_for(mut self, server_name: impl Into<String>) -> Self {
        self.names.push(server_name.into());
        self
    }

    /// The certificate chain, the server's own first, and its private key, in PEM. Both are read again when they change.
    pub fn certificate(mut self, chain: impl Into<PathBuf>, private_key: impl Into<PathBuf>) -> Self {
        self.identity = Some(Identity::Files { chain: chain.into(), key: private_key.into() });
        self
    }

    /// The same from memory.
    pub fn certificate_der(mut self, chain: Vec<CertificateDer<'static>>, private_key: PrivateKeyDer<'static>) -> Self {
        self.identity = Some(Identity::Der(chain, private_key));
        self
    }

    /// Who may come: the file that `ekm-otp-client key create` and `ekm-otp-server key` write. It is read again when it changes, whatever becomes of
    /// the certificate: new keys are taken, and the connections of those that are gone or revoked are cut.
    #[cfg(feature = "registry-file")]
    pub fn registry_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.registry = Some(RegistrySource::File(path.into()));
        self
    }

    /// Who may come.
    pub fn store(mut self, store: Arc<dyn SecretStore>) -> Self {
        self.registry = Some(RegistrySource::Store(store));
        self
    }

    /// Lets requests without a credential pass where `is_open` says so: [`Authentication::open_to`].
    pub fn open_to(self, is_open: impl Fn(&http::Method, &http::Uri) -> bool + Send + Sync + 'static) -> Self {
        self.authentication(|authentication| authentication.open_to(is_open))
    }

    /// Sets whatever [`Authentication`] has to be set.
    pub fn authentication(mut self, set: impl FnOnce(Authentication) -> Authentication + Send + 'static) -> Self {
        self.authentication.push(Box::new(set));
        self
    }

    /// Sets the realm that challenges name; the first server name, unless set.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// Sets which TLS handshakes count; TLS 1.3 only, unless set.
    pub fn tls_policy(mut self, policy: TlsPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how many connections there may be.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how HTTP is spoken.
    pub fn http(mut self, set: impl FnOnce(&mut Http<TokioExecutor>)) -> Self {
        set(&mut self.http);
        self
    }

    /// Tells `events` of connections and requests, refused ones included: nothing else stands outside of the layer.
    pub fn events(mut self, events: Arc<dyn Events>) -> Self {
        self.events = Some(events);
        self
    }

    /// Takes the PROXY protocol from load balancers: [`EkmListener::proxy_protocol_from`].
    pub fn proxy_protocol_from(mut self, trusted: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.speaks_for_others = Some(Box::new(trusted));
        self
    }

    /// Sets how long requests that are under way may go on once the server shuts down. What does not end in time is cut.
    pub fn drain_within(mut self, deadline: Duration) -> Self {
        self.drain_within = deadline;
        self
    }

    /// Sets how often the files are looked at; never with `None`: then [`Reloader::reload`] is all that reads them again.
    pub fn look_every(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.look_every = interval.into().filter(|interval| !interval.is_zero());
        self
    }

    /// Reads the files and listens. Connections are accepted once it [serves](BoundServer::serve).
    ///
    /// # Errors
    /// When something is missing, wrong or does not fit together, or the address cannot be had.
    pub async fn bind(self, address: impl ToSocketAddrs) -> Result<BoundServer, StartError> {
        // First the files: nobody connects to a server that then does not start.
        let prepared = self.prepare().await?;
        let tcp = TcpListener::bind(address).await.map_err(StartError::Listen)?;
        prepared.listen(tcp)
    }

    /// The same on a socket that listens already.
    ///
    /// # Errors
    /// When something is missing, wrong or does not fit together.
    pub async fn listen_on(self, tcp: TcpListener) -> Result<BoundServer, StartError> {
        self.prepare().await?.listen(tcp)
    }

    /// Serves a hyper service, cloned for each connection. Await it, or give it a signal first: [`Serve::with_graceful_shutdown`].
    pub fn serve<S>(self, address: impl ToSocketAddrs + Send + 'static, service: S) -> Serve<Hyper<S>> {
        Serve::starting(self.bind(address), Hyper(service))
    }

    /// Serves a tower service, such as tonic's `Routes` or a generated gRPC server, cloned for each request.
    pub fn serve_tower<S>(self, address: impl ToSocketAddrs + Send + 'static, service: S) -> Serve<Tower<S>> {
        Serve::starting(self.bind(address), Tower(service))
    }

    /// Serves an axum router.
    #[cfg(feature = "axum")]
    pub fn serve_axum(self, address: impl ToSocketAddrs + Send + 'static, router: axum::Router) -> Serve<AxumApp> {
        Serve::starting(self.bind(address), AxumApp::new(router))
    }

    /// Everything but the socket.
    async fn prepare(self) -> Result<Prepared, StartError> {
        let mut names = ServerNames::new();
        for name in &self.names {
            names.allow_host(name)?;
        }
        let identity = self.identity.ok_or(StartError::NoCertificate)?;
        let registry = self.registry.ok_or(StartError::NoRegistry)?;
        let realm = self.realm.unwrap_or_else(|| self.names.first().cloned().unwrap_or_default());
        let provider = self.policy.provider(rustls::crypto::aws_lc_rs::default_provider());
        let of_files = Arc::clone(&provider);
        let loading = tokio::task::spawn_blocking(move || Files::load(self.names, identity, registry, of_files));
        let files = loading.await.map_err(|_| LoadError::Interrupted)??;

        let authentication = Authentication::new(files.store(), names, &realm)?;
        let authentication = self.authentication.into_iter().fold(authentication, |authentication, set| set(authentication));
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.policy.versions())
            .map_err(StartError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(files.resolver());
        // One session ticket, not two: rustls keeps 256 sessions, so that twice as many clients can resume theirs.
        tls.send_tls13_tickets = 1;
        let acceptor = EkmAcceptor::new(tls, self.policy, authentication);
        Ok(Prepared {
            acceptor: match self.events {
                Some(events) => acceptor.events(events),
                None => acceptor,
            },
            speaks_for_others: self.speaks_for_others,
            connections: Connections::new(self.limits),
            http: self.http,
            files: Arc::new(files),
            drain_within: self.drain_within,
            look_every: self.look_every,
        })
    }
}

struct Prepared {
    acceptor: EkmAcceptor,
    speaks_for_others: Option<SpeaksForOthers>,
    connections: Connections,
    http: Http<TokioExecutor>,
    files: Arc<Files>,
    drain_within: Duration,
    look_every: Option<Duration>,
}

impl Prepared {
    fn listen(self, tcp: TcpListener) -> Result<BoundServer, StartError> {
        let listener = EkmListener::new(tcp, self.acceptor).among(self.connections);
        let listener = match self.speaks_for_others {
            Some(trusted) => listener.proxy_protocol_from(trusted),
            None => listener,
        };
        let address = listener.local_addr().map_err(StartError::Listen)?;
        Ok(BoundServer::new(listener, address, self.http, self.files, self.drain_within, self.look_every))
    }
}
