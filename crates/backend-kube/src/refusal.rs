//! What the cluster's refusals mean: whether trying again may help, and what to do.

use kube::Error;
use pipekeeper_backend::LaunchError;

/// Judges an error of a call that creates something in this namespace.
pub(crate) fn of_create(error: &Error, namespace: &str) -> LaunchError {
    let Error::Api(status) = error else {
        return unreachable(error);
    };
    let message = &status.message;
    let terminal = |reason: String| LaunchError::Terminal { reason };
    let transient = |reason: String| LaunchError::Transient { reason };
    match status.code {
        403 if message.contains("exceeded quota") => transient(format!(
            "the quota of the namespace `{namespace}` is used up: {message}"
        )),
        403 if message.contains("is forbidden: User ") => terminal(format!(
            "the cluster does not let this server make pods in `{namespace}`: {message}; create the namespace if it is missing, and grant the role in deploy/kubernetes"
        )),
        404 => terminal(format!(
            "the cluster has no namespace `{namespace}`: create it, or name another"
        )),
        400 | 403 | 405 | 413 | 422 => terminal(format!("the cluster refuses the pod: {message}")),
        _ => transient(format!("the cluster does not take the pod now: {message}")),
    }
}

/// Judges an error of any other call.
pub(crate) fn of_call(error: &Error) -> LaunchError {
    let Error::Api(status) = error else {
        return unreachable(error);
    };
    LaunchError::Transient {
        reason: format!("the cluster answers {}: {}", status.code, status.message),
    }
}

/// Whether nobody knows whether the call came through.
pub(crate) fn is_of_transport(error: &Error) -> bool {
    matches!(error, Error::HyperError(_) | Error::Service(_))
}

/// Whether the object is not there.
pub(crate) fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// Whether the object is there already.
pub(crate) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409)
}

fn unreachable(error: &Error) -> LaunchError {
    let mut reason = format!("the cluster cannot be reached: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !reason.contains(&cause_text) {
            reason = format!("{reason}: {cause_text}");
        }
        source = cause.source();
    }
    LaunchError::Transient { reason }
}
