//! Pods that serve one attempt after the other: what makes two alike, and how one changes hands.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use pipekeeper_backend::{
    LaunchError,
    pod::{PodPlan, PodSharing},
};
use pipekeeper_model::{AttemptId, Digest, Millis};
use serde_json::json;

use crate::{ClusterOptions, KubeHost, known::PodPlace, refusal, render_pod};

/// Pods whose lifetimes differ by more than this are not alike.
const LIFETIMES: Millis = Millis::hours(12);

#[async_trait]
impl PodSharing for KubeHost {
    fn likeness(&self, pod: &PodPlan) -> Option<String> {
        likeness(pod, self.cluster())
    }

    async fn hand_over(&self, from: AttemptId, to: &PodPlan) -> Result<(), LaunchError> {
        let gone = || LaunchError::Transient {
            reason: format!("the pod of `{from}` is not there any more"),
        };
        let PodPlace { namespace, name } = self.place(from).await?.ok_or_else(gone)?;
        if self.known().is_going(from) {
            return Err(gone());
        }
        let metadata = render_pod(to, self.cluster()).metadata;
        let change = json!({"metadata": {"labels": metadata.labels, "annotations": metadata.annotations}});
        let (pods, how, change) = (
            self.pods(&namespace),
            PatchParams::default(),
            Patch::Merge(change),
        );
        let mut changed = self.counted().bounded(pods.patch(&name, &how, &change)).await;
        if changed.as_ref().is_err_and(refusal::is_of_transport) {
            changed = self.counted().bounded(pods.patch(&name, &how, &change)).await;
        }
        let changed = changed.map_err(|error| refusal::of_call(&self.cluster().name, &error))?;
        if changed.metadata.deletion_timestamp.is_some() {
            return Err(gone());
        }
        self.known().handed_over(from, to.attempt);
        Ok(())
    }
}

/// What two pods have in common of which either could do the other's work: all but whose they are. A tag that moves is
/// asked for anew for each attempt.
fn likeness(plan: &PodPlan, cluster: &ClusterOptions) -> Option<String> {
    if plan.containers.iter().any(|container| moves(&container.image)) {
        return None;
    }
    let Pod { metadata, spec, .. } = render_pod(plan, cluster);
    let mut spec = spec?;
    // A pod that stands by is replaced long before its deadline, if that is about the same.
    spec.active_deadline_seconds = None;
    let placement = &plan.placement;
    let common = (
        metadata.namespace,
        &placement.project,
        placement.tier.as_str(),
        plan.lifetime.0 / LIFETIMES.0,
        spec,
    );
    let text = serde_json::to_vec(&common).ok()?;
    Some(Digest::of(&text).to_hex())
}

/// Whether an image is one that nodes ask for each time: `latest`, said or not.
fn moves(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::{cluster, plan};

    #[test]
    fn pods_are_alike_whatever_attempt_they_are_for() {
        let one = plan();
        let key = likeness(&one, &cluster());
        assert!(key.is_some());
        let mut other = one.clone();
        other.attempt.node.0 += 1;
        other.placement.action = "another".to_owned();
        other.lifetime.0 += 60_000;
        assert_eq!(likeness(&other, &cluster()), key);
        let mut elsewhere = one.clone();
        elsewhere.placement.project = "another".parse().unwrap();
        let mut stranger = one.clone();
        stranger.placement.tier = pipekeeper_backend::Tier::Branches;
        let mut bigger = one.clone();
        bigger.resources.memory = Some("9Gi".to_owned());
        for different in [elsewhere, stranger, bigger] {
            assert_ne!(likeness(&different, &cluster()), key);
        }
    }

    #[test]
    fn tags_that_move_are_never_kept() {
        for (image, expected) in [
            ("busybox", true),
            ("busybox:latest", true),
            ("localhost:5000/busybox", true),
            ("localhost:5000/busybox:1", false),
            ("busybox@sha256:0", false),
        ] {
            assert_eq!(moves(image), expected, "{image}");
        }
    }
}
