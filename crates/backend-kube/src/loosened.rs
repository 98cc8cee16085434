//! Whether a pod may do more than was asked for: whoever changes pods on their way into the cluster, or made one in our
//! place, must not open what we keep shut. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};

/// What the pod that is there may do and the one that was asked for may not; none if nothing.
pub(crate) fn loosened(asked: &Pod, there: &Pod) -> Option<String> {
    let (Some(asked), Some(there)) = (&asked.spec, &there.spec) else {
        return Some("it has no description".to_owned());
    };
    of_pod(asked, there).or_else(|| {
        let all = containers(there).collect::<Vec<_>>();
        containers(asked).find_map(|container| {
            let name = &container.name;
            match all.iter().find(|other| other.name == *name) {
                Some(other) => of_container(container, other)
                    .or_else(|| of_seccomp((asked, container), (there, other)))
                    .map(|what| format!("the container `{name}` {what}")),
                None => Some(format!("the container `{name}` is not there")),
            }
        })
    })
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn of_pod(asked: &PodSpec, there: &PodSpec) -> Option<String> {
    let shares = [
        ("`hostNetwork`", asked.host_network, there.host_network),
        ("`hostPID`", asked.host_pid, there.host_pid),
        ("`hostIPC`", asked.host_ipc, there.host_ipc),
        (
            "`shareProcessNamespace`",
            asked.share_process_namespace,
            there.share_process_namespace,
        ),
        // Unlike the others it is on unless it is off.
        (
            "`automountServiceAccountToken`",
            Some(asked.automount_service_account_token != Some(false)),
            Some(there.automount_service_account_token != Some(false)),
        ),
    ];
    let shared = shares
        .into_iter()
        .find(|(_, asked, there)| *there == Some(true) && *asked != Some(true));
    if let Some((what, ..)) = shared {
        return Some(format!("{what} is on"));
    }
    let folders = |spec: &PodSpec| -> BTreeSet<String> {
        let volumes = spec.volumes.iter().flatten();
        let folders = volumes.filter_map(|volume| volume.host_path.as_ref());
        folders.map(|folder| folder.path.clone()).collect()
    };
    let more: Vec<String> = folders(there).difference(&folders(asked)).cloned().collect();
    more.first()
        .map(|folder| format!("the folder `{folder}` of its node is a volume of it"))
}

fn of_container(asked: &Container, there: &Container) -> Option<String> {
    let nothing = SecurityContext::default();
    let ours = asked.security_context.as_ref().unwrap_or(&nothing);
    let theirs = there.security_context.as_ref().unwrap_or(&nothing);
    if theirs.privileged == Some(true) && ours.privileged != Some(true) {
        return Some("is privileged".to_owned());
    }
    if theirs.allow_privilege_escalation != Some(false) && ours.allow_privilege_escalation == Some(false) {
        return Some("may gain privileges".to_owned());
    }
    if theirs.run_as_user != ours.run_as_user && theirs.run_as_user.is_none_or(|user| user == 0) {
        return Some("may run as root".to_owned());
    }
    let added = |context: &SecurityContext| -> BTreeSet<String> {
        let capabilities = context.capabilities.as_ref();
        let added = capabilities.and_then(|all| all.add.as_ref());
        added.into_iter().flatten().cloned().collect()
    };
    let more: Vec<String> = added(theirs).difference(&added(ours)).cloned().collect();
    if let Some(capability) = more.first() {
        return Some(format!("has the capability {capability}"));
    }
    let drops_all = |context: &SecurityContext| {
        let dropped = context.capabilities.as_ref().and_then(|all| all.drop.as_ref());
        dropped.is_some_and(|dropped| dropped.iter().any(|one| one == "ALL"))
    };
    (drops_all(ours) && !drops_all(theirs)).then(|| "keeps capabilities".to_owned())
}

/// A container's own profile wins over its pod's.
fn of_seccomp(asked: (&PodSpec, &Container), there: (&PodSpec, &Container)) -> Option<String> {
    let profile = |(spec, container): (&PodSpec, &Container)| {
        let own = container.security_context.as_ref();
        let own = own.and_then(|context| context.seccomp_profile.clone());
        let of_pod = spec.security_context.as_ref();
        let profile = own.or_else(|| of_pod.and_then(|context| context.seccomp_profile.clone()));
        profile.map(|profile| profile.type_)
    };
    let (asked, there) = (profile(asked), profile(there));
    (asked != there).then(|| {
        let there = there.as_deref().unwrap_or("none");
        format!("has another seccomp profile: {there}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::render::{
        render_pod,
        tests::{cluster, plan},
    };

    /// Whether a pod that was changed so may do more.
    fn is_loosened(path: &str, value: Value) -> Option<String> {
        let asked = render_pod(&plan(), &cluster());
        let mut there = serde_json::to_value(&asked).unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = there.pointer_mut(parent).unwrap();
        if let Some(all) = parent.as_array_mut() {
            all.push(value);
        } else {
            parent[key] = value;
        }
        loosened(&asked, &serde_json::from_value(there).unwrap())
    }

    #[test]
    fn what_only_adds_to_a_pod_is_let_be() {
        for (path, value) in [
            ("/spec/nodeName", json!("n1")),
            (
                "/spec/containers/-",
                json!({"name": "sidecar", "image": "mesh:1"}),
            ),
            ("/spec/volumes/-", json!({"name": "more", "emptyDir": {}})),
            ("/spec/containers/1/image", json!("mirror/debian:12")),
            ("/spec/hostNetwork", json!(false)),
            (
                "/spec/containers/1/securityContext/seccompProfile",
                json!({"type": "RuntimeDefault"}),
            ),
        ] {
            assert_eq!(is_loosened(path, value), None, "{path}");
        }
    }

    #[test]
    fn what_opens_a_pod_is_named() {
        let context = "/spec/containers/1/securityContext";
        for (path, value, said) in [
            ("/spec/hostNetwork", json!(true), "`hostNetwork` is on"),
            ("/spec/hostPID", json!(true), "`hostPID` is on"),
            (
                "/spec/shareProcessNamespace",
                json!(true),
                "`shareProcessNamespace` is on",
            ),
            (
                "/spec/automountServiceAccountToken",
                json!(true),
                "`automountServiceAccountToken` is on",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "root", "hostPath": {"path": "/"}}),
                "the folder `/` of its node",
            ),
            (&format!("{context}/privileged"), json!(true), "is privileged"),
            (
                &format!("{context}/allowPrivilegeEscalation"),
                json!(true),
                "may gain privileges",
            ),
            (&format!("{context}/runAsUser"), json!(0), "may run as root"),
            (
                &format!("{context}/seccompProfile"),
                json!({"type": "Unconfined"}),
                "another seccomp profile",
            ),
            (
                &format!("{context}/capabilities/add"),
                json!(["CHOWN", "SYS_ADMIN"]),
                "the capability SYS_ADMIN",
            ),
            (
                &format!("{context}/capabilities/drop"),
                json!([]),
                "keeps capabilities",
            ),
            ("/spec/containers", json!([]), "`agent` is not there"),
        ] {
            let found = is_loosened(path, value).unwrap_or_else(|| panic!("{path}"));
            assert!(found.contains(said), "{path}: {found}");
        }
    }
}
