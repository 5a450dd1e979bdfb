//! The open connections of one server, and how many there may be: so that who cannot authenticate keeps nobody out, and who can, not everybody.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::accept_error::AcceptError;
use crate::closed::Closed;
use crate::lifeline::{Lifeline, Stage, State};
use crate::log_budget::LogBudget;
use crate::members::Members;
use crate::peer::Peer;
use crate::source_failures::SourceFailures;

/// While a server drains, as long is waited for the first request of a connection.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// How many connections a server has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections whose handshake is finished. When there are as many, the oldest on which nobody was verified makes room.
    pub connections: usize,
    /// Handshakes that run at a time (at least 4). When there are as many, the oldest connection that has sent nothing makes room for a new one, or the
    /// oldest whose handshake is not finished: whoever speaks at once is done before it is that. One source may hold a quarter of them, and a
    /// sixteenth when half of them are taken; its further connections are closed.
    pub handshakes: usize,
    /// Connections of one source (an IPv4 address, an IPv6 /64) on which somebody was verified. On further ones that is answered 429.
    pub per_source: usize,
    /// How often one source may fail in a minute: show a credential that is wrong, malformed, or of another connection. Further such ones are answered
    /// 429 in place of 401, and their connections closed at once; right ones pass. 0: any number.
    pub failures: u32,
}

/// 10,000 connections, half of them of one source, 1,024 handshakes, and 120 failures of one source in a minute: a client that is set up wrong
/// and tries each second still hears what is wrong.
impl Default for Limits {
    fn default() -> Self {
        Self { connections: 10_000, handshakes: 1024, per_source: 5_000, failures: 120 }
    }
}

/// How many connections are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Whose TLS handshake is not finished.
    pub handshaking: usize,
    /// On which nobody was verified yet.
    pub unverified: usize,
    /// On which somebody was.
    pub verified: usize,
}

/// The open connections of one server. All clones are the same; listeners that share them share their [`Limits`].
#[derive(Clone)]
pub struct Connections(Arc<Shared>);

struct Shared {
    limits: Limits,
    members: Mutex<Members>,
    /// The last one has left, or they drain.
    changed: Notify,
    failures: SourceFailures,
    log_budget: LogBudget,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { handshakes: limits.handshakes.max(4), ..limits };
        Self(Arc::new(Shared {
            limits,
            members: Mutex::default(),
            changed: Notify::new(),
            failures: SourceFailures::new(limits.failures),
            log_budget: LogBudget::new(10),
        }))
    }

    /// How many are open, unfinished handshakes included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().all.len()
    }

    /// How many are open, by how much they have shown.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let members = self.lock();
        let handshaking = members.all.len() - members.finished;
        Counts { handshaking, unverified: members.finished - members.verified, verified: members.verified }
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends them all gracefully: what is under way may finish, and who has just connected may ask once. New ones are closed at once.
    pub fn drain(&self) {
        let mut members = self.lock();
        members.draining.get_or_insert_with(Instant::now);
        members.all.iter().for_each(|(_, connection)| connection.drain());
        drop(members);
        self.0.changed.notify_waiters();
    }

    /// Cuts them all at once. New ones are closed.
    pub fn cut(&self) {
        let mut members = self.lock();
        members.draining.get_or_insert_with(Instant::now);
        members.all.iter().for_each(|(_, connection)| connection.advance(State::Cut));
    }

    /// Resolves once none is open. While they [drain](Self::drain), it also cuts those on which nothing was asked within two seconds: await it then.
    pub async fn all_left(&self) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // From here on no notice is missed.
            changed.as_mut().enable();
            if self.is_empty() {
                return;
            }
            let draining = self.lock().draining;
            match draining.map(|since| since + ASKED_WITHIN).filter(|by| *by > Instant::now()) {
                Some(by) => drop(timeout_at(by, changed).await),
                None => {
                    self.cut_silent();
                    changed.await;
                }
            }
        }
    }

    /// While they drain: those on which nothing was asked.
    fn cut_silent(&self) {
        let members = self.lock();
        if members.draining.is_some() {
            members.all.iter().filter(|(_, connection)| !connection.is_asked()).for_each(|(_, connection)| {
                connection.end(State::Cut, Closed::Drained);
            });
        }
    }

    /// Whether more handshakes are there than there may be: those that were cut are still to leave.
    pub(crate) fn is_crowded(&self) -> bool {
        self.lock().handshakes() > self.0.limits.handshakes
    }

    /// For when the process has no descriptor left.
    pub(crate) fn make_room(&self) -> bool {
        self.lock().make_room()
    }

    /// A place for a new connection, unless its source has too many. Where its `peer` speaks for another one, it counts to no source until that
    /// [is known](Place::comes_from).
    pub(crate) fn enter(&self, peer: Peer, is_proxied: bool) -> Result<(Arc<Lifeline>, Place), AcceptError> {
        let mut members = self.lock();
        if members.draining.is_some() {
            return Err(AcceptError::Ended);
        }
        if !is_proxied && let Err(full) = members.count_to(peer.source(), self.0.limits.handshakes) {
            drop(members);
            self.log_refused(&peer, &full);
            return Err(full);
        }
        // Accepting never stops: whoever speaks at once is done long before it is the oldest.
        if members.handshakes() >= self.0.limits.handshakes {
            members.cut_a_handshake();
        }
        let lifeline = Arc::new(Lifeline::new());
        members.silent.push(&lifeline, Stage::Silent);
        let id = members.all.insert(Arc::clone(&lifeline));
        drop(members);
        let member = Member { peer, connections: self.clone() };
        Ok((lifeline, Place { member, id, is_finished: false, is_counted: !is_proxied }))
    }

    fn log_refused(&self, peer: &Peer, error: &AcceptError) {
        if let Some(left_out) = self.0.log_budget.take() {
            match error {
                AcceptError::Full(_) => tracing::warn!(%peer, %error, left_out, "connection refused"),
                _ => tracing::info!(%peer, %error, left_out, "connection refused"),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, as its authenticator knows it.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) peer: Peer,
    connections: Connections,
}

impl Member {
    /// Whether its source may show a credential now; if not, after how long.
    pub(crate) fn may_try(&self) -> Result<(), Duration> {
        self.connections.0.failures.may_try(self.peer.source())
    }

    /// The credential was wrong.
    pub(crate) fn failed(&self) {
        self.connections.0.failures.failed(self.peer.source());
    }

    /// Counts the connection as verified, unless as many of its source are.
    pub(crate) fn is_verified(&self) -> Result<(), TooManyOfSource> {
        let limit = self.connections.0.limits.per_source;
        let mut members = self.connections.lock();
        let source = members.sources.entry(self.peer.source()).or_default();
        if source.verified >= limit {
            return Err(TooManyOfSource { limit });
        }
        source.verified += 1;
        members.verified += 1;
        Ok(())
    }
}

/// The source has as many verified connections as it may.
pub(crate) struct TooManyOfSource {
    pub(crate) limit: usize,
}

/// One connection's place among the others. Dropped with it.
pub(crate) struct Place {
    member: Member,
    id: usize,
    /// Whether its handshake is finished.
    is_finished: bool,
    /// Whether it counts to its source yet.
    is_counted: bool,
}

impl Place {
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// The first bytes of TLS have come.
    pub(crate) fn has_spoken(&self) {
        let mut members = self.member.connections.lock();
        let lifeline = Arc::clone(&members.all[self.id]);
        lifeline.advance_stage(Stage::Handshaking);
        members.handshaking.push(&lifeline, Stage::Handshaking);
    }

    /// A load balancer has told whom it connects, or that it speaks for itself.
    pub(crate) fn comes_from(&mut self, peer: Option<Peer>) -> Result<(), AcceptError> {
        self.member.peer = peer.unwrap_or(self.member.peer);
        let connections = &self.member.connections;
        connections.lock().count_to(self.member.peer.source(), connections.0.limits.handshakes)?;
        self.is_counted = true;
        Ok(())
    }

    /// From now on it counts as a connection, if there is room for one more.
    pub(crate) fn handshake_is_done(&mut self) -> Result<(), AcceptError> {
        let limits = &self.member.connections.0.limits;
        let mut members = self.member.connections.lock();
        // Full: room is made by whoever has shown nothing for the longest time.
        if members.finished >= limits.connections && !members.unverified.cut_oldest(Stage::Unverified) {
            return Err(AcceptError::Full(limits.connections));
        }
        members.finished += 1;
        if let Some(source) = members.sources.get_mut(&self.member.peer.source()) {
            source.handshakes -= 1;
        }
        let lifeline = Arc::clone(&members.all[self.id]);
        lifeline.advance_stage(Stage::Unverified);
        members.unverified.push(&lifeline, Stage::Unverified);
        self.is_finished = true;
        Ok(())
    }

    pub(crate) fn log_refused(&self, error: &AcceptError) {
        self.member.connections.log_refused(&self.member.peer, error);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut members = self.member.connections.lock();
        let lifeline = members.all.remove(self.id);
        let of = self.member.peer.source();
        if self.is_counted
            && let Some(source) = members.sources.get_mut(&of)
        {
            source.connections -= 1;
            source.handshakes -= usize::from(!self.is_finished);
            source.verified -= usize::from(lifeline.stage() == Stage::Verified);
            if source.connections == 0 {
                members.sources.remove(&of);
            }
        }
        members.finished -= usize::from(self.is_finished);
        members.verified -= usize::from(lifeline.stage() == Stage::Verified);
        if members.all.is_empty() {
            // What many connections needed is given back when they have left.
            *members = Members { draining: members.draining, ..Members::default() };
            drop(members);
            self.member.connections.0.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("limits", &self.0.limits).field("open", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("peer", &self.member.peer).finish_non_exhaustive()
    }
}
