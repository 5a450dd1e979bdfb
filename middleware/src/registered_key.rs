//! One key of the registry: what it is, whether it may be used now, and the connections that live by it.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use ekm_otp::field::CredentialKind;
use ekm_otp::{KeyId, Profile, Secret, ServerName};
use slab::Slab;

use crate::closed::Closed;
use crate::lifeline::{Lifeline, State};

/// One key id's secret, the client it belongs to, and the connections that live by it.
///
/// There may be millions: with its counters for [`Arc`] it fits 128 bytes, names and secret besides.
pub struct RegisteredKey {
    kid: KeyId,
    client: Box<str>,
    secret: Secret,
    /// Empty: all.
    server_names: Box<[ServerName]>,
    /// Seconds since 1970; 0 and `u64::MAX` where there is no bound.
    not_before: AtomicU64,
    not_after: AtomicU64,
    /// Minutes since 1970, 0 for never; the highest bit says that [`take_last_use`](Self::take_last_use) has not told it yet.
    last_use: AtomicU32,
    active: AtomicBool,
    /// Whether nobody has used it yet since it left in a bundle.
    awaited: AtomicBool,
    minimum: CredentialKind,
    profile: Profile,
    /// In a box of their own: most keys of a large registry have none now.
    connections: Mutex<Option<Box<Slab<Weak<Lifeline>>>>>,
}

const UNTOLD: u32 = 1 << 31;

/// Why a key may not be used. For the log only: all are answered as an unknown key id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Revoked,
    NotYetValid,
    Expired,
    OtherServerName,
}

impl RegisteredKey {
    /// An active key of `client`, valid for ever, on connections for any of the server's names.
    #[must_use]
    pub fn new(kid: KeyId, client: impl Into<String>, secret: Secret) -> Self {
        Self {
            kid,
            client: client.into().into_boxed_str(),
            secret,
            server_names: Box::default(),
            not_before: AtomicU64::new(0),
            not_after: AtomicU64::new(u64::MAX),
            last_use: AtomicU32::new(0),
            active: AtomicBool::new(true),
            awaited: AtomicBool::new(false),
            minimum: CredentialKind::Otp,
            profile: Profile::V1,
            connections: Mutex::default(),
        }
    }

    /// Sets the weakest kind of credential that it takes; a password, unless set: then tokens are welcome, and nothing asks for them.
    #[must_use]
    pub fn with_minimum(mut self, kind: CredentialKind) -> Self {
        self.minimum = kind;
        self
    }

    /// Sets which wire it is for; v1, unless set. On any other one it is unknown.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Sets for which of the server's names it is; for all, where there are none. On connections for other ones it is refused as an unknown one is.
    #[must_use]
    pub fn with_server_names(mut self, names: impl IntoIterator<Item = ServerName>) -> Self {
        self.server_names = names.into_iter().collect();
        self
    }

    /// Sets from when and until when it is valid, to the second, both included; for ever, unless set.
    #[must_use]
    pub fn with_validity(self, not_before: Option<SystemTime>, not_after: Option<SystemTime>) -> Self {
        self.set_validity(not_before, not_after);
        self
    }

    /// Sets when it was last used, as [`last_use`](Self::last_use) told before: what a database remembers.
    #[must_use]
    pub fn with_last_use(self, last_use: Option<SystemTime>) -> Self {
        self.last_use.store(last_use.map_or(0, minutes), Ordering::Relaxed);
        self
    }

    /// Sets whether it waits for its first use since it left in a bundle: a server remembers that use before it answers it.
    #[must_use]
    pub fn with_awaited(self, is_awaited: bool) -> Self {
        self.awaited.store(is_awaited, Ordering::Relaxed);
        self
    }

    /// Whether it waits for its first use.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Acquire)
    }

    /// The weakest kind of credential that it takes.
    #[must_use]
    pub fn minimum(&self) -> CredentialKind {
        self.minimum
    }

    /// Which wire it is for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The key id.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// The name of the client that owns it. A client may own several keys.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// For which of the server's names it is; for all, where there are none.
    #[must_use]
    pub fn server_names(&self) -> &[ServerName] {
        &self.server_names
    }

    /// Whether HMAC could not tell its secret from the other's. In constant time.
    #[must_use]
    pub fn shares_secret_with(&self, other: &Self) -> bool {
        self.secret.same_hmac_key(&other.secret)
    }

    /// A hash by which keys that [share a secret](Self::shares_secret_with) are found. It tells of the secret unless the hasher is keyed.
    #[must_use]
    pub fn hash_of_secret(&self, hasher: &impl BuildHasher) -> u64 {
        // HMAC cannot tell S from S with zeros behind it (RFC 2104 §2).
        let significant = self.secret.expose().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        hasher.hash_one(&self.secret.expose()[..significant])
    }

    /// Until when it is valid; `None` for ever.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        let seconds = self.not_after.load(Ordering::Acquire);
        (seconds < u64::MAX).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Whether the other one is the same key: key id, client, secret, minimum, profile and server names, none of which change in a key's life.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        let plain = |key: &Self| (key.minimum, key.profile);
        self.kid == other.kid
            && self.client == other.client
            && self.server_names == other.server_names
            && plain(self) == plain(other)
            && self.secret.same_hmac_key(&other.secret)
    }

    /// Takes over whether and when it may be used from what was read of it anew. Whether that is news.
    pub fn follow(&self, other: &Self) -> bool {
        let stand = |key: &Self| {
            let flags = [&key.active, &key.awaited].map(|flag| u64::from(flag.load(Ordering::Acquire)));
            [flags[0], flags[1], key.not_before.load(Ordering::Acquire), key.not_after.load(Ordering::Acquire)]
        };
        let [active, awaited, not_before, not_after] = stand(other);
        if stand(self) == stand(other) {
            return false;
        }
        if active == 0 {
            self.revoke();
        }
        {
            let _connections = self.lock();
            self.not_before.store(not_before, Ordering::Release);
            self.not_after.store(not_after, Ordering::Release);
            self.active.store(active != 0, Ordering::Release);
            self.awaited.store(awaited != 0, Ordering::Release);
        }
        self.cut_unless_valid();
        true
    }

    /// When a connection was last authenticated with it, or the last such one closed; to the minute.
    #[must_use]
    pub fn last_use(&self) -> Option<SystemTime> {
        instant(self.last_use.load(Ordering::Relaxed))
    }

    /// The same, if it was used since this was called last: for whoever writes it down.
    #[must_use]
    pub fn take_last_use(&self) -> Option<SystemTime> {
        // Most keys were not: those are read only, and stay where they are in each processor's cache.
        if self.last_use.load(Ordering::Relaxed) & UNTOLD == 0 {
            return None;
        }
        instant(self.last_use.fetch_and(!UNTOLD, Ordering::Relaxed))
    }

    /// How many connections live by it now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lock().as_ref().map_or(0, |connections| connections.len())
    }

    /// Whether it is neither revoked nor out of its time.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable().is_ok()
    }

    /// Ends the key: no request passes with it any more, and every connection that was authenticated with it is cut, streams that were
    /// upgraded included.
    pub fn revoke(&self) {
        let mut connections = self.lock();
        self.active.store(false, Ordering::Release);
        cut(&mut connections, Closed::Revoked);
    }

    /// Takes back what [`revoke`](Self::revoke) did, for new connections.
    pub fn reinstate(&self) {
        let _connections = self.lock();
        self.active.store(true, Ordering::Release);
    }

    /// Sets from when and until when it is valid, to the second, both included. If that is not now, its connections are cut.
    pub fn set_validity(&self, not_before: Option<SystemTime>, not_after: Option<SystemTime>) {
        {
            let _connections = self.lock();
            self.not_before.store(not_before.map_or(0, seconds), Ordering::Release);
            self.not_after.store(not_after.map_or(u64::MAX, seconds), Ordering::Release);
        }
        self.cut_unless_valid();
    }

    /// Cuts its connections if it is not valid now. Requests are refused from that second on in any case; a store calls this when it has come.
    pub fn cut_unless_valid(&self) {
        if self.is_bounded() {
            let mut connections = self.lock();
            if self.valid_at(SystemTime::now()).is_err() {
                cut(&mut connections, Closed::Expired);
            }
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Whether it may be used now, at all.
    pub(crate) fn usable(&self) -> Result<(), Unusable> {
        if !self.active.load(Ordering::Acquire) {
            return Err(Unusable::Revoked);
        }
        // Without a bound, the clock is not looked at: this is asked for each request.
        if self.is_bounded() { self.valid_at(SystemTime::now()) } else { Ok(()) }
    }

    /// The same on connections for `name`. Each key costs the same, the clock included.
    pub(crate) fn usable_for(&self, name: &ServerName) -> Result<(), Unusable> {
        let validity = self.valid_at(SystemTime::now());
        let is_named = self.server_names.is_empty() || self.server_names.contains(name);
        match (self.active.load(Ordering::Acquire), validity, is_named) {
            (false, ..) => Err(Unusable::Revoked),
            (true, Err(why), _) => Err(why),
            (true, Ok(()), false) => Err(Unusable::OtherServerName),
            (true, Ok(()), true) => Ok(()),
        }
    }

    fn is_bounded(&self) -> bool {
        self.not_after.load(Ordering::Acquire) != u64::MAX || self.not_before.load(Ordering::Acquire) != 0
    }

    fn valid_at(&self, now: SystemTime) -> Result<(), Unusable> {
        let now = seconds(now);
        if now < self.not_before.load(Ordering::Acquire) {
            Err(Unusable::NotYetValid)
        } else if now > self.not_after.load(Ordering::Acquire) {
            Err(Unusable::Expired)
        } else {
            Ok(())
        }
    }

    fn touch(&self) {
        self.last_use.store(minutes(SystemTime::now()) | UNTOLD, Ordering::Relaxed);
    }

    /// Registers a connection for [`revoke`](Self::revoke), under the same lock as the checks: none slips through between them.
    pub(crate) fn attach(&self, connection: &Arc<Lifeline>, limit: usize) -> Result<(), NotAttached> {
        let mut connections = self.lock();
        self.usable().map_err(NotAttached::Unusable)?;
        // Whoever ends a connection looks for its key after that: this is seen there, or the end is seen here.
        if connection.state() >= State::Cut {
            return Err(NotAttached::Ended);
        }
        let connections = connections.get_or_insert_default();
        if connections.len() >= limit {
            return Err(NotAttached::Full);
        }
        connection.set_place_at_key(Some(connections.insert(Arc::downgrade(connection))));
        self.touch();
        Ok(())
    }

    /// The connection is gone.
    pub(crate) fn detach(&self, connection: &Lifeline) {
        let mut place = self.lock();
        if let (Some(at), Some(connections)) = (connection.place_at_key(), place.as_mut()) {
            connections.remove(at);
            connection.set_place_at_key(None);
            if connections.is_empty() {
                *place = None;
            }
            self.touch();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Slab<Weak<Lifeline>>>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(connections: &mut Option<Box<Slab<Weak<Lifeline>>>>, why: Closed) {
    for connection in connections.take().into_iter().flat_map(|slab| *slab).filter_map(|(_, weak)| weak.upgrade()) {
        connection.set_place_at_key(None);
        connection.end(State::Cut, why);
    }
}

/// Since 1970; 0 before.
fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn minutes(at: SystemTime) -> u32 {
    // Until the year 6053.
    u32::try_from(seconds(at) / 60).unwrap_or(UNTOLD - 1).min(UNTOLD - 1)
}

fn instant(minutes: u32) -> Option<SystemTime> {
    let minutes = minutes & !UNTOLD;
    (minutes > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(minutes) * 60))
}

/// Why a connection was not registered with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAttached {
    Unusable(Unusable),
    /// The key has as many connections as it may.
    Full,
    /// The connection has ended meanwhile.
    Ended,
}

impl fmt::Debug for RegisteredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredKey").field("kid", &self.kid).field("client", &self.client).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "registered_key_tests.rs"]
mod tests;
