//! The registry in memory: what the hot path asks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use ekm_otp::KeyId;
use ekm_otp_tower::{Changes, RegisteredKey};
use hashbrown::HashTable;

use super::health::Overlap;

/// All keys. It is changed key by key, so that nobody who looks one up waits longer than for one insertion.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    keys: RwLock<Keys>,
    /// Held by whoever changes it.
    writing: Mutex<()>,
    /// Keys with a successor.
    succeeded: Mutex<BTreeMap<KeyId, Arc<RegisteredKey>>>,
    /// When keys expire; one whose time has changed since stands here twice, which does no harm.
    expiries: Mutex<BinaryHeap<Reverse<Expiry>>>,
}

#[derive(Debug, Default)]
struct Keys {
    by_kid: HashTable<Placed>,
    hasher: RandomState,
}

/// A key and the hash that it is found under: a table that grows need not look into each key again.
#[derive(Debug)]
struct Placed {
    hash: u64,
    key: Arc<RegisteredKey>,
}

/// What became of a key that was put.
enum Placing {
    Added,
    Changed,
    AsBefore,
}

#[derive(Debug)]
struct Expiry {
    at: SystemTime,
    key: Arc<RegisteredKey>,
}

impl PartialEq for Expiry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Expiry {}

impl PartialOrd for Expiry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Expiry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Keys {
    fn find(&self, kid: &KeyId) -> Option<&Arc<RegisteredKey>> {
        let hash = self.hasher.hash_one(kid);
        self.by_kid.find(hash, |placed| placed.hash == hash && placed.key.kid() == kid).map(|placed| &placed.key)
    }

    fn remove(&mut self, kid: &KeyId) -> Option<Arc<RegisteredKey>> {
        let hash = self.hasher.hash_one(kid);
        let found = self.by_kid.find_entry(hash, |placed| placed.hash == hash && placed.key.kid() == kid).ok()?;
        Some(found.remove().0.key)
    }
}

impl Snapshot {
    pub(crate) fn get(&self, kid: &KeyId) -> Option<Arc<RegisteredKey>> {
        self.read().find(kid).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().by_kid.len()
    }

    /// How many keys are such.
    pub(crate) fn count(&self, is_such: impl Fn(&RegisteredKey) -> bool) -> usize {
        self.read().by_kid.iter().filter(|placed| is_such(&placed.key)).count()
    }

    /// Takes in what was read of a key. Its connections go on if it is the same key, and may be used.
    pub(crate) fn put(&self, new: RegisteredKey, is_succeeded: bool) {
        let _writing = lock(&self.writing);
        self.place(Arc::new(new), is_succeeded);
    }

    fn place(&self, new: Arc<RegisteredKey>, is_succeeded: bool) -> Placing {
        let known = self.get(new.kid());
        let before = known.as_ref().and_then(|known| known.not_after());
        let known_is_kept = known.as_ref().is_some_and(|known| known.is_same_as(&new));
        let (key, placing) = match known {
            Some(known) if known_is_kept => {
                let placing = if known.follow(&new) { Placing::Changed } else { Placing::AsBefore };
                (known, placing)
            }
            known => {
                {
                    let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                    keys.remove(new.kid());
                    let hash = keys.hasher.hash_one(new.kid());
                    keys.by_kid.insert_unique(hash, Placed { hash, key: Arc::clone(&new) }, |placed| placed.hash);
                }
                let placing = if known.is_some() { Placing::Changed } else { Placing::Added };
                if let Some(known) = known {
                    known.revoke();
                }
                (new, placing)
            }
        };
        // Once for each time, not for each reading.
        let is_known = known_is_kept && before == key.not_after();
        if let Some(at) = key.not_after().filter(|_| !is_known) {
            lock(&self.expiries).push(Reverse(Expiry { at, key: Arc::clone(&key) }));
        }
        if is_succeeded {
            lock(&self.succeeded).insert(key.kid().clone(), key);
        } else {
            lock(&self.succeeded).remove(key.kid());
        }
        placing
    }

    /// Forgets a key, whose connections are cut. Whether there was one.
    pub(crate) fn remove(&self, kid: &KeyId) -> bool {
        let _writing = lock(&self.writing);
        self.forget(kid)
    }

    fn forget(&self, kid: &KeyId) -> bool {
        let known = self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(kid);
        lock(&self.succeeded).remove(kid);
        known.inspect(|key| key.revoke()).is_some()
    }

    /// Becomes what was read as a whole. Keys that stay keep their connections.
    pub(crate) fn become_as(&self, mut fresh: Self) -> Changes {
        let table = std::mem::take(fresh.keys.get_mut().unwrap_or_else(PoisonError::into_inner));
        let succeeded = std::mem::take(fresh.succeeded.get_mut().unwrap_or_else(PoisonError::into_inner));
        let _writing = lock(&self.writing);
        let is_gone = |placed: &&Placed| table.find(placed.key.kid()).is_none();
        let gone: Vec<KeyId> = self.read().by_kid.iter().filter(is_gone).map(|placed| placed.key.kid().clone()).collect();
        let mut changes = Changes::default();
        changes.removed = gone.len();
        for kid in &gone {
            self.forget(kid);
        }
        for Placed { key, .. } in table.by_kid {
            let is_succeeded = succeeded.contains_key(key.kid());
            match self.place(key, is_succeeded) {
                Placing::Added => changes.added += 1,
                Placing::Changed => changes.changed += 1,
                Placing::AsBefore => {}
            }
        }
        changes
    }

    /// Cuts the connections of keys that have expired.
    pub(crate) fn cut_expired(&self, now: SystemTime) {
        let mut expiries = lock(&self.expiries);
        while expiries.peek().is_some_and(|Reverse(next)| next.at < now) {
            if let Some(Reverse(expiry)) = expiries.pop() {
                expiry.key.cut_unless_valid();
                // The second itself still counts: it may be tried too early.
                if expiry.key.is_usable() && expiry.key.not_after() == Some(expiry.at) {
                    expiries.push(Reverse(expiry));
                    break;
                }
            }
        }
    }

    /// The keys in overlap.
    pub(crate) fn overlaps(&self) -> Vec<Overlap> {
        let overlap = |key: &Arc<RegisteredKey>| Overlap {
            kid: key.kid().clone(),
            client: key.client().to_owned(),
            not_after: key.not_after(),
            last_use: key.last_use(),
        };
        lock(&self.succeeded).values().filter(|key| key.is_usable()).map(overlap).collect()
    }

    pub(crate) fn in_overlap(&self) -> usize {
        lock(&self.succeeded).values().filter(|key| key.is_usable()).count()
    }

    /// What was used since this was asked last, and when.
    pub(crate) fn take_last_uses(&self) -> Vec<(KeyId, SystemTime)> {
        self.read().by_kid.iter().filter_map(|placed| Some((placed.key.kid().clone(), placed.key.take_last_use()?))).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A snapshot that is being read from a source which does not look for secrets that stand twice.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    pub(crate) snapshot: Snapshot,
    retired: HashSet<KeyId>,
    by_secret: HashTable<Placed>,
    hasher: RandomState,
}

impl Filling {
    /// Takes one in. Refuses a key id or a secret that stands there already: why.
    pub(crate) fn add(&mut self, kid: KeyId, key: Option<RegisteredKey>, is_succeeded: bool) -> Result<(), String> {
        if self.snapshot.get(&kid).is_some() || self.retired.contains(&kid) {
            return Err(format!("the key id {kid} is registered already"));
        }
        let Some(key) = key.map(Arc::new) else {
            self.retired.insert(kid);
            return Ok(());
        };
        let hash = key.hash_of_secret(&self.hasher);
        if let Some(other) = self.by_secret.find(hash, |placed| placed.hash == hash && placed.key.shares_secret_with(&key)) {
            return Err(format!("the secret of {kid} is the same as that of {}: each key id needs a secret of its own", other.key.kid()));
        }
        self.by_secret.insert_unique(hash, Placed { hash, key: Arc::clone(&key) }, |placed| placed.hash);
        self.snapshot.place(key, is_succeeded);
        Ok(())
    }
}
