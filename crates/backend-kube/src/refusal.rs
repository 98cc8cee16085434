//! What the cluster's refusals mean: whether trying again may help, and what to do.

use kube::Error;
use pipekeeper_backend::{LaunchError, Scarce};
use pipekeeper_model::Name;

/// Judges an error of a call that creates something in this namespace.
pub(crate) fn of_create(cluster: &Name, error: &Error, namespace: &str) -> LaunchError {
    let Error::Api(status) = error else {
        return unreachable(cluster, error);
    };
    let message = &status.message;
    let terminal = |reason: String| LaunchError::Terminal { reason };
    let transient = |reason: String| LaunchError::Transient { reason };
    match status.code {
        403 if message.contains("failed quota") && message.contains("must specify") => terminal(format!(
            "the quota of the namespace `{namespace}` counts what the pod does not name: {message}; write `resources = {{ cpu = …, memory = … }}` for the cluster in the server's configuration, or `resources:` in the action, or give the namespace a LimitRange with defaults"
        )),
        403 if message.contains("exceeded quota") && can_never_fit(message) => terminal(format!(
            "the pod asks for more than the whole quota of the namespace `{namespace}`: lower `resources` or raise the quota: {message}"
        )),
        403 if message.contains("exceeded quota") => LaunchError::Occupied {
            of: Scarce::Quota,
            reason: format!("the quota of the namespace `{namespace}` is used up: {message}"),
        },
        403 if message.contains("because it is being terminated") => {
            transient(format!("the namespace `{namespace}` is being removed: {message}"))
        }
        403 if is_settling(error) => transient(format!("the namespace `{namespace}` is new: {message}")),
        403 if message.contains("is forbidden: User ") => terminal(format!(
            "the cluster `{cluster}` does not let this server make pods in `{namespace}`: {message}; create the namespace if it is missing, and grant the role in deploy/kubernetes"
        )),
        404 => terminal(format!(
            "the cluster `{cluster}` has no namespace `{namespace}`: create it, or name another"
        )),
        400 | 403 | 405 | 413 | 422 => {
            terminal(format!("the cluster `{cluster}` refuses the pod: {message}"))
        }
        _ => transient(format!(
            "the cluster `{cluster}` does not take the pod now: {message}"
        )),
    }
}

/// Whether a quota refuses the pod though nothing of it is used: what ends later makes no room then.
fn can_never_fit(message: &str) -> bool {
    // `requested: A=1,B=2, used: A=0,B=0, limited: …`, which names only what is exceeded.
    let used = message.split_once(", used: ").map(|(_, rest)| rest);
    let used = used.and_then(|rest| rest.split_once(", limited: "));
    used.is_some_and(|(used, _)| {
        let mut quantities = used.split(',').filter_map(|one| one.rsplit_once('='));
        quantities.any(|(_, quantity)| quantity.trim() == "0")
    })
}

/// Judges an error of a call that makes a namespace, or something in it that is not a pod.
pub(crate) fn of_making(cluster: &Name, error: &Error) -> LaunchError {
    if !is_refused(error) {
        return of_call(cluster, error);
    }
    LaunchError::Terminal {
        reason: format!(
            "the cluster `{cluster}` does not let this server make namespaces: {}; apply deploy/kubernetes/maker.yaml, or make them by hand and take `create_namespaces` out",
            cause(error)
        ),
    }
}

/// Judges why the Secret that images are pulled with could not be made.
pub(crate) fn of_pull_secret(cluster: &Name, error: &Error, namespace: &str) -> LaunchError {
    // A namespace that goes, is new or is full says the same of it as of a pod.
    let Error::Api(status) = error else {
        return unreachable(cluster, error);
    };
    if status.code != 403 || !status.message.contains("is forbidden: User ") {
        return of_create(cluster, error, namespace);
    }
    LaunchError::Terminal {
        reason: format!(
            "the cluster `{cluster}` does not let this server make the Secret in `{namespace}` that images are pulled with: {}; grant `secrets` as deploy/kubernetes does, or take `pull_secrets` out of the Registry",
            cause(error)
        ),
    }
}

/// Judges why rights could not be lent.
pub(crate) fn of_lending(cluster: &Name, error: &Error, (namespace, account): (&str, &str)) -> LaunchError {
    if is_not_found(error) {
        return LaunchError::Terminal {
            reason: format!(
                "the cluster `{cluster}` has no account `{account}` in the namespace `{namespace}`: make it, and give it the rights that actions are to have there, as docs/credentials.md shows"
            ),
        };
    }
    if !is_refused(error) {
        return of_call(cluster, error);
    }
    LaunchError::Terminal {
        reason: format!(
            "the cluster `{cluster}` does not let this server lend the rights of `{account}` in `{namespace}`: {}; grant `serviceaccounts/token` as deploy/kubernetes does",
            cause(error)
        ),
    }
}

/// Judges an error of any other call.
pub(crate) fn of_call(cluster: &Name, error: &Error) -> LaunchError {
    let Error::Api(status) = error else {
        return unreachable(cluster, error);
    };
    LaunchError::Transient {
        reason: format!(
            "the cluster `{cluster}` answers {}: {}",
            status.code, status.message
        ),
    }
}

/// Whether nobody knows whether the call came through.
pub(crate) fn is_of_transport(error: &Error) -> bool {
    matches!(error, Error::HyperError(_) | Error::Service(_))
}

/// Whether a quota has no room for it.
pub(crate) fn is_of_quota(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 403 && status.message.contains("exceeded quota"))
}

/// Whether the cluster understood, and says no.
pub(crate) fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 403 | 404))
}

/// Whether the cluster says no to this user, or to anybody now.
pub(crate) fn is_forbidden(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 403)
}

/// Whether there is no such namespace for us: it is not there, or not open.
pub(crate) fn is_shut(error: &Error) -> bool {
    is_not_found(error)
        || matches!(error, Error::Api(status) if status.code == 403 && status.message.contains("is forbidden: User "))
}

/// Whether a new namespace, or its quota, lacks what the cluster puts there a moment later.
pub(crate) fn is_settling(error: &Error) -> bool {
    let awaited = ["error looking up service account", "status unknown for quota"];
    matches!(error, Error::Api(status) if awaited.iter().any(|words| status.message.contains(words)))
}

/// Whether the object is not there.
pub(crate) fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// Whether the object is there already. A cluster answers with the same code to what several want at the same moment.
pub(crate) fn is_there_already(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

fn unreachable(cluster: &Name, error: &Error) -> LaunchError {
    LaunchError::Transient {
        reason: format!("the cluster `{cluster}` cannot be reached: {}", cause(error)),
    }
}

/// What is at the bottom of an error: the layers above only say that there is one.
pub(crate) fn cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, message: &str) -> LaunchError {
        let status = Status::failure(message, "").with_code(code);
        let error = Error::Api(Box::new(status));
        of_create(&"dev".parse().unwrap(), &error, "ci-web")
    }

    #[test]
    fn only_what_may_get_better_is_tried_again() {
        let is_final = |code, message| matches!(refused(code, message), LaunchError::Terminal { .. });
        assert!(!is_final(403, "pods \"x\" is forbidden: exceeded quota: pods"));
        assert!(is_final(
            403,
            "pods is forbidden: User \"x\" cannot create resource"
        ));
        assert!(is_final(403, "admission webhook denied the request"));
        assert!(is_final(404, "namespaces \"ci-web\" not found"));
        assert!(is_final(422, "spec is invalid"));
        assert!(!is_final(429, "too many requests"));
        assert!(!is_final(500, "internal error"));
    }

    #[test]
    fn a_quota_is_waited_for_only_if_something_can_make_room() {
        let quota = |requested: &str, used: &str| {
            let message = format!(
                "pods \"x\" is forbidden: exceeded quota: ci, requested: {requested}, used: {used}, limited: requests.cpu=60m"
            );
            refused(403, &message)
        };
        let cases = [
            ("requests.cpu=105m", "requests.cpu=0", true),
            (
                "requests.cpu=105m,requests.memory=1Gi",
                "requests.cpu=0,requests.memory=0",
                true,
            ),
            // Each of them is exceeded: one that is unused is enough.
            (
                "requests.cpu=105m,requests.memory=1Gi",
                "requests.cpu=0,requests.memory=2Gi",
                true,
            ),
            ("requests.cpu=50m", "requests.cpu=20m", false),
            ("pods=1", "pods=10", false),
        ];
        for (requested, used, is_final) in cases {
            let told = quota(requested, used);
            assert_eq!(
                matches!(told, LaunchError::Terminal { .. }),
                is_final,
                "{used}: {told}"
            );
        }
        let told = quota("requests.cpu=105m", "requests.cpu=0").to_string();
        let wanted = "asks for more than the whole quota of the namespace `ci-web`: lower `resources`";
        assert!(told.contains(wanted), "{told}");
    }

    #[test]
    fn a_quota_that_counts_what_nobody_named_says_where_to_name_it() {
        let message = "pods \"x\" is forbidden: failed quota: ci: must specify requests.cpu for: step-0";
        let told = refused(403, message);
        assert!(matches!(told, LaunchError::Terminal { .. }), "{told}");
        let told = told.to_string();
        assert!(told.contains("`resources = { cpu = …, memory = … }`"), "{told}");
        assert!(told.contains(message), "{told}");
    }

    #[test]
    fn who_cannot_be_reached_is_named_with_the_deepest_cause() {
        let low = std::io::Error::other("connection refused");
        let error = Error::Service(Box::new(std::io::Error::other(low)));
        let told = of_call(&"dev".parse().unwrap(), &error).to_string();
        assert_eq!(told, "the cluster `dev` cannot be reached: connection refused");
    }
}
