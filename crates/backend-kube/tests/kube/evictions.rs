//! Pods that the cluster itself ends: for want of disk, to empty a node, to make room for others. User code ends in order
//! when it is told to, as a success would; yet nobody may take it for one.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec, Pod},
        scheduling::v1::PriorityClass,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client,
    api::{DeleteParams, EvictParams, PostParams},
};
use pipekeeper_model::plan::Resources;
use serde_json::json;

use super::{
    nodes::{OwnNode, pinned, with_volume},
    scene::{Scene, eventually, says},
    starts::named,
    world::image,
};

/// Succeeds as soon as it is told to end.
const POLITE: &str = "trap 'exit 0' TERM; echo there; sleep 1000 & wait";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fills_the_disk_is_evicted_and_its_attempt_gone() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let limits = LimitRange {
        metadata: named("disk"),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                type_: "Container".to_owned(),
                default: Some(BTreeMap::from([(
                    "ephemeral-storage".to_owned(),
                    Quantity("16Mi".to_owned()),
                )])),
                ..LimitRangeItem::default()
            }],
        }),
    };
    scene.create(&limits).await;
    let text = format!("head -c 40000000 /dev/zero > /big; {POLITE}");
    let attempt = scene.launch(scene.plain(1, &text)).await;
    scene.log_says(attempt, "there").await;
    let reason = scene.server.gone(attempt).await;
    says(&reason, &["its pod was evicted", "ephemeral", "limit"]);
    scene.ran(attempt, 1);
    says(&scene.log(attempt), &["there"]);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_evicted_to_empty_its_node_leaves_its_attempt_gone() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, POLITE)).await;
    scene.log_says(attempt, "there").await;
    let name = scene.pod_name(attempt);
    let evicted = scene.api::<Pod>().evict(&name, &EvictParams::default()).await;
    evicted.unwrap();
    removed(&scene.server.gone(attempt).await, "EvictionByEvictionAPI");
    scene.ran(attempt, 1);
    scene.close().await;
}

/// A class of pods before which all others have to go; it goes with the test.
struct Urgent {
    name: String,
    classes: Api<PriorityClass>,
}

impl Urgent {
    async fn create(scene: &Scene) -> Self {
        let urgent = Self {
            name: format!("pipe-test-{}", scene.world.options.instance),
            classes: Api::all(Client::clone(&scene.world.client)),
        };
        let class = PriorityClass {
            metadata: named(&urgent.name),
            value: 1_000_000,
            ..PriorityClass::default()
        };
        urgent
            .classes
            .create(&PostParams::default(), &class)
            .await
            .unwrap();
        urgent
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        let removal = async {
            drop(self.classes.delete(&self.name, &DeleteParams::default()).await);
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(removal));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_makes_room_for_one_of_higher_priority_leaves_its_attempt_gone() {
    let Some(mut scene) = Scene::here(with_volume).await else {
        return;
    };
    // Nobody else's pods are to make room.
    let node = OwnNode::add(&scene).await;
    let mut launch = pinned(scene.plain(1, POLITE));
    launch.resources = Resources {
        cpu: Some("1100m".to_owned()),
        memory: None,
    };
    let attempt = scene.launch(launch).await;
    scene.log_says(attempt, "there").await;
    let urgent = Urgent::create(&scene).await;
    let intruder: Pod = serde_json::from_value(json!({
        "metadata": {"name": "urgent"},
        "spec": {
            "priorityClassName": urgent.name,
            "nodeSelector": {"kubernetes.io/hostname": node.name},
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "urgent",
                "image": image("pause:3"),
                "resources": {"requests": {"cpu": "1100m"}},
            }],
        },
    }))
    .unwrap();
    // The cluster takes in a moment later that there is such a class.
    eventually("a pod of that class", async || {
        let pods = scene.api::<Pod>();
        pods.create(&PostParams::default(), &intruder).await.ok()
    })
    .await;
    removed(&scene.server.gone(attempt).await, "PreemptionByScheduler");
    scene.ran(attempt, 1);
    let pods = scene.api::<Pod>();
    pods.delete("urgent", &DeleteParams::default()).await.unwrap();
    scene.close().await;
}

/// Clusters before 1.26 do not say who removed a pod.
fn removed(reason: &str, by: &str) {
    let told = format!("its pod was removed by {by}");
    assert!(
        reason == "its pod was deleted" || reason.starts_with(&told),
        "{reason}"
    );
}
