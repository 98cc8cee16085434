//! Whether a node whose needs are settled may run: its conditions, its needs, the gates in front of it.

use std::collections::BTreeSet;

use pipekeeper_expr::{Expression, Fuel, Reference, Value};
use pipekeeper_model::{
    NodeId, Outcome, RunId, SkipReason,
    plan::{Body as NodeBody, Condition, Node, Section},
};

use super::{
    Draft,
    environment::{self, Entry},
};
use crate::{
    fold::Fold,
    run::Body,
    scope::{NodeScope, View},
    state::NodeState,
};

/// What becomes of a node.
pub(super) enum Verdict {
    Go,
    /// Its environment's gate is to be asked first.
    Ask(NodeId),
    Skip {
        reason: SkipReason,
        passes: bool,
    },
    Broken {
        reason: String,
    },
    /// Something that it judges has not ended, or a gate asks.
    Wait,
}

pub(super) fn judge(draft: &Draft<'_>, id: NodeId, node: &Node) -> Verdict {
    if draft.is_stopping() && node.section == Section::Main {
        return Verdict::Skip {
            reason: SkipReason::RunStopped,
            passes: false,
        };
    }
    if environment::is_gate(draft, id) || !named_have_ended(draft, node) {
        return Verdict::Wait;
    }
    match voided_gate(draft, id, node) {
        Some((_, Voided::Open)) => return Verdict::Wait,
        Some((gate, Voided::Closed)) => return skip_for(draft, gate),
        None => {}
    }
    let unmet = first_unmet(draft, node);
    if !judges_outcomes(Some(node))
        && let Some(need) = unmet
    {
        return skip_for(draft, need);
    }
    let scope = NodeScope { view: draft, node };
    let mut named = BTreeSet::new();
    for condition in &node.conditions {
        let expression = match Expression::parse(&condition.expression) {
            Ok(expression) => expression,
            Err(error) => return broken(&condition.expression, &error),
        };
        match expression.evaluate(&scope, &mut Fuel::default()) {
            Ok(Value::Bool(true)) => named.extend(expression.references().iter().cloned()),
            Ok(Value::Bool(false)) => {
                // What this node needed stands in for it, unless people or places were to be asked.
                let passes = unmet.is_none() && !is_guard(node);
                let reason = SkipReason::Condition {
                    expression: condition.expression.clone(),
                };
                return Verdict::Skip { reason, passes };
            }
            Ok(other) => {
                return broken(
                    &condition.expression,
                    &format!("it is {} and not a bool", other.type_name()),
                );
            }
            Err(error) => return broken(&condition.expression, &error),
        }
    }
    match closed_gate(draft, id, &named) {
        Some(gate) => skip_for(draft, gate),
        // What is taken over starts nothing.
        None if draft.is_adopted(id) => Verdict::Go,
        None => enter(draft, id),
    }
}

fn enter(draft: &Draft<'_>, id: NodeId) -> Verdict {
    match environment::entry(draft, id) {
        Entry::Free => Verdict::Go,
        Entry::Ask(gate) => Verdict::Ask(gate),
        Entry::Asked => Verdict::Wait,
        Entry::Closed(gate) => skip_for(draft, gate),
        Entry::Refused(reason) => Verdict::Skip {
            reason,
            passes: false,
        },
    }
}

/// Whether a node's attempt may have a ticket, judged again at ticket time.
pub(super) fn may_start(draft: &Draft<'_>, id: NodeId, node: &Node) -> bool {
    matches!(environment::entry(draft, id), Entry::Free)
        && node
            .needs
            .iter()
            .all(|need| draft.state(*need).is_some_and(NodeState::is_settled))
        && (judges_outcomes(Some(node)) || first_unmet(draft, node).is_none())
}

/// How a gate that opened again stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Voided {
    /// It asks.
    Open,
    /// It was not approved again.
    Closed,
}

/// A gate in front of a node that opened again and was not approved since. What stands between the two may have ended in
/// the meantime, so that the needs alone do not show it; only a node that names the gate's outcome may react to that.
pub(super) fn voided_gate(draft: &Draft<'_>, id: NodeId, node: &Node) -> Option<(NodeId, Voided)> {
    if !draft.any_voided() {
        return None;
    }
    let mut gates = draft.gates_of(id).filter(|gate| draft.was_voided(*gate));
    gates.find_map(|gate| match draft.state(gate) {
        Some(NodeState::Deciding(_)) => Some((gate, Voided::Open)),
        Some(_) | None if satisfies(draft, gate) || names_outcome(node, draft.node(gate)) => None,
        Some(_) | None => Some((gate, Voided::Closed)),
    })
}

fn names_outcome(node: &Node, gate: Option<&Node>) -> bool {
    let Some(gate) = gate else { return false };
    let outcome = Reference::ActionOutcome {
        action: gate.action.to_string(),
    };
    let named = |condition: &Condition| {
        Expression::parse(&condition.expression)
            .is_ok_and(|expression| expression.references().contains(&outcome))
    };
    node.conditions.iter().any(named)
}

/// Whether a node is judged whatever the outcomes of its needs.
pub(super) fn judges_outcomes(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.conditions.iter().any(|condition| condition.judges_outcomes))
}

/// Whether every action whose outcome a node judges has ended. Its needs may all be settled before that: a failure
/// skips what did not start while other nodes still run.
fn named_have_ended(draft: &Draft<'_>, node: &Node) -> bool {
    let judging = node
        .conditions
        .iter()
        .filter(|condition| condition.judges_outcomes);
    let expressions = judging.filter_map(|condition| Expression::parse(&condition.expression).ok());
    let has_ended = |reference: &Reference| match reference {
        Reference::ActionOutcome { action }
        | Reference::ActionOutput { action, .. }
        | Reference::Action { action } => draft
            .cells(action)
            .all(|cell| draft.state(cell).is_some_and(NodeState::is_settled)),
        Reference::Variable(_) | Reference::AllActions | Reference::Changed => true,
    };
    expressions
        .flat_map(|expression| expression.references().clone())
        .all(|reference| has_ended(&reference))
}

/// The first need that does not let a node go on; `finally` entries wait for their needs but not for their success.
fn first_unmet(draft: &Draft<'_>, node: &Node) -> Option<NodeId> {
    match node.section {
        Section::Finally => None,
        Section::Main => node.needs.iter().copied().find(|need| !satisfies(draft, *need)),
    }
}

/// Whether a settled node lets what needs it go on.
fn satisfies(draft: &Draft<'_>, need: NodeId) -> bool {
    match draft.state(need) {
        Some(NodeState::Done(ended)) => match ended.outcome {
            Outcome::Succeeded => true,
            Outcome::Failed | Outcome::TimedOut | Outcome::Lost | Outcome::Errored => draft
                .node(need)
                .is_some_and(|node| node.allow_failure && !is_guard(node)),
            Outcome::Skipped | Outcome::Superseded | Outcome::Cancelled | Outcome::Rejected => false,
        },
        Some(NodeState::Skipped { passes, .. }) => *passes,
        Some(
            NodeState::Waiting
            | NodeState::AwaitingStart { .. }
            | NodeState::AwaitingTime { .. }
            | NodeState::Deciding(_)
            | NodeState::Ready { .. }
            | NodeState::Running(_)
            | NodeState::Backoff { .. },
        )
        | None => false,
    }
}

/// Gates and promotions: skipping one never opens the way behind it.
fn is_guard(node: &Node) -> bool {
    match node.body {
        NodeBody::Approve(_) | NodeBody::Promote(_) => true,
        NodeBody::Work(_) | NodeBody::Wait(_) | NodeBody::Sync(_) | NodeBody::Call(_) => false,
    }
}

/// A gate anywhere in front of a node that was not approved. Only nodes that judge outcomes can get past their needs
/// without it, and only a node that names the gate's own outcome may react to it.
fn closed_gate(draft: &Draft<'_>, id: NodeId, named: &BTreeSet<Reference>) -> Option<NodeId> {
    if !judges_outcomes(draft.node(id)) {
        return None;
    }
    let reacts_to = |node: &Node| {
        let outcome = Reference::ActionOutcome {
            action: node.action.to_string(),
        };
        named.contains(&outcome)
    };
    let mut seen = BTreeSet::new();
    let mut open = vec![id];
    while let Some(next) = open.pop() {
        for need in draft.node(next).into_iter().flat_map(|node| &node.needs) {
            if !seen.insert(*need) {
                continue;
            }
            let node = draft.node(*need)?;
            if is_guard(node) && !satisfies(draft, *need) && !reacts_to(node) {
                return Some(*need);
            }
            open.push(*need);
        }
    }
    None
}

fn skip_for(draft: &Draft<'_>, need: NodeId) -> Verdict {
    Verdict::Skip {
        reason: SkipReason::Need {
            node: draft.name(need),
        },
        passes: false,
    }
}

fn broken(expression: &str, error: &impl ToString) -> Verdict {
    Verdict::Broken {
        reason: format!("`if: {expression}` cannot be judged: {}", error.to_string()),
    }
}

impl View for Draft<'_> {
    fn run(&self) -> RunId {
        Draft::run(self)
    }

    fn body(&self) -> &Body {
        Draft::body(self)
    }

    fn node_state(&self, node: NodeId) -> Option<&NodeState> {
        Fold::state(self, node)
    }

    fn outcome_so_far(&self) -> Outcome {
        Draft::outcome_so_far(self)
    }
}
