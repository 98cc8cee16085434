use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Mutex,
};

use pipekeeper_backend::{CacheRef, Launch, LaunchError, Ticket};
use pipekeeper_model::{AttemptId, Digest, Holder, Name, plan::Feature};

use super::*;

const NOW: Timestamp = Timestamp(100 * 3_600_000);
const OLD: Timestamp = Timestamp(98 * 3_600_000);
/// A moment less than an hour ago.
const YOUNG: Timestamp = Timestamp(99 * 3_600_000 + 1);

/// A store in memory that removes nothing of what it must not.
struct FakeStore {
    objects: Mutex<BTreeMap<String, Timestamp>>,
    is_down: bool,
}

#[async_trait]
impl CacheStore for FakeStore {
    fn name(&self) -> &str {
        "http://s3/ci"
    }

    async fn list(&self) -> Result<Vec<StoredCache>, String> {
        if self.is_down {
            return Err("it is down".to_owned());
        }
        let objects = self.objects.lock().unwrap();
        let all = objects.iter().map(|(object, stored_at)| StoredCache {
            object: object.clone(),
            bytes: Bytes(1),
            stored_at: *stored_at,
        });
        Ok(all.collect())
    }

    async fn delete(&self, object: &str) -> Result<(), String> {
        self.objects.lock().unwrap().remove(object);
        Ok(())
    }
}

/// Knows one attempt.
struct FakeBackend(BTreeSet<Feature>);

#[async_trait]
impl Backend for FakeBackend {
    fn supports(&self, _: &Name) -> &BTreeSet<Feature> {
        &self.0
    }

    fn knows(&self, attempt: AttemptId) -> bool {
        attempt.to_string() == "r7-n1-a1"
    }

    async fn launch(&self, _: Launch) -> Result<(), LaunchError> {
        Ok(())
    }

    async fn answer(&self, _: AttemptId, _: &Holder, _: Ticket) -> Result<(), LaunchError> {
        Ok(())
    }

    async fn stop(&self, _: AttemptId, _: Millis) -> Result<(), LaunchError> {
        Ok(())
    }

    async fn observe(&self, _: AttemptId) -> Result<(), LaunchError> {
        Ok(())
    }

    async fn processes(&self, _: AttemptId) -> Result<String, LaunchError> {
        Ok(String::new())
    }

    async fn forget(&self, _: AttemptId) -> Result<(), LaunchError> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        Ok(Vec::new())
    }
}

fn store(objects: &[(&str, Timestamp)]) -> FakeStore {
    let all = objects.iter().map(|(object, at)| ((*object).to_owned(), *at));
    FakeStore {
        objects: Mutex::new(all.collect()),
        is_down: false,
    }
}

async fn collected(store: &FakeStore, caches: &Path) -> Result<usize, String> {
    collect(store, &FakeBackend(BTreeSet::new()), caches, NOW).await
}

#[tokio::test]
async fn only_what_nobody_names_and_nobody_can_name_any_more_goes() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("web/branches/deps");
    fs::create_dir_all(&place).unwrap();
    let refer = |file: &str, store: &str, object: &str, bytes| {
        CacheRef::new(store, object, (Bytes(bytes), Digest::of(b"")), OLD)
            .write(&place.join(file))
            .unwrap();
    };
    refer("a.ref", "http://s3/ci", "p/named/r1-n1-a1-00", 1);
    refer("b.ref", "http://other/ci", "p/by-another-address/r2-n1-a1-00", 1);
    refer("c.ref", "http://s3/ci", "p/of-another-size/r5-n1-a1-00", 2);
    let store = store(&[
        ("p/named/r1-n1-a1-00", OLD),
        ("p/by-another-address/r2-n1-a1-00", OLD),
        ("p/of-another-size/r5-n1-a1-00", OLD),
        ("p/replaced/r3-n1-a1-00", OLD),
        ("p/of-a-live-attempt/r7-n1-a1-00", OLD),
        ("p/young/r4-n1-a1-00", YOUNG),
        ("p/odd", OLD),
    ]);
    assert_eq!(collected(&store, folder.path()).await, Ok(3));
    let left: Vec<String> = store.objects.lock().unwrap().keys().cloned().collect();
    assert_eq!(
        left,
        [
            "p/by-another-address/r2-n1-a1-00",
            "p/named/r1-n1-a1-00",
            "p/of-a-live-attempt/r7-n1-a1-00",
            "p/young/r4-n1-a1-00"
        ]
    );
    assert_eq!(collected(&store, folder.path()).await, Ok(0));
}

#[tokio::test]
async fn a_cache_that_is_removed_takes_its_object_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web/branches/deps/a.ref");
    CacheRef::new("http://s3/ci", "p/r1-n1-a1-00", (Bytes(1), Digest::of(b"")), OLD)
        .write(&path)
        .unwrap();
    let store = store(&[("p/r1-n1-a1-00", OLD)]);
    assert_eq!(collected(&store, folder.path()).await, Ok(0));
    let removed = crate::caches::remove(folder.path(), &crate::caches::CacheWish::default()).unwrap();
    assert_eq!(removed.gone.len(), 1);
    assert_eq!(collected(&store, folder.path()).await, Ok(1));
    assert!(store.objects.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_store_that_does_not_answer_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(&[("p/r1-n1-a1-00", OLD)]);
    store.is_down = true;
    assert_eq!(
        collected(&store, folder.path()).await,
        Err("it is down".to_owned())
    );
    assert_eq!(store.objects.lock().unwrap().len(), 1);
}
