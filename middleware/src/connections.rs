//! The open connections of one server, and how many there may be: so that who cannot authenticate keeps nobody out, and who can, not everybody.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::accept_error::AcceptError;
use crate::closed::Closed;
use crate::lifeline::{Lifeline, Stage, State};
use crate::log_budget::LogBudget;
use crate::peer::{Peer, Source};
use crate::source_failures::SourceFailures;

/// While a server drains, as long is waited for the first request of a connection.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// How many connections a server has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections whose handshake is finished. When there are as many, the oldest on which nobody was verified makes room.
    pub connections: usize,
    /// Handshakes that run at a time (at least 4); further connections wait in the operating system's queue. One source may hold a quarter of them,
    /// so that it cannot keep all others out; its further connections are closed.
    pub handshakes: usize,
    /// Connections of one source (an IPv4 address, an IPv6 /64) on which somebody was verified. On further ones that is answered 429.
    pub per_source: usize,
    /// How often one source may fail in a minute: show a credential that is wrong, malformed, or of another connection. When it has, connections of
    /// it on which nobody is verified yet are answered 429 until its time has come; 0: any number.
    pub failures: u32,
}

/// 10,000 connections, half of them of one source, 1,024 handshakes, and 120 failures of one source in a minute: one client that is set up wrong
/// and tries each second shuts nobody out.
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
    handshakes: Arc<Semaphore>,
    members: Mutex<Members>,
    /// The last one has left, or they drain.
    changed: Notify,
    failures: SourceFailures,
    log_budget: LogBudget,
}

#[derive(Default)]
struct Members {
    all: Slab<Arc<Lifeline>>,
    /// How many of them have finished their handshake.
    finished: usize,
    /// On how many of those somebody was verified.
    verified: usize,
    sources: HashMap<Source, OfSource>,
    /// Those whose handshake was not finished, and those on which nobody was verified, when last looked at: the oldest first.
    handshaking: Queue,
    unverified: Queue,
    /// Since when none is let in.
    draining: Option<Instant>,
}

#[derive(Default)]
struct OfSource {
    connections: usize,
    handshakes: usize,
    verified: usize,
}

#[derive(Default)]
struct Queue(VecDeque<Weak<Lifeline>>);

impl Queue {
    fn push(&mut self, connection: &Arc<Lifeline>, stage: Stage) {
        // Those that went on or have ended are let go from time to time: the queue stays in proportion to what is open.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|connection| connection.upgrade().is_some_and(|connection| is_still(&connection, stage)));
            self.0.shrink_to(2 * self.0.len());
        }
        self.0.push_back(Arc::downgrade(connection));
    }

    /// Cuts the oldest. Whether there was one.
    fn cut_oldest(&mut self, stage: Stage) -> bool {
        while let Some(connection) = self.0.pop_front() {
            if let Some(connection) = connection.upgrade().filter(|connection| is_still(connection, stage)) {
                connection.end(State::Cut, Closed::Displaced);
                return true;
            }
        }
        false
    }
}

fn is_still(connection: &Lifeline, stage: Stage) -> bool {
    connection.stage() == stage && connection.state() < State::Cut
}

impl Members {
    /// Counts one more unfinished handshake to its source, unless that has as many as it may.
    fn count_to(&mut self, source: Source, limit: usize) -> Result<(), AcceptError> {
        let source = self.sources.entry(source).or_default();
        if source.handshakes >= limit {
            return Err(AcceptError::SourceIsFull);
        }
        source.connections += 1;
        source.handshakes += 1;
        Ok(())
    }

    /// Ends who has shown the least for the longest time. Whether there was one.
    fn make_room(&mut self) -> bool {
        self.unverified.cut_oldest(Stage::Unverified) || self.handshaking.cut_oldest(Stage::Handshaking)
    }
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { handshakes: limits.handshakes.clamp(4, Semaphore::MAX_PERMITS), ..limits };
        Self(Arc::new(Shared {
            limits,
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
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

    /// Waits until a handshake may run.
    pub(crate) async fn may_handshake(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.0.handshakes).acquire_owned().await;
        permit.unwrap_or_else(|_| unreachable!("the semaphore is never closed"))
    }

    /// For when the process has no descriptor left.
    pub(crate) fn make_room(&self) -> bool {
        self.lock().make_room()
    }

    /// A place for a new connection, unless its source has too many. Where its `peer` speaks for another one, it counts to no source until that
    /// [is known](Place::comes_from).
    pub(crate) fn enter(
        &self,
        peer: Peer,
        handshake: OwnedSemaphorePermit,
        is_proxied: bool,
    ) -> Result<(Arc<Lifeline>, Place), AcceptError> {
        let mut members = self.lock();
        if members.draining.is_some() {
            return Err(AcceptError::Ended);
        }
        if !is_proxied && let Err(full) = members.count_to(peer.source(), self.0.limits.handshakes / 4) {
            drop(members);
            self.log_refused(&peer, &full);
            return Err(full);
        }
        let lifeline = Arc::new(Lifeline::new());
        members.handshaking.push(&lifeline, Stage::Handshaking);
        let id = members.all.insert(Arc::clone(&lifeline));
        drop(members);
        let member = Member { peer, connections: self.clone() };
        Ok((lifeline, Place { member, id, handshake: Some(handshake), is_counted: !is_proxied }))
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
    /// Until its handshake is finished.
    handshake: Option<OwnedSemaphorePermit>,
    /// Whether it counts to its source yet.
    is_counted: bool,
}

impl Place {
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// A load balancer has told whom it connects, or that it speaks for itself.
    pub(crate) fn comes_from(&mut self, peer: Option<Peer>) -> Result<(), AcceptError> {
        self.member.peer = peer.unwrap_or(self.member.peer);
        let connections = &self.member.connections;
        connections.lock().count_to(self.member.peer.source(), connections.0.limits.handshakes / 4)?;
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
        self.handshake = None;
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
            source.handshakes -= usize::from(self.handshake.is_some());
            source.verified -= usize::from(lifeline.stage() == Stage::Verified);
            if source.connections == 0 {
                members.sources.remove(&of);
            }
        }
        members.finished -= usize::from(self.handshake.is_none());
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
