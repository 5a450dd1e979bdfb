//! From a [`Config`] to a serving process, and back down: open, serve, reload, drain.

use std::sync::Arc;

use ekm_otp::Profile;
use ekm_otp_relay::file_watch::FileWatch;
use ekm_otp_relay::service_manager;
use ekm_otp_tower::{Connections, EkmListener};

use crate::config::{Config, RunArgs};
use crate::enrolment::Enrolment;
use crate::error::ServerError;
use crate::live::Live;
use crate::operations::{Operations, Sources};
use crate::proxy::{Own, Proxy};
use crate::registry::Registry;
use crate::reload::{Reason, blocking, reload};
use crate::serving::accept;
use crate::signals::{Asked, Signals};
use crate::tcp::Tunnels;
use crate::workers::Worker;
use crate::{confinement, doors, limits, logging, observed, tcp, workers};

/// Serves until SIGTERM or SIGINT, then drains.
pub(crate) fn run(args: &RunArgs) -> Result<(), ServerError> {
    let config = Config::resolve(args)?;
    // The log is a thread, too, and comes after it.
    let confined = confinement::confine(&config);
    let log = logging::start(&config.general.log, config.general.log_format)?;
    tracing::info!(landlock = confined, "writing to files is confined to where its configuration has it write");
    let operations = Operations::open(&config.operations, log.lines())?;
    let runtime = workers::runtime().map_err(|e| ServerError::Other(format!("cannot start the runtime: {e}")))?;
    let result = runtime.block_on(start(args, config, operations));
    // A registry that is still being read when a signal comes is not waited for.
    runtime.shutdown_background();
    result
}

/// Reads what there is to read, while signals are heard: a large registry takes seconds.
async fn start(args: &RunArgs, config: Config, operations: Operations) -> Result<(), ServerError> {
    let mut signals = Signals::listen()?;
    let watch = FileWatch::new(config.files());
    let opening = async {
        let store = Arc::new(Registry::open(&config.registry).await?);
        let of_live = Arc::clone(&store);
        let live = blocking(move || Live::open(config, &of_live)).await?;
        Ok::<_, ServerError>((store, live))
    };
    tokio::select! {
        opened = opening => {
            let (store, live) = opened?;
            serve(Server { args, live, store, watch, operations }, signals).await
        }
        () = signals.stop() => {
            tracing::info!("stopped before it listened");
            Ok(())
        }
    }
}

/// What serves, but for its threads.
struct Server<'a> {
    args: &'a RunArgs,
    live: Live,
    store: Arc<Registry>,
    watch: FileWatch,
    operations: Operations,
}

async fn serve(server: Server<'_>, mut signals: Signals) -> Result<(), ServerError> {
    let Server { args, mut live, store, mut watch, mut operations } = server;
    let config = Arc::clone(live.config());
    tell_of(&config, &store);
    let acceptor = live.acceptor()?.events(operations.watch());

    let descriptors = usize::try_from(rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)).unwrap_or(usize::MAX);
    let limits = limits::fitting(descriptors, config.doors.limits());
    let connections = Connections::new(limits);
    let tunnels = Tunnels::new(tcp::Config { max_tunnels: limits::tunnels(descriptors, config.tunnels.max_tunnels), ..config.tunnels });
    // The files of Unix sockets are there for as long as this is.
    let handed = service_manager::sockets().map_err(|e| ServerError::Config(e.to_string()))?;
    let mut listening = doors::listen(&config.doors, handed.into_iter().map(|handed| handed.socket).collect(), workers::count())?;
    let sockets = std::mem::take(&mut listening.workers);
    tracing::info!(
        address = %listening.addresses.join(","),
        keys = store.len(),
        sites = config.sites.len(),
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
    let enrolment = Arc::new(Enrolment::new(Arc::clone(&store), operations.watch()));
    let start = |sockets| {
        let (acceptor, connections, http, show_otp) = (acceptor.clone(), connections.clone(), http.clone(), config.general.show_otp);
        let own = Own { enrolment: Arc::clone(&enrolment), tunnels: tunnels.clone() };
        let (proxy, watch) = (Proxy::new(Arc::clone(live.sites()), own), operations.watch());
        let speaks_for_others = config.doors.speaks_for_others();
        Worker::start(sockets, move |sockets| {
            let listener = EkmListener::new(sockets, acceptor).among(connections).proxy_protocol_from(speaks_for_others);
            accept(listener, proxy, watch, http, show_otp)
        })
    };
    let workers = sockets.into_iter().map(start).collect::<Result<Vec<_>, _>>();
    let workers = workers.map_err(|e| ServerError::Other(format!("cannot start a thread: {e}")))?;

    operations.certificates(live.certificates());
    let (registry, sites) = (Arc::clone(&store), Arc::clone(live.sites()));
    operations.serve(Sources {
        workers: workers.iter().map(|worker| worker.runtime().clone()).collect(),
        connections: connections.clone(),
        registry: Box::new(move || observed::registry(&registry)),
        tunnels: Box::new(move || tunnels.all()),
        upstreams: Box::new(move || sites.load().all().flat_map(|site| observed::upstreams(site)).collect()),
    })?;

    service_manager::ready(&live.summary(store.len()));
    // Ends with the runtime: while it drains, too, the workers must answer.
    tokio::spawn(service_manager::watchdog(workers.iter().map(|worker| worker.runtime().clone()).collect()));
    loop {
        let reason = tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::OpenLogs => {
                    operations.reopen_logs();
                    continue;
                }
                Asked::Reload => {
                    operations.reopen_logs();
                    Reason::Signal
                }
            },
            changed = watch.changed() => Reason::Files(changed),
        };
        service_manager::reloading();
        tokio::select! {
            is_new = reload(&reason, args, &mut live, &store, &mut watch) => {
                operations.reloaded(is_new);
                if is_new {
                    operations.certificates(live.certificates());
                }
            },
            () = signals.stop() => break,
        }
        service_manager::ready(&live.summary(store.len()));
    }
    service_manager::stopping();
    operations.drains();
    drain(&live, workers, &connections, &mut signals).await;
    Ok(())
}

/// Lets connections finish, for a time.
async fn drain(live: &Live, workers: Vec<Worker>, connections: &Connections, signals: &mut Signals) {
    workers.iter().for_each(Worker::stop_accepting);
    tracing::info!(connections = connections.len(), "draining");
    connections.drain();
    let all_left = tokio::select! {
        () = connections.all_left() => true,
        () = tokio::time::sleep(live.config().general.drain) => false,
        () = signals.stop() => false,
    };
    if !all_left {
        tracing::warn!(connections = connections.len(), "connections were cut: they did not finish in time, or a second signal came");
    }
    workers.into_iter().for_each(Worker::end);
    tracing::info!("stopped");
}

/// What of the configuration and the registry does not fit together, or is weaker than it might be.
fn tell_of(config: &Config, store: &Registry) {
    if store.len() == 0 {
        tracing::warn!("the registry holds no key: every request will be refused");
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
}
