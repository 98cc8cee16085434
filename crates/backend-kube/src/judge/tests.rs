use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({
        "spec": {"nodeName": "n1", "containers": [
            {"name": "agent"},
            {"name": "step-0", "resources": {"limits": {"memory": "32Mi"}}},
        ]},
        "status": status,
    }))
    .unwrap()
}

fn container(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "web:1", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn running() -> Value {
    json!({"running": {}})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn terminated(reason: &str, code: i32) -> Value {
    json!({"terminated": {"reason": reason, "exitCode": code, "message": "no such file"}})
}

fn state(status: Value) -> PodState {
    judge(&pod(status), Timestamp::now(), &Patience::default())
}

/// The state of a pod whose supervisor and one other container are so.
fn state_with(agent: Value, name: &str, other: Value) -> PodState {
    state(
        json!({"phase": "Pending", "containerStatuses": [container("agent", agent), container(name, other)]}),
    )
}

fn why(state: PodState) -> (String, Duration, Cause) {
    let why = match state {
        PodState::Waiting(why) | PodState::Running(why) => why,
        PodState::Absent | PodState::Going | PodState::Ended { .. } => None,
    };
    let why = why.unwrap();
    (why.text, why.patience, why.cause)
}

fn end(state: PodState) -> String {
    match state {
        PodState::Ended { reason } => reason,
        PodState::Absent | PodState::Going | PodState::Waiting(_) | PodState::Running(_) => {
            panic!("{state:?}")
        }
    }
}

#[test]
fn pods_on_their_way() {
    let new = Pod::default();
    assert_eq!(
        judge(&new, Timestamp::now(), &Patience::default()),
        PodState::Waiting(None)
    );
    assert_eq!(state(json!({"phase": "Pending"})), PodState::Waiting(None));
    let creating = || waiting("ContainerCreating", "");
    assert_eq!(
        state_with(creating(), "step-0", creating()),
        PodState::Waiting(None)
    );
    assert_eq!(
        state_with(waiting("PodInitializing", ""), "step-0", creating()),
        PodState::Waiting(None)
    );
    assert_eq!(
        state_with(running(), "step-0", creating()),
        PodState::Running(None)
    );
    assert_eq!(
        state_with(running(), "step-0", running()),
        PodState::Running(None)
    );
    // A step's container ends with its steps, which the supervisor tells.
    assert_eq!(
        state_with(running(), "step-0", terminated("Completed", 0)),
        PodState::Running(None)
    );
    assert_eq!(
        state_with(running(), "step-0", terminated("Error", 143)),
        PodState::Running(None)
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn what_keeps_a_pod_from_going_on() {
    let patience = Patience::default();
    let (image, start, service) = (Cause::Image, Cause::Container, Cause::Service);
    let not_found = "failed to resolve reference: web:1: not found";
    let denied = "pull access denied, repository does not exist or may require authorization";
    let cases = [
        (
            "step-0",
            waiting("ErrImagePull", not_found),
            "`web:1` is not found: check",
            patience.missing_image,
            image,
        ),
        (
            "step-0",
            waiting("ImagePullBackOff", not_found),
            "`web:1` is not found: check",
            patience.missing_image,
            image,
        ),
        (
            "step-0",
            waiting("ErrImagePull", "manifest unknown"),
            "`web:1` is not found: check",
            patience.missing_image,
            image,
        ),
        (
            "step-0",
            waiting("ErrImagePull", denied),
            "does not give us the image `web:1`",
            patience.missing_image,
            image,
        ),
        (
            "step-0",
            waiting("ErrImagePull", "401 Unauthorized"),
            "does not give us the image `web:1`",
            patience.missing_image,
            image,
        ),
        (
            "step-0",
            waiting("ErrImagePull", "i/o timeout"),
            "`web:1` cannot be pulled: i/o timeout",
            patience.pull,
            image,
        ),
        (
            "step-0",
            waiting("RegistryUnavailable", "503"),
            "`web:1` cannot be pulled: 503",
            patience.pull,
            image,
        ),
        (
            "step-0",
            waiting("ImagePullBackOff", "Back-off pulling image"),
            "the cluster tries again",
            patience.pull,
            Cause::ImagePause,
        ),
        (
            "step-0",
            waiting("InvalidImageName", "bad"),
            "`web:1` is no image name: bad",
            Duration::ZERO,
            image,
        ),
        (
            "step-0",
            waiting("ErrImageNeverPull", "absent"),
            "`web:1` cannot be used: absent",
            patience.start,
            image,
        ),
        (
            "step-0",
            waiting("ImageInspectError", "bad"),
            "`web:1` cannot be used: bad",
            patience.start,
            image,
        ),
        (
            "step-0",
            waiting("CreateContainerConfigError", "no secret"),
            "`web:1` cannot be made: no secret",
            patience.start,
            start,
        ),
        (
            "step-0",
            waiting("CreateContainerError", "no"),
            "`web:1` cannot be made: no",
            patience.start,
            start,
        ),
        (
            "step-0",
            waiting("RunContainerError", "no"),
            "`web:1` cannot be made: no",
            patience.start,
            start,
        ),
        (
            "step-0",
            waiting("CrashLoopBackOff", "no"),
            "`web:1` cannot be made: no",
            patience.start,
            start,
        ),
        (
            "step-0",
            terminated("OOMKilled", 137),
            "out of memory: the container of `web:1` wanted more than its limit of 32Mi",
            patience.start,
            start,
        ),
        (
            "step-0",
            terminated("StartError", 128),
            "the container of `web:1` cannot start: no such file",
            Duration::ZERO,
            start,
        ),
        (
            "step-0",
            terminated("ContainerCannotRun", 127),
            "the container of `web:1` cannot start: no such file",
            Duration::ZERO,
            start,
        ),
        (
            "service-db",
            terminated("Error", 3),
            "the service `db` ended with code 3",
            Duration::ZERO,
            start,
        ),
        (
            "service-db",
            terminated("Completed", 0),
            "the service `db` ended with code 0",
            Duration::ZERO,
            start,
        ),
        (
            "service-db",
            running(),
            "the service `db` is not ready yet",
            patience.service,
            service,
        ),
    ];
    for (name, other, text, patience, cause) in cases {
        let told = why(state_with(running(), name, other.clone()));
        assert!(told.0.contains(text), "`{text}` is not in `{}`", told.0);
        assert_eq!((told.1, told.2), (patience, cause), "{text}");
        // The same is told before the supervisor runs, but of readiness.
        if cause != service {
            let early = state_with(waiting("ContainerCreating", ""), name, other);
            assert!(matches!(early, PodState::Waiting(Some(_))), "{text}");
        }
    }
}

#[test]
fn pods_that_no_node_takes_and_programs_that_are_not_in_place() {
    let condition = json!({"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"});
    let told = why(state(json!({"phase": "Pending", "conditions": [condition]})));
    assert_eq!(told.0, "no node takes its pod: 0/3 nodes are available");
    assert_eq!((told.1, told.2), (Patience::default().node, Cause::Node));
    let scheduled = json!({"type": "PodScheduled", "status": "True"});
    assert_eq!(
        state(json!({"phase": "Pending", "conditions": [scheduled]})),
        PodState::Waiting(None)
    );
    let install = container("install", terminated("Error", 1));
    let told = why(state(
        json!({"phase": "Pending", "initContainerStatuses": [install]}),
    ));
    assert_eq!(
        told.0,
        "the supervisor's program could not be put in place: code 1"
    );
    let install = container("install", waiting("ErrImagePull", "not found"));
    let told = why(state(
        json!({"phase": "Pending", "initContainerStatuses": [install]}),
    ));
    assert!(
        told.0
            .contains("the supervisor's image `web:1` is not found: set `agent_image`"),
        "{}",
        told.0
    );
}

#[test]
fn the_supervisors_image_is_told_from_those_of_files() {
    let cases = [
        (
            "not found",
            "the supervisor's image `web:1` is not found: set `agent_image` to what `scripts/agent-image` pushed",
        ),
        (
            "pull access denied",
            "the registry does not give us the supervisor's image `web:1`: check the cluster's pull secrets, and set `agent_image` to what `scripts/agent-image` pushed",
        ),
    ];
    for (message, wanted) in cases {
        let agent = waiting("ErrImagePull", message);
        let told = why(state_with(agent, "step-0", waiting("ContainerCreating", "")));
        assert_eq!(told.0, wanted);
        assert_eq!(
            (told.1, told.2),
            (Patience::default().missing_image, Cause::Image)
        );
    }
    let message = "exec: \"/pipekeeper-agent\": stat /pipekeeper-agent: no such file or directory";
    let ended = || json!({"terminated": {"reason": "StartError", "exitCode": 128, "message": message}});
    let wanted = format!("cannot start: `agent_image` is not the supervisor's image: {message}");
    assert_eq!(
        end(state_with(ended(), "step-0", running())),
        format!("its supervisor {wanted}")
    );
    let told = why(state(
        json!({"phase": "Pending", "initContainerStatuses": [container("install", ended())]}),
    ));
    assert_eq!(told.0, format!("the supervisor's program {wanted}"));
}

#[test]
fn ends_of_pods() {
    let cases = [
        (
            json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}),
            "its pod was evicted: low on disk",
        ),
        (
            json!({"phase": "Failed", "reason": "Preempting", "message": "x"}),
            "its pod made room for one of higher priority: x",
        ),
        (
            json!({"phase": "Failed", "reason": "DeadlineExceeded"}),
            "its pod lived too long",
        ),
        (
            json!({"phase": "Running", "reason": "NodeLost", "message": "n1"}),
            "its node is lost: n1",
        ),
        (
            json!({"phase": "Failed", "reason": "NodeShutdown", "message": "x"}),
            "its pod ended: NodeShutdown: x",
        ),
        (json!({"phase": "Failed"}), "its pod ended"),
        (json!({"phase": "Succeeded"}), "its pod ended"),
        (
            json!({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True",
                "reason": "PreemptionByScheduler", "message": "preempted"}]}),
            "its pod was removed by PreemptionByScheduler: preempted",
        ),
    ];
    for (status, reason) in cases {
        assert_eq!(end(state(status)), reason);
    }
    let cases = [
        (terminated("OOMKilled", 137), "its supervisor ran out of memory"),
        (
            terminated("StartError", 128),
            "its supervisor cannot start: no such file",
        ),
        (terminated("Error", 137), "its supervisor ended with code 137"),
        (terminated("Completed", 0), "its supervisor ended with code 0"),
    ];
    for (agent, reason) in cases {
        assert_eq!(end(state_with(agent, "step-0", running())), reason);
    }
}

#[test]
fn pods_that_are_told_to_go() {
    let now = Timestamp::now();
    let told = |agent: Value, ago: Duration| {
        let mut pod = pod(json!({"phase": "Running", "containerStatuses": [container("agent", agent)]}));
        let due = now - SignedDuration::try_from(ago).unwrap();
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(due));
        judge(&pod, now, &Patience::default())
    };
    // As long as it runs its supervisor may have something to say.
    assert_eq!(told(running(), Duration::ZERO), PodState::Going);
    assert_eq!(
        end(told(terminated("Completed", 0), Duration::ZERO)),
        "its pod was deleted"
    );
    assert_eq!(
        end(told(running(), GOING * 2)),
        "its pod was deleted, and its node `n1` stopped answering or did not end it"
    );
}

#[test]
fn ends_of_the_containers_of_steps() {
    let ended = |state: Value| {
        let pod = pod(json!({"containerStatuses": [container("step-0", state)]}));
        container_end(&pod, 0)
    };
    assert_eq!(ended(running()), None);
    let told = ended(terminated("OOMKilled", 137)).unwrap();
    assert_eq!(
        told,
        "out of memory: the container of `web:1` wanted more than its limit of 32Mi"
    );
    assert_eq!(
        ended(terminated("Error", 137)).unwrap(),
        "its container ended with code 137"
    );
    assert_eq!(container_end(&Pod::default(), 0), None);
}

#[test]
fn restricted_pods_say_so() {
    let mut pod = pod(json!({"containerStatuses": [
        container("agent", running()), container("service-db", terminated("Error", 1))]}));
    let spec = pod.spec.as_mut().unwrap();
    spec.security_context.get_or_insert_default().run_as_non_root = Some(true);
    let told = why(judge(&pod, Timestamp::now(), &Patience::default()));
    assert!(
        told.0
            .contains("ended with code 1 (pods of this tier run without root"),
        "{}",
        told.0
    );
}

#[test]
fn a_step_that_ends_before_it_began_is_told() {
    let told = why(state_with(running(), "step-0", terminated("Error", 126)));
    assert_eq!(
        told.0,
        "the container of `web:1` ended with code 126 before its step began"
    );
    assert_eq!((told.1, told.2), (Patience::default().start, Cause::Container));
}

#[test]
fn a_node_that_makes_nothing_of_a_pod_is_told_after_a_minute() {
    let now = Timestamp::now();
    let of_age = |seconds: i64| {
        let since = now - SignedDuration::from_secs(seconds);
        let status = json!({
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": since.to_string()}],
            "containerStatuses": [container("agent", waiting("ContainerCreating", ""))],
        });
        judge(&pod(status), now, &Patience::default())
    };
    assert_eq!(of_age(50), PodState::Waiting(None));
    let (text, patience, _) = why(of_age(70));
    assert!(
        text.contains("`n1`") && text.contains("kubectl describe pod"),
        "{text}"
    );
    assert_eq!(patience, Patience::default().making);
}
