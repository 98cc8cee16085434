//! Pods that serve one attempt after the other.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{AttachParams, DeleteParams, ListParams},
};
use pipekeeper_backend::{
    Backend as _, Launch, Tier, VolumeAccess, VolumeMount, What, pod::PoolOptions, suite::attempt,
};
use pipekeeper_backend_kube::{Volume, VolumeSource};
use pipekeeper_model::{AttemptId, Holder};

use super::{
    scene::{Scene, command, eventually, must, says, step},
    work::{name, service},
    world::{KubeWorld, image},
};

fn with_pool(world: &mut KubeWorld) {
    world.pool = Some(PoolOptions {
        idle: Duration::from_secs(3),
        max: 2,
    });
}

impl Scene {
    /// Runs it to its end; the pod it ran in.
    async fn pod_of(&mut self, launch: Launch) -> Holder {
        let attempt = self.launch(launch).await;
        self.ended_in(attempt).await
    }

    async fn ended_in(&mut self, attempt: AttemptId) -> Holder {
        let pick = |what: &What| {
            if let What::Finished { holder, record } = what {
                Some((holder.clone(), record.clone()))
            } else {
                None
            }
        };
        let (holder, _) = self.server.until(attempt, pick).await;
        self.server.backend.forget(attempt).await.unwrap();
        holder
    }

    async fn pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = self.api();
        must(pods.list(&ListParams::default()).await).items
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_attempt_finds_nothing_of_the_last() {
    let Some(mut scene) = Scene::with(with_pool).await else {
        return;
    };
    let leave = "mkdir -p /tmp /var/tmp; echo mine | tee file ~/file /tmp/file /var/tmp/file /dev/shm/file; \
                 mkdir -p deep/er ~/.deep; (setsid sleep 1000 &)";
    let first = scene.plain(1, leave);
    let mut second = scene.plain(
        2,
        "find . ~ /tmp /var/tmp /dev/shm -mindepth 1; ps -o args | grep -c '[s]leep 1000' || true",
    );
    second.steps.push(step(None, command("echo second")));
    let holder = scene.pod_of(first).await;
    assert_eq!(scene.pod_of(second.clone()).await, holder);
    assert_eq!(scene.log(second.attempt), "user code starts\n0\nsecond\n");
    assert_eq!(scene.pods().await.len(), 1);
    // What nobody wants goes, and so does its name.
    scene.close().await;
    scene.ran(second.attempt, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_kept_from_whom_it_does_not_suit() {
    let Some(mut scene) = Scene::with(with_pool).await else {
        return;
    };
    let mut holders = Vec::new();
    let plain = scene.plain(1, "true");
    holders.push(scene.pod_of(plain).await);
    // These are offered the first pod in vain, and leave none.
    let mut secret = scene.plain(2, "true");
    secret.may_share = false;
    let mut with_service = scene.plain(3, "true");
    with_service.services = vec![service("web", "user-service:1", None)];
    let mut other_image = scene.plain(4, "true");
    other_image.steps = vec![step(Some(image("nonroot:1")), command("exit 1"))];
    let mut other_tier = scene.plain(5, "true");
    other_tier.placement.tier = Tier::Branches;
    for launch in [secret, with_service, other_image, other_tier] {
        holders.push(scene.pod_of(launch).await);
    }
    // What failed serves nobody.
    let mut again = scene.plain(6, "true");
    again.steps = vec![step(Some(image("nonroot:1")), command("true"))];
    holders.push(scene.pod_of(again).await);
    let count = holders.len();
    holders.sort();
    holders.dedup();
    assert_eq!(holders.len(), count, "{holders:?}");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_goes_on_with_a_pod_that_changed_hands() {
    let Some(mut scene) = Scene::with(with_pool).await else {
        return;
    };
    let first = scene.plain(1, "echo the first");
    let holder = scene.pod_of(first).await;
    // Before its ticket: the same launch, repeated by the next server, makes no second pod.
    scene.server.gives_tickets = false;
    let launch = scene.plain(2, "echo one; until [ -e go ]; do sleep 0.05; done; echo two");
    let attempt = scene.launch(launch.clone()).await;
    assert_eq!(scene.server.checked_in(attempt).await, holder);
    scene.restart();
    scene.launch(launch.clone()).await;
    scene.log_says(attempt, "one").await;
    assert_eq!(scene.pods().await.len(), 1);
    // And after it.
    scene.restart();
    must(scene.server.backend.observe(attempt).await);
    scene.server.runs(attempt).await;
    let pod = scene.pods().await.remove(0).name_any();
    let how = AttachParams::default().container("step-0").stderr(false);
    let pods: Api<Pod> = scene.api();
    must(pods.exec(&pod, ["touch", "/workspace/go"], &how).await);
    assert_eq!(scene.ended_in(attempt).await, holder);
    assert_eq!(scene.log(attempt), "user code starts\none\ntwo\n");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_went_while_it_stood_by_is_not_missed() {
    let Some(mut scene) = Scene::with(with_pool).await else {
        return;
    };
    let first = scene.plain(1, "true");
    let holder = scene.pod_of(first).await;
    let name = scene.pods().await.remove(0).name_any();
    let pods: Api<Pod> = scene.api();
    must(pods.delete(&name, &DeleteParams::default().grace_period(0)).await);
    eventually("the end of the pod", async || {
        pods.get_opt(&name).await.ok()?.is_none().then_some(())
    })
    .await;
    let second = scene.plain(2, "true");
    assert_ne!(scene.pod_of(second).await, holder);
    scene.close().await;
}

/// The log of a pod that served several is recovered for the one that ran last, and shows no other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_log_is_the_attempts_own() {
    let Some(mut scene) = Scene::with(with_pool).await else {
        return;
    };
    let first = scene.plain(1, "echo of the first");
    scene.pod_of(first).await;
    let second = scene.plain(2, "echo of the second; exec sleep 1000");
    let attempt = scene.launch(second).await;
    scene.log_says(attempt, "of the second").await;
    let pods: Api<Pod> = scene.api();
    let name = scene.pods().await.remove(0).name_any();
    must(pods.delete(&name, &DeleteParams::default()).await);
    scene.server.gone(attempt).await;
    let log = scene.log(attempt);
    says(&log, &["of the second"]);
    assert!(!log.contains("of the first"), "{log}");
    scene.close().await;
}

/// The next checkout belongs to the user of the next step, whoever had the last one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_root_works_in_a_pod_that_stood_by() {
    let Some(mut scene) = Scene::with(with_pool).await else {
        return;
    };
    let mut holders = Vec::new();
    for node in 1..=2 {
        let mut launch = scene.plain(node, "");
        let text = "id -u; echo mine > file; echo \"a=b\" >> \"$PIPE_OUTPUT\"";
        launch.steps = vec![step(Some(image("nonroot:1")), command(text))];
        let attempt = launch.attempt;
        holders.push(scene.pod_of(launch).await);
        assert_eq!(scene.log(attempt), "1000\n");
    }
    assert_eq!(holders[0], holders[1]);
    scene.close().await;
}

/// Volumes stay where they are mounted; a pod in which one was moved away is of no use to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_volume_was_moved_serves_nobody_else() {
    let volume = tempfile::tempdir().unwrap();
    let folder = volume.path().join("shared").display().to_string();
    let change = |world: &mut KubeWorld| {
        with_pool(world);
        let source = VolumeSource::HostPath(folder.clone());
        let nodes = BTreeMap::new();
        world.options.volumes.insert(name("m2"), Volume { source, nodes });
    };
    let Some(mut scene) = Scene::with(change).await else {
        return;
    };
    let mount = VolumeMount {
        cache: name("maven"),
        volume: name("m2"),
        paths: vec!["~/.m2/repository".to_owned()],
        access: VolumeAccess::Many,
    };
    let mut holders = Vec::new();
    for (node, text) in [
        (1, "echo kept > ~/.m2/repository/file"),
        (
            2,
            "cat ~/.m2/repository/file; mv ~/.m2 ~/.m3; mkdir -p ~/.m2/repository",
        ),
        (3, "cat ~/.m2/repository/file; ls ~/.m3 2> /dev/null || echo gone"),
    ] {
        let mut launch = scene.plain(node, text);
        launch.volumes = vec![mount.clone()];
        holders.push(scene.pod_of(launch).await);
    }
    assert_eq!(holders[0], holders[1]);
    assert_ne!(holders[1], holders[2]);
    assert_eq!(scene.log(attempt(3)), "user code starts\nkept\ngone\n");
    scene.close().await;
}
