//! From settings to a serving process, and back down: open, serve, read again, drain.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ekm_otp::tunnel::Target;
use ekm_otp_relay::file_watch::FileWatch;
use ekm_otp_relay::service_manager;
use tokio::sync::Semaphore;

use super::super::error::CliError;
use super::super::profiles;
use super::accept::accept;
use super::address::Address;
use super::admin::Admin;
use super::arguments::ProxyArgs;
use super::bind::Socket;
use super::listening::{Listening, listen};
use super::log::Log;
use super::metrics::Metrics;
use super::open::open;
use super::read;
use super::routes::Table;
use super::running::Lifecycle;
use super::serve::Http;
use super::settings::{Listener, Settings};
use super::shared::Shared;
use super::signals::{Asked, Signals};
use super::tunnels::Tunnels;
use super::units;
use super::users::Users;

/// As many connections to the admin pages are served at a time.
const ADMIN_CONNECTIONS: usize = 32;

/// Serves until SIGTERM or SIGINT, then drains.
pub(crate) async fn run(args: ProxyArgs) -> Result<(), CliError> {
    if args.install_user_units {
        return units::install(&args);
    }
    let mut signals = Signals::listen()?;
    // Before they are read, so that no change is missed.
    let mut watch = FileWatch::new(files(&args));
    let settings = read::read(&args)?;
    let listening = listen(&settings)?;
    let table = tokio::select! {
        table = open(&settings, &args.how, None) => table?,
        signal = signals.stop() => return Err(CliError::Signal(signal)),
    };
    let (log, writer) = Log::start(args.verbose);
    let served = serve(&args, settings, listening, table, &log, &mut signals, &mut watch).await;
    drop(log);
    writer.finish();
    served
}

async fn serve(
    args: &ProxyArgs,
    settings: Settings,
    listening: Listening,
    table: Table,
    log: &Log,
    signals: &mut Signals,
    watch: &mut FileWatch,
) -> Result<(), CliError> {
    let places: Vec<Place> = settings.listeners.iter().map(place).collect();
    let shared =
        Arc::new(Shared { table: ArcSwap::from_pointee(table), log: log.clone(), metrics: Metrics::default(), times: settings.times });
    let life = Lifecycle::new();
    start(&settings, listening, &shared, &life)?;
    drop(settings);
    let status = || {
        let labels: Vec<String> = shared.table.load().origins.iter().map(|origin| origin.label.clone()).collect();
        format!("Serving {}", labels.join(", "))
    };
    service_manager::ready(&status());
    let watchdog = tokio::spawn(service_manager::watchdog(vec![tokio::runtime::Handle::current()]));

    loop {
        let why = tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop(_) => break,
                Asked::Reload => "SIGHUP".to_owned(),
            },
            changed = watch.changed() => {
                let names: Vec<String> = changed.iter().map(|file| file.display().to_string()).collect();
                format!("{} changed", names.join(" and "))
            }
        };
        service_manager::reloading();
        watch.look_again();
        // A second time while this one is under way is passed over but for stopping.
        let read = tokio::select! {
            read = again(args, &places, &shared) => read,
            _ = signals.stop() => break,
        };
        shared.metrics.reloaded(read.is_ok());
        match read {
            Ok(()) => log.line(format!("settings were read again ({why})")),
            Err(error) => log.line(format!("settings were read again ({why}), and the old ones stay: {error}")),
        }
        service_manager::ready(&status());
    }

    service_manager::stopping();
    log.line("stopping: what is under way may end".into());
    let origins = shared.table.load().origins.clone();
    let limit = shared.times.drain;
    let is_drained = life.drain(limit).await;
    // Their connections are told that they end.
    let closing = futures_util::future::join_all(origins.iter().map(|origin| origin.client.drain()));
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), closing).await;
    watchdog.abort();
    log.line(if is_drained { "stopped".into() } else { format!("stopped; what was under way after {} s was broken off", limit.as_secs()) });
    Ok(())
}

/// Lets all sockets be accepted from.
fn start(settings: &Settings, listening: Listening, shared: &Arc<Shared>, life: &Lifecycle) -> Result<(), CliError> {
    let running = life.running();
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let broken = |e: std::io::Error| CliError::Other(format!("cannot listen: {e}"));
    for (door, socket) in listening.doors {
        let shown = socket.shown();
        let is_tcp = matches!(socket, Socket::Tcp(_));
        let tunnel = settings.listeners.get(door).and_then(|listener| listener.tunnel.clone());
        let target = tunnel.as_ref().map(|target| format!(" tcp={target}")).unwrap_or_default();
        let (places, shared_by_all) = (Arc::clone(&places), Arc::clone(shared));
        match tunnel {
            None => accept(socket, places, &running, Http { shared: shared_by_all, door }),
            Some(target) => accept(socket, places, &running, Tunnels { shared: shared_by_all, door, target }),
        }
        .map_err(broken)?;
        let table = shared.table.load();
        let to: Vec<&str> = table.rules.get(door).into_iter().flat_map(|rules| &rules.routes).map(|route| &*route.origin.label).collect();
        let users = settings.listeners.get(door).map(|listener| listener.users().to_string());
        let whom = if is_tcp { "every user of this machine".to_owned() } else { users.unwrap_or_default() };
        shared.log.line(format!("listening address={shown} to={}{target} (for {whom})", to.join(",")));
    }
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    for socket in listening.admin {
        shared.log.line(format!("admin address={}", socket.shown()));
        accept(socket, Arc::clone(&places), &running, Admin { shared: Arc::clone(shared), users: Users::own() }).map_err(broken)?;
    }
    Ok(())
}

/// What does not change without a restart: where it is listened, and which tunnel that is.
type Place = (Option<Address>, Option<Target>);

fn place(listener: &Listener) -> Place {
    (listener.address.clone(), listener.tunnel.clone())
}

/// Reads all again; on a mistake, nothing has changed.
async fn again(args: &ProxyArgs, places: &[Place], shared: &Shared) -> Result<(), CliError> {
    let settings = read::read(args)?;
    let now: Vec<Place> = settings.listeners.iter().map(place).collect();
    if now != places {
        return Err(CliError::Usage("other addresses and targets of tunnels are taken over only by a restart".into()));
    }
    let before = shared.table.load_full();
    let table = open(&settings, &args.how, Some(&before)).await?;
    shared.table.store(Arc::new(table));
    Ok(())
}

fn files(args: &ProxyArgs) -> Vec<PathBuf> {
    let all = args.config.clone().into_iter().chain(profiles::path());
    all.filter_map(|path| std::path::absolute(path).ok()).collect()
}
