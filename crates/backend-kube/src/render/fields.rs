//! What a pipeline file may say of its pod, as far as the cluster's owner lets it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use pipekeeper_backend::{LaunchError, pod::PodPlan};
use pipekeeper_model::plan::PodFields;

use super::volumes;
use crate::ClusterOptions;

/// What the names of the priority classes begin with that Kubernetes keeps for itself.
const OF_SYSTEM: &str = "system-";

/// Whether the owner lets files set these.
pub(super) fn check(fields: &PodFields, cluster: &ClusterOptions) -> Result<(), LaunchError> {
    // Such a pod drives out everything else, so no owner's word for the field means these.
    let class = fields.priority_class.as_deref();
    if let Some(class) = class.filter(|class| class.starts_with(OF_SYSTEM)) {
        return Err(LaunchError::Terminal {
            reason: format!(
                "the cluster `{}` lets no file set `pod.priorityClassName` to `{class}`: classes that begin with `{OF_SYSTEM}` are for the cluster's own pods; take another, or take it out",
                cluster.name
            ),
        });
    }
    let Some(refused) = fields.set().find(|field| !cluster.pod_allow.contains(field)) else {
        return Ok(());
    };
    let allowed = cluster.pod_allow.iter().chain([&refused]);
    let wanted: Vec<String> = allowed.map(|field| format!("\"{field}\"")).collect();
    Err(LaunchError::Terminal {
        reason: format!(
            "the cluster `{}` does not let files set `pod.{refused}`: take it out, or let its owner write `pod_allow = [{}]`",
            cluster.name,
            wanted.join(", ")
        ),
    })
}

/// The nodes that it may be on: where its volumes are, and of those the ones that the file chooses.
pub(super) fn node_selector(plan: &PodPlan, cluster: &ClusterOptions) -> Option<BTreeMap<String, String>> {
    let mut labels = plan.fields.node_selector.clone();
    labels.extend(volumes::nodes(plan, cluster));
    (!labels.is_empty()).then_some(labels)
}

/// The taints of nodes that it is not kept off by.
pub(super) fn tolerations(fields: &PodFields) -> Option<Vec<Toleration>> {
    let tolerations = fields.tolerations.iter().map(|one| Toleration {
        key: one.key.clone(),
        operator: Some(if one.value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: one.value.clone(),
        effect: one.effect.map(|effect| effect.as_str().to_owned()),
        toleration_seconds: one.seconds.and_then(|seconds| i64::try_from(seconds).ok()),
    });
    (!fields.tolerations.is_empty()).then(|| tolerations.collect())
}
