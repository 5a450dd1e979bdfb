//! The registry's face: which secret a key id names, and whose it is.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use ekm_otp::KeyId;
use hashbrown::HashTable;

use crate::registered_key::RegisteredKey;

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
    /// Of keys that are gone.
    retired: HashSet<KeyId>,
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
        self.by_kid.find(hash, |placed| placed.hash == hash && *placed.key.kid() == *kid).map(|placed| &placed.key)
    }

    fn is_taken(&self, kid: &KeyId) -> bool {
        self.get(kid).is_some() || self.retired.contains(kid)
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
        if keys.is_taken(key.kid()) {
            return Err(RegisterError::KidTaken(key.kid().clone()));
        }
        let (of_kid, of_secret) = (keys.hasher.hash_one(key.kid()), key.hash_of_secret(&keys.hasher));
        if let Some(other) = keys.by_secret.find(of_secret, |placed| placed.hash == of_secret && placed.key.shares_secret_with(&key)) {
            return Err(RegisterError::SecretTaken { other: other.key.kid().clone(), kid: key.kid().clone() });
        }
        let key = Arc::new(key);
        keys.by_secret.insert_unique(of_secret, Placed { hash: of_secret, key: Arc::clone(&key) }, |placed| placed.hash);
        keys.by_kid.insert_unique(of_kid, Placed { hash: of_kid, key }, |placed| placed.hash);
        Ok(())
    }

    /// Marks the key id of a key that is gone as taken: no other key gets it.
    ///
    /// # Errors
    /// When it is taken already.
    pub fn retire(&self, kid: KeyId) -> Result<(), RegisterError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.is_taken(&kid) {
            return Err(RegisterError::KidTaken(kid));
        }
        keys.retired.insert(kid);
        Ok(())
    }

    /// Becomes what was read anew. Keys that are the same stay the same objects and keep their connections if they may still be used; what is gone
    /// or another key now is revoked. No look-up meanwhile finds anything between the two.
    pub fn take_over(&self, newer: Self) -> Changes {
        let mut newer = newer.keys.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::default();
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let (mut ended, mut followed) = (Vec::new(), Vec::new());
        for Placed { key: old, .. } in &keys.by_kid {
            let hash = newer.hasher.hash_one(old.kid());
            match newer.by_kid.find_mut(hash, |placed| placed.hash == hash && placed.key.kid() == old.kid()) {
                Some(placed) if placed.key.is_same_as(old) => {
                    followed.push((Arc::clone(old), std::mem::replace(&mut placed.key, Arc::clone(old))));
                }
                Some(_) => {
                    changes.changed += 1;
                    ended.push(Arc::clone(old));
                }
                None => {
                    changes.removed += 1;
                    ended.push(Arc::clone(old));
                }
            }
        }
        changes.added = newer.by_kid.len() + changes.removed - keys.by_kid.len();
        newer.by_secret = HashTable::with_capacity(newer.by_kid.len());
        for Placed { key, .. } in &newer.by_kid {
            let hash = key.hash_of_secret(&newer.hasher);
            newer.by_secret.insert_unique(hash, Placed { hash, key: Arc::clone(key) }, |placed| placed.hash);
        }
        *keys = newer;
        drop(keys);
        changes.changed += followed.iter().filter(|(key, read)| key.follow(read)).count();
        ended.iter().for_each(|key| key.revoke());
        changes
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

    /// Calls `with` for each key, in no order. Keys cannot be added meanwhile.
    pub fn for_each(&self, mut with: impl FnMut(&Arc<RegisteredKey>)) {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).by_kid.iter().for_each(|placed| with(&placed.key));
    }

    /// Cuts the connections of keys that are no longer valid ([`RegisteredKey::with_validity`]); their requests are refused from that second on
    /// in any case. Whoever has such keys calls this now and then, each second say.
    pub fn cut_expired(&self) {
        self.for_each(|key| key.cut_unless_valid());
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

/// What [`MemoryStore::take_over`] changed: numbers of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Key ids that were not there before.
    pub added: usize,
    /// Key ids that are no longer there.
    pub removed: usize,
    /// Keys of which anything is otherwise now.
    pub changed: usize,
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

#[cfg(test)]
mod tests {
    use ekm_otp::Secret;

    use super::*;

    fn key(kid: &str, secret: u8) -> RegisteredKey {
        RegisteredKey::new(KeyId::new(kid).expect("a key id"), "c", Secret::new(vec![secret; 32]).expect("a secret"))
    }

    fn get(store: &MemoryStore, kid: &str) -> Option<Arc<RegisteredKey>> {
        store.get(&KeyId::new(kid).expect("a key id")).expect("an answer")
    }

    #[test]
    fn a_store_takes_over_what_was_read_anew_and_ends_what_is_gone_or_another() {
        let (old, new) = (MemoryStore::new(), MemoryStore::new());
        for (kid, secret) in [("same", 1), ("gone", 2), ("other", 3), ("revoked", 4)] {
            old.add(key(kid, secret)).expect("a place");
        }
        for (kid, secret) in [("same", 1), ("other", 5), ("revoked", 4), ("new", 2)] {
            new.add(key(kid, secret)).expect("a place");
        }
        new.revoke(&KeyId::new("revoked").expect("a key id"));
        let before = ["same", "gone", "other", "revoked"].map(|kid| get(&old, kid).expect("a key"));
        assert_eq!(old.take_over(new), Changes { added: 1, removed: 1, changed: 2 });
        assert_eq!(before.each_ref().map(|key| key.is_usable()), [true, false, false, false]);
        assert!(Arc::ptr_eq(&before[0], &get(&old, "same").expect("a key")));
        assert!(get(&old, "gone").is_none() && get(&old, "other").expect("a key").is_usable() && get(&old, "new").is_some());
        assert!(old.add(key("again", 5)).is_err() && old.add(key("free", 3)).is_ok(), "secrets that are held now are known");
    }

    #[test]
    fn the_key_id_of_a_key_that_is_gone_stays_taken() {
        let store = MemoryStore::new();
        store.retire(KeyId::new("gone").expect("a key id")).expect("a place");
        assert!(store.add(key("gone", 1)).is_err() && get(&store, "gone").is_none());
    }
}
