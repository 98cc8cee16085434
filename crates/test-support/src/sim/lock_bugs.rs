//! Planted bugs about locks: broken copies of the rules of a run and of the line.

use pipekeeper_engine::{
    Claim, ClaimId, ClaimState, Decision, Envelope, Fact, Input, NodeState, Rejection, Run, decide, evolve,
};
use pipekeeper_model::{NodeId, plan::Node};

use super::{
    Bug,
    bugs::{event, with_request},
};

pub(super) fn ignore(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    with_request(run, input, |request| {
        for node in &mut request.plan.nodes {
            node.hold = None;
        }
    })
}

pub(super) fn keep(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    let is_kept = |fact: &Fact| matches!(fact, Fact::LocksReleased { .. });
    decision.events.retain(|event| !is_kept(&event.fact));
    Ok(decision)
}

pub(super) fn give_back(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    with_request(run, input, |request| {
        for lock in request.plan.nodes.iter_mut().flat_map(|node| &mut node.locks) {
            lock.yields_at_gate = true;
        }
    })
}

/// Locks that yield are given back whenever nothing inside moves, whoever is waited for.
pub(super) fn yield_early(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    let mut after = run.clone();
    for event in &decision.events {
        evolve(&mut after, event);
    }
    let moves = |id: NodeId| {
        matches!(
            after.node(id),
            Some(
                NodeState::Ready { .. }
                    | NodeState::Running(_)
                    | NodeState::Backoff { .. }
                    | NodeState::AwaitingTime { .. }
            )
        )
    };
    for claim in after.claims() {
        let hold = claim.id.hold;
        let nodes = after.plan().into_iter().flat_map(|plan| &plan.nodes);
        let mut members = (0..)
            .map(NodeId)
            .zip(nodes)
            .filter(|(_, node)| node.hold == Some(hold));
        let yields = |node: &Node| node.locks.iter().all(|lock| lock.yields_at_gate);
        if claim.state == ClaimState::Held && members.all(|(id, node)| yields(node) && !moves(id)) {
            decision.events.push(event(input, Fact::LocksReleased { hold }));
        }
    }
    Ok(decision)
}

/// The line with a bug in it.
pub(super) fn turns(bug: Bug, claims: &[Claim]) -> Vec<ClaimId> {
    let mut claims = claims.to_vec();
    let shares = claims.iter_mut().flat_map(|claim| claim.locks.values_mut());
    if bug == Bug::OneSlotTooMany {
        shares.for_each(|share| share.slots += 1);
    } else if bug == Bug::LineReversed {
        shares.for_each(|share| share.newest_first = true);
    } else if bug == Bug::OneLockOfSeveral {
        for claim in &mut claims {
            let first = claim.locks.pop_first();
            claim.locks = first.into_iter().collect();
        }
    } else if bug == Bug::HoldersForgotten {
        claims.retain(|claim| claim.state == ClaimState::Waiting);
    }
    pipekeeper_engine::turns(&claims)
}
