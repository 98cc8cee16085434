//! What a pod's status means for its attempt. Pure.

#[cfg(test)]
mod tests;
mod waiting;

use std::{borrow::Cow, time::Duration};

use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus},
    jiff::Timestamp,
};
use pipekeeper_backend::pod::{Cause, PodState, Why, paths};

use crate::{Patience, names};

/// A node that has not made a pod's containers after this long has trouble with it that no status tells.
const MAKING: Duration = Duration::from_secs(60);
/// After this long a pod that was told to go and did not is on a node that does not answer.
const GOING: Duration = Duration::from_secs(30);

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
            reason: format!("its pod was deleted, and its node `{node}` stopped answering or did not end it"),
        };
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let agent = containers.iter().find(|container| container.name == names::AGENT);
    let agent = agent.and_then(|agent| agent.state.as_ref());
    if let Some(reason) = ended(pod, status, agent) {
        return PodState::Ended { reason };
    }
    let trouble = containers
        .iter()
        .find_map(|container| trouble(pod, container, patience))
        .map(|why| with_hint(why, pod));
    if agent.is_some_and(|state| state.running.is_some()) {
        if pod.metadata.deletion_timestamp.is_some() {
            return PodState::Going;
        }
        let why = trouble.or_else(|| unready_service(containers, patience));
        return PodState::Running(why);
    }
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let trouble = trouble.or_else(|| {
        init.iter()
            .find_map(|container| trouble_of_init(pod, container, patience))
    });
    let trouble = trouble.or_else(|| unschedulable(status, patience));
    PodState::Waiting(trouble.or_else(|| unmade(pod, status, now, patience)))
}

/// Whether it was to be gone long ago.
pub(crate) fn is_stuck(pod: &Pod, now: Timestamp) -> bool {
    let due = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    due.is_some_and(|due| now.duration_since(due).unsigned_abs() > GOING && now > due)
}

/// What ended the container of a step; none as long as it runs, for all the cluster knows.
pub(crate) fn container_end(pod: &Pod, container: usize) -> Option<String> {
    let name = names::step(container);
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    let status = statuses.iter().find(|status| status.name == name)?;
    let terminated = status.state.as_ref()?.terminated.as_ref()?;
    Some(match terminated.reason.as_deref() {
        Some("OOMKilled") => out_of_memory(pod, status),
        Some(_) | None => format!("its container ended with code {}", terminated.exit_code),
    })
}

fn out_of_memory(pod: &Pod, status: &ContainerStatus) -> String {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice());
    let container = containers
        .unwrap_or_default()
        .iter()
        .find(|container| container.name == status.name);
    let limits = container.and_then(|container| container.resources.as_ref()?.limits.as_ref());
    let limit = limits.and_then(|limits| limits.get("memory"));
    let limit = limit.map_or_else(
        || "its limit".to_owned(),
        |limit| format!("its limit of {}", limit.0),
    );
    format!(
        "out of memory: the container of `{}` wanted more than {limit}",
        status.image
    )
}

/// An image whose user a restricted pod does not allow says so in words of its own, if at all.
fn with_hint(why: Why, pod: &Pod) -> Why {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let is_restricted = context.is_some_and(|context| context.run_as_non_root == Some(true));
    if !is_restricted || why.cause != Cause::Container {
        return why;
    }
    let text = format!(
        "{} (pods of this tier run without root: use an image that can)",
        why.text
    );
    Why { text, ..why }
}

/// Who told the pod to go, if anybody did.
fn disruption(pod: &Pod, status: &PodStatus) -> Option<String> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let told = conditions
        .iter()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
    if let Some(told) = told {
        let by = told.reason.as_deref().unwrap_or("the cluster");
        let message = told.message.as_deref().unwrap_or("no reason given");
        return Some(format!("its pod was removed by {by}: {message}"));
    }
    pod.metadata.deletion_timestamp.as_ref()?;
    Some("its pod was deleted".to_owned())
}

/// What ended the pod, or its supervisor.
fn ended(pod: &Pod, status: &PodStatus, agent: Option<&ContainerState>) -> Option<String> {
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
    if is_over || agent.is_some_and(|state| state.terminated.is_some()) {
        let disruption = disruption(pod, status);
        if disruption.is_some() {
            return disruption;
        }
    }
    if let Some(terminated) = agent.and_then(|state| state.terminated.as_ref()) {
        let code = terminated.exit_code;
        return Some(match terminated.reason.as_deref() {
            Some("OOMKilled") => "its supervisor ran out of memory".to_owned(),
            Some("StartError" | "ContainerCannotRun") => {
                let message = terminated.message.as_deref().unwrap_or_default();
                format!("its supervisor cannot start: {}", blamed(message))
            }
            _ => format!("its supervisor ended with code {code}"),
        });
    }
    is_over.then(|| "its pod ended".to_owned())
}

/// What keeps a container from starting, or ended it before its time.
fn trouble(pod: &Pod, container: &ContainerStatus, patience: &Patience) -> Option<Why> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let message = waiting.message.as_deref().unwrap_or_default();
        return waiting::trouble(waiting.reason.as_deref()?, message, container, patience);
    }
    let terminated = state.terminated.as_ref()?;
    let message = terminated.message.as_deref().unwrap_or_default();
    let (image, name) = (&container.image, &container.name);
    match (terminated.reason.as_deref(), terminated.exit_code) {
        (Some("OOMKilled"), _) => Some(Why {
            text: out_of_memory(pod, container),
            patience: patience.start,
            cause: Cause::Container,
        }),
        (Some("StartError" | "ContainerCannotRun"), _) => Some(Why {
            text: format!("the container of `{image}` cannot start: {}", blamed(message)),
            patience: Duration::ZERO,
            cause: Cause::Container,
        }),
        // Runners end so when they are sent away, or their supervisor is gone; nothing else ends there before the ticket.
        (_, code) if name.starts_with("step-") && ![0, 143].contains(&code) => Some(Why {
            text: format!("the container of `{image}` ended with code {code} before its step began"),
            patience: patience.start,
            cause: Cause::Container,
        }),
        (_, code) if name.starts_with("service-") => Some(Why {
            text: format!(
                "the service `{}` ended with code {code}",
                name.trim_start_matches("service-")
            ),
            patience: Duration::ZERO,
            cause: Cause::Container,
        }),
        _ => None,
    }
}

fn trouble_of_init(pod: &Pod, container: &ContainerStatus, patience: &Patience) -> Option<Why> {
    match container.state.as_ref()?.terminated.as_ref() {
        Some(ended) if ended.exit_code != 0 => {
            let text = match ended.message.as_deref() {
                Some(message) if is_of_program(message) => {
                    format!("the supervisor's program cannot start: {}", blamed(message))
                }
                Some(_) | None => format!(
                    "the supervisor's program could not be put in place: code {}",
                    ended.exit_code
                ),
            };
            Some(Why {
                text,
                patience: Duration::ZERO,
                cause: Cause::Container,
            })
        }
        Some(_) | None => trouble(pod, container, patience),
    }
}

/// Whether the runtime speaks of the supervisor's program: only an image of somebody else has none.
fn is_of_program(message: &str) -> bool {
    message.contains(paths::PROGRAM)
}

/// The runtime's words, and whose mistake they tell of where that is known.
fn blamed(message: &str) -> Cow<'_, str> {
    if is_of_program(message) {
        Cow::Owned(format!("`agent_image` is not the supervisor's image: {message}"))
    } else if message.contains("exec: \"sh\"") {
        Cow::Owned(format!(
            "it has no shell, which `run:` needs: write `command:`, or name another image: {message}"
        ))
    } else {
        Cow::Borrowed(message)
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
        cause: Cause::Service,
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
        cause: Cause::Node,
    })
}

/// A node took the pod, and nothing comes of it.
fn unmade(pod: &Pod, status: &PodStatus, now: Timestamp, patience: &Patience) -> Option<Why> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let scheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "True")?;
    let since = scheduled.last_transition_time.as_ref()?.0;
    if now < since || now.duration_since(since).unsigned_abs() < MAKING {
        return None;
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    Some(Why {
        text: format!(
            "its node `{}` makes its containers for over a minute: it may be fetching an image, or cannot mount a volume or connect the pod, which `kubectl describe pod {}` shows",
            node.unwrap_or("?"),
            pod.metadata.name.as_deref().unwrap_or("?")
        ),
        patience: patience.making,
        cause: Cause::Container,
    })
}
