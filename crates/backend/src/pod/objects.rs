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
use tokio::time::{sleep, timeout};

use super::order::Order;
use crate::{
    CacheMount, CacheRef, Launch, LaunchError,
    cache_ref::{cache_ref_path, drop_ref},
};

/// Caches are fetched one after the other once the ticket is there: what that may take beyond the time of their bytes, and
/// how fast those come at least.
const FETCH_MARGIN: Duration = Duration::from_secs(15 * 60);
const LEAST_BYTES_PER_SECOND: u64 = 1 << 20;
/// How long a store is asked for an object before what it answers then counts, and the pause between.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
const HEAD_AGAIN: Duration = Duration::from_secs(1);
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
    digest: Digest,
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
    let read = read_ref(store, &reference)?;
    Some(FetchObject {
        object: read.object,
        bytes: read.bytes.0,
        digest: read.digest,
        reference,
    })
}

/// A reference to an object of this store, if it is one.
fn read_ref(store: &ObjectStore, path: &Path) -> Option<CacheRef> {
    let read = CacheRef::read(path).unwrap_or_else(|error| {
        tracing::warn!(
            "cannot read `{}`, which counts as no cache: {error}",
            path.display()
        );
        None
    });
    read.filter(|read| read.store == store.name() && read.object.starts_with(store.prefix()))
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
    let fetched = order
        .objects
        .values()
        .filter_map(|objects| objects.fetch.as_ref());
    let bytes: u64 = fetched.map(|fetch| fetch.bytes).sum();
    let fetch_lifetime = FETCH_MARGIN + Duration::from_secs(bytes / LEAST_BYTES_PER_SECOND);
    let caches = order.objects.iter().map(|(name, objects)| {
        let urls = CacheUrls {
            fetch: objects.fetch.as_ref().map(|fetch| FetchUrl {
                url: secret(store.url_to_get(&fetch.object, fetch_lifetime)),
                bytes: fetch.bytes,
                digest: fetch.digest.to_hex(),
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

/// Takes in what a record tells of its objects, and strikes out what nobody needs to fetch. Nothing of this is worth an
/// attempt: what does not work is said, for the attempt's log.
pub(super) async fn settle(
    store: &ObjectStore,
    attempt: AttemptId,
    order: &Order,
    record: &mut ExitRecord,
) -> Vec<String> {
    let mut notes = Vec::new();
    for cache in &mut record.caches {
        let Some(objects) = order.objects.get(&cache.name) else {
            continue;
        };
        if let Some(fetch) = objects.fetch.as_ref().filter(|_| cache.restored_exact.is_some()) {
            CacheRef::note_use(&fetch.reference);
        }
        let (Some(keep), Some(bytes)) = (&objects.keep, cache.saved_bytes) else {
            continue;
        };
        if objects.is_saved(store, keep) {
            cache.saved_bytes = None;
        } else if cache.in_store {
            let told = (bytes, cache.digest.as_deref());
            if let Err(reason) = refer(store, keep, told, order.spec.limits.cache).await {
                tracing::warn!(attempt.id = %attempt, "the cache `{}` is not kept: {reason}", cache.name);
                notes.push(format!("cache `{}` is not kept after all: {reason}", cache.name));
            }
        }
    }
    notes
}

impl CacheObjects {
    /// Whether its key is saved in the store already. What the attempt was to be restored from gives way: it would not have
    /// saved what it could use.
    fn is_saved(&self, store: &ObjectStore, keep: &KeepObject) -> bool {
        let given = self.fetch.as_ref().map(|fetch| &fetch.object);
        read_ref(store, &keep.reference).is_some_and(|there| Some(&there.object) != given)
    }
}

/// Makes an object a cache, if it is there as it was told unless its key is there as a file.
async fn refer(
    store: &ObjectStore,
    keep: &KeepObject,
    (told, digest): (u64, Option<&str>),
    most: u64,
) -> Result<(), String> {
    if told > most {
        return Err(format!(
            "it has {told} bytes, more than the {most} that are kept of one"
        ));
    }
    let digest = digest.and_then(|digest| format!("sha256:{digest}").parse::<Digest>().ok());
    let digest = digest.ok_or("its pod told no digest of it")?;
    let found = match timeout(HEAD_PATIENCE, head(store, &keep.object)).await {
        Ok(found) => found,
        Err(_) => store
            .head(&keep.object)
            .await
            .map_err(|error| format!("failed to {error}"))?,
    };
    match found {
        Some(found) if found == told => {}
        Some(found) => {
            return Err(format!(
                "the object store has {found} bytes of it, and its pod told of {told}"
            ));
        }
        None => {
            return Err(
                "the object store does not have it: do pods and server reach the same one?".to_owned(),
            );
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let made = CacheRef::new(store.name(), keep.object.as_str(), (Bytes(told), digest), now);
    let path = keep.reference.clone();
    let written = tokio::task::spawn_blocking(move || made.write(&path)).await;
    written
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| format!("its reference cannot be written: {error}"))
}

/// The size of an object, asked again as long as the store does not say.
async fn head(store: &ObjectStore, object: &str) -> Option<u64> {
    loop {
        match store.head(object).await {
            Ok(found) => return found,
            Err(error) => {
                tracing::debug!("asks again: failed to {error}");
                sleep(HEAD_AGAIN).await;
            }
        }
    }
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

#[cfg(test)]
pub(super) mod tests {
    use pipekeeper_objects::{SecretKey, StoreOptions, UrlStyle};

    use super::*;

    const STORE: &str = "http://10.0.0.1:9000/ci";

    /// A store that nobody asks for anything.
    pub(in crate::pod) fn store() -> ObjectStore {
        ObjectStore::new(&StoreOptions {
            url: "http://10.0.0.1:9000".to_owned(),
            others_url: None,
            bucket: "ci".to_owned(),
            region: "us-east-1".to_owned(),
            prefix: "p/i".to_owned(),
            style: UrlStyle::Path,
            access_key: "pipe".to_owned(),
            secret_key: SecretKey::new("hunter2"),
            ca: None,
        })
        .unwrap()
    }

    #[test]
    fn a_key_is_saved_once_and_only_what_could_not_be_used_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.tar.zst");
        let keep = KeepObject {
            object: "p/i/own".to_owned(),
            reference: cache_ref_path(&file),
        };
        let is_saved = |objects: &CacheObjects| objects.is_saved(&store(), &keep);
        let mut objects = CacheObjects::default();
        assert!(!is_saved(&objects));
        let refer = |store: &str, object: &str| {
            let made = CacheRef::new(store, object, (Bytes(1), Digest::of(b"")), Timestamp(1));
            made.write(&keep.reference).unwrap();
        };
        for (store, object) in [("http://other/ci", "p/i/first"), (STORE, "elsewhere/first")] {
            refer(store, object);
            assert!(!is_saved(&objects), "no cache of this store's");
        }
        refer(STORE, "p/i/first");
        assert!(is_saved(&objects));
        objects.fetch = find(&store(), &file);
        assert!(!is_saved(&objects), "it was given that, and saves anew");
        refer(STORE, "p/i/own");
        assert!(is_saved(&objects), "it is told once more");
    }

    #[tokio::test]
    async fn one_that_is_too_large_is_no_cache() {
        let folder = tempfile::tempdir().unwrap();
        let keep = KeepObject {
            object: "p/i/own".to_owned(),
            reference: folder.path().join("key.ref"),
        };
        let refused = refer(&store(), &keep, (11, None), 10).await.unwrap_err();
        assert_eq!(refused, "it has 11 bytes, more than the 10 that are kept of one");
    }
}
