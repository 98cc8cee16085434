//! `DeadlineReached`: whatever is due at the input's time.

use pipekeeper_model::{AttemptOutcome, AttemptRecord, NodeId, Outcome, SkipReason, plan::defaults};

use super::{Draft, Rejection, attempt, cancel, locks};
use crate::{
    Before, CancelReason, Fact, Next, RunPhase,
    fold::Fold,
    run::FinallyPhase,
    state::{AttemptPhase, LiveAttempt, NodeState},
};

pub(super) fn reached(draft: &mut Draft<'_>) -> Result<(), Rejection> {
    let due = draft.due();
    let holds_due = draft.holds_due();
    let finally_due = match draft.finally() {
        FinallyPhase::Open { deadline } => deadline <= draft.at(),
        FinallyPhase::Before | FinallyPhase::Stopped => false,
    };
    let run_due = match draft.phase() {
        RunPhase::Pending | RunPhase::Running => draft.body().created_at + defaults::RUN <= draft.at(),
        RunPhase::Stopping { .. } | RunPhase::Finished { .. } => false,
    };
    if due.is_empty() && holds_due.is_empty() && !finally_due && !run_due {
        return Err(Rejection::stale("nothing is due"));
    }
    for node in due {
        node_due(draft, node);
    }
    for hold in holds_due {
        locks::expired(draft, hold);
    }
    if finally_due {
        cancel::stop_finally(draft, Outcome::TimedOut);
    }
    if run_due {
        cancel::requested(draft, &CancelReason::Expired)?;
    }
    Ok(())
}

fn node_due(draft: &mut Draft<'_>, id: NodeId) {
    let Some(state) = draft.state(id).cloned() else {
        return;
    };
    match state {
        NodeState::AwaitingStart { .. } => {
            draft.record(Fact::NodeSkipped {
                node: id,
                reason: SkipReason::NotStarted,
                passes: false,
            });
        }
        NodeState::AwaitingTime { before, .. } => match before {
            Before::Start => draft.begin(id),
            Before::Window => draft.ready(id),
            Before::End => draft.record(Fact::NodeFinished {
                node: id,
                outcome: Outcome::Succeeded,
                reason: None,
            }),
        },
        NodeState::Deciding(_) => {
            let reason = Some("nobody decided in time".to_owned());
            draft.record(Fact::NodeFinished {
                node: id,
                outcome: Outcome::TimedOut,
                reason,
            });
        }
        NodeState::Running(live) => attempt_due(draft, id, &live),
        NodeState::Backoff { .. } => draft.ready(id),
        NodeState::Waiting | NodeState::Ready { .. } | NodeState::Done(_) | NodeState::Skipped { .. } => {}
    }
}

fn attempt_due(draft: &mut Draft<'_>, node: NodeId, live: &LiveAttempt) {
    match &live.phase {
        AttemptPhase::Seeking { .. } | AttemptPhase::Launching { .. } => {
            attempt::never_started(draft, live, "it did not check in in time".to_owned());
        }
        AttemptPhase::Queued { .. } => attempt::never_queued_in(draft, live),
        AttemptPhase::Ticketed { .. } => cancel::stop_live(draft, node, Outcome::TimedOut),
        AttemptPhase::Stopping { outcome, .. } => {
            let record =
                AttemptRecord::without_steps(AttemptOutcome::Lost, "it was not seen to stop", draft.at());
            let next = Next::Settled { outcome: *outcome };
            draft.record(Fact::AttemptFinished {
                attempt: live.attempt,
                record: Box::new(record),
                next,
            });
        }
    }
}
