//! What containers may do: the profiles, and what holds in each of them.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, SeccompProfile, SecurityContext,
};

use crate::{Profile, names};

/// What package managers and `su` want, and no more.
const BASELINE: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL"];
/// The user of restricted pods.
const NOBODY: i64 = 65532;

/// What holds for the whole pod.
pub(super) fn of_pod(profile: Profile) -> PodSecurityContext {
    let seccomp = SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        localhost_profile: None,
    };
    let context = PodSecurityContext {
        seccomp_profile: Some(seccomp),
        ..PodSecurityContext::default()
    };
    match profile {
        Profile::Baseline => context,
        Profile::Restricted => PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            run_as_group: Some(NOBODY),
            fs_group: Some(NOBODY),
            ..context
        },
    }
}

/// A container that may do what the profile allows.
pub(super) fn confine(container: Container, profile: Profile) -> Container {
    let is_ours = container.name == names::AGENT || container.name == "install";
    let (add, user) = match profile {
        // The supervisor hands the workspace from one step's user to the next one's.
        Profile::Baseline => (Some(BASELINE.map(str::to_owned).to_vec()), is_ours.then_some(0)),
        Profile::Restricted => (None, None),
    };
    let context = SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add,
            drop: Some(vec!["ALL".to_owned()]),
        }),
        privileged: Some(false),
        run_as_user: user,
        ..SecurityContext::default()
    };
    Container {
        security_context: Some(context),
        ..container
    }
}
