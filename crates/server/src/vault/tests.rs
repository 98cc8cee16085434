//! The vault over a store in memory: who gets what, and keys that change while others write.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, ready};
use pipekeeper_access::Principal;
use pipekeeper_backend::{LaunchError, Tier};
use pipekeeper_controller::{Clock, SecretAsking, SecretSource};
use pipekeeper_model::{
    Actor, EventKind, Name, Timestamp,
    plan::{Secret as Wanted, SecretTarget},
};
use pipekeeper_spec::document::{Document, Kind};
use pipekeeper_store::{
    AuditEntry, AuditFilter, Change, ChangeError, Expected, MemoryStore, NewRecord, Record, RecordKind,
    RecordVersion, Registry, StoreError, StoredAudit,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{Kept, SecretWish, Vault, rotate::Begun};
use crate::{
    Composer, Elsewhere, Unusable,
    documents::{Desk, Mode, Origin, apply},
    people::{Caller, Groups, Proof},
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }
}

/// A registry in which somebody narrows a secret's document just before a value of it is stored.
struct Meddled {
    store: MemoryStore,
    narrowed: Mutex<Option<Change>>,
}

#[async_trait]
impl Registry for Meddled {
    async fn change(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), ChangeError> {
        let narrowed = self.narrowed.lock().unwrap().take();
        self.store
            .change(narrowed.into_iter().collect(), Vec::new())
            .await?;
        self.store.change(changes, audit).await
    }

    async fn record(&self, kind: RecordKind, name: &str) -> Result<Option<Record>, StoreError> {
        self.store.record(kind, name).await
    }

    async fn records(&self, kind: RecordKind, owner: Option<&str>) -> Result<Vec<Record>, StoreError> {
        self.store.records(kind, owner).await
    }

    async fn versions(&self, kind: RecordKind, name: &str) -> Result<Vec<RecordVersion>, StoreError> {
        self.store.versions(kind, name).await
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.store.expire(now).await
    }

    async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<StoredAudit>, StoreError> {
        Registry::audit(&self.store, filter, limit).await
    }
}

/// A registry that fails after so many changes of secrets, as if the process had died there.
struct Dying {
    store: MemoryStore,
    left: AtomicUsize,
}

#[async_trait]
impl Registry for Dying {
    async fn change(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), ChangeError> {
        let is_secret = changes.iter().any(|change| change.kind == RecordKind::Secret);
        let left = |left: usize| left.checked_sub(1);
        if is_secret
            && self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
                .is_err()
        {
            return Err(StoreError::Closed.into());
        }
        self.store.change(changes, audit).await
    }

    async fn record(&self, kind: RecordKind, name: &str) -> Result<Option<Record>, StoreError> {
        self.store.record(kind, name).await
    }

    async fn records(&self, kind: RecordKind, owner: Option<&str>) -> Result<Vec<Record>, StoreError> {
        self.store.records(kind, owner).await
    }

    async fn versions(&self, kind: RecordKind, name: &str) -> Result<Vec<RecordVersion>, StoreError> {
        self.store.versions(kind, name).await
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.store.expire(now).await
    }

    async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<StoredAudit>, StoreError> {
        Registry::audit(&self.store, filter, limit).await
    }
}

struct Site {
    store: MemoryStore,
    vault: Vault,
    folder: TempDir,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn admin() -> Caller {
    Caller {
        principal: Principal::admin(Actor::user("ann")),
        user: Some(name("ann")),
        session: None,
        token: None,
        proof: Proof::Token,
        era: String::new(),
        groups: Groups::Count,
        from: None,
    }
}

fn wish(secret: &str, project: Option<&str>) -> SecretWish {
    SecretWish {
        name: name(secret),
        project: project.map(name),
        environment: None,
        events: None,
        tiers: None,
        images: None,
    }
}

impl Site {
    fn new() -> Self {
        let (store, folder) = (MemoryStore::new(), TempDir::new().unwrap());
        Self {
            vault: vault(Arc::new(store.clone()), &folder),
            store,
            folder,
        }
    }

    async fn set(&self, wish: SecretWish, value: &str) {
        let value = Zeroizing::new(value.to_owned());
        let projects = ["mall", "shop"].map(name);
        let set = self.vault.set(&admin(), (wish, value), &projects, NOW).await;
        assert!(set.is_ok(), "{:?}", set.err());
    }

    /// What an action of a project gets.
    async fn get(&self, project: &str, environment: Option<&str>, secret: &str) -> Result<String, String> {
        let (project, environment) = (name(project), environment.map(name));
        let asking = SecretAsking {
            project: &project,
            tier: Tier::Protected,
            event: EventKind::Push,
            environment: environment.as_ref(),
            namespace: None,
            cluster: None,
            images: Vec::new(),
        };
        let wanted = [Wanted {
            name: secret.to_owned(),
            target: SecretTarget::Env(secret.to_owned()),
        }];
        match self.vault.values(&asking, &wanted).await {
            Ok(mut values) => Ok(values.pop().unwrap().value),
            Err(LaunchError::Terminal { reason } | LaunchError::Transient { reason }) => Err(reason),
            Err(LaunchError::Occupied { .. }) => panic!("nothing is occupied"),
        }
    }

    async fn kept(&self, id: &str) -> Kept {
        let record = self.store.record(RecordKind::Secret, id).await.unwrap();
        Kept::read(record.unwrap()).unwrap()
    }

    /// What makes the document of a secret say something else.
    fn document(bindings: &str) -> Change {
        let document: Document = serde_json::from_str(bindings).unwrap();
        Change {
            kind: RecordKind::Document,
            name: format!("Secret/{}", document.name),
            expected: Expected::Any,
            to: Some(NewRecord {
                owner: "Secret".to_owned(),
                body: document.to_canonical().unwrap().to_string(),
                expires: None,
            }),
            author: Actor::System,
            at: NOW,
        }
    }

    async fn put(&self, id: &str, owner: &str, body: String) {
        let change = Change {
            kind: RecordKind::Secret,
            name: id.to_owned(),
            expected: Expected::Any,
            to: Some(NewRecord {
                owner: owner.to_owned(),
                body,
                expires: None,
            }),
            author: Actor::System,
            at: NOW,
        };
        self.store.change(vec![change], Vec::new()).await.unwrap();
    }

    fn keys(&self) -> usize {
        let text = fs::read_to_string(self.folder.path().join("keys")).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    }
}

fn vault(registry: Arc<dyn Registry>, folder: &TempDir) -> Vault {
    Vault::new(registry, Arc::new(Frozen), folder.path().join("keys"))
}

#[tokio::test]
async fn the_narrowest_secret_of_a_name_is_meant() {
    let site = Site::new();
    let prod = SecretWish {
        environment: Some(name("prod")),
        ..wish("TOKEN", Some("mall"))
    };
    site.set(wish("TOKEN", None), "everybody's").await;
    site.set(wish("TOKEN", Some("mall")), "mall's").await;
    site.set(prod, "prod's").await;
    assert_eq!(site.get("shop", None, "TOKEN").await.unwrap(), "everybody's");
    assert_eq!(site.get("mall", None, "TOKEN").await.unwrap(), "mall's");
    assert_eq!(site.get("mall", Some("test"), "TOKEN").await.unwrap(), "mall's");
    assert_eq!(site.get("mall", Some("prod"), "TOKEN").await.unwrap(), "prod's");
    let missing = site.get("mall", None, "OTHER").await.unwrap_err();
    assert!(
        missing.contains("`pipe secret set OTHER --project mall`"),
        "{missing}"
    );
    let used = site.kept("mall.TOKEN").await.entry.used;
    assert_eq!(used, Some(NOW));
}

#[tokio::test]
async fn a_row_that_is_moved_or_changed_does_not_open() {
    let site = Site::new();
    site.set(wish("TOKEN", Some("mall")), "mall's").await;
    site.set(wish("TOKEN", Some("shop")), "shop's").await;
    let (mall, shop) = (site.kept("mall.TOKEN").await, site.kept("shop.TOKEN").await);
    let mut moved = shop.entry.clone();
    moved.sealed = mall.entry.sealed.clone();
    let mut widened = mall.entry.clone();
    widened.bindings.projects = BTreeSet::from([name("shop")]);
    let mut older = shop.entry.clone();
    older.version += 1;
    for entry in [moved, widened, older] {
        site.put("shop.TOKEN", "TOKEN", serde_json::to_string(&entry).unwrap())
            .await;
        let refused = site.get("shop", None, "TOKEN").await.unwrap_err();
        assert!(
            refused.contains("is not what was sealed under this name"),
            "{refused}"
        );
    }
    assert_eq!(site.get("mall", None, "TOKEN").await.unwrap(), "mall's");
    let renamed = serde_json::to_string(&mall.entry).unwrap();
    site.put("mall.TOKEN", "OTHER", renamed).await;
    let refused = site.get("mall", None, "OTHER").await.unwrap_err();
    assert!(
        refused.contains("is not what `mall.TOKEN` is called"),
        "{refused}"
    );
    site.put("shop.TOKEN", "TOKEN", "{}".to_owned()).await;
    let refused = site.get("shop", None, "TOKEN").await.unwrap_err();
    assert!(refused.contains("cannot be read"), "{refused}");
}

#[tokio::test]
async fn without_its_key_a_secret_names_the_key_and_no_other_is_made() {
    let site = Site::new();
    site.set(wish("TOKEN", None), "x").await;
    let key = site.kept("TOKEN").await.entry.sealed.key;
    let (file, away) = (site.folder.path().join("keys"), site.folder.path().join("away"));
    fs::rename(&file, &away).unwrap();
    let missing = site.get("mall", None, "TOKEN").await.unwrap_err();
    assert!(missing.contains(file.to_str().unwrap()), "{missing}");
    let value = Zeroizing::new("y".to_owned());
    let refused = site
        .vault
        .set(&admin(), (wish("OTHER", None), value), &[], NOW)
        .await;
    assert!(refused.is_err() && !file.exists());

    fs::write(&file, format!("{}\n", "ab".repeat(32))).unwrap();
    fs::set_permissions(&file, fs::metadata(&away).unwrap().permissions()).unwrap();
    let wrong = site.get("mall", None, "TOKEN").await.unwrap_err();
    assert!(
        wrong.contains(&key) && wrong.contains(file.to_str().unwrap()),
        "{wrong}"
    );
    fs::rename(&away, &file).unwrap();
    assert_eq!(site.get("mall", None, "TOKEN").await.unwrap(), "x");
}

#[tokio::test]
async fn a_change_of_the_key_goes_on_where_it_was_killed() {
    let site = Site::new();
    for secret in ["A", "B", "C"] {
        site.set(wish(secret, None), secret).await;
    }
    let first = site.kept("A").await.entry.sealed.key;
    let dying = Dying {
        store: site.store.clone(),
        left: AtomicUsize::new(1),
    };
    let killed = vault(Arc::new(dying), &site.folder).rotate(&admin(), NOW).await;
    assert!(killed.is_err());
    let keys = async || {
        let mut keys = BTreeSet::new();
        for secret in ["A", "B", "C"] {
            assert_eq!(site.get("mall", None, secret).await.unwrap(), secret);
            keys.insert(site.kept(secret).await.entry.sealed.key);
        }
        keys
    };
    assert_eq!(keys().await.len(), 2, "some with the one, some with the other");

    let finished = site.vault.rotate(&admin(), NOW).await.unwrap();
    assert_eq!((finished.begun, finished.taken_over), (Begun::Before, 2));
    assert_eq!(keys().await, BTreeSet::from([finished.key.clone()]));
    assert_ne!(finished.key, first);
    assert_eq!(site.keys(), 2, "the last one is kept for backups");

    let again = site.vault.rotate(&admin(), NOW).await.unwrap();
    assert_eq!((again.begun, again.taken_over), (Begun::Now, 3));
    assert_eq!(site.keys(), 2, "what nothing uses goes at the next change");
    assert_eq!(keys().await, BTreeSet::from([again.key]));
}

#[tokio::test]
async fn a_value_is_not_sealed_for_what_its_document_no_longer_says() {
    let site = Site::new();
    let widely = r#"{"kind":"Secret","name":"A","all_projects":true}"#;
    let wide = Site::document(widely);
    site.store.change(vec![wide.clone()], Vec::new()).await.unwrap();
    let narrow = Site::document(r#"{"kind":"Secret","name":"A","projects":["shop"]}"#);
    let meddled = Meddled {
        store: site.store.clone(),
        narrowed: Mutex::new(Some(narrow)),
    };
    let value = Zeroizing::new("x".to_owned());
    let set = vault(Arc::new(meddled), &site.folder);
    let set = set
        .set(&admin(), (wish("A", None), value), &[name("shop")], NOW)
        .await;
    assert!(set.is_err(), "it is set for shop alone, or not at all");

    // Where they differ all the same, applying the document again makes it true.
    site.set(wish("A", None), "x").await;
    site.store.change(vec![wide], Vec::new()).await.unwrap();
    let set = serde_json::from_str(widely).unwrap();
    let how = (Mode::Apply, NOW);
    let desk = Desk {
        registry: &site.store,
        vault: &site.vault,
        composer: &Nothing,
    };
    apply(desk, &admin(), (vec![set], Origin::Caller), how)
        .await
        .unwrap();
    assert_eq!(site.get("mall", None, "A").await.unwrap(), "x");
}

/// Makes nothing of any document.
struct Nothing;

impl Composer for Nothing {
    fn elsewhere(&self) -> BTreeMap<(Kind, Name), Elsewhere> {
        BTreeMap::new()
    }

    fn judge(&self, _: &[Document]) -> Vec<Unusable> {
        Vec::new()
    }

    fn unusable(&self) -> Vec<Unusable> {
        Vec::new()
    }

    fn changed(&self) {}
}

#[tokio::test]
async fn a_key_that_another_server_took_away_seals_nothing() {
    let site = Site::new();
    site.set(wish("A", None), "A").await;
    let gone = site.kept("A").await.entry.sealed.key;
    let slow = vault(Arc::new(site.store.clone()), &site.folder);
    for _ in 0..2 {
        site.vault.rotate(&admin(), NOW).await.unwrap();
    }
    assert!(slow.take_over(&gone, "A").await.is_err());
    assert_eq!(site.get("mall", None, "A").await.unwrap(), "A");
    // Nor does one that another follows already take anything back.
    let last = site.kept("A").await.entry.sealed.key;
    site.vault.rotate(&admin(), NOW).await.unwrap();
    assert!(slow.take_over(&last, "A").await.is_err());
    assert_ne!(site.kept("A").await.entry.sealed.key, last);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_and_keeps_no_other_from_its_new_key() {
    let site = Site::new();
    for secret in ["A", "B"] {
        site.set(wish(secret, None), secret).await;
    }
    let mut broken = site.kept("A").await.entry;
    broken.version = 9;
    site.put("A", "A", serde_json::to_string(&broken).unwrap()).await;
    let refused = site.vault.rotate(&admin(), NOW).await.unwrap_err();
    assert!(refused.detail().contains("`A`"), "{}", refused.detail());
    assert_ne!(site.kept("B").await.entry.sealed.key, broken.sealed.key);
    assert_eq!(site.get("mall", None, "B").await.unwrap(), "B");
}
