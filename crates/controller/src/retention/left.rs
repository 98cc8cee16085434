//! What a run left: the files that it names, whose results it adopted, whether a release of it was promoted.

use std::collections::BTreeMap;

use pipekeeper_engine::{NodeState, Run};
use pipekeeper_model::{Digest, Outcome, OutputValue, plan::Body};
use pipekeeper_store::{Left, LeftFile};

/// What a run left so far, but for its logs.
pub(crate) fn left(run: &Run) -> Left {
    let mut files: BTreeMap<&Digest, u64> = BTreeMap::new();
    let mut left = Left {
        promoted: is_promoted(run),
        ..Left::default()
    };
    for ended in run.nodes().iter().filter_map(NodeState::ended) {
        files.extend(
            ended
                .artifacts()
                .map(|artifact| (&artifact.digest, artifact.bytes)),
        );
        files.extend(ended.outputs().filter_map(|(_, value)| file(value)));
        // They are small, and nobody says how small.
        let tests = ended.record.iter().filter_map(|record| record.tests.as_ref());
        files.extend(tests.map(|tests| (&tests.details, 0)));
        left.adopts
            .extend(ended.adopted.iter().map(|from| from.attempt.run));
        left.adopts.extend(ended.adopted.iter().map(|from| from.run));
    }
    let adopted = run.request().and_then(|request| request.adopted.as_ref());
    for node in adopted.iter().flat_map(|adoption| adoption.nodes.values()) {
        files.extend(
            node.artifacts
                .iter()
                .map(|artifact| (&artifact.digest, artifact.bytes)),
        );
        files.extend(node.outputs.values().filter_map(file));
        left.adopts.insert(node.attempt.run);
    }
    left.files = (files.into_iter())
        .map(|(digest, bytes)| LeftFile {
            digest: digest.clone(),
            bytes,
        })
        .collect();
    left
}

/// Whether a release of a run was promoted: such a run is kept whatever its age.
fn is_promoted(run: &Run) -> bool {
    let nodes = run.plan().into_iter().flat_map(|plan| &plan.nodes);
    nodes.zip(run.nodes()).any(|(node, state)| {
        matches!(node.body, Body::Promote(_)) && state.outcome() == Some(Outcome::Succeeded)
    })
}

fn file(value: &OutputValue) -> Option<(&Digest, u64)> {
    match value {
        OutputValue::Text(_) => None,
        OutputValue::File { digest, bytes } => Some((digest, bytes.0)),
    }
}
