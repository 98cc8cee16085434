//! Removes the objects that no reference names any more from object stores.
//!
//! Level-triggered: what is in a store is compared with what there is here, so nothing that went wrong before matters. An
//! attempt's references are written before it is forgotten, so an object whose attempt is known may yet become a cache.
//! What a pod still sends that was removed is found by a later look: its URL may be good for days.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use async_trait::async_trait;
use pipekeeper_backend::{Backend, pod::maker_of};
use pipekeeper_model::{Bytes, Millis, Timestamp};

use super::references;
use crate::job::{Done, Job, Tools};

/// What no reference names stays so long, whatever its attempt: clocks differ.
const LEAST_AGE: Millis = Millis::hours(1);
/// How often stores are looked at.
pub(crate) const COLLECT_EVERY: Millis = Millis::hours(1);

/// An object store that holds archive caches.
#[async_trait]
pub trait CacheStore: Send + Sync {
    /// What tells it from another one; references have it.
    fn name(&self) -> &str;

    /// Every object that this server's pods may have stored.
    ///
    /// # Errors
    /// If it does not say; for people.
    async fn list(&self) -> Result<Vec<StoredCache>, String>;

    /// Removes an object; one that is not there counts as removed.
    ///
    /// # Errors
    /// If it may still be there; for people.
    async fn delete(&self, object: &str) -> Result<(), String>;
}

/// An object of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCache {
    /// Its name.
    pub object: String,
    /// Its size.
    pub bytes: Bytes,
    /// When it was stored.
    pub stored_at: Timestamp,
}

impl Tools {
    /// Removes what nobody names from the object stores, if there are any.
    pub(crate) fn collect_caches(&self, now: Timestamp) -> Option<Job> {
        let stores: Vec<Arc<dyn CacheStore>> = self.cache_stores.to_vec();
        let (caches, backend) = (self.layout.caches(), Arc::clone(&self.backend));
        let collecting = Arc::clone(&self.collecting);
        (!stores.is_empty()).then(|| -> Job {
            Box::pin(async move {
                // What a look under way does not find is found by the next.
                let Ok(_one) = collecting.try_lock() else {
                    return Done::Quiet;
                };
                for store in stores {
                    match collect(store.as_ref(), backend.as_ref(), &caches, now).await {
                        Ok(0) => {}
                        Ok(gone) => tracing::info!(
                            "removed {gone} objects that no cache needs from the object store `{}`",
                            store.name()
                        ),
                        Err(reason) => tracing::warn!(
                            "objects that no cache needs stay in the object store `{}`, and this is tried again within an \
                             hour: {reason}; see that it answers, and that its key may list and remove objects",
                            store.name()
                        ),
                    }
                }
                Done::Quiet
            })
        })
    }
}

/// How many objects went.
async fn collect(
    store: &dyn CacheStore,
    backend: &dyn Backend,
    caches: &Path,
    now: Timestamp,
) -> Result<usize, String> {
    // In this order: what becomes a cache meanwhile is known as an attempt's or by its reference.
    let mut stored = store.list().await?;
    stored.retain(|one| now.since(one.stored_at) >= LEAST_AGE);
    stored.retain(|one| !maker_of(&one.object).is_some_and(|attempt| backend.knows(attempt)));
    let folder = caches.to_owned();
    let named = tokio::task::spawn_blocking(move || named(&folder)).await;
    let named = named
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| format!("the references to caches cannot be read: {error}"))?;
    // Of another size than is counted it is no cache, whoever stored it once more.
    stored.retain(|one| named.get(&one.object) != Some(&one.bytes));
    let (mut gone, mut first) = (0, None);
    for one in &stored {
        // One that may not be removed keeps none of the others.
        match store.delete(&one.object).await {
            Ok(()) => gone += 1,
            Err(reason) => {
                first.get_or_insert(reason);
            }
        }
    }
    first.map_or(Ok(gone), |reason| {
        Err(format!("{} of {}: {reason}", stored.len() - gone, stored.len()))
    })
}

/// The objects that are caches, and their sizes; of any store, as two may be one by two addresses.
fn named(caches: &Path) -> io::Result<BTreeMap<String, Bytes>> {
    let all = references(caches)?.into_iter();
    Ok(all.map(|reference| (reference.object, reference.bytes)).collect())
}

#[cfg(test)]
mod tests;
