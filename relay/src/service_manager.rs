//! What the service manager is told and what it hands over (sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)): readiness, reloads, signs of
//! life, open sockets. Where there is none, nothing of this does anything.

use std::env;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::future::join_all;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A socket that was handed over and cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the service manager's socket {name} cannot be served ({source}): ListenStream= with a port or a path is")]
#[non_exhaustive]
pub struct SocketsError {
    /// As `LISTEN_FDNAMES` has it.
    pub name: String,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// The process serves, as `status` says.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The files are read again. [`ready`] ends it.
pub fn reloading() {
    // Type=notify-reload (systemd 253) takes no RELOADING without the time at which it began.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("Reading its files again")]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
    }
}

/// No more connections are taken; those that are open may finish.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("Draining")]);
}

fn tell(state: &[NotifyState<'_>]) {
    // Who does not listen is not served worse for it.
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// Feeds the watchdog for as long as every worker answers within a quarter of its time; for ever. Ends at once where there is none.
pub async fn watchdog(workers: Vec<Handle>) {
    let mut microseconds = 0;
    if !sd_notify::watchdog_enabled(false, &mut microseconds) {
        return;
    }
    let time = Duration::from_micros(microseconds);
    // Three times in its time.
    let mut ticks = interval((time / 3).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answers = workers.iter().map(|worker| timeout(time / 4, worker.spawn(async {})));
        if join_all(answers).await.iter().all(|answer| matches!(answer, Ok(Ok(())))) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("a worker does not answer: the service manager's watchdog is not fed");
        }
    }
}

/// A socket that was opened for this process.
#[derive(Debug)]
pub struct Handed {
    /// As `FileDescriptorName=` has it; `unknown` where nothing is told.
    pub name: String,
    /// It listens, for TCP or on a Unix socket.
    pub socket: OwnedFd,
}

/// The sockets that were opened for this process.
///
/// # Errors
/// When one is neither a listening TCP nor a listening Unix socket.
pub fn sockets() -> Result<Vec<Handed>, SocketsError> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..handed.len() {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        let tcp = handed.take_tcp_listener(at).map(|socket| socket.map(OwnedFd::from));
        let socket = tcp.or_else(|_| handed.take_unix_listener(at).map(|socket| socket.map(OwnedFd::from)));
        let socket = socket.map_err(|source| SocketsError { name: name.to_owned(), source })?;
        tracing::info!(name, "the service manager's socket is served; `listen` is passed over");
        sockets.extend(socket.map(|socket| Handed { name: name.to_owned(), socket }));
    }
    Ok(sockets)
}
