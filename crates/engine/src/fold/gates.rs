//! What the facts about gates change.

use std::collections::BTreeMap;

use pipekeeper_model::{NodeId, OutputValue};

use super::Fold;
use crate::{
    Event, Fact,
    state::{Approval, ApprovalKind, NodeState, OpenGate},
};

pub(super) fn approve(into: &mut impl Fold, node: NodeId, event: &Event, needed: u32) {
    let given = if let Fact::GateApproved {
        comment,
        person,
        params,
        ..
    } = &event.fact
    {
        Some((ApprovalKind::Ruled, comment, person, params))
    } else if let Fact::GateBypassed {
        comment,
        person,
        params,
        ..
    } = &event.fact
    {
        Some((ApprovalKind::Bypass, comment, person, params))
    } else {
        None
    };
    let Some((kind, comment, person, params)) = given else {
        return;
    };
    if let Some(NodeState::Deciding(gate)) = into.state(node) {
        let mut gate = gate.clone();
        gate.approvals.push(Approval {
            by: event.actor.clone(),
            at: event.at,
            comment: comment.clone(),
            person: person.clone(),
            kind,
            params: params.clone(),
        });
        gate.needed = needed;
        into.set_state(node, NodeState::Deciding(gate));
    }
}

pub(super) fn reopen(into: &mut impl Fold, event: &Event) {
    let Fact::GateVoided {
        node,
        subject,
        lost,
        needed,
        expires,
    } = &event.fact
    else {
        return;
    };
    let Some(NodeState::Done(ended)) = into.state(*node) else {
        return;
    };
    let is_lost = |given: &&Approval| given.person.as_ref().is_some_and(|person| lost.contains(person));
    let kept = ended.decisions.iter().filter(|given| !is_lost(given));
    let gate = OpenGate {
        subject: subject.clone(),
        since: event.at,
        expires: *expires,
        approvals: kept.cloned().collect(),
        needed: *needed,
        lost: lost.clone(),
    };
    into.set_state(*node, NodeState::Deciding(gate));
    into.set_voided(*node);
}

/// Those of the last decision: everybody who approves by the rule approves the same, and a bypass brings its own.
pub(super) fn values(decisions: &[Approval]) -> BTreeMap<String, OutputValue> {
    let params = decisions.last().map(|given| given.params.iter());
    let texts = params.into_iter().flatten();
    texts
        .map(|(name, value)| (name.to_string(), OutputValue::Text(value.to_string())))
        .collect()
}
