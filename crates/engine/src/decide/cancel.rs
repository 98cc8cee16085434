//! `CancelRequested`: a one-way flag; after it nothing starts but `finally`.

use pipekeeper_model::{
    AttemptOutcome, AttemptRecord, Millis, NodeId, Outcome, SkipReason,
    plan::{Body, Section, defaults},
};

use super::{Draft, Rejection};
use crate::{
    CancelReason, Effect, Fact, Next, RunPhase,
    fold::Fold,
    run::FinallyPhase,
    state::{AttemptPhase, NodeState},
};

/// How long after its grace a stopped attempt counts as stopped whatever is seen.
const STOP_MARGIN: Millis = Millis::seconds(30);
const PAST_GATE: &str = "it is past its first gate: a newer run does not cancel it";

pub(super) fn requested(draft: &mut Draft<'_>, reason: &CancelReason) -> Result<(), Rejection> {
    match draft.phase() {
        RunPhase::Pending | RunPhase::Running => {}
        RunPhase::Stopping { .. } => return repeated(draft, reason),
        RunPhase::Finished { .. } => return Err(Rejection::stale("the run has ended")),
    }
    may_stop(draft, reason)?;
    draft.record(Fact::CancelBegan {
        reason: reason.clone(),
    });
    match draft.finally() {
        FinallyPhase::Before => {
            draft.skip_open(Section::Main, &SkipReason::RunStopped);
            for node in draft.open_nodes(Section::Main) {
                stop_live(draft, node, Outcome::Cancelled);
            }
        }
        // The main entries are settled: asking now means the `finally` entries.
        FinallyPhase::Open { .. } => stop_finally(draft, Outcome::Cancelled),
        FinallyPhase::Stopped => {}
    }
    Ok(())
}

/// A newer run may only take the place of one that no person let past a gate.
fn may_stop(draft: &Draft<'_>, reason: &CancelReason) -> Result<(), Rejection> {
    match reason {
        CancelReason::Superseded { .. } if passed_gate(draft) => Err(Rejection::illegal(PAST_GATE)),
        CancelReason::SupersededAtGate { gate, .. } => {
            let waits = draft
                .plan()
                .find(gate)
                .is_some_and(|id| matches!(draft.state(id), Some(NodeState::Deciding(_))));
            if waits && draft.any_voided() {
                Err(Rejection::illegal(PAST_GATE))
            } else if waits {
                Ok(())
            } else {
                Err(Rejection::stale("it does not wait at that gate"))
            }
        }
        CancelReason::Superseded { .. }
        | CancelReason::Asked
        | CancelReason::Expired
        | CancelReason::GivenUp { .. } => Ok(()),
    }
}

fn passed_gate(draft: &Draft<'_>) -> bool {
    let plan = draft.plan();
    draft.any_voided()
        || plan.ids().zip(&plan.nodes).any(|(id, node)| {
            matches!(node.body, Body::Approve(_))
                && draft.state(id).and_then(NodeState::outcome) == Some(Outcome::Succeeded)
        })
}

/// A second cancel stops the `finally` entries; by then or before they begin.
fn repeated(draft: &mut Draft<'_>, reason: &CancelReason) -> Result<(), Rejection> {
    match reason {
        CancelReason::Asked | CancelReason::Expired | CancelReason::GivenUp { .. } => {}
        CancelReason::Superseded { .. } | CancelReason::SupersededAtGate { .. } => {
            return Err(Rejection::Duplicate);
        }
    }
    if draft.finally() == FinallyPhase::Stopped {
        return Err(Rejection::Duplicate);
    }
    stop_finally(draft, Outcome::Cancelled);
    Ok(())
}

pub(super) fn stop_finally(draft: &mut Draft<'_>, outcome: Outcome) {
    draft.record(Fact::FinallyStopped);
    draft.skip_open(Section::Finally, &SkipReason::RunStopped);
    for node in draft.open_nodes(Section::Finally) {
        stop_live(draft, node, outcome);
    }
}

/// Stops a node's live attempt: without a ticket it ends at once, with one when it is seen to have ended.
pub(super) fn stop_live(draft: &mut Draft<'_>, node: NodeId, outcome: Outcome) {
    let Some(NodeState::Running(live)) = draft.state(node) else {
        return;
    };
    let (attempt, phase) = (live.attempt, live.phase.clone());
    match phase {
        AttemptPhase::Seeking { .. } | AttemptPhase::Queued { .. } | AttemptPhase::Launching { .. } => {
            let record = AttemptRecord::without_steps(
                AttemptOutcome::Cancelled,
                "stopped before it started",
                draft.at(),
            );
            let next = Next::Settled { outcome };
            draft.record(Fact::AttemptFinished {
                attempt,
                record: Box::new(record),
                next,
            });
        }
        AttemptPhase::Ticketed { .. } => {
            let deadline = draft.at() + defaults::GRACE + STOP_MARGIN;
            draft.record(Fact::StopAsked {
                attempt,
                outcome,
                deadline,
            });
        }
        AttemptPhase::Stopping { .. } => return,
    }
    draft.perform(Effect::StopAttempt {
        attempt,
        grace: defaults::GRACE,
    });
}
