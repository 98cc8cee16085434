//! Names and labels of what we make: from an attempt to its containers and back.

use std::{collections::HashMap, fmt};

use pipekeeper_model::{AttemptId, Name};
use sha2::{Digest as _, Sha256};

use crate::{Placement, pod::PodPlan};

pub(super) const INSTANCE: &str = "pipekeeper.io/instance";
pub(super) const ATTEMPT: &str = "pipekeeper.io/attempt";
pub(super) const ROLE: &str = "pipekeeper.io/role";
/// The rest of the pod, on the supervisor's container: whoever finds it can go on with it.
pub(super) const POD: &str = "pipekeeper.io/pod";
const RUN: &str = "pipekeeper.io/run";
const PROJECT: &str = "pipekeeper.io/project";
const PIPELINE: &str = "pipekeeper.io/pipeline";
const ACTION: &str = "pipekeeper.io/action";
const TIER: &str = "pipekeeper.io/tier";
const CACHE: &str = "pipekeeper.io/cache";

/// What a container is in its pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The supervisor's.
    Agent,
    /// The one that puts the program in place, for images without a shell to wait in.
    Install,
    /// The one of the steps of an image.
    Step(usize),
    /// The one of a service.
    Service(Name),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::Install => f.write_str("install"),
            Self::Step(index) => write!(f, "step-{index}"),
            Self::Service(name) => f.write_str(&PodPlan::service_name(name)),
        }
    }
}

impl Role {
    /// The role that a label tells; none if it is of another version.
    pub(super) fn of_label(label: &str) -> Option<Self> {
        if let Some(index) = label.strip_prefix("step-") {
            return index.parse().ok().map(Self::Step);
        }
        if let Some(name) = label.strip_prefix("service-") {
            return name.parse().ok().map(Self::Service);
        }
        match label {
            "agent" => Some(Self::Agent),
            "install" => Some(Self::Install),
            _ => None,
        }
    }
}

/// The container's name: the same for every try to create it, so a second one meets the first.
pub(super) fn container(instance: &str, attempt: AttemptId, role: &Role) -> String {
    format!("pipe-{attempt}-{instance}-{role}")
}

/// The name of a volume that comes and goes with the attempt.
pub(super) fn volume(instance: &str, attempt: AttemptId, name: &str) -> String {
    format!("pipe-{attempt}-{instance}-{name}")
}

/// The name of a volume that is one folder of a cache, for one project and tier. The digest keeps apart what names that
/// are joined do not.
pub(super) fn cache_volume(
    instance: &str,
    placement: &Placement,
    volume: &Name,
    cache: &Name,
    index: usize,
) -> String {
    let (project, tier) = (&placement.project, placement.tier.as_str());
    let told = format!("{instance}\n{project}\n{tier}\n{volume}\n{cache}\n{index}");
    let digest = hex(&Sha256::digest(told)[..6]);
    format!("pipe-cache-{project}-{tier}-{volume}-{digest}")
}

/// The labels of everything that belongs to an attempt.
pub(super) fn of_attempt(
    instance: &str,
    attempt: AttemptId,
    placement: &Placement,
) -> HashMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    HashMap::from([
        label(INSTANCE, instance),
        label(ATTEMPT, &attempt.to_string()),
        label(RUN, &attempt.run.to_string()),
        label(PROJECT, placement.project.as_str()),
        label(PIPELINE, placement.pipeline.as_str()),
        label(ACTION, &placement.action),
        label(TIER, placement.tier.as_str()),
    ])
}

/// The labels of a volume that outlives attempts.
pub(super) fn of_cache(instance: &str, placement: &Placement, cache: &Name) -> HashMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    HashMap::from([
        label(INSTANCE, instance),
        label(PROJECT, placement.project.as_str()),
        label(TIER, placement.tier.as_str()),
        label(CACHE, cache.as_str()),
    ])
}

/// What selects all that is ours, or all of one attempt.
pub(super) fn selector(instance: &str, attempt: Option<AttemptId>) -> HashMap<String, Vec<String>> {
    let mut labels = vec![format!("{INSTANCE}={instance}")];
    labels.extend(attempt.map(|attempt| format!("{ATTEMPT}={attempt}")));
    HashMap::from([("label".to_owned(), labels)])
}

/// Whether labels are those that the selector means, whatever an engine makes of that.
pub(super) fn is_selected(
    instance: &str,
    attempt: Option<AttemptId>,
    labels: &HashMap<String, String>,
) -> bool {
    match attempt {
        Some(_) => attempt_of(instance, labels) == attempt,
        None => labels.get(INSTANCE).map(String::as_str) == Some(instance),
    }
}

/// The attempt that labels tell of, if it is one of ours.
pub(super) fn attempt_of(instance: &str, labels: &HashMap<String, String>) -> Option<AttemptId> {
    (labels.get(INSTANCE).map(String::as_str) == Some(instance))
        .then(|| labels.get(ATTEMPT)?.parse().ok())
        .flatten()
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::placement;

    #[test]
    fn roles_pass_through_labels() {
        for role in [
            Role::Agent,
            Role::Install,
            Role::Step(3),
            Role::Service("db".parse().unwrap()),
        ] {
            assert_eq!(Role::of_label(&role.to_string()), Some(role));
        }
        assert_eq!(Role::of_label("pause"), None);
    }

    #[test]
    fn caches_of_different_projects_never_meet() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let of = |project: &str, volume: &str| {
            let placement = Placement {
                project: name(project),
                ..placement()
            };
            cache_volume("i", &placement, &name(volume), &name("c"), 0)
        };
        assert_eq!(of("a", "x"), of("a", "x"));
        assert_ne!(of("a-protected", "x"), of("a", "protected-x"));
    }
}
