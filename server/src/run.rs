//! From a [`Config`] to a serving process, and back down: accept, serve, drain.

use std::error::Error;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ekm_otp::{Profile, ServerName};
use ekm_otp_tower::{Authentication, Connections, EkmAcceptor, EkmListener, Handshaking, Http, SecretStore, serve_connection};
use futures_util::FutureExt as _;
use hyper_util::rt::TokioExecutor;
use rustls::ServerConfig;

use crate::certificates::Certificates;
use crate::config::Config;
use crate::doors::{Sockets, Stream};
use crate::error::ServerError;
use crate::operations::{Access, Operations, Sources, Watch};
use crate::proxy::{self, Proxy, Sites};
use crate::registry::Registry;
use crate::signals::Signals;
use crate::workers::Worker;
use crate::{certificates, doors, limits, logging, observed, workers};

/// Serves until SIGTERM or SIGINT, then drains.
pub(crate) fn run(config: Config) -> Result<(), ServerError> {
    let log = logging::start(&config.general.log, config.general.log_format)?;
    let operations = Operations::open(&config.operations, log.lines())?;
    let runtime = workers::runtime().map_err(|e| ServerError::Other(format!("cannot start the runtime: {e}")))?;
    let result = runtime.block_on(start(config, operations));
    // A registry that is still being read when a signal comes is not waited for.
    runtime.shutdown_background();
    result
}

/// Reads what there is to read, while signals are heard: a large registry takes seconds.
async fn start(config: Config, operations: Operations) -> Result<(), ServerError> {
    let mut signals = Signals::listen()?;
    let config = Arc::new(config);
    let reading = Arc::clone(&config);
    let reading = tokio::task::spawn_blocking(move || tls_of(&reading));
    let reading = async {
        let tls = reading.await.unwrap_or_else(|e| Err(ServerError::Other(format!("reading the files failed: {e}"))))?;
        Ok((Registry::open(&config.registry).await?, tls))
    };
    tokio::select! {
        read = reading => {
            let (store, tls) = read?;
            serve(&config, Arc::new(store), tls, signals, operations).await
        }
        () = signals.stop() => {
            tracing::info!("stopped before it listened");
            Ok(())
        }
    }
}

fn tls_of(config: &Config) -> Result<ServerConfig, ServerError> {
    let provider = config.general.tls.provider(rustls::crypto::aws_lc_rs::default_provider());
    let certificates = Arc::new(ArcSwap::from_pointee(Certificates::load(&config.sites, &provider)?));
    certificates::server_config(config.general.tls, provider, certificates)
}

async fn serve(
    config: &Config,
    store: Arc<Registry>,
    tls: ServerConfig,
    mut signals: Signals,
    mut operations: Operations,
) -> Result<(), ServerError> {
    let keys = store.len();
    tell_of(config, &store)?;
    let [site] = config.sites.as_slice() else { return Err(ServerError::Config("several sites are not served yet".into())) };
    let authentication = Authentication::new(Arc::clone(&store) as Arc<dyn SecretStore>, site.names.clone(), &config.general.realm)
        .map_err(|e| ServerError::Config(format!("--realm: {e}")))?
        .kinds(site.kinds.iter().copied())
        .leeway(config.general.leeway)
        .max_age(config.general.max_age)
        .verified_within(config.doors.verified_within)
        .max_failures(config.doors.max_failures)
        .max_connections_per_key(config.doors.max_connections_per_key);
    let behind = Arc::new(proxy::Site::open(site.server_names.first().map_or("", ServerName::as_str), &site.proxy)?);
    let sites = Sites::new(site.server_names.iter().map(|name| (name.clone(), Arc::clone(&behind))));
    let sites = Arc::new(ArcSwap::from_pointee(sites));
    let for_upstreams = Arc::clone(&behind);
    let authentication = authentication.open_to(move |method, uri| behind.is_open(method, uri));
    let authentication = if config.general.go { authentication.profile_go(config.general.go_default_kid.clone()) } else { authentication };
    let acceptor = EkmAcceptor::new(tls, config.general.tls, authentication).handshake_within(config.doors.handshake_within);
    let acceptor = acceptor.events(operations.watch());

    let descriptors = usize::try_from(rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)).unwrap_or(usize::MAX);
    let limits = limits::fitting(descriptors, config.doors.limits());
    let connections = Connections::new(limits);
    // The files of Unix sockets are there for as long as this is.
    let mut listening = doors::listen(&config.doors, Vec::new(), workers::count())?;
    let sockets = std::mem::take(&mut listening.workers);
    tracing::info!(
        address = %listening.addresses.join(","),
        keys,
        threads = sockets.len(),
        tls12 = config.general.tls.tls12,
        require_post_quantum = config.general.tls.require_post_quantum,
        max_connections = limits.connections,
        per_key = config.doors.max_connections_per_key,
        per_source = limits.per_source,
        "listening",
    );
    if limits.connections < config.doors.max_connections {
        tracing::warn!(
            max_connections = limits.connections,
            wanted = config.doors.max_connections,
            "fewer connections than configured: raise the limit of open files"
        );
    }
    if config.general.show_otp {
        tracing::warn!("--unsafe-show-otp: the credential of each closed connection is logged");
    }

    let http = config.doors.http();
    let start = |sockets| {
        let (acceptor, connections, http, show_otp) = (acceptor.clone(), connections.clone(), http.clone(), config.general.show_otp);
        let (proxy, watch) = (Proxy::new(Arc::clone(&sites)), operations.watch());
        let speaks_for_others = config.doors.speaks_for_others();
        Worker::start(sockets, move |sockets| {
            let listener = EkmListener::new(sockets, acceptor).among(connections).proxy_protocol_from(speaks_for_others);
            accept(listener, proxy, watch, http, show_otp)
        })
    };
    let workers = sockets.into_iter().map(start).collect::<Result<Vec<_>, _>>();
    let workers = workers.map_err(|e| ServerError::Other(format!("cannot start a thread: {e}")))?;

    operations.certificates(vec![observed::certificate(site)?]);
    operations.serve(Sources {
        workers: workers.iter().map(|worker| worker.runtime().clone()).collect(),
        connections: connections.clone(),
        registry: Box::new(move || observed::registry(&store)),
        upstreams: Box::new(move || observed::upstreams(&for_upstreams)),
    })?;

    signals.stop_or(|| operations.reopen_logs()).await;
    operations.drains();
    workers.iter().for_each(Worker::stop_accepting);
    tracing::info!(connections = connections.len(), "draining");
    connections.drain();
    let all_left = tokio::select! {
        () = connections.all_left() => true,
        () = tokio::time::sleep(config.general.drain) => false,
        () = signals.stop() => false,
    };
    if !all_left {
        tracing::warn!(connections = connections.len(), "connections were cut: they did not finish in time, or a second signal came");
    }
    workers.into_iter().for_each(Worker::end);
    tracing::info!("stopped");
    Ok(())
}

/// What of the configuration and the registry does not fit together, or is weaker than it might be.
fn tell_of(config: &Config, store: &Registry) -> Result<(), ServerError> {
    if store.len() == 0 {
        tracing::warn!("the registry holds no key: every request will be refused");
    }
    if let Some(kid) = &config.general.go_default_kid
        && !store.get(kid).is_ok_and(|key| key.is_some_and(|key| key.profile() == Profile::Go))
    {
        return Err(ServerError::Config(format!(
            "--go-default-kid {kid}: the registry holds no key with this key id and profile = \"go\""
        )));
    }
    let never = store.count(|key| config.sites.iter().flat_map(|site| &site.kinds).all(|kind| *kind < key.minimum()));
    if never > 0 {
        tracing::warn!(keys = never, "the registry has keys that must show more than any kind that --credential accepts: they never pass");
    }
    let go_keys = store.count(|key| key.profile() == Profile::Go);
    if config.general.go {
        tracing::warn!(
            "the profile go is on, and weaker than v1: this server proves nothing to its clients, and their tokens are bound to the \
             connection, not to the request or the time"
        );
    } else if go_keys > 0 {
        tracing::warn!(keys = go_keys, "the registry has keys with profile = \"go\", which is not switched on: they are unknown here");
    }
    Ok(())
}

/// Accepts connections for one worker, for ever.
async fn accept(listener: EkmListener<Sockets>, proxy: Proxy, watch: Arc<Watch>, http: Http<TokioExecutor>, show_otp: bool) {
    loop {
        let (handshaking, _) = listener.arrival().await;
        let service = Access::new(proxy.clone(), Arc::clone(&watch));
        if show_otp {
            tokio::spawn(serve_and_show(handshaking, service, http.clone()));
        } else {
            tokio::spawn(serve_connection(&http, handshaking, service).map(tell_broken));
        }
    }
}

/// The same, with the credential in the log once it is worth nothing.
async fn serve_and_show(handshaking: Handshaking<Stream>, service: Access<Proxy>, http: Http<TokioExecutor>) {
    // The handshake has logged why.
    let Ok(stream) = handshaking.await else { return };
    let authenticator = stream.authenticator().clone();
    tell_broken(serve_connection(&http, stream, service).await);
    if let Some(otp) = authenticator.retired_otp() {
        tracing::warn!(peer = authenticator.origin().map(tracing::field::display), authorization = otp.reveal(), "closed");
    }
}

fn tell_broken(ended: Result<(), Box<dyn Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
