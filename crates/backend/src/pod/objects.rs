//! Archive caches of a pod in an object store: which objects are its, the rights to them, and what it made of these.
//!
//! ```text
//! PREFIX/PROJECT/TIER/NAME/DIGEST-OF-KEY/ATTEMPT-RANDOM   written by one attempt, once; a reference makes it a cache
//! ```
//! The order of an attempt names its objects; the URLs are made anew each time that it is given its ticket.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pipekeeper_agent::protocol::{CacheUrls, ExitRecord, FetchUrl, SecretText, StoreAccess};
use pipekeeper_model::{AttemptId, Bytes, Digest, Timestamp};
use pipekeeper_objects::{ObjectStore, PresignedUrl};
use serde::{Deserialize, Serialize};

use super::order::Order;
use crate::{
    CacheMount, CacheRef, Launch, LaunchError,
    cache_ref::{cache_ref_path, drop_ref},
};

/// A cache is fetched right after the ticket.
const FETCH_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// What packing and sending may take beyond the time of the steps.
const KEEP_MARGIN: Duration = Duration::from_secs(3600);

/// The objects of one cache of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CacheObjects {
    /// What it may be restored from.
    pub(super) fetch: Option<FetchObject>,
    /// What it may be saved as.
    pub(super) keep: Option<KeepObject>,
}

/// An object that is a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FetchObject {
    object: String,
    bytes: u64,
    reference: PathBuf,
}

/// An object that may become a cache, and where the reference to it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeepObject {
    object: String,
    reference: PathBuf,
}

/// The object that the cache of a file is, if it is one of this store.
pub(super) fn find(store: &ObjectStore, file: &Path) -> Option<FetchObject> {
    let reference = cache_ref_path(file);
    let read = CacheRef::read(&reference).unwrap_or_else(|error| {
        tracing::warn!(
            "cannot read `{}`, which counts as no cache: {error}",
            reference.display()
        );
        None
    });
    let read = read.filter(|read| read.store == store.name() && read.object.starts_with(store.prefix()))?;
    Some(FetchObject {
        object: read.object,
        bytes: read.bytes.0,
        reference,
    })
}

/// A new object for a cache, which only this attempt may make.
pub(super) fn draw(
    store: &ObjectStore,
    launch: &Launch,
    cache: &CacheMount,
) -> Result<Option<KeepObject>, LaunchError> {
    let Some(file) = &cache.save_to else {
        return Ok(None);
    };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| LaunchError::Transient {
        reason: format!("no random bytes are to be had: {error}"),
    })?;
    let key = file.file_name().unwrap_or_default();
    let object = format!(
        "{}{}/{}/{}/{}/{}-{}",
        store.prefix(),
        launch.placement.project,
        launch.placement.tier.as_str(),
        cache.name,
        Digest::of(key.as_encoded_bytes()).to_hex(),
        launch.attempt,
        hex::encode(random),
    );
    Ok(Some(KeepObject {
        object,
        reference: cache_ref_path(file),
    }))
}

/// The attempt that made an object or may still make it, as its name says.
pub fn maker_of(object: &str) -> Option<AttemptId> {
    let (_, last) = object.rsplit_once('/')?;
    last.rsplit_once('-')?.0.parse().ok()
}

/// The rights to the objects of an attempt, from now on.
pub(super) fn access(store: Option<&Arc<ObjectStore>>, order: &Order) -> StoreAccess {
    let Some(store) = store.filter(|_| !order.objects.is_empty()) else {
        return StoreAccess::default();
    };
    let secret = |url: PresignedUrl| SecretText::new(url.reveal());
    let steps = order.spec.timeout_ms.unwrap_or(u64::MAX);
    let keep_lifetime = Duration::from_millis(steps.saturating_add(order.spec.grace_ms)) + KEEP_MARGIN;
    let caches = order.objects.iter().map(|(name, objects)| {
        let urls = CacheUrls {
            fetch: objects.fetch.as_ref().map(|fetch| FetchUrl {
                url: secret(store.url_to_get(&fetch.object, FETCH_LIFETIME)),
                bytes: fetch.bytes,
            }),
            keep: (objects.keep.as_ref()).map(|keep| secret(store.url_to_put(&keep.object, keep_lifetime))),
        };
        (name.clone(), urls)
    });
    StoreAccess {
        ca: store.ca().map(str::to_owned),
        caches: caches.collect(),
    }
}

/// Takes in what a record tells of its objects. Nothing of this is worth an attempt: what does not work is told in the log.
pub(super) async fn settle(store: &ObjectStore, attempt: AttemptId, order: &Order, record: &ExitRecord) {
    for cache in &record.caches {
        let Some(objects) = order.objects.get(&cache.name) else {
            continue;
        };
        if let Some(fetch) = objects.fetch.as_ref().filter(|_| cache.restored_exact.is_some()) {
            CacheRef::note_use(&fetch.reference);
        }
        if !cache.in_store {
            continue;
        }
        if let Some(keep) = &objects.keep
            && let Err(reason) = refer(store, keep, cache.saved_bytes).await
        {
            tracing::warn!(attempt.id = %attempt, "the cache `{}` is not kept: {reason}", cache.name);
        }
    }
}

/// Makes an object a cache, if it is there as it was told.
async fn refer(store: &ObjectStore, keep: &KeepObject, told: Option<u64>) -> Result<(), String> {
    let found = store.head(&keep.object).await;
    let found = found.map_err(|error| format!("failed to {error}"))?;
    let Some(bytes) = found.filter(|_| found == told) else {
        return Err(format!(
            "the object store has {found:?} bytes of it, and its pod told of {told:?}"
        ));
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let made = CacheRef::new(store.name(), keep.object.as_str(), Bytes(bytes), now);
    let path = keep.reference.clone();
    let written = tokio::task::spawn_blocking(move || made.write(&path)).await;
    written
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| format!("its reference cannot be written: {error}"))
}

/// Removes the references of caches whose files came instead.
pub(super) fn drop_replaced(attempt: AttemptId, order: &Order, record: &ExitRecord) {
    let came = |name: &String| {
        let mut caches = record.caches.iter();
        caches.any(|cache| cache.name == *name && cache.saved_bytes.is_some() && !cache.in_store)
    };
    for (name, file) in order.caches.iter().filter(|(name, _)| came(name)) {
        if let Err(error) = drop_ref(file) {
            tracing::warn!(attempt.id = %attempt, "an old reference of the cache `{name}` stays: {error}");
        }
    }
}
