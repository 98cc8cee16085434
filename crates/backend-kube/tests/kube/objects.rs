//! Archive caches between pods and a real object store.

use std::{fs, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use pipekeeper_backend::{CACHE_FILE, CACHE_REF, CacheMount, CacheRef, Launch, Tier, cache_ref_path};
use pipekeeper_objects::{ObjectStore, SecretKey, StoreOptions};

use super::{
    proxy::Proxy,
    s3::Server as Store,
    scene::{Scene, files_below, says, succeeded},
};

/// What the caches of these tests hold, which does not get smaller by packing.
const BYTES: u64 = 6 << 20;
/// Fills the cache, and says what was in it.
const FILL: &str = "cat deps/word || echo empty; mkdir -p deps; echo filled > deps/word; \
                    [ -e deps/noise ] || head -c 6291456 /dev/urandom > deps/noise; sha256sum < deps/noise";

/// A store that pods reach, at the address of this machine that they know; none, with a word about it, without a cluster.
async fn store() -> Option<Store> {
    let Ok(registry) = std::env::var("PIPE_TEST_REGISTRY_IN_PODS") else {
        drop(writeln!(
            std::io::stderr(),
            "SKIPPED: pods reach no address of this machine: set PIPE_TEST_REGISTRY_IN_PODS"
        ));
        return None;
    };
    let (host, _) = registry.rsplit_once(':').unwrap();
    Some(Store::start(&format!("{host}:0")).await)
}

async fn scene(options: StoreOptions) -> Option<Scene> {
    Scene::with(|world| world.objects = Some(Arc::new(ObjectStore::new(&options).unwrap()))).await
}

/// Where the server keeps the cache of a key.
fn file(scene: &Scene, tier: Tier, key: &str) -> PathBuf {
    let folder = scene
        .world
        .log(scene.plain(1, "").attempt)
        .with_file_name("caches");
    folder.join(tier.as_str()).join(format!("{key}{CACHE_FILE}"))
}

fn with_cache(scene: &Scene, node: u32, text: &str, key: &str) -> Launch {
    let mut launch = scene.plain(node, text);
    let exact = file(scene, launch.placement.tier, key);
    launch.caches.push(CacheMount {
        name: "deps".parse().unwrap(),
        paths: vec!["deps".to_owned()],
        exact: exact.clone(),
        fallbacks: Vec::new(),
        save_to: Some(exact),
    });
    launch
}

/// The log of an attempt that is to succeed.
async fn log_of(scene: &mut Scene, launch: Launch) -> String {
    let attempt = launch.attempt;
    succeeded(&scene.record_of(launch).await);
    scene.log(attempt)
}

/// The log of an attempt that fills the cache of a key.
async fn filled(scene: &mut Scene, node: u32) -> String {
    let launch = with_cache(scene, node, FILL, "key");
    log_of(scene, launch).await
}

/// What was in the cache at the end of an attempt.
fn digest(log: &str) -> &str {
    let mut lines = log.lines();
    let line = lines.find(|line| line.ends_with("  -") && line.len() == 67);
    line.unwrap_or_else(|| panic!("no digest in: {log}"))
}

fn archives(scene: &Scene) -> usize {
    let folder = scene.world.log(scene.plain(1, "").attempt);
    let files = files_below(folder.parent().unwrap()).into_iter();
    files
        .filter(|file| file.to_string_lossy().ends_with(CACHE_FILE))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_passes_between_pods_and_store_alone() {
    let Some(store) = store().await else { return };
    let Some(mut scene) = scene(store.options()).await else {
        return;
    };
    let proxy = Proxy::to(&scene.world.config).await;
    scene.restart_with(proxy.config(&scene.world.config));
    let first = filled(&mut scene, 1).await;
    says(&first, &["empty\n", "cache `deps` saved in the object store"]);
    let reference = CacheRef::read(&cache_ref_path(&file(&scene, Tier::Protected, "key"))).unwrap();
    let reference = reference.unwrap();
    assert!(reference.bytes.0 > BYTES, "{reference:?}");
    let object = store.file(&reference.object);
    assert_eq!(fs::metadata(&object).unwrap().len(), reference.bytes.0);

    let second = filled(&mut scene, 2).await;
    says(&second, &["filled\n", "restored from its own key"]);
    assert_eq!(digest(&first), digest(&second));
    let (_, passed) = proxy.traffic();
    assert!(
        passed < BYTES / 4,
        "{passed} bytes passed between server and cluster"
    );
    assert_eq!(archives(&scene), 0);
    for text in [first, second] {
        assert!(!text.contains("X-Amz"), "{text}");
    }
    for file in files_below(scene.world.log(scene.plain(1, "").attempt).parent().unwrap()) {
        let bytes = fs::read(&file).unwrap();
        let has_a_right = bytes.windows(5).any(|window| window == b"X-Amz");
        assert!(!has_a_right, "a URL is in {}", file.display());
    }
    scene.restart();
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_missing_object_is_a_miss_and_is_replaced() {
    let Some(store) = store().await else { return };
    let Some(mut scene) = scene(store.options()).await else {
        return;
    };
    let path = cache_ref_path(&file(&scene, Tier::Protected, "key"));
    let object = || CacheRef::read(&path).unwrap().unwrap().object;
    filled(&mut scene, 1).await;
    let first = object();
    let bytes = fs::read(store.file(&first)).unwrap();
    fs::write(store.file(&first), vec![0; bytes.len()]).unwrap();
    let log = filled(&mut scene, 2).await;
    says(
        &log,
        &[
            "does not match its digest",
            "empty\n",
            "saved in the object store",
        ],
    );
    let second = object();
    assert_ne!(first, second);
    fs::remove_file(store.file(&second)).unwrap();
    let log = filled(&mut scene, 3).await;
    says(&log, &["it is not there any more", "empty\n"]);
    let third = object();
    // More than is known of it is not fetched.
    fs::write(store.file(&third), [bytes.as_slice(), b"more"].concat()).unwrap();
    let log = filled(&mut scene, 4).await;
    says(&log, &["it has more than the", "empty\n"]);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_there_or_refuses_leaves_caches_to_the_server() {
    let Some(store) = store().await else { return };
    let wrong_key = StoreOptions {
        secret_key: SecretKey::new("another"),
        ..store.options()
    };
    let nobody = StoreOptions {
        url: store.options().url.rsplit_once(':').unwrap().0.to_owned() + ":9",
        ..store.options()
    };
    for (options, words) in [(wrong_key, "SignatureDoesNotMatch"), (nobody, "refused")] {
        let Some(mut scene) = scene(options).await else {
            return;
        };
        let log = filled(&mut scene, 1).await;
        says(&log, &[words, "goes to the server", "empty\n"]);
        assert!(file(&scene, Tier::Protected, "key").is_file());
        let log = filled(&mut scene, 2).await;
        says(&log, &["filled\n", "restored from its own key"]);
        scene.close().await;
    }
    let objects = files_below(&store.bucket());
    assert!(objects.is_empty(), "{objects:?}");
}

/// A server whose store went away reads what it kept there no more, and keeps the next in its own folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_kept_in_one_place() {
    let Some(store) = store().await else { return };
    let Some(mut scene) = scene(store.options()).await else {
        return;
    };
    filled(&mut scene, 1).await;
    let kept = scene.world.objects.take();
    scene.restart();
    let log = filled(&mut scene, 2).await;
    says(&log, &["empty\n"]);
    let path = file(&scene, Tier::Protected, "key");
    let references = |scene: &Scene| {
        let folder = file(scene, Tier::Protected, "key");
        let files = files_below(folder.parent().unwrap()).into_iter();
        files
            .filter(|file| file.to_string_lossy().ends_with(CACHE_REF))
            .count()
    };
    assert_eq!((path.is_file(), references(&scene)), (true, 0));
    scene.world.objects = kept;
    scene.restart();
    let log = filled(&mut scene, 3).await;
    says(&log, &["filled\n", "restored from its own key"]);
    scene.close().await;
}

/// Each attempt may store in the place of its own tier alone, and one object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_of_the_tier_that_wrote_it() {
    let Some(store) = store().await else { return };
    let Some(mut scene) = scene(store.options()).await else {
        return;
    };
    for (node, tier) in [(1, Tier::Branches), (2, Tier::Forks)] {
        let mut launch = scene.plain(node, FILL);
        launch.placement.tier = tier;
        let own = file(&scene, tier, "key");
        launch.caches.push(CacheMount {
            name: "deps".parse().unwrap(),
            paths: vec!["deps".to_owned()],
            exact: own.clone(),
            fallbacks: vec![file(&scene, Tier::Branches, "key")],
            save_to: Some(own.clone()),
        });
        let attempt = launch.attempt;
        let log = log_of(&mut scene, launch).await;
        says(
            &log,
            &[if node == 1 {
                "empty\n"
            } else {
                "restored from an older key"
            }],
        );
        let object = CacheRef::read(&cache_ref_path(&own)).unwrap().unwrap().object;
        let place = format!("pipekeeper/i1/suite/{}/deps/", tier.as_str());
        assert!(object.starts_with(&place), "{object}");
        assert!(object.contains(&format!("/{attempt}-")), "{object}");
    }
    scene.close().await;
}

/// Not a test of behaviour: what saving and restoring some 200 MB takes through the server and through the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of minutes"]
async fn what_large_caches_cost() {
    let Some(store) = store().await else { return };
    let Some(mut scene) = scene(store.options()).await else {
        return;
    };
    let objects = scene.world.objects.clone();
    let fill = "[ -e deps/noise ] || { mkdir -p deps; head -c 209715200 /dev/urandom > deps/noise; }";
    let mut node = 0;
    for round in 1..=3 {
        for (way, objects) in [("stream", None), ("store", objects.clone())] {
            scene.world.objects = objects;
            scene.restart();
            let key = format!("{way}-{round}");
            for what in ["save", "restore"] {
                node += 1;
                let launch = with_cache(&scene, node, fill, &key);
                let begun = std::time::Instant::now();
                let record = scene.record_of(launch).await;
                let took = begun.elapsed();
                succeeded(&record);
                let steps: i64 = record
                    .steps
                    .iter()
                    .map(|step| step.ended_at.0 - step.started_at.0)
                    .sum();
                let steps = Duration::from_millis(u64::try_from(steps).unwrap());
                let said = format!(
                    "{way} {what} {round}: {:.2} s beside the steps",
                    (took - steps).as_secs_f64()
                );
                drop(writeln!(std::io::stderr(), "{said}"));
            }
        }
    }
    scene.close().await;
}
