//! The registry's face: which secret a key id names, and whose it is.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use ekm_otp::field::CredentialKind;
use ekm_otp::{KeyId, Profile, Secret};
use hashbrown::HashTable;
use slab::Slab;

use crate::closed::Closed;
use crate::lifeline::{Lifeline, State};

/// Looks keys up. Called when a connection's keys are derived, so seldom more than once for it (in the profile `go`, for each request); it
/// must answer from memory, without waiting.
///
/// Connections live by the [`RegisteredKey`] that they were given: a store hands out the same one for a key id each time, and
/// [revokes](RegisteredKey::revoke) it before it forgets it.
pub trait SecretStore: Send + Sync + 'static {
    /// The key that `kid` names; `None` if it names none.
    ///
    /// # Errors
    /// When the store cannot tell now. The client is answered 503, not 401.
    fn get(&self, kid: &KeyId) -> Result<Option<Arc<RegisteredKey>>, StoreUnavailable>;
}

/// The store cannot answer now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the registry is unavailable: {0}")]
pub struct StoreUnavailable(pub String);

/// One key id's secret, the client it belongs to, and the connections that live by it.
pub struct RegisteredKey {
    kid: KeyId,
    client: String,
    secret: Secret,
    minimum: CredentialKind,
    profile: Profile,
    active: AtomicBool,
    connections: Mutex<Slab<Weak<Lifeline>>>,
}

impl RegisteredKey {
    /// An active key of `client`.
    #[must_use]
    pub fn new(kid: KeyId, client: impl Into<String>, secret: Secret) -> Self {
        Self {
            kid,
            client: client.into(),
            secret,
            minimum: CredentialKind::Otp,
            profile: Profile::V1,
            active: AtomicBool::new(true),
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

    /// Ends the key: no request passes with it any more, and every connection that was authenticated with it is cut, streams that were
    /// upgraded included.
    pub fn revoke(&self) {
        let mut connections = self.lock();
        self.active.store(false, Ordering::Release);
        for connection in connections.drain().filter_map(|weak| weak.upgrade()) {
            connection.set_place_at_key(None);
            connection.end(State::Cut, Closed::Revoked);
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Registers a connection for [`revoke`](Self::revoke), under the same lock as the checks: none slips through between them.
    pub(crate) fn attach(&self, connection: &Arc<Lifeline>, limit: usize) -> Result<(), NotAttached> {
        let mut connections = self.lock();
        if !self.is_active() {
            return Err(NotAttached::Revoked);
        }
        // Whoever ends a connection looks for its key after that: this is seen there, or the end is seen here.
        if connection.state() >= State::Cut {
            return Err(NotAttached::Ended);
        }
        if connections.len() >= limit {
            return Err(NotAttached::Full);
        }
        connection.set_place_at_key(Some(connections.insert(Arc::downgrade(connection))));
        Ok(())
    }

    /// The connection is gone.
    pub(crate) fn detach(&self, connection: &Lifeline) {
        let mut connections = self.lock();
        if let Some(place) = connection.place_at_key() {
            connections.remove(place);
            connection.set_place_at_key(None);
            if connections.is_empty() {
                *connections = Slab::new();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Weak<Lifeline>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a connection was not registered with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAttached {
    Revoked,
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

/// A [`SecretStore`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    keys: RwLock<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    by_kid: HashTable<Placed>,
    by_secret: HashTable<Placed>,
    /// Keyed anew in each process: a hash tells nothing of the secret.
    hasher: RandomState,
}

/// A key and the hash that it is found under. A map would hold what is hashed once more; without the hash, a table that grows would have to
/// look into each key again. With a million keys the one costs memory, the other time.
#[derive(Debug)]
struct Placed {
    hash: u64,
    key: Arc<RegisteredKey>,
}

impl Keys {
    fn get(&self, kid: &KeyId) -> Option<&Arc<RegisteredKey>> {
        let hash = self.hasher.hash_one(kid);
        self.by_kid.find(hash, |placed| placed.hash == hash && placed.key.kid == *kid).map(|placed| &placed.key)
    }

    fn hash_of(&self, secret: &Secret) -> u64 {
        // HMAC cannot tell S from S with zeros behind it (RFC 2104 §2).
        let significant = secret.expose().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.hasher.hash_one(&secret.expose()[..significant])
    }
}

impl MemoryStore {
    /// A store without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    ///
    /// # Errors
    /// When its key id is taken, or another key id holds the same secret: one secret serves one key.
    pub fn add(&self, key: RegisteredKey) -> Result<(), RegisterError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.get(&key.kid).is_some() {
            return Err(RegisterError::KidTaken(key.kid));
        }
        let (of_kid, of_secret) = (keys.hasher.hash_one(&key.kid), keys.hash_of(&key.secret));
        if let Some(other) =
            keys.by_secret.find(of_secret, |placed| placed.hash == of_secret && placed.key.secret.same_hmac_key(&key.secret))
        {
            return Err(RegisterError::SecretTaken { other: other.key.kid.clone(), kid: key.kid });
        }
        let key = Arc::new(key);
        keys.by_secret.insert_unique(of_secret, Placed { hash: of_secret, key: Arc::clone(&key) }, |placed| placed.hash);
        keys.by_kid.insert_unique(of_kid, Placed { hash: of_kid, key }, |placed| placed.hash);
        Ok(())
    }

    /// [Revokes](RegisteredKey::revoke) a key. Whether it was there. Its key id stays taken: it is never bound to another secret.
    pub fn revoke(&self, kid: &KeyId) -> bool {
        let key = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(kid).cloned();
        key.inspect(|key| key.revoke()).is_some()
    }

    /// How many keys it holds, revoked ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).by_kid.len()
    }

    /// How many keys are such.
    #[must_use]
    pub fn count(&self, is_such: impl Fn(&RegisteredKey) -> bool) -> usize {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).by_kid.iter().filter(|placed| is_such(&placed.key)).count()
    }

    /// Whether it holds no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl SecretStore for MemoryStore {
    fn get(&self, kid: &KeyId) -> Result<Option<Arc<RegisteredKey>>, StoreUnavailable> {
        Ok(self.keys.read().unwrap_or_else(PoisonError::into_inner).get(kid).cloned())
    }
}

/// Why a key was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A key id names one secret and is never bound to another one.
    #[error("the key id {0} is registered already")]
    KidTaken(KeyId),
    /// HMAC could not tell the two keys apart.
    #[error("the secret of {kid} is the same as that of {other}: each key id needs a secret of its own")]
    SecretTaken {
        /// The key id that was to be added.
        kid: KeyId,
        /// The one that holds the secret already.
        other: KeyId,
    },
}
