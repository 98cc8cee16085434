//! What a pod's status means for its attempt. Pure.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus},
    jiff::Timestamp,
};
use pipekeeper_backend::pod::{PodState, Why};

use crate::{Patience, names};

/// After this long a pod that was told to go and did not is on a node that does not answer.
const GOING: Duration = Duration::from_secs(45);

/// Judges a pod at this moment.
pub(crate) fn judge(pod: &Pod, now: Timestamp, patience: &Patience) -> PodState {
    let Some(status) = &pod.status else {
        return PodState::Waiting(None);
    };
    if is_stuck(pod, now) {
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or("?");
        return PodState::Ended {
            reason: format!("its node `{node}` stopped answering"),
        };
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let agent = containers.iter().find(|container| container.name == names::AGENT);
    let agent = agent.and_then(|agent| agent.state.as_ref());
    if let Some(reason) = ended(status, agent) {
        return PodState::Ended { reason };
    }
    let trouble = containers
        .iter()
        .find_map(|container| trouble(container, patience));
    if agent.is_some_and(|state| state.running.is_some()) {
        let why = trouble.or_else(|| unready_service(containers, patience));
        return PodState::Running(why);
    }
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let trouble = trouble.or_else(|| {
        init.iter()
            .find_map(|container| trouble_of_init(container, patience))
    });
    PodState::Waiting(trouble.or_else(|| unschedulable(status, patience)))
}

/// Whether it was to be gone long ago.
fn is_stuck(pod: &Pod, now: Timestamp) -> bool {
    let due = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    due.is_some_and(|due| now.duration_since(due).unsigned_abs() > GOING && now > due)
}

/// What ended the pod, or its supervisor.
fn ended(status: &PodStatus, agent: Option<&ContainerState>) -> Option<String> {
    let is_over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let message = status.message.as_deref().unwrap_or_default();
    match status.reason.as_deref() {
        Some("Evicted") if is_over => return Some(format!("its pod was evicted: {message}")),
        Some("Preempting" | "Preempted") if is_over => {
            return Some(format!("its pod made room for one of higher priority: {message}"));
        }
        Some("DeadlineExceeded") if is_over => return Some("its pod lived too long".to_owned()),
        Some("NodeLost") => return Some(format!("its node is lost: {message}")),
        Some(reason) if is_over => return Some(format!("its pod ended: {reason}: {message}")),
        Some(_) | None => {}
    }
    if let Some(terminated) = agent.and_then(|state| state.terminated.as_ref()) {
        let code = terminated.exit_code;
        return Some(match terminated.reason.as_deref() {
            Some("OOMKilled") => "its supervisor ran out of memory".to_owned(),
            Some("StartError" | "ContainerCannotRun") => {
                let message = terminated.message.as_deref().unwrap_or_default();
                format!("its supervisor cannot start: {message}")
            }
            _ => format!("its supervisor ended with code {code}"),
        });
    }
    is_over.then(|| "its pod ended".to_owned())
}

/// What keeps a container from starting, or ended it before its time.
fn trouble(container: &ContainerStatus, patience: &Patience) -> Option<Why> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let message = waiting.message.as_deref().unwrap_or_default();
        return waiting_trouble(waiting.reason.as_deref()?, message, container, patience);
    }
    let terminated = state.terminated.as_ref()?;
    let message = terminated.message.as_deref().unwrap_or_default();
    let (image, name) = (&container.image, &container.name);
    match (terminated.reason.as_deref(), terminated.exit_code) {
        (Some("OOMKilled"), _) => Some(Why {
            text: format!("out of memory: the container of `{image}` wanted more than its limit"),
            patience: patience.start,
        }),
        (Some("StartError" | "ContainerCannotRun"), _) => Some(Why {
            text: format!("the container of `{image}` cannot start: {message}"),
            patience: Duration::ZERO,
        }),
        (_, code) if code != 0 && name.starts_with("service-") => Some(Why {
            text: format!(
                "the service `{}` ended with code {code}",
                name.trim_start_matches("service-")
            ),
            patience: Duration::ZERO,
        }),
        _ => None,
    }
}

fn trouble_of_init(container: &ContainerStatus, patience: &Patience) -> Option<Why> {
    let code = container
        .state
        .as_ref()?
        .terminated
        .as_ref()
        .map(|ended| ended.exit_code);
    match code {
        Some(code) if code != 0 => Some(Why {
            text: format!("the supervisor's program could not be put in place: code {code}"),
            patience: Duration::ZERO,
        }),
        Some(_) | None => trouble(container, patience),
    }
}

fn waiting_trouble(
    reason: &str,
    message: &str,
    container: &ContainerStatus,
    patience: &Patience,
) -> Option<Why> {
    let image = &container.image;
    let why = |text: String, patience| Some(Why { text, patience });
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => {
            let told = message.to_lowercase();
            let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
            if says(&["not found", "manifest unknown", "name unknown"]) {
                why(
                    format!("the image `{image}` is not found: check its name and tag"),
                    patience.missing_image,
                )
            } else if says(&[
                "unauthorized",
                "denied",
                "forbidden",
                "no basic auth",
                "authorization failed",
            ]) {
                why(
                    format!(
                        "the registry does not give us the image `{image}`: check the cluster's pull secrets"
                    ),
                    patience.missing_image,
                )
            } else if reason == "ImagePullBackOff" {
                why(
                    format!("the image `{image}` cannot be pulled; the cluster tries again"),
                    patience.pull,
                )
            } else {
                why(
                    format!("the image `{image}` cannot be pulled: {message}"),
                    patience.pull,
                )
            }
        }
        "InvalidImageName" => why(format!("`{image}` is no image name: {message}"), Duration::ZERO),
        "ErrImageNeverPull" | "ImageInspectError" => why(
            format!("the image `{image}` cannot be used: {message}"),
            patience.start,
        ),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "CrashLoopBackOff" => {
            why(
                format!("the container of `{image}` cannot be made: {message}"),
                patience.start,
            )
        }
        _ => None,
    }
}

fn unready_service(containers: &[ContainerStatus], patience: &Patience) -> Option<Why> {
    let unready = containers
        .iter()
        .find(|container| container.name.starts_with("service-") && !container.ready)?;
    Some(Why {
        text: format!(
            "the service `{}` is not ready yet",
            unready.name.trim_start_matches("service-")
        ),
        patience: patience.service,
    })
}

fn unschedulable(status: &PodStatus, patience: &Patience) -> Option<Why> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let scheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    let message = scheduled.message.as_deref().unwrap_or("no reason given");
    Some(Why {
        text: format!("no node takes its pod: {message}"),
        patience: patience.node,
    })
}
