//! A namespace that we make, and what keeps its pods within bounds. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, ResourceQuota, ResourceQuotaSpec},
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicySpec,
        },
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
    },
};
use pipekeeper_model::plan::Resources;

use crate::{Block, ClusterOptions, Limits, VolumeSource, names};

/// Where clouds tell a machine's secrets: the common address, the ones of AWS for containers, Alibaba's.
const METADATA: [&str; 6] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "fd00:ec2::254",
    "fd00:ec2::23",
];
/// What a container asks for that says nothing, where a limit for containers would make the cluster assume the limit.
const LEAST: [(&str, &str); 2] = [("cpu", "5m"), ("memory", "16Mi")];

/// The namespace itself.
pub(crate) fn namespace(name: &str, cluster: &ClusterOptions) -> Namespace {
    let mut labels = names::owned(&cluster.instance);
    let has_host_path = |source: &VolumeSource| matches!(source, VolumeSource::HostPath(_));
    // That level refuses folders of a node, whoever asks.
    if !cluster
        .volumes
        .values()
        .any(|volume| has_host_path(&volume.source))
    {
        let level = ("pod-security.kubernetes.io/enforce", "baseline");
        labels.insert(level.0.to_owned(), level.1.to_owned());
    }
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// What lets this server into it.
pub(crate) fn binding(cluster: &ClusterOptions, role: &str, subjects: Vec<Subject>) -> RoleBinding {
    RoleBinding {
        metadata: metadata(cluster),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(subjects),
    }
}

/// How much all its pods may be. Without limits it says so: what was in force before goes.
pub(crate) fn quota(cluster: &ClusterOptions, limits: &Limits) -> ResourceQuota {
    let pods = limits.pods.map(|pods| pods.to_string());
    let figures = [
        ("pods", pods),
        ("requests.cpu", limits.all.cpu.clone()),
        ("requests.memory", limits.all.memory.clone()),
    ];
    ResourceQuota {
        metadata: metadata(cluster),
        spec: Some(ResourceQuotaSpec {
            hard: Some(quantities(figures)),
            ..ResourceQuotaSpec::default()
        }),
        status: None,
    }
}

/// How much each container may be.
pub(crate) fn limit_range(cluster: &ClusterOptions, limits: &Limits) -> LimitRange {
    let most = of_resources(&limits.container);
    let mut requests = quantities(LEAST.map(|(name, value)| (name, Some(value.to_owned()))));
    requests.extend(of_resources(&cluster.default_resources));
    requests.retain(|name, _| most.contains_key(name));
    let item = LimitRangeItem {
        type_: "Container".to_owned(),
        default_request: Some(requests),
        max: Some(most.clone()),
        ..LimitRangeItem::default()
    };
    LimitRange {
        metadata: metadata(cluster),
        spec: Some(LimitRangeSpec {
            limits: (!most.is_empty()).then_some(item).into_iter().collect(),
        }),
    }
}

/// What its pods reach: everything but the clouds' metadata and these blocks. Nobody reaches them.
pub(crate) fn policy(cluster: &ClusterOptions, denied: &BTreeSet<Block>) -> NetworkPolicy {
    let metadata_services = METADATA.iter().filter_map(|address| address.parse().ok());
    let denied: BTreeSet<Block> = denied.iter().copied().chain(metadata_services).collect();
    let (v4, v6): (Vec<_>, Vec<_>) = denied.into_iter().partition(|block: &Block| block.is_v4());
    let all_but = |everything: &str, except: Vec<Block>| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: everything.to_owned(),
            except: Some(except.iter().map(Block::to_string).collect()),
        }),
        ..NetworkPolicyPeer::default()
    };
    // To some network plugins a block of addresses never means a pod, and so not the cluster's DNS.
    let pods = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    };
    let egress = NetworkPolicyEgressRule {
        to: Some(vec![all_but("0.0.0.0/0", v4), all_but("::/0", v6), pods]),
        ports: None,
    };
    NetworkPolicy {
        metadata: metadata(cluster),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(Vec::new()),
            egress: Some(vec![egress]),
        }),
    }
}

fn metadata(cluster: &ClusterOptions) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::PRODUCT.to_owned()),
        labels: Some(names::owned(&cluster.instance)),
        ..ObjectMeta::default()
    }
}

fn of_resources(resources: &Resources) -> BTreeMap<String, Quantity> {
    quantities([
        ("cpu", resources.cpu.clone()),
        ("memory", resources.memory.clone()),
    ])
}

fn quantities<const N: usize>(figures: [(&str, Option<String>); N]) -> BTreeMap<String, Quantity> {
    let named = figures
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Quantity(value?))));
    named.collect()
}
