//! One tunnel, from its request to its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ekm_otp_relay::framed::Framed;
use ekm_otp_relay::joined::{Ended, Moved, Side, joined};
use ekm_otp_tower::{VerifiedClaims, VerifiedClient};
use http::Response;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::asked::Asked;
use super::bounds::{Counts, Place, Tunnels};
use super::refused::Refused;
use super::settings::TargetConfig;
use super::targets::Targets;
use super::to::To;
use crate::dial::{DialError, dial};
use crate::operations::{Answered, Lasting, SiteLabel};

/// How long a client may take to leave a tunnel in which all is said.
const LEAVING: Duration = Duration::from_secs(5);

/// Connects a verified client to a target, if that is there for it, and answers; the two streams are joined in a task of their own. The answer's
/// extensions hold what its end is recorded by.
pub(crate) async fn open(
    request: &mut Parts,
    has_body: bool,
    (client, claims): (&VerifiedClient, Option<&VerifiedClaims>),
    (site, targets): (&SiteLabel, &Targets),
    tunnels: &Tunnels,
) -> Result<Response<()>, Refused> {
    let asked = Asked::of(request, has_body)?;
    let target = asked.target.as_ref().and_then(|target| targets.of(target, client, claims)).ok_or(Refused::NotAllowed)?;
    let place = tunnels.enter(client.connection())?;
    let counts = tunnels.counts(site.as_str(), &target.target.to_string());
    let since = Instant::now();
    let stream = match connect(target).await {
        Ok(stream) => stream,
        Err(error) => {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(target = %target.target, to = &*target.label, client = client.client(), %error, "no tunnel");
            return Err(if matches!(error, DialError::TimedOut) { Refused::TimedOut } else { Refused::Unreachable });
        }
    };
    let lasting = Lasting::default();
    let mut response = asked.accepted();
    response.extensions_mut().insert(Answered { upstream: Arc::clone(&target.label), head: since.elapsed() });
    response.extensions_mut().insert(lasting.clone());
    tokio::spawn(run(asked.client, stream, Arc::clone(target), Open::new(counts, place), lasting));
    Ok(response)
}

/// A connection to what is behind a target.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn connect(target: &TargetConfig) -> Result<Stream, DialError> {
    let limit = target.connect_timeout;
    match &target.to {
        // Wherever the configuration says, and the name leads: that is what it is for.
        To::Tcp(to) => dial(to.host(), to.port(), limit, |_| false).await.map(Stream::Tcp),
        To::Unix(path) => {
            let connected = timeout(limit, UnixStream::connect(path)).await.map_err(|_| DialError::TimedOut)?;
            connected.map(Stream::Unix).map_err(DialError::Unreachable)
        }
    }
}

/// Counts a tunnel as open, in its place, until it is dropped.
struct Open {
    counts: Arc<Counts>,
    _place: Place,
}

impl Open {
    fn new(counts: Arc<Counts>, place: Place) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        counts.opened.fetch_add(1, Ordering::Relaxed);
        Self { counts, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Joins the two. Whatever ends the client's connection, a revoked key included, breaks its side.
async fn run(client: OnUpgrade, stream: Stream, target: Arc<TargetConfig>, open: Open, lasting: Lasting) {
    let client = match client.await {
        Ok(client) => client,
        Err(error) => return tracing::debug!(%error, "a tunnel did not begin"),
    };
    let (mut client, moved) = (Framed::new(TokioIo::new(client)), Moved::default());
    let ended = match stream {
        Stream::Tcp(mut stream) => {
            let ended = joined(&mut client, &mut stream, target.idle_timeout, &moved).await;
            if !matches!(ended, Ended::Closed) {
                // Reset: what was cut must not look whole to the other end. A failure leaves a plain end.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            ended
        }
        Stream::Unix(mut stream) => joined(&mut client, &mut stream, target.idle_timeout, &moved).await,
    };
    let (to_target, from_target) = (load(&moved.a_to_b), load(&moved.b_to_a));
    open.counts.to_target.fetch_add(to_target, Ordering::Relaxed);
    open.counts.from_target.fetch_add(from_target, Ordering::Relaxed);
    tell(&ended, &target);
    if matches!(ended, Ended::Closed) {
        client.left_by_the_other(LEAVING).await;
    }
    lasting.ended(to_target, from_target, matches!(ended, Ended::Closed));
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn tell(ended: &Ended, target: &TargetConfig) {
    let target = &target.target;
    match ended {
        Ended::Broken { side: Side::A, error } => tracing::debug!(%target, %error, "a tunnel was broken off by its client"),
        Ended::Broken { error, .. } if error.kind() == io::ErrorKind::ConnectionReset => {
            tracing::debug!(%target, "a target reset its tunnel")
        }
        Ended::Broken { error, .. } => tracing::debug!(%target, %error, "a tunnel was broken off by its target"),
        Ended::Idle => tracing::info!(%target, "a tunnel was silent for too long"),
        _ => {}
    }
}
