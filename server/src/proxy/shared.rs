//! One thread's HTTP/2 connections to one upstream: requests share them, and there is another where one is full.

use std::sync::{Mutex, PoisonError};

use super::connect::{ConnectError, Fault, Http2, Sender, connect};
use super::upstream::Upstream;

/// How many there are at most. Beyond that, requests wait for each other.
const CONNECTIONS: usize = 64;

#[derive(Default)]
pub(super) struct Shared {
    /// Held while one is made: those who come meanwhile want the same.
    connections: tokio::sync::Mutex<Vec<Http2>>,
    failed: Mutex<Failed>,
}

/// How often none could be made, and why the last time.
#[derive(Default)]
struct Failed {
    times: u64,
    last: Option<(Fault, String)>,
}

impl Shared {
    /// A connection with room for a request, and whether it was there before; `Sender::Http1` where the upstream chose that.
    pub(super) async fn connection(&self, upstream: &Upstream, for_upgrade: bool) -> Result<(Sender, bool), ConnectError> {
        let before = self.failed(|failed| failed.times);
        let mut connections = self.connections.lock().await;
        connections.retain(Http2::is_open);
        let has_room = connections.iter().find(|http2| http2.has_room());
        let is_full = connections.len() >= CONNECTIONS;
        let least = || connections.iter().filter(|_| is_full).min_by_key(|http2| http2.streams());
        if let Some(http2) = has_room.or_else(least) {
            return Ok((Sender::Http2(http2.clone()), true));
        }
        // Who has waited while another failed has failed, too: one after the other, the last would wait for the time of all.
        let shared_failure = self.failed(|failed| failed.last.clone().filter(|_| failed.times != before));
        if let Some((fault, text)) = shared_failure {
            return Err(ConnectError::Shared(fault, text));
        }
        let made = connect(upstream, for_upgrade).await;
        match &made {
            Ok(Sender::Http2(http2)) => connections.push(http2.clone()),
            Ok(Sender::Http1(..)) => {}
            Err(error) => self.failed(|failed| {
                failed.times += 1;
                failed.last = Some((error.fault(), error.to_string()));
            }),
        }
        made.map(|sender| (sender, false))
    }

    fn failed<T>(&self, look: impl FnOnce(&mut Failed) -> T) -> T {
        look(&mut self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
