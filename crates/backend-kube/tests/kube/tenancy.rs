//! Whose namespaces are: those that the server makes and keeps in order, those of others, and those that do not open.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::api::{
    core::v1::{LimitRange, Namespace, ResourceQuota},
    networking::v1::NetworkPolicy,
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use pipekeeper_backend::{Backend as _, LaunchError, pod::PodHost as _, suite::attempt};
use pipekeeper_backend_kube::{Limits, Making};
use pipekeeper_model::plan::Resources;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    leaks::objects,
    scene::{Scene, eventually, merge, must, says, succeeded},
    world::KubeWorld,
};

/// A scene whose server makes its namespace itself, with the rights of deploy/kubernetes/maker.yaml and no others.
struct Maker {
    scene: Scene,
    rights: Rights,
}

/// What lets it, removed at the end.
struct Rights {
    client: Client,
    role: String,
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

fn deployed(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    std::fs::read_to_string(folder.join(file)).unwrap()
}

/// The documents of maker.yaml, under a name that is this test's own.
fn documents(role: &str) -> (ClusterRole, ClusterRole, ClusterRoleBinding) {
    let text = deployed("maker.yaml").replace("pipekeeper", role);
    let [maker, inside, binding] = text.split("\n---\n").collect::<Vec<_>>().try_into().unwrap();
    (read(maker), read(inside), read(binding))
}

impl Rights {
    async fn give(client: Client, role: &str, user: &str) -> Self {
        let (maker, inside, mut binding) = documents(role);
        let how = PostParams::default();
        let roles: Api<ClusterRole> = Api::all(client.clone());
        roles.create(&how, &maker).await.unwrap();
        roles.create(&how, &inside).await.unwrap();
        binding.subjects = Some(vec![Subject {
            kind: "User".to_owned(),
            name: user.to_owned(),
            ..Subject::default()
        }]);
        let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
        bindings.create(&how, &binding).await.unwrap();
        let role = role.to_owned();
        Self { client, role }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let removal = async {
            let how = DeleteParams::default();
            let roles: Api<ClusterRole> = Api::all(self.client.clone());
            drop(roles.delete(&self.role, &how).await);
            drop(roles.delete(&format!("{}-maker", self.role), &how).await);
            let bindings: Api<ClusterRoleBinding> = Api::all(self.client.clone());
            drop(bindings.delete(&self.role, &how).await);
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(removal));
    }
}

impl Maker {
    async fn new() -> Option<Self> {
        let mut world = KubeWorld::new().await?;
        let admin = world.client.clone();
        let role = world.namespace.clone();
        let namespaces: Api<Namespace> = Api::all(admin.clone());
        let removed = namespaces
            .delete(&world.namespace, &DeleteParams::default())
            .await;
        removed.unwrap();
        world.namespace = format!("{role}-made");
        let rights = Rights::give(admin, &role, &role).await;
        world.config = super::world::config().await?;
        world.config.auth_info.impersonate = Some(role.clone());
        let namespace = world.namespace.as_str();
        for tier in [
            &mut world.options.namespaces.protected,
            &mut world.options.namespaces.branches,
            &mut world.options.namespaces.forks,
        ] {
            namespace.clone_into(tier);
        }
        world.options.making = Some(Making {
            role,
            limits: Limits {
                pods: Some(1),
                all: Resources::default(),
                container: Resources {
                    cpu: None,
                    memory: Some("1Gi".to_owned()),
                },
            },
            deny: vec!["10.99.0.0/16".parse().unwrap()],
        });
        let own: Api<Namespace> = Api::all(Client::try_from(world.config.clone()).unwrap());
        eventually("the rights of a server", async || {
            own.get_opt("default").await.ok()
        })
        .await;
        let server = super::scene::Server::open(&world, world.config.clone());
        let scene = Scene { world, server };
        Some(Self { scene, rights })
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.rights.client.clone())
    }

    /// Makes its namespace before the server does, with these labels.
    async fn precede(&self, labels: BTreeMap<String, String>) -> Namespace {
        let wanted = Namespace {
            metadata: ObjectMeta {
                name: Some(self.scene.world.namespace.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let made = self.namespaces().create(&PostParams::default(), &wanted).await;
        made.unwrap()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let instance = self.scene.world.options.instance.clone();
        BTreeMap::from([
            ("app.kubernetes.io/managed-by".to_owned(), "pipekeeper".to_owned()),
            ("pipekeeper.io/instance".to_owned(), instance),
        ])
    }

    /// Everything that keeps the pods of its namespace within bounds.
    async fn furniture(&self) -> serde_json::Value {
        let policy = self.scene.api::<NetworkPolicy>().get("pipekeeper").await.unwrap();
        let quota = self.scene.api::<ResourceQuota>().get("pipekeeper").await.unwrap();
        let range = self.scene.api::<LimitRange>().get("pipekeeper").await.unwrap();
        json!([policy.spec, quota.spec, range.spec])
    }
}

#[test]
fn a_server_that_makes_namespaces_may_do_in_them_what_others_may() {
    let plain: Role = read(&deployed("role.yaml"));
    let (_, inside, _) = documents("pipekeeper");
    let (plain, inside) = (plain.rules.unwrap(), inside.rules.unwrap());
    assert!(plain.iter().all(|rule| inside.contains(rule)));
    let further = inside.iter().filter(|rule| !plain.contains(rule));
    let further: Vec<_> = further.flat_map(|rule: &PolicyRule| rule.verbs.clone()).collect();
    assert_eq!(further, ["create", "patch", "create", "patch"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_made_when_it_is_needed_and_nothing_in_it_is_left() {
    let Some(mut maker) = Maker::new().await else {
        return;
    };
    let name = maker.scene.world.namespace.clone();
    must(maker.scene.server.backend.list().await);
    let there = maker.namespaces().get_opt(&name).await.unwrap();
    assert!(there.is_none(), "made before it was needed");
    let first = maker.scene.launch(maker.scene.plain(1, "exec sleep 1000")).await;
    maker.scene.server.runs(first).await;

    let made = maker.namespaces().get(&name).await.unwrap();
    for (key, value) in maker.labels() {
        assert_eq!(made.labels().get(&key), Some(&value));
    }
    let level = made.labels().get("pod-security.kubernetes.io/enforce");
    assert_eq!(level.map(String::as_str), Some("baseline"));
    let furniture = maker.furniture().await.to_string();
    // The service of this cluster's API server is the first address of its services.
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(maker.rights.client.clone(), "default");
    let api = services
        .get("kubernetes")
        .await
        .unwrap()
        .spec
        .unwrap()
        .cluster_ip
        .unwrap();
    says(
        &furniture,
        &[
            &format!("\"{api}/32\""),
            "169.254.169.254/32",
            "fd00:ec2::254/128",
            "10.99.0.0/16",
        ],
    );

    let refused = maker
        .scene
        .server
        .backend
        .launch(maker.scene.plain(2, "true"))
        .await;
    let Err(LaunchError::Occupied { reason }) = refused else {
        panic!("not to be tried again: {refused:?}")
    };
    says(&reason, &["quota", &name, "pods=1"]);
    let second = maker.scene.plain(2, "true").attempt;
    maker.scene.server.waits(second, &["quota", "used up"]).await;
    let mut greedy = maker.scene.plain(3, "true");
    greedy.resources.memory = Some("2Gi".to_owned());
    let refused = maker.scene.server.backend.launch(greedy).await;
    let Err(LaunchError::Terminal { reason }) = refused else {
        panic!("to be tried again: {refused:?}")
    };
    says(&reason, &["refuses the pod", "1Gi", "2Gi"]);

    let before = objects(&maker.scene).await;
    maker.scene.close().await;
    let after = objects(&maker.scene).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    let kinds: Vec<&str> = after
        .iter()
        .filter(|object| object.ends_with(" pipekeeper"))
        .map(String::as_str)
        .collect();
    assert_eq!(
        kinds,
        [
            "LimitRange pipekeeper",
            "NetworkPolicy pipekeeper",
            "ResourceQuota pipekeeper",
            "RoleBinding pipekeeper",
        ]
    );
    // The rest is what the cluster itself puts into every namespace.
    assert!(
        !after.iter().any(|object| object.starts_with("Pod ")),
        "{after:?}"
    );
}

/// A server that died after it had made the namespace, and people who change what is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_was_changed_is_put_right() {
    let Some(mut maker) = Maker::new().await else {
        return;
    };
    maker.precede(maker.labels()).await;
    let record = maker.scene.record_of(maker.scene.plain(1, "true")).await;
    succeeded(&record);
    let right = maker.furniture().await;

    let open = json!({"spec": {"egress": [{}], "ingress": [{}]}});
    merge(&maker.scene.api::<NetworkPolicy>(), "pipekeeper", &open).await;
    let generous = json!({"spec": {"hard": {"pods": "1000"}}});
    merge(&maker.scene.api::<ResourceQuota>(), "pipekeeper", &generous).await;
    let ranges = maker.scene.api::<LimitRange>();
    ranges
        .delete("pipekeeper", &DeleteParams::default())
        .await
        .unwrap();
    let bindings = maker.scene.api::<RoleBinding>();
    bindings
        .delete("pipekeeper", &DeleteParams::default())
        .await
        .unwrap();

    maker.scene.restart();
    must(maker.scene.server.backend.list().await);
    assert_eq!(maker.furniture().await, right);
    maker.scene.close().await;

    // It goes with all in it, and comes back.
    let name = maker.scene.world.namespace.clone();
    maker
        .namespaces()
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let attempt = maker.scene.launch_stubbornly(maker.scene.plain(2, "true")).await;
    succeeded(&maker.scene.server.finished(attempt).await);
    assert_eq!(maker.furniture().await, right);
    maker.scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_namespace_of_another_is_left_alone() {
    let Some(mut maker) = Maker::new().await else {
        return;
    };
    let mut labels = maker.labels();
    labels.insert("pipekeeper.io/instance".to_owned(), "other".to_owned());
    let before = maker.precede(labels).await;
    let refused = maker
        .scene
        .server
        .backend
        .launch(maker.scene.plain(1, "true"))
        .await;
    let Err(LaunchError::Terminal { reason }) = refused else {
        panic!("to be tried again: {refused:?}")
    };
    let name = &maker.scene.world.namespace;
    let instance = format!("pipekeeper.io/instance={}", maker.scene.world.options.instance);
    says(
        &reason,
        &[
            name,
            "was not made by this server",
            "kubectl label --overwrite namespace",
            &instance,
        ],
    );
    must(maker.scene.server.backend.list().await);
    let after = maker.namespaces().get(name).await.unwrap();
    assert_eq!(after.metadata.labels, before.metadata.labels);
    let everything = ListParams::default();
    assert_eq!(
        maker
            .scene
            .api::<RoleBinding>()
            .list(&everything)
            .await
            .unwrap()
            .items,
        []
    );
    assert_eq!(
        maker
            .scene
            .api::<ResourceQuota>()
            .list(&everything)
            .await
            .unwrap()
            .items,
        []
    );
    assert_eq!(
        maker
            .scene
            .api::<NetworkPolicy>()
            .list(&everything)
            .await
            .unwrap()
            .items,
        []
    );
    maker.scene.close().await;
}

/// One that is not there, or not open to the server, is in nobody else's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_does_not_open_hides_only_its_own_pods() {
    let shut = |world: &mut KubeWorld| world.options.namespaces.branches = "pipe-no-such".to_owned();
    let Some(mut scene) = Scene::with(shut).await else {
        return;
    };
    let running = scene.launch(scene.plain(1, "exec sleep 1000")).await;
    let deleted = scene.launch(scene.plain(2, "exec sleep 1000")).await;
    for attempt in [running, deleted] {
        scene.server.runs(attempt).await;
    }
    scene.delete_pod(deleted).await;
    scene.restart();
    assert_eq!(must(scene.server.backend.list().await), [running, deleted]);
    // Where its pod was is open, so that it is gone is known.
    must(scene.server.backend.observe(deleted).await);
    scene.server.gone(deleted).await;
    // It may be there, so nobody says that it is gone.
    let (host, ..) = scene.world.open_counted();
    let unseen = host.look(attempt(7)).await;
    let Err(LaunchError::Transient { reason }) = unseen else {
        panic!("known: {unseen:?}")
    };
    says(
        &reason,
        &["`pipe-no-such`", "cannot be seen", "cannot list resource"],
    );
    must(scene.server.backend.forget(attempt(7)).await);
    must(scene.server.backend.forget(running).await);
    scene.close().await;
}
