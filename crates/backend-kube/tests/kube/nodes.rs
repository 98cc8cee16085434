//! Nodes that are lost, and parts of the cluster that stop for a moment. These tests change the cluster itself, so each
//! runs alone: see `.config/nextest.toml`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use pipekeeper_backend::{Backend as _, Launch, VolumeAccess, VolumeMount};
use pipekeeper_backend_kube::{Volume, VolumeSource};
use serde_json::json;

use super::{
    scene::{Scene, dev_cluster, eventually, merge, must, says, succeeded},
    world::KubeWorld,
};

/// A node of these tests' own, removed at the end.
pub(crate) struct OwnNode {
    pub(crate) name: String,
}

impl OwnNode {
    pub(crate) async fn add(scene: &Scene) -> Self {
        let own = Self {
            name: format!("faults-{}", scene.world.options.instance),
        };
        dev_cluster(&["node", "add", &own.name, &std::process::id().to_string()]).await;
        // Nobody else's pods are to be lost with it.
        let taint =
            json!({"spec": {"taints": [{"key": "pipekeeper.io/faults", "effect": "PreferNoSchedule"}]}});
        let nodes: Api<Node> = Api::all(scene.world.client.clone());
        merge(&nodes, &own.name, &taint).await;
        own
    }

    /// Nobody else's pods come any more.
    async fn cordon(&self, scene: &Scene) {
        let nodes: Api<Node> = Api::all(scene.world.client.clone());
        merge(&nodes, &self.name, &json!({"spec": {"unschedulable": true}})).await;
    }

    async fn change(&self, verb: &str, part: &str) {
        dev_cluster(&[verb, &format!("{part}@{}", self.name)]).await;
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        let name = self.name.clone();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(dev_cluster(&["node", "remove", &name]));
        });
    }
}

pub(crate) fn with_volume(world: &mut KubeWorld) {
    let node = format!("faults-{}", world.options.instance);
    let folder = world
        .log(pipekeeper_backend::suite::attempt(0))
        .with_extension("volume");
    let volume = Volume {
        source: VolumeSource::HostPath(folder.to_str().unwrap().to_owned()),
        nodes: BTreeMap::from([("kubernetes.io/hostname".to_owned(), node)]),
    };
    world.options.volumes.insert("pinned".parse().unwrap(), volume);
}

fn volume_folder(world: &KubeWorld) -> PathBuf {
    world
        .log(pipekeeper_backend::suite::attempt(0))
        .with_extension("volume")
}

/// A volume that only one node has brings the pod there.
pub(crate) fn pinned(mut launch: Launch) -> Launch {
    launch.volumes.push(VolumeMount {
        cache: "pinned".parse().unwrap(),
        volume: "pinned".parse().unwrap(),
        paths: vec!["cache".to_owned()],
        access: VolumeAccess::Many,
    });
    launch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_of_a_node() {
    let Some(mut scene) = Scene::here(with_volume).await else {
        return;
    };
    let node = OwnNode::add(&scene).await;
    let attempt = scene
        .launch(pinned(
            scene.plain(1, "echo before; touch cache/x; exec sleep 1000"),
        ))
        .await;
    scene.log_says(attempt, "before").await;
    node.cordon(&scene).await;
    node.change("stop", "node").await;
    let stopped = Instant::now();
    let reason = scene.server.gone(attempt).await;
    says(&reason, &[&node.name, "stopped answering"]);
    assert!(
        stopped.elapsed() < Duration::from_secs(120),
        "{:?}",
        stopped.elapsed()
    );
    scene.ran(attempt, 1);
    says(&scene.log(attempt), &["before"]);
    // The node is still away.
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_of_a_kubelet_and_of_containerd() {
    let Some(mut scene) = Scene::here(with_volume).await else {
        return;
    };
    let node = OwnNode::add(&scene).await;
    let text = "i=0; while [ ! -e cache/go ]; do printf 'line %02000d\\n' $i; i=$((i+1)); echo $i > cache/count; sleep 0.002; done";
    let attempt = scene.launch(pinned(scene.plain(1, text))).await;
    scene.log_says(attempt, "01\n").await;
    node.cordon(&scene).await;
    node.change("kill", "kubelet").await;
    node.change("start", "kubelet").await;
    let folder = volume_folder(&scene.world).join("suite/protected/pinned/0");
    let count = || -> Option<u32> {
        let text = std::fs::read_to_string(folder.join("count")).ok()?;
        text.trim().parse().ok()
    };
    // Meanwhile nobody takes the log of a container, and more comes than pipes hold.
    node.change("kill", "containerd").await;
    let before = eventually("a count", async || count()).await;
    eventually("more output than pipes hold", async || {
        count().filter(|count| *count > before + 2000)
    })
    .await;
    node.change("start", "containerd").await;
    std::fs::write(folder.join("go"), "").unwrap();
    succeeded(&scene.server.finished(attempt).await);
    let lines: String = (0..count().unwrap())
        .map(|line| format!("line {line:02000}\n"))
        .collect();
    let is_whole = scene.log(attempt) == format!("user code starts\n{lines}");
    assert!(is_whole, "the log is not whole");
    scene.ran(attempt, 1);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_of_the_api_server() {
    let Some(mut scene) = Scene::here(|_| {}).await else {
        return;
    };
    let text = "i=0; while [ $i -lt 600 ]; do echo line $i; i=$((i+1)); sleep 0.01; done";
    let attempt = scene.launch(scene.plain(1, text)).await;
    scene.log_says(attempt, "line 50").await;
    dev_cluster(&["kill", "apiserver"]).await;
    let other = scene.plain(2, "true");
    let refused = scene.server.backend.launch(other.clone()).await;
    dev_cluster(&["start", "apiserver"]).await;
    let Err(pipekeeper_backend::LaunchError::Transient { reason }) = refused else {
        panic!("{refused:?}")
    };
    says(&reason, &["cannot be reached"]);
    let other = scene.launch_stubbornly(other).await;
    succeeded(&scene.server.finished(attempt).await);
    succeeded(&scene.server.finished(other).await);
    let lines: String = (0..600).map(|line| format!("line {line}\n")).collect();
    assert_eq!(scene.log(attempt), format!("user code starts\n{lines}"));
    scene.ran(attempt, 1);
    must(scene.server.backend.observe(attempt).await);
    scene.close().await;
}
