//! Reads everything again while the server serves: all of it takes over, or nothing does.

use std::path::PathBuf;
use std::sync::Arc;

use ekm_otp_relay::file_watch::FileWatch;

use crate::config::{Config, RunArgs};
use crate::error::ServerError;
use crate::live::{Live, Opened};
use crate::registry::Registry;

/// Why it is done.
#[derive(Debug)]
pub(crate) enum Reason {
    Signal,
    Files(Vec<PathBuf>),
}

/// Takes over what the files hold now. What is wrong with them is logged, and all stays as it was. Whether they were taken over.
///
/// May be dropped at any point: then, too, all stays as it was.
pub(crate) async fn reload(reason: &Reason, args: &RunArgs, live: &mut Live, store: &Arc<Registry>, watch: &mut FileWatch) -> bool {
    match reason {
        Reason::Signal => tracing::info!("SIGHUP: the files are read again"),
        Reason::Files(changed) => {
            let files: Vec<_> = changed.iter().map(|file| file.display().to_string()).collect();
            tracing::info!(files = files.join(", "), "changed files are read again");
        }
    }
    match open(reason, args, live, store, watch).await {
        Ok(opened) => {
            live.replace(opened);
            watch.set(live.config().files());
            // Read in order with all else that the registry reads, so that nothing older can take its place. (Changed files are its own to find.)
            if matches!(reason, Reason::Signal)
                && let Err(error) = store.refresh().await
            {
                tracing::error!(%error, "the registry cannot be read: what was read before goes on");
            }
            tracing::info!("reloaded");
            true
        }
        Err(error) => {
            // Each on a line of its own.
            error.to_string().lines().for_each(|error| tracing::error!(error, "not reloaded: all stays as it was"));
            false
        }
    }
}

async fn open(reason: &Reason, args: &RunArgs, live: &Live, store: &Arc<Registry>, watch: &mut FileWatch) -> Result<Opened, ServerError> {
    // From here on a change is another change.
    watch.look_again();
    let reading = args.clone();
    let config = blocking(move || Config::resolve(&reading)).await?;
    // Those of the old configuration, too: if the new one fails, what was wrong may be mended in either's files.
    watch.set(config.files().into_iter().chain(live.config().files()));
    if matches!(reason, Reason::Signal) {
        store.validate().await?;
    } else if !config.is_whole() {
        // The beginning of a configuration is one, too, with fewer bounds. A person who asks for it (SIGHUP) is believed.
        return Err(ServerError::Config(
            "the configuration file does not end with a line's end: it may be cut off. End its last line, or send SIGHUP".into(),
        ));
    }
    let (of_live, sites) = (Arc::clone(store), Arc::clone(live.sites()));
    let opened = blocking(move || Opened::open(config, &of_live, &sites)).await?;
    if matches!(reason, Reason::Files(_)) && watch.is_changed() {
        return Err(ServerError::Config("the files changed while they were read: they are read again".into()));
    }
    Ok(opened)
}

/// Off the runtime's thread.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ServerError> + Send + 'static) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(ServerError::Other(format!("reading the files failed: {e}"))))
}
