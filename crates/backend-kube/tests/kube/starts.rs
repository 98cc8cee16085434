//! What keeps a pod from starting: each has its text and its own patience.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{
    ByteString,
    api::core::v1::{
        LimitRange, LimitRangeItem, LimitRangeSpec, Pod, ResourceQuota, ResourceQuotaSpec, Secret,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::api::ObjectMeta;
use pipekeeper_backend::{Backend as _, LaunchError};
use pipekeeper_model::plan::Resources;
use serde_json::json;

use super::{
    scene::{Scene, dev_cluster, eventually, merge, must, says, succeeded},
    world::{KubeWorld, image},
};

const PATIENCE: Duration = Duration::from_secs(4);
/// Until the cluster told of it, and to tell.
const SLACK: Duration = Duration::from_secs(25);

fn impatient(world: &mut KubeWorld) {
    world.options.patience.node = PATIENCE;
    world.options.patience.missing_image = PATIENCE;
    world.options.patience.pull = SLACK * 4;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_is_hopeless_after_its_own_patience() {
    let Some(mut scene) = Scene::with(impatient).await else {
        return;
    };
    let mut launch = scene.plain(1, "true");
    launch.steps[0].image = Some(image("no-such-image:7"));
    let begun = Instant::now();
    let attempt = scene.launch(launch).await;
    scene
        .server
        .waits(attempt, &["no-such-image:7", "not found"])
        .await;
    let reason = scene.server.hopeless(attempt).await;
    says(
        &reason,
        &["no-such-image:7", "not found", "check its name and tag"],
    );
    assert!(
        begun.elapsed() > PATIENCE && begun.elapsed() < PATIENCE + SLACK,
        "{:?}",
        begun.elapsed()
    );
    scene.close().await;
    scene.ran(attempt, 0);
}

/// The cluster alternates between what is wrong and that it waits; people are told what is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_stays_missing_while_the_cluster_backs_off() {
    let patient = |world: &mut KubeWorld| {
        impatient(world);
        world.options.patience.missing_image = Duration::from_secs(18);
    };
    let Some(mut scene) = Scene::with(patient).await else {
        return;
    };
    let mut launch = scene.plain(1, "true");
    launch.steps[0].image = Some(image("no-such-image:7"));
    let begun = Instant::now();
    let attempt = scene.launch(launch).await;
    let reason = scene.server.hopeless(attempt).await;
    says(&reason, &["no-such-image:7", "not found"]);
    assert!(
        begun.elapsed() > Duration::from_secs(17) && begun.elapsed() < Duration::from_secs(18) + SLACK,
        "{:?}",
        begun.elapsed()
    );
    scene.close().await;
    scene.ran(attempt, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_denied_is_hopeless_and_a_pull_secret_helps() {
    let with_secret = |world: &mut KubeWorld| {
        impatient(world);
        world.options.pull_secrets = vec!["registry".to_owned()];
    };
    let Some(mut scene) = Scene::here(with_secret).await else {
        return;
    };
    let private = private_image(&scene.world.options.instance).await;
    let launch = |scene: &Scene, node| {
        let mut launch = scene.plain(node, "true");
        launch.steps[0].image = Some(private.clone());
        launch
    };
    let denied = scene.launch(launch(&scene, 1)).await;
    let reason = scene.server.hopeless(denied).await;
    says(&reason, &[&private, "does not give us the image", "pull secrets"]);
    scene.ran(denied, 0);

    let registry = std::env::var("PIPE_TEST_PRIVATE_REGISTRY").unwrap();
    let credentials = std::env::var("PIPE_TEST_PRIVATE_CREDENTIALS").unwrap();
    let credentials = std::fs::read_to_string(credentials).unwrap();
    let (user, password) = credentials.trim().split_once(':').unwrap();
    let auths = json!({"auths": {registry: {"username": user, "password": password}}});
    let secret = Secret {
        metadata: named("registry"),
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some(BTreeMap::from([(
            ".dockerconfigjson".to_owned(),
            ByteString(auths.to_string().into_bytes()),
        )])),
        ..Secret::default()
    };
    scene.create(&secret).await;
    let attempt = launch(&scene, 2).attempt;
    let record = scene.record_of(launch(&scene, 2)).await;
    succeeded(&record);
    scene.ran(attempt, 1);
    scene.close().await;
}

/// An image of the private registry that no node has yet.
async fn private_image(unique: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    let name = format!("private-{unique}:1");
    let root = folder.path().to_str().unwrap();
    dev_cluster(&["image", "--private", &name, root, "sh"]).await;
    format!("{}/{name}", std::env::var("PIPE_TEST_PRIVATE_REGISTRY").unwrap())
}

pub(crate) fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_no_node_takes_is_hopeless_after_its_own_patience() {
    let Some(mut scene) = Scene::with(impatient).await else {
        return;
    };
    let mut launch = scene.plain(1, "true");
    launch.resources = Resources {
        cpu: Some("1000".to_owned()),
        memory: None,
    };
    let begun = Instant::now();
    let attempt = scene.launch(launch).await;
    scene
        .server
        .waits(attempt, &["no node takes its pod", "cpu"])
        .await;
    let reason = scene.server.hopeless(attempt).await;
    says(&reason, &["no node takes its pod", "Insufficient cpu"]);
    assert!(
        begun.elapsed() > PATIENCE && begun.elapsed() < PATIENCE + SLACK,
        "{:?}",
        begun.elapsed()
    );
    scene.close().await;
    scene.ran(attempt, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_used_up_is_waited_for() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let quota = ResourceQuota {
        metadata: named("pods"),
        spec: Some(ResourceQuotaSpec {
            hard: Some(BTreeMap::from([("pods".to_owned(), Quantity("1".to_owned()))])),
            ..ResourceQuotaSpec::default()
        }),
        status: None,
    };
    scene.create(&quota).await;
    eventually("a quota that counts", async || {
        let quota = scene.api::<ResourceQuota>().get("pods").await.ok()?;
        quota.status?.hard
    })
    .await;
    let first = scene.launch(scene.plain(1, "exec sleep 1000")).await;
    scene.server.runs(first).await;
    let refused = scene.server.backend.launch(scene.plain(2, "true")).await;
    let Err(LaunchError::Occupied { reason }) = refused else {
        panic!("not to be tried again: {refused:?}")
    };
    says(&reason, &["quota", &scene.world.namespace, "pods=1"]);
    let second = scene.plain(2, "true").attempt;
    scene.server.waits(second, &["quota"]).await;
    // The cluster takes its time to count a pod that went.
    let more = json!({"spec": {"hard": {"pods": "2"}}});
    merge(&scene.api::<ResourceQuota>(), "pods", &more).await;
    eventually("a place in the quota", async || {
        scene.server.backend.launch(scene.plain(2, "true")).await.ok()
    })
    .await;
    succeeded(&scene.server.finished(second).await);
    scene.ran(second, 1);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cluster_never_admits_is_not_tried_again() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let limits = LimitRange {
        metadata: named("small"),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                type_: "Container".to_owned(),
                max: Some(BTreeMap::from([(
                    "memory".to_owned(),
                    Quantity("64Mi".to_owned()),
                )])),
                ..LimitRangeItem::default()
            }],
        }),
    };
    scene.create(&limits).await;
    let launch = |scene: &Scene| {
        let mut launch = scene.plain(1, "true");
        launch.resources.memory = Some("1Gi".to_owned());
        launch
    };
    // The limits are in force a moment after they are there.
    let reason = eventually("limits in force", async || {
        match scene.server.backend.launch(launch(&scene)).await {
            Err(LaunchError::Terminal { reason }) => Some(reason),
            Ok(()) | Err(LaunchError::Transient { .. } | LaunchError::Occupied { .. }) => {
                scene.server.backend.forget(launch(&scene).attempt).await.ok()?;
                None
            }
        }
    })
    .await;
    says(&reason, &["refuses the pod", "memory", "64Mi", "1Gi"]);
    scene.close().await;
    scene.ran(launch(&scene).attempt, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_not_there_is_named() {
    let elsewhere = |world: &mut KubeWorld| world.options.namespaces.protected = "pipe-no-such".to_owned();
    let Some(mut scene) = Scene::with(elsewhere).await else {
        return;
    };
    let refused = scene.server.backend.launch(scene.plain(1, "true")).await;
    let Err(LaunchError::Terminal { reason }) = refused else {
        panic!("to be tried again: {refused:?}")
    };
    // Who may not see a namespace does not learn whether it is there.
    says(&reason, &["`pipe-no-such`", "create"]);
    scene.close().await;
}

/// A pod of the same name that another made is neither adopted nor removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pod_of_another_is_left_alone() {
    let Some(scene) = Scene::new().await else { return };
    let attempt = scene.plain(1, "true").attempt;
    let other: Pod = serde_json::from_value(json!({
        "metadata": {"name": scene.pod_name(attempt)},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "other", "image": image("pause:3")}]},
    }))
    .unwrap();
    let made = scene.create(&other).await;
    let refused = scene.server.backend.launch(scene.plain(1, "true")).await;
    assert!(
        matches!(refused, Err(LaunchError::Terminal { .. })),
        "{refused:?}"
    );
    must(scene.server.backend.forget(attempt).await);
    let there = scene.pod(attempt).await.unwrap();
    assert_eq!(there.metadata.uid, made.metadata.uid);
    assert_eq!(there.metadata.deletion_timestamp, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_ends_is_hopeless() {
    let quick = |world: &mut KubeWorld| world.options.patience.service = PATIENCE;
    let Some(mut scene) = Scene::with(quick).await else {
        return;
    };
    let mut launch = scene.plain(1, "true");
    launch.services = vec![super::work::service("db", "busybox:1", Some("false"))];
    let attempt = scene.launch(launch).await;
    let reason = scene.server.hopeless(attempt).await;
    // Without a command of its own this image's shell ends at once.
    says(&reason, &["the service `db` ended with code 0"]);
    scene.close().await;
    scene.ran(attempt, 0);
}

/// It serves, but its own command never says that it is ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_never_ready_is_hopeless_after_its_own_patience() {
    let quick = |world: &mut KubeWorld| world.options.patience.service = PATIENCE;
    let Some(mut scene) = Scene::with(quick).await else {
        return;
    };
    let mut launch = scene.plain(1, "true");
    launch.services = vec![super::work::service("web", "user-service:1", Some("false"))];
    let begun = Instant::now();
    let attempt = scene.launch(launch).await;
    let told = ["the service `web` is not ready yet"];
    scene.server.waits(attempt, &told).await;
    let reason = scene.server.hopeless(attempt).await;
    says(&reason, &told);
    assert!(
        begun.elapsed() > PATIENCE && begun.elapsed() < PATIENCE + SLACK,
        "{:?}",
        begun.elapsed()
    );
    scene.close().await;
    scene.ran(attempt, 0);
}

/// Only the service itself knows why it does not start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_words_of_a_service_that_ends_are_in_the_log() {
    let quick = |world: &mut KubeWorld| world.options.patience.start = PATIENCE;
    let Some(mut scene) = Scene::with(quick).await else {
        return;
    };
    let mut launch = scene.plain(1, "true");
    // It wants to be root, which no pod of this tier is.
    launch.services = vec![super::work::service("web", "root-service:1", None)];
    launch.placement.tier = pipekeeper_backend::Tier::Forks;
    let attempt = scene.launch(launch).await;
    says(&scene.server.hopeless(attempt).await, &["the service `web`"]);
    says(
        &scene.log(attempt),
        &["what the service `web` said last", "serve: must not run as user"],
    );
    scene.close().await;
    scene.ran(attempt, 0);
}
