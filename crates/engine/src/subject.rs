//! What an approval names, and dies with.

use pipekeeper_model::{Digest, plan::Node};

use crate::RunRequest;

/// The subject of a gate: a digest over the plan with its parameters, the commit and the gate itself.
pub(crate) fn subject(request: &RunRequest, gate: &Node) -> Digest {
    let commit = request
        .context
        .event
        .revision
        .sha
        .as_ref()
        .map_or("", |sha| sha.as_str());
    Digest::of(format!("gate v1\n{}\n{commit}\n{}\n", request.plan.digest(), gate.name).as_bytes())
}
