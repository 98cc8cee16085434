//! How a run ended: one function over all its nodes.

use pipekeeper_model::{NodeId, Outcome, Plan};

use crate::{CancelReason, RunPhase, run::Body, state::NodeState};

/// The worst of the nodes that settled so far, and of the reason to stop. What may fail counts as succeeded.
pub(crate) fn roll_up<'a>(
    plan: &Plan,
    phase: &RunPhase,
    state: impl Fn(NodeId) -> Option<&'a NodeState>,
) -> Outcome {
    let outcomes = plan.ids().zip(&plan.nodes).filter_map(|(id, node)| {
        let outcome = state(id)?.outcome()?;
        Some(if node.allow_failure && outcome != Outcome::Skipped {
            Outcome::Succeeded
        } else {
            outcome
        })
    });
    outcomes.fold(stopped(phase), Outcome::worst)
}

fn stopped(phase: &RunPhase) -> Outcome {
    match phase {
        RunPhase::Stopping { reason } => match reason {
            CancelReason::Superseded { .. } | CancelReason::SupersededAtGate { .. } => Outcome::Superseded,
            CancelReason::Asked => Outcome::Cancelled,
            CancelReason::Expired => Outcome::TimedOut,
            CancelReason::GivenUp { .. } => Outcome::Errored,
        },
        RunPhase::Finished { outcome, .. } => *outcome,
        RunPhase::Pending | RunPhase::Running => Outcome::Skipped,
    }
}

impl Body {
    /// How the run would end if it ended now.
    pub(crate) fn outcome_so_far(&self) -> Outcome {
        roll_up(&self.request.plan, &self.phase, |id| self.nodes.get(id.index()))
    }
}
