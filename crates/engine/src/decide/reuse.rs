//! `reuse:`: an earlier success stands in for an attempt, or the attempt is launched.

use pipekeeper_model::{
    AttemptId, Digest, Outcome,
    plan::{Body, Node, defaults},
};

use super::{
    Draft, Rejection,
    attempt::{live, withdraw},
    judge,
};
use crate::{
    AdoptedNode, Earlier, Effect, Fact,
    state::{AttemptPhase, LiveAttempt},
};

impl Draft<'_> {
    /// Launches a scheduled attempt, after a look at earlier successes where its action wants one.
    pub(super) fn seek_or_launch(&mut self, attempt: AttemptId) {
        if self.node(attempt.node).is_some_and(may_reuse) {
            self.record(Fact::SearchBegan { attempt });
            self.perform(Effect::FindEarlier { attempt });
        } else {
            self.perform(Effect::LaunchAttempt { attempt });
        }
    }
}

/// What was found is adopted; without it the attempt is launched.
pub(super) fn sought(
    draft: &mut Draft<'_>,
    attempt: AttemptId,
    inputs: Option<&Digest>,
    found: Option<&AdoptedNode>,
) -> Result<(), Rejection> {
    match live(draft, attempt)?.phase {
        AttemptPhase::Seeking { .. } => {}
        AttemptPhase::Queued { .. }
        | AttemptPhase::Launching { .. }
        | AttemptPhase::Ticketed { .. }
        | AttemptPhase::Stopping { .. } => {
            return Err(Rejection::Duplicate);
        }
    }
    let node = draft
        .node(attempt.node)
        .ok_or_else(|| Rejection::illegal("the plan has no such node"))?;
    if judge::voided_gate(draft, attempt.node, node).is_some() {
        withdraw(draft, attempt);
        return Ok(());
    }
    // As at a ticket: what else made the node ready cannot be undone; this guards the guard.
    if !judge::may_start(draft, attempt.node, node) {
        return Err(Rejection::illegal("its needs do not allow it to end"));
    }
    match (inputs, found, draft.body().request.earlier) {
        (Some(inputs), Some(found), Earlier::Adopt) => draft.record(Fact::NodeReused {
            attempt,
            inputs: inputs.clone(),
            result: Box::new(found.clone()),
        }),
        (Some(_) | None, Some(_) | None, Earlier::Adopt | Earlier::Ignore) => {
            draft.record(Fact::InputsKnown {
                attempt,
                inputs: inputs.cloned(),
                check_in_by: draft.at() + defaults::CHECK_IN,
            });
            draft.perform(Effect::LaunchAttempt { attempt });
        }
    }
    Ok(())
}

/// Keeps a success for later runs, if its inputs are known.
pub(super) fn remember(draft: &mut Draft<'_>, live: &LiveAttempt, outcome: Outcome) {
    if outcome == Outcome::Succeeded
        && let Some(inputs) = &live.inputs
    {
        draft.perform(Effect::RememberSuccess {
            attempt: live.attempt,
            inputs: inputs.clone(),
        });
    }
}

fn may_reuse(node: &Node) -> bool {
    match &node.body {
        Body::Work(work) => work.reuse.is_some(),
        Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => false,
    }
}
