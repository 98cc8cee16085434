use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use pipekeeper_backend::{
    LaunchService, Placement, Tier, VolumeMount,
    pod::{PodContainer, PodPlan},
};
use pipekeeper_model::{AttemptId, Millis, Name, NodeId, RunId, plan::Resources};

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
        volumes: Vec::new(),
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
    plan.resources = Resources {
        cpu: Some("2".to_owned()),
        memory: Some("4Gi".to_owned()),
    };
    let mount = |cache: &str, volume: &str, paths: &[&str]| VolumeMount {
        cache: name(cache),
        volume: name(volume),
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
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
    }];
    let refused = check(&plan, &cluster()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the cluster `main` has no volume `fast` for the cache `cargo`; it has: none"
    );
}
