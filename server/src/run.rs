//! From a [`Config`] to a serving process, and back down: accept, serve, drain.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekm_otp::Profile;
use ekm_otp_files::pem;
use ekm_otp_tower::{Authentication, EkmAcceptor, EkmListener, SecretStore as _, serve_connection};
use futures_util::FutureExt as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument as _;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::crowd::{Crowd, Room};
use crate::error::ServerError;
use crate::signals::Signals;
use crate::{logging, origin, registry};

/// How long a request's header section may take on HTTP/1, an idle connection included; and how long HTTP/2 may be silent.
const IDLE: Duration = Duration::from_secs(60);
/// How many requests one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 128;

/// Serves until SIGTERM or SIGINT, then drains.
pub(crate) fn run(config: Config) -> Result<(), ServerError> {
    logging::start(&config.log, config.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| ServerError::Other(format!("cannot start the runtime: {e}")))?;
    // Spawned, so that accepting runs on a worker thread beside the connections rather than waking it from outside.
    let result = runtime.block_on(async { tokio::spawn(start(config)).await });
    // A registry that is still being read when a signal comes is not waited for.
    runtime.shutdown_background();
    result.unwrap_or_else(|e| Err(ServerError::Other(format!("the server's task ended: {e}"))))
}

/// Reads what there is to read, while signals are heard: a large registry takes seconds.
async fn start(config: Config) -> Result<(), ServerError> {
    let mut signals = Signals::listen()?;
    let config = Arc::new(config);
    let reading = Arc::clone(&config);
    let reading =
        tokio::task::spawn_blocking(move || Ok((registry::load(&reading.secrets, reading.weak_secrets)?, server_config(&reading)?)));
    tokio::select! {
        read = reading => {
            let (store, tls) = read.unwrap_or_else(|e| Err(ServerError::Other(format!("reading the files failed: {e}"))))?;
            serve(&config, store, tls, signals).await
        }
        () = signals.stop() => {
            tracing::info!("stopped before it listened");
            Ok(())
        }
    }
}

fn server_config(config: &Config) -> Result<ServerConfig, ServerError> {
    let (chain_file, key_file) = (config.certificate.display(), config.private_key.display());
    let read = |path: &Path| std::fs::read(path).map_err(|e| ServerError::io(&format!("cannot read {}", path.display()), &e));
    let chain = pem::certificates(&read(&config.certificate)?).map_err(|e| ServerError::Config(format!("{chain_file}: {e}")))?;
    if std::fs::metadata(&config.private_key).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o007 != 0) {
        tracing::warn!("everyone on this machine can use {key_file}, the TLS private key: chmod o= {key_file}");
    }
    let key = pem::tls_key(&Zeroizing::new(read(&config.private_key)?)).map_err(|e| ServerError::Config(format!("{key_file}: {e}")))?;
    ServerConfig::builder_with_provider(config.tls.provider(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(config.tls.versions())
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                ServerError::Config(format!("the private key in {key_file} does not belong to the certificate in {chain_file}"))
            }
            other => ServerError::Config(format!("{chain_file} with {key_file}: {other}")),
        })
}

async fn serve(config: &Config, store: ekm_otp_tower::MemoryStore, tls: ServerConfig, mut signals: Signals) -> Result<(), ServerError> {
    if store.is_empty() {
        tracing::warn!("the registry holds no key: every request will be refused");
    }
    if let Some(kid) = &config.go_default_kid
        && !store.get(kid).is_ok_and(|key| key.is_some_and(|key| key.profile() == Profile::Go))
    {
        return Err(ServerError::Config(format!(
            "--go-default-kid {kid}: the registry holds no key with this key id and profile = \"go\""
        )));
    }
    let keys = store.len();
    let go_keys = store.count(|key| key.profile() == Profile::Go);
    let never = store.count(|key| config.kinds.iter().all(|kind| *kind < key.minimum()));
    if never > 0 {
        tracing::warn!(keys = never, "the registry has keys that must show more than any kind that --credential accepts: they never pass");
    }
    let authentication = Authentication::new(Arc::new(store), config.names.clone(), &config.realm)
        .map_err(|e| ServerError::Config(format!("--realm: {e}")))?
        .kinds(config.kinds.iter().copied())
        .leeway(config.leeway)
        .max_age(config.max_age);
    let authentication = if config.go { authentication.profile_go(config.go_default_kid.clone()) } else { authentication };

    let tcp = TcpListener::bind(config.listen).await.map_err(|e| ServerError::io(&format!("cannot listen on {}", config.listen), &e))?;
    let crowd = Crowd::default();
    let descriptors = usize::try_from(rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)).unwrap_or(usize::MAX);
    let room = Room::of(descriptors, config.max_connections);
    let acceptor = EkmAcceptor::new(tls, config.tls, authentication);
    let make_room = crowd.clone();
    let mut listener = EkmListener::new(tcp, acceptor).max_handshakes(room.handshakes).make_room(move || make_room.cut_oldest_unverified());
    let address = listener.local_addr().map_err(|e| ServerError::io("cannot tell the address", &e))?;
    tracing::info!(%address, keys, tls12 = config.tls.tls12, require_post_quantum = config.tls.require_post_quantum, "listening");
    if config.go {
        tracing::warn!(
            "the profile go is on, and weaker than v1: this server proves nothing to its clients, and their tokens are bound to the \
             connection, not to the request or the time"
        );
    } else if go_keys > 0 {
        tracing::warn!(keys = go_keys, "the registry has keys with profile = \"go\", which is not switched on: they are unknown here");
    }
    if config.show_otp {
        tracing::warn!("--unsafe-show-otp: the credential of each closed connection is logged");
    }

    let max_connections = room.connections;
    if max_connections < config.max_connections {
        tracing::warn!(
            max_connections,
            wanted = config.max_connections,
            "fewer connections than configured: raise the limit of open files"
        );
    }

    let http = http_builder();
    let mut told_full: Option<Instant> = None;
    let (shutdown, draining) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = signals.stop() => break,
            Some(_) = connections.join_next() => {},
            (stream, peer) = listener.accept() => {
                // Full: room is made by whoever has shown nothing for the longest time.
                if connections.len() >= max_connections && !crowd.cut_oldest_unverified() {
                    if told_full.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
                        told_full = Some(Instant::now());
                        tracing::warn!(%peer, max_connections, "closed: too many connections, all of them verified");
                    }
                    continue;
                }
                let authenticator = stream.authenticator().clone();
                crowd.enter(authenticator.clone());
                let span = tracing::info_span!("connection", %peer);
                span.in_scope(|| tracing::debug!(tls = %authenticator.tls(), "accepted"));
                let serving = serve_connection(&http, stream, service_fn(origin::handle), drained(draining.clone()));
                let show_otp = config.show_otp;
                connections.spawn(serving.map(move |result| {
                    if let Err(error) = result {
                        tracing::debug!(%error, "the connection broke");
                    }
                    if show_otp && let Some(otp) = authenticator.retired_otp() {
                        tracing::warn!(authorization = otp.reveal(), "closed");
                    }
                }).instrument(span));
            },
        }
    }

    drop(listener);
    let _ = shutdown.send(true);
    tracing::info!(connections = connections.len(), "draining");
    // Who is not verified has nothing under way that is worth waiting for.
    while crowd.cut_oldest_unverified() {}
    let all_ended = tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => true,
        () = tokio::time::sleep(config.drain) => false,
        () = signals.stop() => false,
    };
    if !all_ended {
        tracing::warn!(connections = connections.len(), "connections were cut: they did not finish in time, or a second signal came");
    }
    tracing::info!("stopped");
    Ok(())
}

fn http_builder() -> Builder<InSpan> {
    let mut http = Builder::new(InSpan);
    http.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(64 * 1024);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(IDLE).max_concurrent_streams(MAX_STREAMS).max_header_list_size(16 * 1024);
    http
}

async fn drained(mut draining: watch::Receiver<bool>) {
    // An error means that the sender is gone: then the server is going down, too.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Spawns HTTP/2's per-request tasks inside their connection's span, so that their log lines name the peer.
#[derive(Clone, Copy, Debug)]
struct InSpan;

impl<F> hyper::rt::Executor<F> for InSpan
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        tokio::spawn(task.in_current_span());
    }
}
