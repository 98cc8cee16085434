//! What is left in the cluster once attempts are forgotten: nothing.

use std::collections::BTreeSet;

use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, Scope, verbs},
};

use super::{
    scene::{End, Scene, command, eventually, step},
    work::service,
    world::image,
};

/// Every object in the scene's namespace but events, by kind and name.
pub(crate) async fn objects(scene: &Scene) -> BTreeSet<String> {
    let discovery = Discovery::new(scene.world.client.clone()).run().await.unwrap();
    let mut objects = BTreeSet::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let is_kept = capabilities.scope == Scope::Namespaced
                && capabilities.supports_operation(verbs::LIST)
                && resource.kind != "Event";
            if !is_kept {
                continue;
            }
            let api: Api<DynamicObject> =
                Api::namespaced_with(scene.world.client.clone(), &scene.world.namespace, &resource);
            let found = api.list(&ListParams::default()).await.unwrap();
            objects.extend(
                found
                    .iter()
                    .map(|object| format!("{} {}", resource.kind, object.name_any())),
            );
        }
    }
    objects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_attempts() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    // The cluster itself puts some things into a new namespace.
    eventually("the namespace's own objects", async || {
        let objects = objects(&scene).await;
        objects.contains("ServiceAccount default").then_some(())
    })
    .await;
    let before = objects(&scene).await;
    let mut large = scene.plain(1, "true");
    large.steps.push(step(Some(image("noshell:1")), command("true")));
    large.services = vec![service("web", "user-service:1", None)];
    let mut hopeless = scene.plain(2, "true");
    hopeless.steps[0].image = Some("not an image".to_owned());
    let mut ends = Vec::new();
    for launch in [scene.plain(0, "true"), large, hopeless] {
        let attempt = scene.launch(launch).await;
        ends.push(scene.server.end(attempt).await);
    }
    assert!(matches!(ends[0], End::Finished(_)), "{ends:?}");
    scene.close().await;
    let after = objects(&scene).await;
    let left: Vec<_> = after.difference(&before).collect();
    assert!(left.is_empty(), "{left:?}");
}
