//! `RunRequested` and `TurnGiven`: how a run comes to be.

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_model::{NodeId, Plan, RunId, plan::OnNew};

use super::{Decision, Draft, Rejection, environment};
use crate::{
    Effect, Envelope, Event, Fact, Input, RunRequest, fold,
    front::{dependents, in_order},
};

pub(super) fn create(
    run: RunId,
    input: &Envelope<Input>,
    request: &Arc<RunRequest>,
) -> Result<Decision, Rejection> {
    check(&request.plan)?;
    let created = Event {
        at: input.at,
        actor: input.actor.clone(),
        fact: Fact::RunCreated {
            request: Arc::clone(request),
        },
    };
    let body = fold::created(Arc::clone(request), &created);
    let mut draft = Draft::new(run, &body, input.at, &input.actor);
    draft.begin_with(created);
    match request.group.as_ref().map(|group| group.on_new) {
        None => start(&mut draft),
        Some(OnNew::CancelRunning) => {
            draft.perform(Effect::SupersedeOlder { run });
            start(&mut draft);
        }
        Some(OnNew::CancelWaiting) => {
            draft.perform(Effect::SupersedeOlder { run });
            await_turn(&mut draft);
        }
        Some(OnNew::Queue) => await_turn(&mut draft),
    }
    draft.advance();
    Ok(draft.into_decision())
}

pub(super) fn turn_given(draft: &mut Draft<'_>) -> Result<(), Rejection> {
    if !draft.is_pending() {
        return Err(Rejection::Duplicate);
    }
    draft.record(Fact::TurnCame);
    start(draft);
    Ok(())
}

fn await_turn(draft: &mut Draft<'_>) {
    draft.record(Fact::TurnAwaited);
    draft.perform(Effect::AwaitTurn { run: draft.run() });
}

fn start(draft: &mut Draft<'_>) {
    draft.arrivals = draft
        .plan()
        .ids()
        .filter(|id| draft.unsettled(*id) == 0)
        .collect();
}

/// A plan whose needs point nowhere or in a circle would wait for ever; `spec` never makes one.
fn check(plan: &Plan) -> Result<(), Rejection> {
    let body_of = |id: &NodeId| plan.node(*id);
    if plan
        .nodes
        .iter()
        .flat_map(|node| &node.needs)
        .any(|need| body_of(need).is_none())
    {
        return Err(Rejection::illegal(
            "a node of the plan needs one that is not there",
        ));
    }
    let has_doubles = |needs: &[NodeId]| needs.iter().collect::<BTreeSet<_>>().len() != needs.len();
    if plan.nodes.iter().any(|node| has_doubles(&node.needs)) {
        return Err(Rejection::illegal("a node of the plan needs another twice"));
    }
    environment::check(plan)?;
    if in_order(plan, &dependents(plan)).len() == plan.nodes.len() {
        Ok(())
    } else {
        Err(Rejection::illegal("the needs of the plan form a circle"))
    }
}
