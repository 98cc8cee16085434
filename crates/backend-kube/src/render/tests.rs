use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use pipekeeper_backend::{
    LaunchService, Placement, Tier, VolumeAccess, VolumeMount,
    pod::{PodContainer, PodPlan},
};
use pipekeeper_model::{
    AttemptId, Millis, Name, NodeId, RunId,
    plan::{PodField, PodFields, Resources, TaintEffect, Toleration},
};

use super::*;
use crate::{Namespaces, Patience, Profile, Profiles, Volume, VolumeSource};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn plan() -> PodPlan {
    PodPlan {
        attempt: AttemptId {
            run: RunId(57),
            node: NodeId(3),
            number: 1,
        },
        placement: Placement {
            project: name("shop"),
            pipeline: name("ci"),
            action: "test[db=sqlite]".to_owned(),
            tier: Tier::Protected,
            cluster: None,
        },
        containers: vec![container("debian:12", true)],
        services: Vec::new(),
        resources: Resources::default(),
        fields: PodFields::default(),
        volumes: Vec::new(),
        has_secret_files: false,
        lifetime: Millis::hours(26),
    }
}

fn container(image: &str, has_shell: bool) -> PodContainer {
    PodContainer {
        image: image.to_owned(),
        has_shell,
    }
}

pub(crate) fn cluster() -> ClusterOptions {
    ClusterOptions {
        name: name("main"),
        instance: "a1b2c3".to_owned(),
        namespaces: Namespaces {
            protected: "ci-${project}".to_owned(),
            branches: "ci-branches".to_owned(),
            forks: "ci-forks".to_owned(),
        },
        profiles: Profiles {
            protected: Profile::Baseline,
            branches: Profile::Baseline,
        },
        agent_image: "registry.test/agent:1".to_owned(),
        pull_secrets: Vec::new(),
        pull_config: None,
        mirrors: BTreeMap::new(),
        env: BTreeMap::new(),
        pod_allow: BTreeSet::new(),
        volumes: BTreeMap::new(),
        default_resources: Resources::default(),
        making: None,
        patience: Patience::default(),
    }
}

fn shown(pod: &Pod) -> String {
    serde_json::to_string_pretty(pod).unwrap()
}

#[test]
fn the_smallest_pod() {
    insta::assert_snapshot!(shown(&render_pod(&plan(), &cluster())));
}

#[test]
fn images_services_resources_and_volumes() {
    let mut plan = plan();
    plan.containers.push(container("node:22", true));
    plan.services = vec![LaunchService {
        name: name("db"),
        image: "postgres:16".to_owned(),
        env: BTreeMap::from([("POSTGRES_PASSWORD".to_owned(), "test".to_owned())]),
        ready: Some("pg_isready".to_owned()),
    }];
    plan.has_secret_files = true;
    plan.resources = Resources {
        cpu: Some("2".to_owned()),
        memory: Some("4Gi".to_owned()),
    };
    let mount = |cache: &str, volume: &str, paths: &[&str]| VolumeMount {
        cache: name(cache),
        volume: name(volume),
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
        access: VolumeAccess::Many,
    };
    plan.volumes = vec![
        mount("cargo", "fast", &["~/.cargo", "target"]),
        mount("maven", "shared", &["/root/.m2"]),
    ];
    let mut cluster = cluster();
    cluster.pull_secrets = vec!["registry".to_owned()];
    cluster.volumes = BTreeMap::from([
        (
            name("fast"),
            Volume {
                source: VolumeSource::HostPath("/mnt/fast".to_owned()),
                nodes: BTreeMap::from([("disk".to_owned(), "fast".to_owned())]),
            },
        ),
        (
            name("shared"),
            Volume {
                source: VolumeSource::Claim {
                    size: "50Gi".to_owned(),
                    class: Some("nfs".to_owned()),
                    access: "ReadWriteMany".to_owned(),
                },
                nodes: BTreeMap::new(),
            },
        ),
    ]);
    check(&plan, &cluster).unwrap();
    let claims = claims(&plan, &cluster);
    insta::assert_snapshot!(serde_json::to_string_pretty(&claims).unwrap());
    insta::assert_snapshot!(shown(&render_pod(&plan, &cluster)));
}

#[test]
fn no_container_asks_for_more_than_its_limit() {
    let requests = |cpu: &str, memory: &str| {
        let mut plan = plan();
        plan.containers.push(container("node:22", true));
        plan.resources = Resources {
            cpu: Some(cpu.to_owned()),
            memory: Some(memory.to_owned()),
        };
        let pod = render_pod(&plan, &cluster());
        let second = pod.spec.unwrap().containers.pop().unwrap();
        let asked = second.resources.unwrap().requests.unwrap();
        ["cpu", "memory"].map(|name| asked[name].0.clone())
    };
    assert_eq!(requests("2", "4Gi"), ["5m", "16Mi"]);
    assert_eq!(requests("2m", "8Mi"), ["2m", "8Mi"]);
    assert_eq!(requests("5m", "16Mi"), ["5m", "16Mi"]);
}

#[test]
fn an_image_without_a_shell() {
    let mut plan = plan();
    plan.containers = vec![container("debian:12", true), container("kaniko:1", false)];
    insta::assert_snapshot!(shown(&render_pod(&plan, &cluster())));
}

#[test]
fn the_restricted_profile() {
    let mut plan = plan();
    plan.placement.tier = Tier::Forks;
    insta::assert_snapshot!(shown(&render_pod(&plan, &cluster())));
}

#[test]
fn a_volume_that_is_not_offered_is_refused() {
    let mut plan = plan();
    plan.volumes = vec![VolumeMount {
        cache: name("cargo"),
        volume: name("fast"),
        paths: vec!["target".to_owned()],
        access: VolumeAccess::Many,
    }];
    let refused = check(&plan, &cluster()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the cluster `main` has no volume `fast` for the cache `cargo`; it has: none"
    );
}

#[test]
fn a_pod_has_what_its_file_asks_for_and_its_cluster_gives_to_all() {
    let mut plan = plan();
    plan.services = vec![LaunchService {
        name: name("db"),
        image: "quay.io/a/postgres:16".to_owned(),
        env: BTreeMap::from([("PRICE".to_owned(), "5$(NO_PROXY)".to_owned())]),
        ready: None,
    }];
    plan.fields = PodFields {
        node_selector: BTreeMap::from([("kubernetes.io/arch".to_owned(), "arm64".to_owned())]),
        tolerations: vec![
            Toleration {
                key: Some("ci".to_owned()),
                value: Some("yes".to_owned()),
                effect: Some(TaintEffect::NoExecute),
                seconds: Some(5),
            },
            Toleration {
                key: Some("gpu".to_owned()),
                value: None,
                effect: None,
                seconds: None,
            },
        ],
        priority_class: Some("urgent".to_owned()),
        runtime_class: Some("gvisor".to_owned()),
    };
    let mut cluster = cluster();
    cluster.env = BTreeMap::from([("NO_PROXY".to_owned(), ".corp".to_owned())]);
    cluster.mirrors = BTreeMap::from([("docker.io".to_owned(), "harbor.test/hub".to_owned())]);
    cluster.pod_allow = plan.fields.set().collect();
    check(&plan, &cluster).unwrap();
    insta::assert_snapshot!(shown(&render_pod(&plan, &cluster)));
}

#[test]
fn a_field_that_the_owner_does_not_allow_is_refused() {
    let mut plan = plan();
    plan.fields.runtime_class = Some("gvisor".to_owned());
    let mut cluster = cluster();
    cluster.pod_allow = BTreeSet::from([PodField::NodeSelector, PodField::Tolerations]);
    let refused = check(&plan, &cluster).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the cluster `main` does not let files set `pod.runtimeClassName`: take it out, or let its owner write `pod_allow = [\"nodeSelector\", \"tolerations\", \"runtimeClassName\"]`"
    );
}

#[test]
fn priority_classes_of_the_system_are_refused_whatever_is_allowed() {
    for (class, is_refused) in [
        ("system-node-critical", true),
        ("system-cluster-critical", true),
        ("system-x", true),
        ("systems", false),
        ("urgent", false),
    ] {
        let mut plan = plan();
        plan.fields.priority_class = Some(class.to_owned());
        let mut cluster = cluster();
        cluster.pod_allow = BTreeSet::from([PodField::PriorityClassName]);
        let answer = check(&plan, &cluster).map_err(|error| error.to_string());
        assert_eq!(answer.is_err(), is_refused, "{class}");
        if let Err(text) = answer {
            let wanted = format!("lets no file set `pod.priorityClassName` to `{class}`");
            assert!(text.contains(&wanted), "{text}");
        }
    }
}

/// A folder of a node is for those who are trusted, and for one project and tier at a time.
#[test]
fn folders_of_nodes_are_never_for_strangers() {
    let mut cluster = cluster();
    let volume = Volume {
        source: VolumeSource::HostPath("/mnt/fast".to_owned()),
        nodes: BTreeMap::from([("disk".to_owned(), "fast".to_owned())]),
    };
    cluster.volumes = BTreeMap::from([(name("fast"), volume)]);
    let folders = |tier: Tier| {
        let mut plan = plan();
        plan.placement.tier = tier;
        plan.volumes = vec![VolumeMount {
            cache: name("Cargo_registry"),
            volume: name("fast"),
            paths: vec!["target".to_owned()],
            access: VolumeAccess::Many,
        }];
        let spec = render_pod(&plan, &cluster).spec.unwrap();
        let volumes = spec.volumes.unwrap_or_default();
        assert!(volumes.iter().all(|volume| crate::is_label(&volume.name)));
        let folders = volumes.into_iter().filter_map(|volume| volume.host_path);
        let folders: Vec<String> = folders.map(|folder| folder.path).collect();
        (folders, spec.node_selector.is_some())
    };
    let (protected, branches) = (folders(Tier::Protected), folders(Tier::Branches));
    assert_eq!(protected, (vec!["/mnt/fast/shop/protected".to_owned()], true));
    assert_eq!(branches, (vec!["/mnt/fast/shop/branches".to_owned()], true));
    for tier in [Tier::Forks, Tier::Local] {
        assert_eq!(folders(tier), (Vec::new(), false));
    }
}

#[test]
fn claims_are_of_one_project_and_tier() {
    let mut cluster = cluster();
    let claim = VolumeSource::Claim {
        size: "1Gi".to_owned(),
        class: None,
        access: "ReadWriteOnce".to_owned(),
    };
    let volume = Volume {
        source: claim,
        nodes: BTreeMap::new(),
    };
    cluster.volumes = BTreeMap::from([(name("a"), volume.clone()), (name("a-b"), volume)]);
    let mut names = BTreeSet::new();
    for (volume, project) in [("a", "b-c"), ("a-b", "c"), ("a-b", "C")] {
        for tier in [Tier::Protected, Tier::Branches, Tier::Forks] {
            let mut plan = plan();
            plan.placement.project = name(project);
            plan.placement.tier = tier;
            plan.volumes = vec![VolumeMount {
                cache: name("cache"),
                volume: name(volume),
                paths: vec!["target".to_owned()],
                access: VolumeAccess::Many,
            }];
            let claims = claims(&plan, &cluster);
            let [claim] = claims.as_slice() else {
                panic!("{claims:?}")
            };
            names.insert(claim.metadata.name.clone().unwrap());
        }
    }
    assert_eq!(names.len(), 9, "{names:?}");
    assert!(names.iter().all(|name| crate::is_label(name)), "{names:?}");
}

#[test]
fn a_namespace_is_furnished() {
    use namespace::{limit_range, namespace, policy, quota};
    let mut cluster = cluster();
    cluster.default_resources.cpu = Some("500m".to_owned());
    let limits = crate::Limits {
        pods: Some(40),
        all: Resources {
            cpu: Some("16".to_owned()),
            memory: None,
        },
        container: Resources {
            cpu: Some("8".to_owned()),
            memory: Some("16Gi".to_owned()),
        },
    };
    let denied = ["10.0.0.1/32", "fd00:1::/64"].map(|text| text.parse().unwrap());
    let documents = serde_json::json!([
        namespace("ci-shop", &cluster),
        policy(&cluster, &denied.into()),
        quota(&cluster, &limits),
        limit_range(&cluster, &limits),
    ]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&documents).unwrap());
    let nothing = crate::Limits::default();
    assert_eq!(
        quota(&cluster, &nothing).spec.unwrap().hard,
        Some(BTreeMap::new())
    );
    assert_eq!(limit_range(&cluster, &nothing).spec.unwrap().limits, []);
}
