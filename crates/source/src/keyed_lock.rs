//! One lock per key: whoever works on the same thing waits, whoever works on another does not.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex as SyncMutex, PoisonError},
};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// The locks that are held or waited for.
pub(crate) struct KeyedLock<K>(SyncMutex<HashMap<K, Arc<Mutex<()>>>>);

impl<K: Eq + Hash> KeyedLock<K> {
    pub(crate) fn new() -> Self {
        Self(SyncMutex::new(HashMap::new()))
    }

    /// Waits for the key's lock; dropping the guard gives it back.
    pub(crate) async fn lock(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody else can hold a lock that only this map knows.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key).or_default())
        };
        lock.lock_owned().await
    }
}
